/**
 * Products with weights in ONNX graphs: MatMul, MatMulNBits, and what quantisers make of them. Scales of activations, where a
 * graph has them, are how it computes and no part of the model.
 */
import { broken } from '../model-file.js'
import type { OnnxFile, OnnxTensor } from './file.js'
import type { OnnxNode } from './graph.js'
import {
  blockMatrix,
  isFloat,
  plainMatrix,
  readFloats,
  scaledMatrix,
  turned,
  type WeightMatrix,
  type WeightVector,
} from './matrix.js'

export interface Product {
  readonly input: string
  readonly weights: WeightMatrix
  readonly bias: WeightVector | undefined
}

export interface WeightReader {
  /** Follows what passes values on as they are, or in another precision. */
  plain(name: string): string
  /** The node behind a name, and which of its outputs the name is. */
  producer(name: string): OnnxNode | undefined
  /** A tensor of one dimension and more than one value. */
  vector(name: string): WeightVector | undefined
  /** Whether a tensor holds what could be weights: fractions or codes, more than one of them. */
  vectorLike(name: string): boolean
  /** A single value, one with a fraction. */
  scalar(name: string): Promise<number | undefined>
  /** A single axis, length or place. */
  position(name: string): Promise<number | undefined>
  /** Undefined where `name` is not a product with weights. @throws ModelFileError for one of a kind that is not supported. */
  product(name: string): Product | undefined
  /** The table that `input` picks rows of. */
  lookup(name: string, input: string): WeightMatrix | undefined
  /** Names of the tensors that were found to be something. */
  readonly used: Set<string>
}

/** Types of shapes and positions. */
const WHOLE: ReadonlySet<string> = new Set(['int32', 'int64', 'bool'])

const MAX_STEPS = 16

