/**
 * Idempotency keys (PROTOCOL.md P-7.8): a client that does not know whether its request was processed may send it again
 * under the same key, and is refused if it was or still is. Nothing of an answer is kept, only a digest of the key.
 */
import { toBase64Url, utf8 } from '../verifier/protocol/bytes.js'
import { IDEMPOTENCY_HEADER, MAX_KEY_LIFETIME_S } from '../verifier/protocol/constants.js'
import { sha256 } from '../verifier/protocol/hash.js'
import { OpenAIError } from './openai-error.js'

export interface IdempotencyTable {
  /**
   * Takes a key for one request. The returned function gives it back, for a request that turned out not to be processed.
   * @throws OpenAIError 400 on a key of another form, 409 on one already taken, 503 when the table is full.
   */
  claim(key: string): () => void
}

export interface IdempotencyOptions {
  /** Milliseconds, monotonic: whoever sets the clock forth must not make it forget. */
  readonly monotonicMs: () => number
  /** Most keys remembered. A full table refuses: to forget one early would process its request twice. Default 100,000. */
  readonly maxKeys?: number
}

/** Remembers keys for as long as any HPKE key lives. */
export function createIdempotencyTable({ monotonicMs, maxKeys = 100_000 }: IdempotencyOptions): IdempotencyTable {
  const taken = new Map<string, number>()
  return {
    claim(key) {
      if (!/^[\x21-\x7e]{16,128}$/.test(key)) {
        throw new OpenAIError(400, 'invalid_value', `${IDEMPOTENCY_HEADER}: expected 16 to 128 visible characters`)
      }
      const at = monotonicMs()
      // In order of insertion, which is the order of expiry.
      for (const [old, until] of taken) {
        if (until > at) break
        taken.delete(old)
      }
      const id = toBase64Url(sha256(utf8(key)))
      if (taken.has(id)) {
        throw new OpenAIError(
          409,
          'duplicate_request',
          `a request with this ${IDEMPOTENCY_HEADER} was or is being processed; its answer is not kept`,
        )
      }
      if (taken.size >= maxKeys) throw new OpenAIError(503, 'overloaded', 'too many idempotency keys are remembered')
      taken.set(id, at + 1000 * MAX_KEY_LIFETIME_S)
      return () => void taken.delete(id)
    },
  }
}
