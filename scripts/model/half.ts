/** Half precision, IEEE 754 binary16, as its 16 bits. */

import { halfToFloat } from './gguf-blocks.js'
import { broken } from './model-file.js'

const LARGEST = 65_504
const HIDDEN_BIT = 0x80_0000

/** The nearest each, to even where two are as near. @throws ModelFileError for one that is beyond the largest. */
export function toHalf(values: Float32Array): Uint16Array<ArrayBuffer> {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length)
  const out = new Uint16Array(values.length)
  for (let i = 0; i < out.length; i++) {
    const single = bits[i] ?? 0
    const half = ((single >>> 16) & 0x8000) | magnitude(single & 0x7fff_ffff)
    if ((half & 0x7fff) > 0x7bff)
      throw broken(`a weight is beyond ${LARGEST}, the largest of fp16: choose another format`)
    out[i] = half
  }
  return out
}

function magnitude(single: number): number {
  const exponent = (single >>> 23) - 127
  if (exponent > 15) return 0x7c00
  // Less than half of the smallest.
  if (exponent < -25) return 0
  // Below 2^-14 the step stays 2^-24.
  const shift = exponent >= -14 ? 13 : -1 - exponent
  const significand = (single & 0x7f_ffff) | HIDDEN_BIT
  const kept = significand >>> shift
  const rest = significand & ((1 << shift) - 1)
  const middle = 1 << (shift - 1)
  const up = rest > middle || (rest === middle && (kept & 1) === 1) ? 1 : 0
  // A carry into the exponent is the next larger one, as it should be.
  const biased = exponent >= -14 ? (exponent + 14) << 10 : 0
  return biased + kept + up
}

/** What such bits stand for. */
export function fromHalf(bits: Uint16Array): Float32Array {
  return Float32Array.from(bits, halfToFloat)
}
