/**
 * Finds the Llama block and its relatives in an ONNX graph by following values back from its logits: norms, products with
 * weights, residual sums and gated feed-forwards must be there as expected, layer by layer, and nothing besides.
 */
import type { LayerMatrix, LayerVector } from '../llama-graph.js'
import { broken } from '../model-file.js'
import { type Attention, GQA, groupQueryAttention, type Heads } from './attention.js'
import type { OnnxFile } from './file.js'
import { product, unlike } from './follow.js'
import type { WeightMatrix, WeightVector } from './matrix.js'
import { type Norm, normAt, normsOf } from './norm.js'
import { type Rotation, rotationOf } from './rotation.js'
import { spelledAttention } from './spelled-attention.js'
import { createWeightReader, type Product, type WeightReader } from './weights.js'

const MAX_LAYERS = 512

export interface OnnxLayer {
  readonly matrices: Readonly<Record<LayerMatrix, WeightMatrix>>
  readonly vectors: Readonly<Partial<Record<LayerVector, WeightVector>>>
}

export interface OnnxLlama {
  readonly embedding: WeightMatrix
  readonly head: WeightMatrix
  readonly finalNorm: WeightVector
  readonly layers: readonly OnnxLayer[]
  readonly normEpsilon: number
  readonly ropeFrequencies: Float64Array
  readonly ropeInterleaved: boolean
}

/**
 * `expected` are the frequencies of config.json, where there is one: the graph must agree with them. @throws ModelFileError
 * naming the first thing that is not as it should be.
 */
export async function readLlama(file: OnnxFile, heads: Heads, expected: Float64Array | undefined): Promise<OnnxLlama> {
  const weights = createWeightReader(file)
  for (const name of ['input_ids', 'attention_mask'])
    if (!file.inputs.has(name)) throw broken(`the graph has no input ${name}`)
  if (!file.outputs.has('logits')) throw broken('the graph has no output logits')
  const norms = await normsOf(file, weights)
  const epsilons: number[] = []
  const norm = async (name: string, what: string): Promise<Norm> => {
    const found = await normAt(weights, name)
    if (found === undefined) throw unlike(weights, name, `the norm of ${what}`)
    epsilons.push(found.epsilon)
    return found
  }
  const head = product(weights, 'logits', 'the output')
  const final = await norm(head.input, 'the output')
  const layers: OnnxLayer[] = []
  const rotations: Rotation[] = []
  // How many layers there are shows at the end only, and caches are numbered from the other one.
  const caches: (readonly string[])[] = []
  let [stream, parts] = [final.stream, final.parts]
  for (; parts !== undefined; ) {
    if (layers.length >= MAX_LAYERS) throw broken(`the graph has more than ${MAX_LAYERS} layers`)
    const what = `layer ${layers.length + 1} from the end`
    const after = branchOf(weights, parts, `${what}, feed-forward`)
    const { gate, up, input } = gated(weights, after.product.input, what)
    const norm2 = await norm(input, `${what}, feed-forward`)
    if (norm2.stream !== after.base || norm2.parts === undefined)
      throw unlike(weights, after.base, `the sum before ${what}`)
    const before = branchOf(weights, norm2.parts, `${what}, attention`)
    const attention = await attentionAt(file, weights, norms, before.product.input, heads, what)
    const { q, k, v, qNorm, kNorm } = attention
    for (const one of [qNorm, kNorm]) if (one !== undefined) epsilons.push(one.epsilon)
    const norm1 = await norm(q.input, `${what}, attention`)
    if (norm1.stream !== before.base || k.input !== q.input || v.input !== q.input) {
      throw broken(`${what}: queries, keys and values are not of the same norm of the same sum`)
    }
    rotations.push(attention.rotation)
    caches.unshift(attention.caches)
    layers.unshift({
      matrices: {
        q: q.weights,
        k: k.weights,
        v: v.weights,
        o: before.product.weights,
        gate: gate.weights,
        up: up.weights,
        down: after.product.weights,
      },
      vectors: {
        norm1: norm1.gain,
        norm2: norm2.gain,
        ...defined({ 'q.bias': q.bias, 'k.bias': k.bias, 'v.bias': v.bias }),
        ...defined({ 'q.norm': qNorm?.gain, 'k.norm': kNorm?.gain }),
      },
    })
    for (const one of [head, after.product, before.product, gate, up]) {
      if (one.bias !== undefined)
        throw broken(`${one.bias.name}: biases are supported for queries, keys and values only`)
    }
    stream = before.base
    parts = norm1.parts
  }
  const embedding = weights.lookup(stream, 'input_ids')
  if (embedding === undefined) throw unlike(weights, stream, 'the embedding')
  for (const [index, names] of caches.entries()) checkCaches(names, index)
  const [normEpsilon = 0] = epsilons
  if (!epsilons.every((epsilon) => Math.abs(epsilon - normEpsilon) <= normEpsilon * 1e-3)) {
    throw broken('the norms of the graph do not have the same epsilon')
  }
  const rotation = await rotationOf(file, weights, rotations, heads.headSize, expected)
  checkAllUsed(file, weights)
  return { embedding, head: head.weights, finalNorm: final.gain, layers, normEpsilon, ...rotation }
}

