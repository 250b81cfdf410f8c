/** Errors of the client. Match on `code`. None of them means that anything was sent in plaintext; nothing ever is. */
import { SubrosaError } from '../verifier/protocol/errors.js'
import { type AttestationResult, standingInTheWay } from '../verifier/result.js'

export { FormatError, PolicyError, SubrosaError, UnavailableError, UsageError } from '../verifier/errors.js'
export { GatewayRefusedError, InvalidResponseError, TruncatedResponseError } from './transport-errors.js'

/** Evidence in order but for its time: recorded earlier, or out of date on this clock. */
const STALE_CHECKS: ReadonlySet<string> = new Set(['binding.nonce', 'freshness.window', 'keys.window'])
/** Signatures, digests and forms: what fails when bytes are not the ones that were signed. */
const TAMPERED_CHECKS = /(^|[.-])(parse|signatures?|report-data|gpu-evidence|bound)$/

/**
 * The worker's evidence was not accepted, and nothing was sent under it. `result.checks` says why. Where `possiblyProcessed` is
 * true, this request had been sealed before, to a worker that was verified then: it may have been answered.
 * - `client.stale`: a recording, or out of date. Check your clock and try again; if it stays so, someone replays.
 * - `client.tampered`: bytes differ from what was signed. Use another worker, and another network path.
 * - `client.not-trusted`: not acceptable to your policy, or not shown to be. Use another worker, or change your policy if you mean to.
 */
export class NotTrustedError extends SubrosaError {
  readonly result: AttestationResult
  readonly possiblyProcessed: boolean
  readonly #because: string

  constructor(result: AttestationResult, reason?: string, possiblyProcessed = false) {
    const first = standingInTheWay(result)[0]
    const because = reason ?? `${first?.reason ?? result.verdict} (${first?.id ?? result.verdict})`
    super(
      refusalCode(result),
      `${possiblyProcessed ? 'not sent again, and may have been processed' : 'not sent'}: ${because}`,
    )
    this.result = result
    this.possiblyProcessed = possiblyProcessed
    this.#because = because
  }

  /** The same refusal, met after a first attempt. */
  afterAttempt(): NotTrustedError {
    return new NotTrustedError(this.result, this.#because, true)
  }

  /** Ids of the checks that stood in the way, failures first. */
  get checks(): readonly string[] {
    return standingInTheWay(this.result).map((check) => check.id)
  }
}

function refusalCode({ checks }: AttestationResult): 'client.not-trusted' | 'client.stale' | 'client.tampered' {
  const failed = checks.filter((check) => check.status === 'fail').map((check) => check.id)
  if (failed.some((id) => TAMPERED_CHECKS.test(id))) return 'client.tampered'
  if (failed.length > 0 && failed.every((id) => STALE_CHECKS.has(id))) return 'client.stale'
  return 'client.not-trusted'
}

const UNPROVEN =
  'not sent, not even sealed: whoever is at the address did not show that it holds the attested key; try again, or another worker'

/**
 * The evidence is in order, but whoever is at the worker's address did not show that it holds the attested key (PROTOCOL.md P-7.11): `client.unproven`.
 * Nothing of the request was sent. `cause` says what came instead of a proof, or of the connection over which a proof had come.
 * What to do: try again, or use another worker; if it stays so, someone else answers at that address, or the worker lets nobody in.
 */
export class UnprovenError extends SubrosaError {
  constructor(cause: unknown, message: string = UNPROVEN) {
    super('client.unproven', message, { cause })
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
