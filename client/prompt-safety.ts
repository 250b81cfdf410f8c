/** What every command that sends prompts refuses to run under. */
import { UsageError } from '../verifier/errors.js'
import type { VerificationFlags } from '../verifier/options.js'

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
