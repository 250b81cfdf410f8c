/**
 * Matrices of weights in ONNX files, in whatever form their tensors have: as they are, in half precision, or in codes of two
 * to eight bits with scales and zero points. Read when asked for; what is stored is decoded exactly.
 */
import { halfToFloat } from '../gguf-blocks.js'
import { broken } from '../model-file.js'
import type { OnnxFile, OnnxTensor } from './file.js'

/** Weights by output, then by input: what is multiplied is `x · weightsᵀ`. */
export interface WeightMatrix {
  /** For errors. */
  readonly name: string
  /** The tensor it is kept in: two matrices of the same tensor are the same. */
  readonly tensor: string
  readonly rows: number
  readonly columns: number
  read(): Promise<Float32Array>
}

export interface WeightVector {
  readonly name: string
  readonly length: number
  read(): Promise<Float32Array>
}

/** A part of the outputs of a product. */
export function rowsOf(weights: WeightMatrix, from: number, rows: number): WeightMatrix {
  const { columns } = weights
  return {
    ...weights,
    tensor: `${weights.tensor}[${from}]`,
    rows,
    read: async () => (await weights.read()).slice(from * columns, (from + rows) * columns),
  }
}

export function partOf(vector: WeightVector, from: number, length: number): WeightVector {
  return { ...vector, length, read: async () => (await vector.read()).slice(from, from + length) }
}

const FLOATS: ReadonlySet<string> = new Set(['float', 'float16', 'bfloat16'])

export function isFloat({ type }: OnnxTensor): boolean {
  return FLOATS.has(type)
}

/** The tensor by itself, which must have two dimensions and hold numbers with a fraction. */
export function plainMatrix(file: OnnxFile, tensor: OnnxTensor): WeightMatrix | undefined {
  const { name, shape } = tensor
  const [rows, columns] = shape
  if (!isFloat(tensor) || shape.length !== 2 || rows === undefined || columns === undefined) return undefined
  return { name, tensor: name, rows, columns, read: () => readFloats(file, tensor) }
}

export interface Coded {
  readonly quantised: OnnxTensor
  readonly scales: OnnxTensor
  readonly zeros: OnnxTensor | undefined
}

/**
 * Codes as DequantizeLinear takes them: one scale for all, for each row (axis 0) or column (axis 1), or for each `block` of
 * either. @throws ModelFileError unless scales and zero points are as many as that needs.
 */
export function scaledMatrix(
  file: OnnxFile,
  { quantised, scales, zeros }: Coded,
  axis: number,
  block: number,
): WeightMatrix {
  const { name, shape } = quantised
  const [rows = 0, columns = 0] = shape
  if (shape.length !== 2) throw broken(`${name}: expected a matrix, got ${shape.length} dimensions`)
  if ((axis !== 0 && axis !== 1) || !Number.isSafeInteger(block) || block < 0) {
    throw broken(`${name}: this way of keeping scales is not supported`)
  }
  // Scales make a grid of one along the other axis, or of all of it where they are by block.
  const other = block === 0 ? 1 : undefined
  const along = (size: number): number => (block === 0 ? size : Math.ceil(size / block))
  const gridRows = axis === 0 ? along(rows) : (other ?? rows)
  const gridColumns = axis === 1 ? along(columns) : (other ?? columns)
  const expected = scales.count === 1 ? 1 : gridRows * gridColumns
  if (scales.count !== expected || (zeros !== undefined && zeros.count !== expected)) {
    throw broken(
      `${name}: expected ${expected} scales and zero points, got ${scales.count} and ${zeros?.count ?? 'none'}`,
    )
  }
  const perRow = expected === 1 ? 0 : gridRows === 1 ? 0 : axis === 0 && block > 0 ? 1 / block : 1
  const perColumn = expected === 1 ? 0 : gridColumns === 1 ? 0 : axis === 1 && block > 0 ? 1 / block : 1
  return {
    name,
    tensor: name,
    rows,
    columns,
    async read() {
      const [codes, scale] = [await readCodes(file, quantised), await readFloats(file, scales)]
      const zero = zeros === undefined ? undefined : await readCodes(file, zeros)
      const out = new Float32Array(rows * columns)
      for (let row = 0; row < rows; row++) {
        const start = Math.floor(row * perRow) * gridColumns
        for (let column = 0; column < columns; column++) {
          const at = expected === 1 ? 0 : start + Math.floor(column * perColumn)
          const index = row * columns + column
          out[index] = ((codes[index] ?? 0) - (zero?.[at] ?? 0)) * (scale[at] ?? 0)
        }
      }
      return out
    },
  }
}

export interface BlockSizes {
  readonly rows: number
  readonly columns: number
  readonly bits: number
  /** Columns of one scale. */
  readonly block: number
  /** What stands for zero where no zero points are kept. */
  readonly zero: number
}

/**
 * Codes in blocks along each row, as MatMulNBits and GatherBlockQuantized take them: the lower bits first. Zero points are
 * codes too, rows of whole bytes, or fractions. @throws ModelFileError unless everything has the size that needs.
 */
