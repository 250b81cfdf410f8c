/** Errors of the client. Match on `code`. None of them means that anything was sent in plaintext; nothing ever is. */
import { SubrosaError } from '../verifier/protocol/errors.js'
import { type AttestationResult, standingInTheWay } from '../verifier/result.js'

export { FormatError, PolicyError, SubrosaError, UnavailableError, UsageError } from '../verifier/errors.js'
export { GatewayRefusedError, InvalidResponseError, TruncatedResponseError } from './transport-errors.js'

/**
 * The worker's evidence was not accepted: `client.not-trusted`. Nothing was sent.
 * What to do: read `result.checks`; choose another worker, or change your policy if you mean to.
 */
export class NotTrustedError extends SubrosaError {
  readonly result: AttestationResult

  constructor(result: AttestationResult, reason?: string) {
    const first = standingInTheWay(result)[0]
    const because = reason ?? `${first?.reason ?? result.verdict} (${first?.id ?? result.verdict})`
    super('client.not-trusted', `not sent: ${because}`)
    this.result = result
  }

  /** Ids of the checks that stood in the way, failures first. */
  get checks(): readonly string[] {
    return standingInTheWay(this.result).map((check) => check.id)
  }
}

/**
 * The session was asked to send somewhere other than its worker, or after `close`: `client.foreign-url`, `client.closed`.
 * What to do: fix the call; nothing was sent.
 */
export class SessionError extends SubrosaError {}

/**
 * The answer came without a receipt, or the receipt does not hold: `client.receipt-missing`.
 * What to do: treat the answer as unreceipted; it is still authentic to this session.
 */
export class ReceiptError extends SubrosaError {}
