/** Keys and values in this process's memory: one buffer a cache, of which any range of slots is a part. */
import { setImmediate as nextLoop } from 'node:timers/promises'
import type { Runtime } from './c-api.js'
import { type CacheMemory, type CacheShape, rememberRanges, slotDimensions } from './cache-memory.js'
import { bindTensor } from './session.js'

/** Values cleared between two rounds of the event loop: about a millisecond's worth. */
const CLEAR_STRIDE = 1 << 20

export function createHostCache(runtime: Runtime, shape: CacheShape): CacheMemory {
  const { caches, type, slots, kvHeads, slotTokens, headSize } = shape
  const slotValues = kvHeads * slotTokens * headSize
  const Values = { float32: Float32Array, float16: Uint16Array, int8: Int8Array }[type]
  const pools = Array.from({ length: caches }, () => new Values(slots * slotValues))
  const ranges = rememberRanges(slots, (first, count) =>
    pools.map((pool) =>
      bindTensor(
        runtime,
        type,
        pool.subarray(first * slotValues, (first + count) * slotValues),
        slotDimensions(shape, count),
      ),
    ),
  )
  return {
    range: ranges.range,
    async clear(slot, from, to) {
      let cleared = 0
      for (const pool of pools) {
        for (let head = 0; head < kvHeads; head++) {
          const start = slot * slotValues + head * slotTokens * headSize
          pool.fill(0, start + from * headSize, start + Math.max(from, to) * headSize)
          cleared += Math.max(0, to - from) * headSize
        }
        if (cleared > CLEAR_STRIDE) {
          cleared = 0
          await nextLoop()
        }
      }
    },
    close: ranges.release,
  }
}
