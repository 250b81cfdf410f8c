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

/** When something was asked, in milliseconds since the epoch, and after how many doubts: instants alone order nothing within one. */
export interface Asked {
  readonly atMs: number
  readonly doubts: number
}

/**
 * What is known of one address. An answer counts from when it was asked for, not from when it came: the bytes of a running
 * answer may be on an older connection, or in a buffer, while new requests already go to somebody else.
 */
export class Possession<Proven> {
  readonly #when: ProveWhen
  readonly #now: () => Date
  #doubts = 0
  #answered: Asked | undefined
  #underway: { readonly asked: Asked; readonly proof: Promise<Proven> } | undefined
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
    return this.#answered !== undefined && this.#isRecent(this.#answered)
  }

  /** To be called when something is sealed, and handed back with its answer. */
  asked(): Asked {
    return { atMs: this.#now().getTime(), doubts: this.#doubts }
  }

  /** What was asked then has an answer that opened under the attested keys. It counts for nothing if there was a doubt meanwhile. */
  answered(asked: Asked): void {
    if (this.counts(asked)) this.#answered = asked
  }

  /** Whether there was no doubt since. */
  counts({ doubts }: Asked): boolean {
    return doubts === this.#doubts
  }

  /** What was asked before counts no more, answered or not: something was not answered, or the worker has other keys now. */
  forget(): void {
    this.#doubts++
    this.#answered = undefined
  }

  /**
   * Shares one proof among requests that need one at once. One that is underway may have been answered before this request was
   * made: under `always` therefore, and under `recent` once it was asked for a whole window ago or before a doubt, the next one is
   * waited for. Two proofs at most for any number of requests.
   */
  prove(ask: () => Promise<Proven>): Promise<Proven> {
    if (this.#underway === undefined) {
      const asked = this.asked()
      const proof = ask().finally(() => {
        this.#underway = undefined
      })
      this.#underway = { asked, proof }
      return proof
    }
    if (this.#isRecent(this.#underway.asked)) return this.#underway.proof
    this.#waiting ??= this.#underway.proof.then(noop, noop).then(() => {
      this.#waiting = undefined
      return this.prove(ask)
    })
    return this.#waiting
  }

  #isRecent(asked: Asked): boolean {
    const ageMs = this.#now().getTime() - asked.atMs
    return this.#when === 'recent' && this.counts(asked) && ageMs >= 0 && ageMs < POSSESSION_WINDOW_MS
  }
}

function noop(): void {}
