/**
 * Whether every weight is a number. One that is not may lie where no trial looks, in the row of a rare token, and would
 * then fail the answers of whoever has that token, one after the other.
 */
import { EngineError } from '../errors.js'
import { fileByRole, type ModelPackage } from '../package.js'
import { readGraphFacts, type StoredTensor } from './graph-facts.js'

/** By TensorProto.DataType: length in bytes, and the bits of the exponent, all set where a value is infinite or none. */
const FLOATS: ReadonlyMap<number, { readonly bytes: 2 | 4; readonly exponent: number }> = new Map([
  [1, { bytes: 4, exponent: 0x7f800000 }],
  [10, { bytes: 2, exponent: 0x7c00 }],
  [16, { bytes: 2, exponent: 0x7f80 }],
])
const DOUBLE = 11

/** @throws EngineError `package.unusable` for weights that are not finite, or where they cannot be seen. */
export function checkWeights(modelPackage: ModelPackage): void {
  for (const tensor of readGraphFacts(fileByRole(modelPackage, 'graph')).tensors) {
    const kind = FLOATS.get(tensor.elementType)
    if (kind === undefined && tensor.elementType !== DOUBLE) continue
    if (tensor.shape.includes(0)) continue
    const bytes = bytesOf(modelPackage, tensor)
    if (kind === undefined || bytes === undefined || bytes.length % kind.bytes !== 0) {
      throw unusable(tensor, 'has weights kept in a way this engine does not read')
    }
    if (!allFinite(bytes, kind.bytes, kind.exponent)) throw unusable(tensor, 'has weights that are not finite')
  }
}

function bytesOf({ files }: ModelPackage, tensor: StoredTensor): Uint8Array | undefined {
  const { data } = tensor
  if (data === undefined || data instanceof Uint8Array) return data
  const file = files.get(data.file)
  const end = data.length === undefined ? file?.length : data.offset + data.length
  if (file === undefined || end === undefined || end > file.length || data.offset > end) {
    throw unusable(tensor, 'lies outside its file')
  }
  return file.subarray(data.offset, end)
}

function allFinite(bytes: Uint8Array, size: 2 | 4, exponent: number): boolean {
  // Views of several bytes begin at their multiples.
  const { buffer, byteOffset, length } = bytes.byteOffset % size === 0 ? bytes : bytes.slice()
  const values =
    size === 4 ? new Uint32Array(buffer, byteOffset, length / size) : new Uint16Array(buffer, byteOffset, length / size)
  for (let i = 0; i < values.length; i++) if (((values[i] ?? 0) & exponent) === exponent) return false
  return true
}

function unusable({ name }: StoredTensor, problem: string): EngineError {
  return new EngineError('package.unusable', `${name.slice(0, 80) || 'a constant of the graph'} ${problem}`)
}
