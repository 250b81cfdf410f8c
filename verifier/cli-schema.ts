/** `verify-attestation schema`: the published JSON Schemas, for tools that read verdicts or write policies. */
import { Argument, type Command } from 'commander'
import type { Output } from './print.js'
import { policySchema, RECEIPT_RESULT_JSON_SCHEMA, RESULT_JSON_SCHEMA } from './schemas.js'

type Name = 'result' | 'policy' | 'receipt'

export function registerSchema(program: Command, output: Output, done: (status: number) => void): void {
  program
    .command('schema')
    .description('print a JSON Schema: of --format json (result), of a policy, or of receipt --format json')
    .addArgument(new Argument('<name>', 'which').choices(['result', 'policy', 'receipt']))
    .action((name: Name) => {
      const schemas = {
        result: () => RESULT_JSON_SCHEMA,
        policy: policySchema,
        receipt: () => RECEIPT_RESULT_JSON_SCHEMA,
      }
      output.stdout.write(`${JSON.stringify(schemas[name](), null, 2)}\n`)
      done(0)
    })
}
