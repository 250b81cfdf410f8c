/** What every command that sends prompts refuses to run under, and what it says about who can read them. */
import { UsageError } from '../verifier/errors.js'
import type { VerificationFlags } from '../verifier/options.js'
import { printable } from '../verifier/text.js'
import type { WorkerSession } from './session.js'

/** @throws UsageError on options that are for auditing only. */
export function refuseUnsafe(flags: VerificationFlags): void {
  for (const [name, value] of [
    ['--at', flags.at],
    ['--nonce', flags.nonce],
    ['--report-data', flags.reportData],
  ]) {
    if (value !== undefined) {
      throw new UsageError(
        'option.unsafe',
        `${name} is for auditing; a prompt is only sent on your own nonce and the real clock`,
      )
    }
  }
  if (flags.revocation === 'off') {
    throw new UsageError('option.unsafe', '--revocation off is for auditing archives; no prompt is sent under it')
  }
}

/** Who can read what is sent, and until when that is known, in one line. */
export function readersOf({ attestation, worker }: Pick<WorkerSession, 'attestation' | 'worker'>): string {
  const simulated = attestation.notProven.some((item) => item.id === 'hardware.private-root')
  const { runtime, model } = worker.statement
  const who = simulated
    ? 'SIMULATED OR PRIVATE hardware: whoever runs this worker can read you'
    : 'only the attested enclave can read you'
  const until = worker.validUntil.toISOString().slice(11, 16)
  return printable(`${who} (${runtime.name} ${runtime.version}, model ${model.id}), until ${until} UTC`)
}