export function createWeightReader(file: OnnxFile): WeightReader {
  const used = new Set<string>()
  const producer = (name: string): OnnxNode | undefined => file.producers.get(name)
  const plain = (name: string): string => {
    let at = name
    let steps = 0
    for (let node = producer(at); node?.operator === 'Cast' || node?.operator === 'Identity'; node = producer(at)) {
      // Followed from many places: long chains would cost their square.
      if (steps++ > MAX_STEPS) throw broken(`${name}: is passed on more than ${MAX_STEPS} times`)
      at = node.inputs[0] ?? ''
    }
    return at
  }
  const tensorAt = (name: string): OnnxTensor | undefined => file.tensors.get(plain(name))
  /** Where there must be one. */
  const take = (name: string, what: string): OnnxTensor => {
    const tensor = tensorAt(name)
    if (tensor === undefined) throw broken(`${name}: expected ${what} in the file`)
    used.add(tensor.name)
    return tensor
  }
  const zerosAt = (name: string): OnnxTensor | undefined => (name === '' ? undefined : take(name, 'zero points'))

  const vector = (name: string): WeightVector | undefined => {
    const tensor = tensorAt(name)
    if (tensor === undefined || !isFloat(tensor) || tensor.shape.length !== 1 || tensor.count < 2) return undefined
    used.add(tensor.name)
    return { name: tensor.name, length: tensor.count, read: () => readFloats(file, tensor) }
  }

  /** What a graph has as a matrix of its own, the way round it has it. */
  const table = (name: string, turns = 0): WeightMatrix | undefined => {
    const tensor = tensorAt(name)
    if (tensor !== undefined) {
      const matrix = plainMatrix(file, tensor)
      if (matrix !== undefined) used.add(tensor.name)
      return matrix
    }
    const node = producer(plain(name))
    const [first = '', scale = '', zero = ''] = node?.inputs ?? []
    if (node?.operator === 'DequantizeLinear' && tensorAt(first) !== undefined) {
      onlyAttributes(node, ['axis', 'block_size'])
      const coded = { quantised: take(first, 'codes'), scales: take(scale, 'scales'), zeros: zerosAt(zero) }
      const axis = numberOf(node, 'axis', 1)
      return scaledMatrix(file, coded, axis < 0 ? axis + 2 : axis, numberOf(node, 'block_size', 0))
    }
    const order = node?.attributes.get('perm')
    if (node?.operator !== 'Transpose' || !Array.isArray(order) || order.join() !== '1,0') return undefined
    if (turns > MAX_STEPS) throw broken(`${name}: is turned more than ${MAX_STEPS} times`)
    const inner = table(first, turns + 1)
    return inner && turned(inner)
  }

  const weighted = (node: OnnxNode): Product | undefined => {
    const [input = '', second = '', third = '', fourth = '', order = '', fifth = ''] = node.inputs
    if (node.operator === 'MatMul') {
      const weights = table(second)
      return weights && { input: plain(input), weights: turned(weights), bias: undefined }
    }
    if (node.operator === 'Mul') return integers(node)
    if (node.operator !== 'com.microsoft:MatMulNBits') return undefined
    onlyAttributes(node, ['K', 'N', 'bits', 'block_size', 'accuracy_level'])
    if (order !== '') throw broken(`${second}: weights in an order of their own (g_idx) are not supported`)
    const coded = { quantised: take(second, 'codes'), scales: take(third, 'scales'), zeros: zerosAt(fourth) }
    const bits = numberOf(node, 'bits', 4)
    const [rows, columns, block] = [numberOf(node, 'N'), numberOf(node, 'K'), numberOf(node, 'block_size')]
    const weights = blockMatrix(file, coded, { rows, columns, bits, block, zero: 2 ** (bits - 1) })
    const bias = fifth === '' ? undefined : vector(fifth)
    if (fifth !== '' && bias === undefined) throw broken(`${fifth}: expected a bias in the file`)
    return { input: plain(input), weights, bias }
  }

  /** (input in bytes · weights in bytes) × (scale of the input × scale of the weights), as dynamic quantisers write it. */
  const integers = (node: OnnxNode): Product | undefined => {
    for (const [sum = '', scale = ''] of [node.inputs, [...node.inputs].reverse()]) {
      const [matrix, scales] = [producer(plain(sum)), producer(plain(scale))]
      if (matrix?.operator !== 'MatMulInteger' || scales?.operator !== 'Mul') continue
      const [input = '', data = '', inputZero = '', zero = ''] = matrix.inputs
      const dynamic = producer(plain(input))
      const [, inputScale = '', dynamicZero] = dynamic?.outputs ?? []
      const weightScale = scales.inputs.find((name) => name !== inputScale) ?? ''
      if (dynamic?.operator !== 'DynamicQuantizeLinear' || inputZero !== dynamicZero) continue
      if (!scales.inputs.includes(inputScale)) continue
      const coded = { quantised: take(data, 'codes'), scales: take(weightScale, 'scales'), zeros: zerosAt(zero) }
      const weights = turned(scaledMatrix(file, coded, 1, 0))
      return { input: plain(dynamic.inputs[0] ?? ''), weights, bias: undefined }
    }
    return undefined
  }

  return {
    used,
    plain,
    producer: (name) => producer(plain(name)),
    vector,
    vectorLike(name) {
      const tensor = file.tensors.get(name)
      return tensor !== undefined && tensor.count > 1 && !WHOLE.has(tensor.type)
    },
    async scalar(name) {
      const tensor = tensorAt(name)
      if (tensor === undefined || tensor.count !== 1 || !isFloat(tensor)) return undefined
      return (await readFloats(file, tensor))[0]
    },
    async position(name) {
      const tensor = tensorAt(name)
      if (tensor === undefined || tensor.count !== 1 || tensor.type !== 'int64') return undefined
      return Number((await file.read(tensor)).readBigInt64LE())
    },
    product(name) {
      const node = producer(plain(name))
      if (node?.operator !== 'Add') return node && weighted(node)
      for (const [first = '', second = ''] of [node.inputs, [...node.inputs].reverse()]) {
        const inner = tensorAt(second) === undefined ? undefined : producer(plain(first))
        const found = inner && weighted(inner)
        const bias = found && vector(second)
        if (found !== undefined && bias !== undefined && found.bias === undefined) return { ...found, bias }
      }
      return undefined
    },
    lookup(name, input) {
      const node = producer(plain(name))
      const [data = '', second = '', third = '', fourth = ''] = node?.inputs ?? []
      if (node?.operator === 'Gather') {
        return plain(second) === input && numberOf(node, 'axis', 0) === 0 ? table(data) : undefined
      }
      if (node?.operator === 'DequantizeLinear') {
        const gather = producer(data)
        const [from = '', by = ''] = gather?.inputs ?? []
        if (gather?.operator !== 'Gather' || plain(by) !== input || numberOf(gather, 'axis', 0) !== 0) return undefined
        const coded = { quantised: take(from, 'codes'), scales: take(second, 'scales'), zeros: zerosAt(third) }
        if (coded.scales.count !== 1) throw broken(`${from}: expected one scale for all embeddings`)
        return scaledMatrix(file, coded, 1, 0)
      }
      if (node?.operator !== 'com.microsoft:GatherBlockQuantized' || plain(second) !== input) return undefined
      onlyAttributes(node, ['bits', 'block_size', 'gather_axis', 'quantize_axis'])
      const reshape = producer(data)
      const from = reshape?.operator === 'Reshape' ? (reshape.inputs[0] ?? '') : data
      const coded = { quantised: take(from, 'codes'), scales: take(third, 'scales'), zeros: zerosAt(fourth) }
      if (numberOf(node, 'gather_axis', 0) !== 0 || numberOf(node, 'quantize_axis', 1) !== 1) {
        throw broken(`${from}: expected embeddings in blocks along each row`)
      }
      const { type, count, shape } = coded.quantised
      const bits = type.endsWith('4') ? 4 : numberOf(node, 'bits', 4)
      const [rows = 0] = shape
      const columns = (type.endsWith('4') ? count : (count * 8) / bits) / rows
      const zero = type === 'uint8' ? 2 ** (bits - 1) : 0
      return blockMatrix(file, coded, { rows, columns, bits, block: numberOf(node, 'block_size', 128), zero })
    },
  }
}

/** @throws ModelFileError for a node with a setting that is not one of these. */
export function onlyAttributes(node: OnnxNode, known: readonly string[]): void {
  for (const name of node.attributes.keys()) {
    if (!known.includes(name)) throw broken(`${node.operator}: its setting ${name} is not supported`)
  }
}

export function numberOf(node: OnnxNode, name: string, fallback?: number): number {
  const value = node.attributes.get(name) ?? fallback
  if (typeof value === 'number') return value
  throw broken(`${node.operator}: expected ${name} to be a number`)
}
