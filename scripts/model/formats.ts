/**
 * Weight formats, and how a matrix gets into each. A matrix has `rows` outputs and `columns` inputs, row after row.
 *
 * - fp32: as it is.
 * - fp16: in half precision, and so are inputs and outputs of its products; what is added up between layers is not. For devices.
 * - int8: blocks of 32 or 64 inputs with one fp32 scale each, symmetric (MatMulNBits).
 * - int4: blocks of 32 with 4 bits, and an offset for each block where it brings the codes closer to the source; the output
 *   matrix keeps eight bits.
 * - pr8: one scale for each output; inputs are scaled row by row at run time, so that sums are of integers and exact. The
 *   fastest on processors with integer matrix units, and the one that suffers most from outliers among the inputs.
 */

export const FORMATS = ['fp32', 'fp16', 'int8', 'int4', 'pr8'] as const
export type Format = (typeof FORMATS)[number]

export interface Matrix {
  readonly rows: number
  readonly columns: number
  readonly values: Float32Array
}

/** Inputs of one scale. */
export const BLOCK = 32
/** The same in eight bits where that loses little: half as many scales, and sums of blocks, for a step to read. */
export const WIDE_BLOCK = 2 * BLOCK

export interface BlockQuantised {
  /** Inputs of one scale. */
  readonly block: number
  /** [rows, columns / block, block × bits / 8]; int4 has two neighbours a byte, the lower first. Offset by 128 or 8. */
  readonly codes: Uint8Array
  readonly scales: Float32Array
  /** Added to each value of a block. Absent where all are zero. */
  readonly offsets?: Float32Array
}

/** `columns` must be a multiple of `block`, and with 4 bits a block is BLOCK inputs. */
export function quantiseBlocks({ rows, columns, values }: Matrix, bits: 4 | 8, block: number = BLOCK): BlockQuantised {
  const zero = 2 ** (bits - 1)
  const blocks = (rows * columns) / block
  const scales = new Float32Array(blocks)
  const offsets = new Float32Array(blocks)
  const codes = new Uint8Array((rows * columns * bits) / 8)
  let shifted = false
  const coded = new Uint8Array(block)
  for (let index = 0; index < blocks; index++) {
    const source = values.subarray(index * block, (index + 1) * block)
    const symmetric = fitSymmetric(source, zero)
    const best = bits === 4 ? closest(source, zero, symmetric, fitRange(source, zero)) : symmetric
    scales[index] = best.scale
    offsets[index] = best.offset
    shifted ||= best.offset !== 0
    encode(source, zero, best, coded)
    if (bits === 8) codes.set(coded, index * block)
    else {
      const at = (index * block) / 2
      for (let i = 0; i < block / 2; i++) codes[at + i] = (coded[2 * i] ?? 0) | ((coded[2 * i + 1] ?? 0) << 4)
    }
  }
  return { block, codes, scales, ...(shifted ? { offsets } : {}) }
}

/** A code stands for (code - zero) × scale + offset. */
interface Fit {
  readonly scale: number
  readonly offset: number
}

function fitSymmetric(source: Float32Array, zero: number): Fit {
  // The value furthest from zero takes the code furthest from zero, which only one sign has.
  let furthest = 0
  for (const value of source) if (Math.abs(value) > Math.abs(furthest)) furthest = value
  return { scale: Math.fround(furthest / -zero), offset: 0 }
}

/** From the lowest value to the highest: what is stored with a minimum, as in Q4_1 and Q4_K, comes out as it was. */
function fitRange(source: Float32Array, zero: number): Fit {
  let [low, high] = [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]
  for (const value of source) {
    low = Math.min(low, value)
    high = Math.max(high, value)
  }
  const scale = Math.fround((high - low) / (2 * zero - 1))
  return { scale, offset: Math.fround(low + zero * scale) }
}

function closest(source: Float32Array, zero: number, a: Fit, b: Fit): Fit {
  const distance = (fit: Fit): number => {
    encode(source, zero, fit, TRIAL)
    let sum = 0
    for (let i = 0; i < source.length; i++) sum += (decode(TRIAL[i] ?? 0, zero, fit) - (source[i] ?? 0)) ** 2
    return sum
  }
  return distance(b) < distance(a) ? b : a
}

const TRIAL = new Uint8Array(BLOCK)

function encode(source: Float32Array, zero: number, { scale, offset }: Fit, out: Uint8Array): void {
  for (let i = 0; i < source.length; i++) {
    const code = scale === 0 ? zero : Math.round(((source[i] ?? 0) - offset) / scale) + zero
    out[i] = Math.max(0, Math.min(2 * zero - 1, code))
  }
}

function decode(code: number, zero: number, { scale, offset }: Fit): number {
  return (code - zero) * scale + offset
}

export interface RowQuantised {
  /** [columns, rows]: transposed, as the operator wants it. */
  readonly codes: Int8Array
  /** One for each output. */
  readonly scales: Float32Array
}

export function quantiseRows({ rows, columns, values }: Matrix): RowQuantised {
  const codes = new Int8Array(rows * columns)
  const scales = new Float32Array(rows)
  for (let row = 0; row < rows; row++) {
    let most = 0
    for (let i = row * columns; i < (row + 1) * columns; i++) most = Math.max(most, Math.abs(values[i] ?? 0))
    const scale = Math.fround(most / 127) || 1
    scales[row] = scale
    for (let column = 0; column < columns; column++) {
      codes[column * rows + row] = Math.round((values[row * columns + column] ?? 0) / scale)
    }
  }
  return { codes, scales }
}

/** What the codes stand for, to be held against the source. */
export function dequantiseBlocks({ block, codes, scales, offsets }: BlockQuantised, bits: 4 | 8): Float32Array {
  const zero = 2 ** (bits - 1)
  const values = new Float32Array(scales.length * block)
  for (let i = 0; i < values.length; i++) {
    const index = Math.floor(i / block)
    const code = bits === 8 ? (codes[i] ?? 0) : ((codes[i >> 1] ?? 0) >> (4 * (i & 1))) & 15
    values[i] = decode(code, zero, { scale: scales[index] ?? 0, offset: offsets?.[index] ?? 0 })
  }
  return values
}

export function dequantiseRows(
  { codes, scales }: RowQuantised,
  { rows, columns }: Omit<Matrix, 'values'>,
): Float32Array {
  const values = new Float32Array(rows * columns)
  for (let row = 0; row < rows; row++) {
    const scale = scales[row] ?? 0
    for (let column = 0; column < columns; column++) {
      values[row * columns + column] = (codes[column * rows + row] ?? 0) * scale
    }
  }
  return values
}

/** Root of the mean squared difference, as a share of the root of the mean square of the source. */
export function relativeError(source: Float32Array, approximation: Float32Array): number {
  let difference = 0
  let power = 0
  for (let i = 0; i < source.length; i++) {
    const value = source[i] ?? 0
    difference += (value - (approximation[i] ?? 0)) ** 2
    power += value ** 2
  }
  return power === 0 ? 0 : Math.sqrt(difference / power)
}

/** Columns first: what a plain matrix product wants. */
export function transpose({ rows, columns, values }: Matrix): Float32Array {
  const out = new Float32Array(values.length)
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) out[column * rows + row] = values[row * columns + column] ?? 0
  }
  return out
}
