/**
 * Slots that still hold the prompt of a request that ended, for the next request of the same session. Such a slot is lent:
 * whoever else waits gets the one that was kept first, and none is kept longer than `keepMs`. The caller zeroes what it takes.
 *
 * Only what runs over prompts computed is ever kept, and it is gone on with where a prompt could have been cut anyhow
 * (`chunks.ts`): so an answer has the bits it would have without.
 */

export interface KeptSlots {
  readonly size: number
  /** Keeps a slot that holds exactly `tokens`. Returns slots that are not worth keeping beside it, taken out. */
  keep(slot: number, key: string, tokens: readonly number[]): readonly number[]
  /**
   * Takes out the slot under that very key that saves this prompt the most, and says how many of its tokens to go on
   * behind. Undefined where none is worth it.
   */
  take(key: string, prompt: readonly number[]): { readonly slot: number; readonly tokens: number } | undefined
  /** Takes out the one that was kept first. */
  takeOldest(): number | undefined
  /** Whether `takeExpired` would return any. */
  expired(): boolean
  /** Takes out those whose time is over. */
  takeExpired(): readonly number[]
  /** Forgets all of them, and stops the clock. */
  close(): void
}

export interface KeptSlotsOptions {
  /** How long a slot is kept, in milliseconds. */
  readonly keepMs: number
  /** Milliseconds, monotonic. */
  readonly monotonicMs: () => number
  /** Called when a slot's time is over. */
  readonly onExpired: () => void
}

/** Less is computed anew as fast as it is looked up. */
export const MIN_KEPT_TOKENS = 16
/** Behind what is gone on with, at least this many tokens are computed: the last one's logits are needed, and no part has one token. */
const MIN_REST = 2

interface Kept {
  readonly key: string
  /** Overwritten when the slot is taken. */
  readonly tokens: Int32Array
  readonly until: number
}

export function createKeptSlots({ keepMs, monotonicMs, onExpired }: KeptSlotsOptions): KeptSlots {
  /** In order of `until`. */
  const slots = new Map<number, Kept>()
  let timer: NodeJS.Timeout | undefined

  const isOver = ({ until }: Kept): boolean => until <= monotonicMs()
  const remove = (slot: number): number => {
    slots.get(slot)?.tokens.fill(0)
    slots.delete(slot)
    watch()
    return slot
  }
  /** Sets the clock to the first one's end. */
  function watch(): void {
    clearTimeout(timer)
    const [first] = slots.values()
    if (first === undefined) return
    timer = setTimeout(
      () => {
        if (isOver(first)) onExpired()
        else watch()
      },
      Math.max(1, first.until - monotonicMs()),
    )
    timer.unref()
  }
  const under = (key: string): [number, Kept][] => [...slots].filter(([, kept]) => kept.key === key && !isOver(kept))

  return {
    get size() {
      return slots.size
    },
    keep(slot, key, tokens) {
      const held = Int32Array.from(tokens)
      // Of two prompts one of which begins the other, the longer serves for both.
      const lesser = under(key).filter(([, other]) => commonTokens(other.tokens, held) === other.tokens.length)
      const greater = under(key).some(([, other]) => commonTokens(other.tokens, held) === held.length)
      if (greater && lesser.length === 0) return [slot]
      const displaced = lesser.map(([other]) => remove(other))
      slots.set(slot, { key, tokens: held, until: monotonicMs() + keepMs })
      watch()
      return displaced
    },
    take(key, prompt) {
      let best: { slot: number; tokens: number } | undefined
      for (const [slot, kept] of under(key)) {
        const tokens = Math.min(commonTokens(kept.tokens, prompt), prompt.length - MIN_REST)
        // A prompt that shares its beginning only is no reason to lose the rest of another.
        if (tokens < MIN_KEPT_TOKENS || 2 * tokens < kept.tokens.length) continue
        if (best === undefined || tokens > best.tokens) best = { slot, tokens }
      }
      if (best !== undefined) remove(best.slot)
      return best
    },
    takeOldest() {
      const [first] = slots.keys()
      return first === undefined ? undefined : remove(first)
    },
    expired: () => [...slots.values()].some(isOver),
    takeExpired: () => [...slots].filter(([, kept]) => isOver(kept)).map(([slot]) => remove(slot)),
    close() {
      for (const slot of [...slots.keys()]) remove(slot)
    },
  }
}

function commonTokens(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const most = Math.min(a.length, b.length)
  let count = 0
  while (count < most && a[count] === b[count]) count++
  return count
}
