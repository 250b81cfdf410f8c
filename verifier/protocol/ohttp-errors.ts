/** Failures of the sealed channel's encapsulation, the same on both ends. Truncation is `TruncatedError` in streams.ts. */
import { SubrosaError } from './errors.js'

export type OhttpErrorCode = 'ohttp.key-unknown' | 'ohttp.suite-mismatch' | 'ohttp.open' | 'ohttp.label-reserved'

/**
 * `ohttp.key-unknown`: no such key here; fetch the current keys, verify them, seal again.
 * `ohttp.suite-mismatch`: the header names a suite its key configuration does not list.
 * `ohttp.open`: not authentic: altered, reordered, repeated, cut inside the last chunk, or sealed for something else.
 * What to do: discard all of it; on a response treat what was already delivered as incomplete.
 */
export class OhttpError extends SubrosaError {
  declare readonly code: OhttpErrorCode
  constructor(code: OhttpErrorCode, message: string, options?: { cause?: unknown }) {
    super(code, message, options)
  }
}