export function blockMatrix(file: OnnxFile, { quantised, scales, zeros }: Coded, sizes: BlockSizes): WeightMatrix {
  const { rows, columns, bits, block } = sizes
  const { name } = quantised
  const sized = [rows, columns, block].every((size) => Number.isSafeInteger(size) && size > 0 && size < 2 ** 31)
  if (!sized || ![2, 4, 8].includes(bits) || (block * bits) % 8 !== 0 || (columns * bits) % 8 !== 0) {
    throw broken(`${name}: ${rows}×${columns} weights in blocks of ${block} with ${bits} bits are not supported`)
  }
  const perRow = Math.ceil(columns / block)
  const zeroStride = Math.ceil((perRow * bits) / 8)
  const rowBytes = (perRow * block * bits) / 8
  const bytes = bytesOf(quantised)
  // Products fill the last block of each row, tables have no more than their columns.
  const stride = bytes === rows * rowBytes ? rowBytes : (columns * bits) / 8
  const floatZeros = zeros !== undefined && isFloat(zeros)
  const zeroSize = floatZeros ? rows * perRow : rows * zeroStride
  const zeroGot = zeros === undefined ? zeroSize : floatZeros ? zeros.count : bytesOf(zeros)
  if (bytes !== rows * stride || scales.count !== rows * perRow || zeroGot !== zeroSize) {
    throw broken(
      `${name}: expected ${rows}×${columns} weights in blocks of ${block}, got ${bytes} bytes, ${scales.count} scales and ${zeroGot} of zero points`,
    )
  }
  const signed = quantised.type === 'int4' || quantised.type === 'int8'
  const mask = 2 ** bits - 1
  const codeAt = (source: Buffer, start: number, index: number): number => {
    const code = ((source[start + ((index * bits) >> 3)] ?? 0) >> ((index * bits) & 7)) & mask
    return signed && code > mask >> 1 ? code - mask - 1 : code
  }
  return {
    name,
    tensor: name,
    rows,
    columns,
    async read() {
      const [codes, scale] = [await file.read(quantised), await readFloats(file, scales)]
      const zeroFloats = zeros !== undefined && floatZeros ? await readFloats(file, zeros) : undefined
      const zeroCodes = zeros === undefined || floatZeros ? undefined : await file.read(zeros)
      const out = new Float32Array(rows * columns)
      for (let row = 0; row < rows; row++) {
        for (let number = 0; number < perRow; number++) {
          const at = row * perRow + number
          const factor = scale[at] ?? 0
          const zero = zeroCodes ? codeAt(zeroCodes, row * zeroStride, number) : (zeroFloats?.[at] ?? sizes.zero)
          for (let column = number * block; column < Math.min(columns, (number + 1) * block); column++) {
            out[row * columns + column] = (codeAt(codes, row * stride, column) - zero) * factor
          }
        }
      }
      return out
    },
  }
}

function bytesOf({ type, count }: OnnxTensor): number {
  return type === 'uint4' || type === 'int4' ? Math.ceil(count / 2) : count
}

/** The other way round. */
export function turned(matrix: WeightMatrix): WeightMatrix {
  const { rows, columns } = matrix
  return {
    ...matrix,
    rows: columns,
    columns: rows,
    async read() {
      const values = await matrix.read()
      const out = new Float32Array(values.length)
      for (let row = 0; row < rows; row++) {
        for (let column = 0; column < columns; column++) out[column * rows + row] = values[row * columns + column] ?? 0
      }
      return out
    },
  }
}

export async function readFloats(file: OnnxFile, tensor: OnnxTensor): Promise<Float32Array> {
  const { name, type, count } = tensor
  const bytes = await file.read(tensor)
  const out = new Float32Array(count)
  if (type === 'float') new Uint8Array(out.buffer).set(bytes)
  else if (type === 'float16') for (let i = 0; i < count; i++) out[i] = halfToFloat(bytes.readUInt16LE(i * 2))
  else if (type === 'bfloat16') {
    const words = new Uint32Array(out.buffer)
    for (let i = 0; i < count; i++) words[i] = bytes.readUInt16LE(i * 2) << 16
  } else throw broken(`${name}: expected numbers with a fraction, got ${type}`)
  return out
}

async function readCodes(file: OnnxFile, tensor: OnnxTensor): Promise<ArrayLike<number>> {
  const { name, type, count } = tensor
  const bytes = await file.read(tensor)
  if (type === 'uint8') return bytes
  if (type === 'int8') return new Int8Array(bytes.buffer, bytes.byteOffset, count)
  if (type !== 'uint4' && type !== 'int4') throw broken(`${name}: expected codes of four or eight bits, got ${type}`)
  const out = new Int8Array(count)
  for (let i = 0; i < count; i++) {
    const code = ((bytes[i >> 1] ?? 0) >> (4 * (i & 1))) & 15
    out[i] = type === 'int4' && code > 7 ? code - 16 : code
  }
  return out
}
