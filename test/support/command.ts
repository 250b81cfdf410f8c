/** Runs a command line in this process and keeps what it printed. */
import { PassThrough } from 'node:stream'
import { runSubrosa } from '../../client/cli-run.js'
import { runVerifier } from '../../verifier/cli-verify.js'

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

export const verifyAttestation = (...argv: readonly string[]): Promise<Transcript> => capture(runVerifier, argv)
export const subrosa = (...argv: readonly string[]): Promise<Transcript> => capture(runSubrosa, argv)
