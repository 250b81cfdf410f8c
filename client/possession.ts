/**
 * Proof of possession before a prompt (PROTOCOL.md P-7.11): whoever is at the other end of a line now has to show that it holds
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

/** What is known of one line. */
interface Known<Proven> {
  answered?: Asked
  underway?: { readonly asked: Asked; readonly proof: Promise<Proven> } | undefined
  waiting?: Promise<Proven> | undefined
}

/**
 * What is known of the lines to one worker. An answer proves something of the line it came over, and counts from when it was asked
 * for, not from when it came: where a line stands for all of an address, the bytes of a running answer may be on an older connection, or in a
 * buffer, while new requests already go to somebody else.
 */
export class Possession<Proven> {
  readonly #when: ProveWhen
  readonly #now: () => Date
  readonly #lines = new WeakMap<object, Known<Proven>>()
  #doubts = 0

  /** @throws UsageError on a `when` that is neither. */
  constructor(when: ProveWhen, now: () => Date) {
    if (when !== 'recent' && when !== 'always') {
      throw new UsageError('client.prove', `prove: expected 'recent' or 'always', got ${JSON.stringify(when)}`)
    }
    this.#when = when
    this.#now = now
  }

  /** Whether a request may be sealed and go over this line without another proof. A clock that went back is no reason to. */
  recent(line: object): boolean {
    const { answered } = this.#of(line)
    return answered !== undefined && this.#isRecent(answered)
  }

  /** To be called when something is sealed, and handed back with its answer. */
  asked(): Asked {
    return { atMs: this.#now().getTime(), doubts: this.#doubts }
  }

  /** What was asked then has an answer that opened under the attested keys. It counts for nothing if there was a doubt meanwhile. */
  answered(line: object, asked: Asked): void {
    if (this.counts(asked)) this.#of(line).answered = asked
  }

  /** Whether there was no doubt since. */
  counts({ doubts }: Asked): boolean {
    return doubts === this.#doubts
  }

  /** What was asked before counts no more, over whichever line: something was not answered, or the worker has other keys now. */
  forget(): void {
    this.#doubts++
  }

  /**
   * P-7.12. Shares one proof among requests that need one at once over one line, where a line is shared. One that is underway may have been answered
   * before this request was made: under `always` therefore, and under `recent` once it was asked for a whole window ago or before a doubt,
   * the next one is waited for. Two proofs at most for any number of requests.
   */
  prove(line: object, ask: () => Promise<Proven>): Promise<Proven> {
    const known = this.#of(line)
    if (known.underway === undefined) {
      const asked = this.asked()
      const proof = ask().finally(() => {
        known.underway = undefined
      })
      known.underway = { asked, proof }
      return proof
    }
    if (this.#isRecent(known.underway.asked)) return known.underway.proof
    known.waiting ??= known.underway.proof.then(noop, noop).then(() => {
      known.waiting = undefined
      return this.prove(line, ask)
    })
    return known.waiting
  }

  #of(line: object): Known<Proven> {
    const known = this.#lines.get(line) ?? {}
    this.#lines.set(line, known)
    return known
  }

  #isRecent(asked: Asked): boolean {
    const ageMs = this.#now().getTime() - asked.atMs
    return this.#when === 'recent' && this.counts(asked) && ageMs >= 0 && ageMs < POSSESSION_WINDOW_MS
  }
}

function noop(): void {}