function defined<T>(entries: Readonly<Record<string, T | undefined>>): Readonly<Record<string, T>> {
  return Object.fromEntries(Object.entries(entries).filter((entry): entry is [string, T] => entry[1] !== undefined))
}

/** Which of two parts of a sum is a product with weights; the other one is the stream. */
function branchOf(
  weights: WeightReader,
  parts: readonly string[],
  what: string,
): { readonly product: Product; readonly base: string } {
  for (const [first = '', second = ''] of [parts, [...parts].reverse()]) {
    const found = weights.product(second)
    if (found !== undefined) return { product: found, base: weights.plain(first) }
  }
  throw unlike(weights, parts[1] ?? '', `${what}: a product with weights`)
}

/** SwiGLU: gate · sigmoid(gate) · up. */
function gated(
  weights: WeightReader,
  name: string,
  what: string,
): { readonly gate: Product; readonly up: Product; readonly input: string } {
  const node = weights.producer(name)
  const sides = node?.operator === 'Mul' ? [node.inputs, [...node.inputs].reverse()] : []
  for (const [first = '', second = ''] of sides) {
    const activated = activatedBy(weights, first)
    if (activated === undefined) continue
    const [gate, up] = [product(weights, activated, `${what}, gate`), product(weights, second, `${what}, up`)]
    if (gate.input === up.input) return { gate, up, input: gate.input }
  }
  throw unlike(weights, name, `${what}: the gated feed-forward (SwiGLU)`)
}

function activatedBy(weights: WeightReader, name: string): string | undefined {
  const node = weights.producer(name)
  if (node?.operator !== 'Mul') return undefined
  for (const [first = '', second = ''] of [node.inputs, [...node.inputs].reverse()]) {
    const sigmoid = weights.producer(second)
    const by = weights.plain(sigmoid?.inputs[0] ?? '')
    if (sigmoid?.operator === 'Sigmoid' && by === weights.plain(first)) return by
  }
  return undefined
}

async function attentionAt(
  file: OnnxFile,
  weights: WeightReader,
  norms: ReadonlyMap<string, Norm>,
  name: string,
  heads: Heads,
  what: string,
): Promise<Attention> {
  const node = weights.producer(name)
  return node?.operator === GQA
    ? groupQueryAttention(file, weights, node, heads, what)
    : spelledAttention(file, weights, norms, name, what)
}

/** A layer that read another one's cache would be another model. */
function checkCaches(got: readonly string[], index: number): void {
  const expected = ['past_key_values', 'present'].flatMap((kind) => [`${kind}.${index}.key`, `${kind}.${index}.value`])
  if (got.join() !== expected.join()) {
    throw broken(`layer ${index}: expected the caches ${expected.join(', ')}, got ${got.join(', ').slice(0, 200)}`)
  }
}

/** A weight that nothing here uses would be one that the reader did not understand. */
function checkAllUsed(file: OnnxFile, weights: WeightReader): void {
  for (const { name } of file.tensors.values()) {
    if (weights.vectorLike(name) && !weights.used.has(name)) {
      throw broken(`${name}: is a weight that no part of such a model uses`)
    }
  }
}
