/**
 * Where a decoder keeps keys and values: for each layer two tensors [slots, heads, tokens, size], of which a run takes a
 * range of slots, as past and as present at once.
 */
import type { CacheType } from '../graph.js'
import type { BoundTensor } from './session.js'

export interface CacheShape {
  /** Tensors: two for each layer. */
  readonly caches: number
  readonly type: CacheType
  readonly slots: number
  readonly kvHeads: number
  readonly slotTokens: number
  readonly headSize: number
}

export interface CacheMemory {
  /** The tensors of these slots, which hold until `close`. */
  range(first: number, count: number): readonly BoundTensor[]
  /** Overwrites positions `from` to `to` of a slot with zeros. */
  clear(slot: number, from: number, to: number): Promise<void>
  /** Frees what `range` gave. The session may be closed afterwards. */
  close(): void
}

export function slotDimensions({ kvHeads, slotTokens, headSize }: CacheShape, count: number): number[] {
  return [count, kvHeads, slotTokens, headSize]
}

/** Ranges as they were made: making them costs more than a step of a small model. */
export function rememberRanges(
  slots: number,
  make: (first: number, count: number) => readonly BoundTensor[],
): { range(first: number, count: number): readonly BoundTensor[]; release(): void } {
  const ranges = new Map<number, readonly BoundTensor[]>()
  return {
    range(first, count) {
      const key = first * slots + count
      const known = ranges.get(key) ?? make(first, count)
      ranges.set(key, known)
      return known
    },
    release() {
      for (const bound of ranges.values()) for (const tensor of bound) tensor.release()
      ranges.clear()
    },
  }
}
