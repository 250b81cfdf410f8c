/** Runs a command line in this process and keeps what it printed. */
import { PassThrough } from 'node:stream'
import { runSubrosa } from '../../client/cli-run.js'
import { runVerifier } from '../../verifier/cli-verify.js'
import { RESULT_SCHEMA } from '../../verifier/result.js'
import {
  type JsonSchema,
  RECEIPT_RESULT_JSON_SCHEMA,
  RECEIPT_RESULT_SCHEMA,
  RESULT_JSON_SCHEMA,
} from '../../verifier/schemas.js'
import { violations } from './json-schema.js'

const SCHEMAS = new Map<unknown, JsonSchema>([
  [RESULT_SCHEMA, RESULT_JSON_SCHEMA],
  [RECEIPT_RESULT_SCHEMA, RECEIPT_RESULT_JSON_SCHEMA],
])

export interface Transcript {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

type Run = (argv: readonly string[], streams: { stdout: PassThrough; stderr: PassThrough }) => Promise<number>

async function capture(run: Run, argv: readonly string[]): Promise<Transcript> {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()]
  const status = await run(['node', 'command', ...argv], { stdout, stderr })
  const text = (stream: PassThrough) => ((stream.read() as Buffer | null) ?? Buffer.alloc(0)).toString('utf8')
  return { status, stdout: text(stdout), stderr: text(stderr) }
}

/** Whatever JSON object it prints is held against the schema published for it. */
export async function verifyAttestation(...argv: readonly string[]): Promise<Transcript> {
  const transcript = await capture(runVerifier, argv)
  if (transcript.stdout.startsWith('{')) {
    const printed = JSON.parse(transcript.stdout) as { schema?: unknown }
    const schema = SCHEMAS.get(printed.schema)
    const wrong = schema === undefined ? [] : violations(printed, schema)
    if (wrong.length > 0) throw new Error(`not as its schema says: ${wrong.slice(0, 5).join('; ')}`)
  }
  return transcript
}
export const subrosa = (...argv: readonly string[]): Promise<Transcript> => capture(runSubrosa, argv)
