/** `verify-attestation schema`: the published JSON Schemas, for tools that read verdicts or write policies. */
import { Argument, type Command } from 'commander'
import type { Output } from './print.js'
import {
  descriptorSchema,
  directorySchema,
  type JsonSchema,
  policySchema,
  RECEIPT_RESULT_JSON_SCHEMA,
  RESULT_JSON_SCHEMA,
  ROUTE_JSON_SCHEMA,
} from './schemas.js'

const SCHEMAS = {
  result: () => RESULT_JSON_SCHEMA,
  policy: policySchema,
  receipt: () => RECEIPT_RESULT_JSON_SCHEMA,
  descriptor: descriptorSchema,
  directory: directorySchema,
  route: () => ROUTE_JSON_SCHEMA,
} satisfies Readonly<Record<string, () => JsonSchema>>

export function registerSchema(program: Command, output: Output, done: (status: number) => void): void {
  program
    .command('schema')
    .description('print a JSON Schema: of what --format json prints here, and of documents')
    .addArgument(new Argument('<name>', 'which').choices(Object.keys(SCHEMAS)))
    .action((name: keyof typeof SCHEMAS) => {
      output.stdout.write(`${JSON.stringify(SCHEMAS[name](), null, 2)}\n`)
      done(0)
    })
}
