/** What can go wrong between a client and a worker's gateway. Match on `code`. */
import { SubrosaError } from '../verifier/protocol/errors.js'

/**
 * The answer stopped before its final chunk: `transport.truncated`.
 * What to do: what was delivered is authentic but incomplete; never show it as a finished answer.
 */
export class TruncatedResponseError extends SubrosaError {
  constructor(cause: unknown) {
    super(
      'transport.truncated',
      'the response ended before its final chunk: what came is authentic but not all; ask again',
      { cause },
    )
  }
}

/**
 * The answer does not open under this request's keys, or is not Binary HTTP: `transport.response-invalid`.
 * What to do: discard it all. Someone between here and the enclave altered it, or the worker is broken.
 */
export class InvalidResponseError extends SubrosaError {
  constructor(cause: unknown) {
    super(
      'transport.response-invalid',
      'the response is not the authentic answer to this request: discard it, and ask another worker or over another network',
      { cause },
    )
  }
}

/**
 * Something answered in plaintext instead: `transport.key-refused` (it says it lacks the key) or `transport.refused`.
 * Unauthenticated: anyone on the path can say so, and the request may have been processed all the same.
 * What to do: on `key-refused` fetch and verify current keys, then seal once more; else try later or elsewhere.
 */
export class GatewayRefusedError extends SubrosaError {
  readonly status: number
  constructor(code: 'transport.key-refused' | 'transport.refused', status: number, options?: { cause?: unknown }) {
    super(code, `the gateway answered ${status} outside the encryption: try later, or another worker`, options)
    this.status = status
  }
}

/**
 * The worker could not be reached: `transport.unavailable`.
 * What to do: retry or try another worker; the request may have been processed if it had already been sent.
 */
export class UnavailableError extends SubrosaError {
  constructor(cause: unknown) {
    super(
      'transport.unavailable',
      'the worker could not be reached: check its address and that it runs, or name another',
      { cause },
    )
  }
}
