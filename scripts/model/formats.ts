/**
 * Weight formats, and how a matrix gets into each. A matrix has `rows` outputs and `columns` inputs, row after row.
 *
 * - fp32: as it is.
 * - int8, int4: blocks of 32 inputs with one fp32 scale each, symmetric (MatMulNBits).
 * - pr8: one scale for each output; inputs are scaled row by row at run time, so that sums are of integers and exact. The
 *   fastest on processors with integer matrix units, and the one that suffers most from outliers among the inputs.
 */

export const FORMATS = ['fp32', 'int8', 'int4', 'pr8'] as const
export type Format = (typeof FORMATS)[number]

export interface Matrix {
  readonly rows: number
  readonly columns: number
  readonly values: Float32Array
}

/** Inputs of one scale in int8 and int4. */
export const BLOCK = 32

export interface BlockQuantised {
  /** [rows, columns / 32, 32 × bits / 8]; int4 has two neighbours a byte, the lower first. Offset by 128 or 8. */
  readonly codes: Uint8Array
  readonly scales: Float32Array
}

/** `columns` must be a multiple of BLOCK. */
export function quantiseBlocks({ rows, columns, values }: Matrix, bits: 4 | 8): BlockQuantised {
  const zero = 2 ** (bits - 1)
  const blocks = (rows * columns) / BLOCK
  const scales = new Float32Array(blocks)
  const codes = new Uint8Array((blocks * BLOCK * bits) / 8)
  const perByte = 8 / bits
  for (let block = 0; block < blocks; block++) {
    const start = block * BLOCK
    // The value furthest from zero takes the code furthest from zero, which only one sign has.
    let furthest = 0
    for (let i = start; i < start + BLOCK; i++) {
      const value = values[i] ?? 0
      if (Math.abs(value) > Math.abs(furthest)) furthest = value
    }
    const scale = Math.fround(furthest / -zero)
    scales[block] = scale
    if (scale === 0) {
      for (let i = 0; i < BLOCK / perByte; i++) codes[start / perByte + i] = bits === 8 ? zero : zero | (zero << 4)
      continue
    }
    for (let i = 0; i < BLOCK; i++) {
      const code = Math.max(0, Math.min(2 * zero - 1, Math.round((values[start + i] ?? 0) / scale) + zero))
      const at = (start + i) / perByte
      if (bits === 8) codes[at] = code
      else codes[Math.floor(at)] = (codes[Math.floor(at)] ?? 0) | (code << (4 * (i & 1)))
    }
  }
  return { codes, scales }
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
export function dequantiseBlocks({ codes, scales }: BlockQuantised, bits: 4 | 8): Float32Array {
  const zero = 2 ** (bits - 1)
  const values = new Float32Array(scales.length * BLOCK)
  for (let i = 0; i < values.length; i++) {
    const code = bits === 8 ? (codes[i] ?? 0) : ((codes[i >> 1] ?? 0) >> (4 * (i & 1))) & 15
    values[i] = (code - zero) * (scales[Math.floor(i / BLOCK)] ?? 0)
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
