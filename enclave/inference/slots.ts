/**
 * Which slot a sequence gets, and what becomes of it afterwards. What it held is overwritten before anyone else gets it; only
 * a prompt that may be kept stays for a while (`kept-slots.ts`), and its slot is lent to whoever needs one.
 */
import type { Decoder } from './decoder.js'
import { createKeptSlots, MIN_KEPT_TOKENS } from './kept-slots.js'

export interface SlotChoice {
  readonly slot: number
  /** Tokens of the prompt that it holds already. */
  readonly tokens: number
  /** To be awaited before any run over the slot: overwrites what must not stay. */
  prepare(): Promise<void>
}

export interface Slots {
  /** How many can be had at once, those that are lent included. */
  readonly available: number
  /**
   * One that holds the beginning of this prompt under the same key, or a free one near those in use, or the one kept longest.
   * It is taken at once. @throws RangeError where none is available.
   */
  choose(prompt: readonly number[], key: string | undefined, used: readonly number[]): SlotChoice
  /** Gives a slot back. With a key, what it holds of the prompt, its first tokens, may be kept. */
  leave(slot: number, prompt: readonly number[], key: string | undefined): Promise<void>
  /** Whether any was kept long enough. */
  expired(): boolean
  /** Overwrites and frees those that were kept long enough. */
  sweep(): Promise<void>
  /** Forgets what is kept. The decoder overwrites all slots when it is closed. */
  close(): void
}

export interface SlotsOptions {
  readonly decoder: Decoder
  /** How long a prompt is kept, in milliseconds. Undefined: none is. */
  readonly keepMs: number | undefined
  /** Milliseconds, monotonic. */
  readonly monotonicMs: () => number
  /** Called when a prompt was kept long enough. */
  readonly onExpired: () => void
}

export function createSlots({ decoder, keepMs, monotonicMs, onExpired }: SlotsOptions): Slots {
  const free = new Set(Array.from({ length: decoder.slots }, (_, slot) => slot))
  const kept = createKeptSlots({ keepMs: keepMs ?? 0, monotonicMs, onExpired })

  const empty = async (slot: number): Promise<void> => {
    await decoder.clear(slot)
    free.add(slot)
  }

  return {
    get available() {
      return free.size + kept.size
    },
    choose(prompt, key, used) {
      const found = key === undefined ? undefined : kept.take(key, prompt)
      if (found !== undefined) return { ...found, prepare: () => decoder.truncate(found.slot, found.tokens) }
      const near = nearest([...free], used)
      if (near !== undefined) {
        free.delete(near)
        return { slot: near, tokens: 0, prepare: async () => undefined }
      }
      const lent = kept.takeOldest()
      if (lent === undefined) throw new RangeError('no slot is available')
      return { slot: lent, tokens: 0, prepare: () => decoder.clear(lent) }
    },
    async leave(slot, prompt, key) {
      if (keepMs === undefined || key === undefined || prompt.length < MIN_KEPT_TOKENS) return empty(slot)
      // Nothing behind the prompt is kept: tokens of an answer have other roundings.
      await decoder.truncate(slot, prompt.length)
      for (const displaced of kept.keep(slot, key, prompt)) await empty(displaced)
    },
    expired: kept.expired,
    async sweep() {
      for (const slot of kept.takeExpired()) await empty(slot)
    },
    close: kept.close,
  }
}

/** A decode run takes all slots from its first row's to its last row's, so those in use should lie together. */
function nearest(free: readonly number[], used: readonly number[]): number | undefined {
  const distance = (slot: number): number => Math.min(FAR, ...used.map((other) => Math.abs(other - slot)))
  return free.reduce<number | undefined>((best, slot) => {
    if (best === undefined) return slot
    const nearer = distance(slot) - distance(best) || slot - best
    return nearer < 0 ? slot : best
  }, undefined)
}

/** Farther than any two slots are apart. */
const FAR = Number.MAX_SAFE_INTEGER
