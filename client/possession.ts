/**
 * Proof of possession before a prompt (PROTOCOL.md P-7.11): whoever answers at a worker's address now has to show that it holds
 * the attested key, by answering a small sealed request that carries nothing of the caller's. This module decides when one
 * is due and lets requests share it; the session asks.
 */
import { UsageError } from './errors.js'

/** See `ConnectOptions.prove`. */
export type ProveWhen = 'recent' | 'always'

/** Under `recent`, an answer counts for so long, from the instant at which it was asked for. */
export const POSSESSION_WINDOW_MS = 1_000

/**
 * What is known of one address. An answer counts from when it was asked for, not from when it came: the bytes of a running
 * answer may be on an older connection, or in a buffer, while new requests already go to somebody else.
 */
export class Possession<Proven> {
  readonly #when: ProveWhen
  readonly #now: () => Date
  #askedAtMs = Number.NEGATIVE_INFINITY
  #underway: Promise<Proven> | undefined
  #waiting: Promise<Proven> | undefined

  /** @throws UsageError on a `when` that is neither. */
  constructor(when: ProveWhen, now: () => Date) {
    if (when !== 'recent' && when !== 'always') {
      throw new UsageError('client.prove', `prove: expected 'recent' or 'always', got ${JSON.stringify(when)}`)
    }
    this.#when = when
    this.#now = now
  }

  /** Whether a request may be sealed without another proof. A clock that went back is no reason to. */
  get recent(): boolean {
    const ageMs = this.#now().getTime() - this.#askedAtMs
    return this.#when === 'recent' && ageMs >= 0 && ageMs < POSSESSION_WINDOW_MS
  }

  /** An answer to what was asked at that instant, in milliseconds since the epoch, opened under the attested keys. */
  answered(askedAtMs: number): void {
    this.#askedAtMs = askedAtMs
  }

  /** What was answered before counts no more: something was not answered, or the worker has other keys now. */
  forget(): void {
    this.#askedAtMs = Number.NEGATIVE_INFINITY
  }

  /**
   * Shares one proof among requests that need one at once. Under `always` one that is underway may have been answered before
   * this request was made, so the next one is waited for: two proofs at most for any number of requests.
   */
  prove(ask: () => Promise<Proven>): Promise<Proven> {
    if (this.#underway === undefined) {
      const underway = ask().finally(() => {
        this.#underway = undefined
      })
      this.#underway = underway
      return underway
    }
    if (this.#when === 'recent') return this.#underway
    this.#waiting ??= this.#underway.then(noop, noop).then(() => {
      this.#waiting = undefined
      return this.prove(ask)
    })
    return this.#waiting
  }
}

function noop(): void {}
