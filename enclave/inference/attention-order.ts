/**
 * Where attention on the CPU shows how a prompt was cut, and so what else runs, though its node keeps rows apart: by the sizes
 * the runtime computes in, seen with ONNX Runtime 1.30.
 *
 * Query and key are multiplied over the values of a head: above 128 of these, in an order of the sum that depends on how many keys
 * a run has. And rows are taken in blocks of twice the size of a head, or as many as the second-level cache has room for: where
 * one row is left over, it goes through other kernels.
 */
import { BLOCK_STEP, MAX_CHUNK } from './chunks.js'

const MOST_HEAD = 128
/** Of the cache, for each row of a block and value of a head: key and value, in a quarter of the cache, as fp32. */
const CACHE_BYTES = 4 * 4 * 2

/**
 * What of it shows, for people; undefined where nothing does. `l2Bytes`: the size of the second-level cache as the C library
 * has it; without it, one with room enough.
 */
export function findCutDependence(headSize: number, l2Bytes: number = Number.POSITIVE_INFINITY): string | undefined {
  if (headSize > MOST_HEAD) {
    return `heads of ${headSize} values: above ${MOST_HEAD}, attention adds up in an order that depends on the number of keys`
  }
  const rows = Math.max(1, Math.min(Math.floor(l2Bytes / (CACHE_BYTES * headSize)), 2 * headSize))
  // Parts never have one row more than a multiple of BLOCK_STEP. Blocks of one row are all alike.
  const even = rows >= MAX_CHUNK || rows % BLOCK_STEP === 0 || rows === 1
  return even ? undefined : `attention in blocks of ${rows} rows, of which parts of a prompt may leave one over`
}
