/** Attention as one GroupQueryAttention: its settings and inputs are all checked, and what it is made of is found. */
import { broken } from '../model-file.js'
import type { OnnxFile } from './file.js'
import { coneOf, headed, product, unlike } from './follow.js'
import type { OnnxNode } from './graph.js'
import { partOf, rowsOf } from './matrix.js'
import { type Norm, normAt } from './norm.js'
import type { Rotation } from './rotation.js'
import { numberOf, onlyAttributes, type Product, type WeightReader } from './weights.js'

export interface Heads {
  readonly heads: number
  readonly kvHeads: number
  readonly headSize: number
}

export interface Attention {
  readonly q: Product
  readonly k: Product
  readonly v: Product
  readonly qNorm: Norm | undefined
  readonly kNorm: Norm | undefined
  readonly rotation: Rotation
  /** Keys and values of the past, then of the present. */
  readonly caches: readonly string[]
}

export const GQA = 'com.microsoft:GroupQueryAttention'

/** Settings that must have no effect. */
const GQA_IDLE: Readonly<Record<string, readonly number[]>> = {
  local_window_size: [-1],
  softcap: [0],
  smooth_softmax: [0, -1],
  qk_output: [0],
}

export async function groupQueryAttention(
  file: OnnxFile,
  weights: WeightReader,
  node: OnnxNode,
  { heads, kvHeads, headSize }: Heads,
  what: string,
): Promise<Attention> {
  onlyAttributes(node, [
    'num_heads',
    'kv_num_heads',
    'scale',
    'do_rotary',
    'rotary_interleaved',
    ...Object.keys(GQA_IDLE),
  ])
  for (const [key, idle] of Object.entries(GQA_IDLE)) {
    const value = numberOf(node, key, idle[0])
    if (!idle.includes(value)) throw broken(`${what}: attention with ${key} ${value} is not supported`)
  }
  const counts = [numberOf(node, 'num_heads'), numberOf(node, 'kv_num_heads')]
  if (counts.join() !== [heads, kvHeads].join()) {
    throw broken(`${what}: expected ${heads} heads of queries and ${kvHeads} of keys, got ${counts.join(' and ')}`)
  }
  const scale = numberOf(node, 'scale', 0)
  if (scale !== 0 && Math.abs(scale * Math.sqrt(headSize) - 1) > 1e-4) {
    throw broken(`${what}: attention with a scale of its own is not supported`)
  }
  const [
    query = '',
    key = '',
    value = '',
    keys = '',
    values = '',
    lengths = '',
    total = '',
    cos = '',
    sin = '',
    ...more
  ] = node.inputs
  if (more.some((input) => input !== ''))
    throw broken(`${what}: attention with more than the usual inputs is not supported`)
  for (const input of [lengths, total]) checkMask(file, weights, input, what)
  const caches = [keys, values, ...node.outputs.slice(1, 3)]
  if (!caches.slice(2).every((name) => file.outputs.has(name)))
    throw broken(`${what}: its caches are no outputs of the graph`)
  const sizes = { q: heads * headSize, k: kvHeads * headSize, v: kvHeads * headSize }
  if (numberOf(node, 'do_rotary', 0) === 1) {
    const [q, k, v] = [query, key, value].map((input) => headed(weights, input)) as [string, string, string]
    const rotation: Rotation = { kind: 'tables', cos, sin, interleaved: numberOf(node, 'rotary_interleaved', 0) === 1 }
    if (k !== '') return { ...(await projections(weights, [q, k, v], sizes, what)), rotation, caches }
    const all = product(weights, q, `${what}, attention`)
    const bias = all.bias
    const part = (from: number, rows: number): Product => ({
      input: all.input,
      weights: rowsOf(all.weights, from, rows),
      bias: bias && partOf(bias, from, rows),
    })
    if (all.weights.rows !== sizes.q + sizes.k + sizes.v) {
      throw broken(`${all.weights.name}: expected ${sizes.q + sizes.k + sizes.v} outputs, got ${all.weights.rows}`)
    }
    return {
      q: part(0, sizes.q),
      k: part(sizes.q, sizes.k),
      v: part(sizes.q + sizes.k, sizes.v),
      qNorm: undefined,
      kNorm: undefined,
      rotation,
      caches,
    }
  }
  const [first, second] = [rotaryAt(weights, query, heads, what), rotaryAt(weights, key, kvHeads, what)]
  if (JSON.stringify(first.rotation) !== JSON.stringify(second.rotation)) {
    throw broken(`${what}: queries and keys are not rotated alike`)
  }
  return {
    ...(await projections(weights, [first.input, second.input, value], sizes, what)),
    rotation: first.rotation,
    caches,
  }
}

function rotaryAt(
  weights: WeightReader,
  name: string,
  heads: number,
  what: string,
): { readonly input: string; readonly rotation: Rotation } {
  const node = weights.producer(headed(weights, name))
  if (node?.operator !== 'com.microsoft:RotaryEmbedding') throw unlike(weights, name, `${what}: rotary positions`)
  onlyAttributes(node, ['interleaved', 'num_heads', 'rotary_embedding_dim', 'is_packed_batching', 'scale'])
  const [input = '', positions = '', cos = '', sin = ''] = node.inputs
  const plainly =
    [0, heads].includes(numberOf(node, 'num_heads', 0)) &&
    numberOf(node, 'rotary_embedding_dim', 0) === 0 &&
    numberOf(node, 'is_packed_batching', 0) === 0 &&
    numberOf(node, 'scale', 1) === 1
  if (!plainly || weights.plain(positions) !== 'position_ids') {
    throw broken(`${what}: these rotary positions are not supported`)
  }
  const interleaved = numberOf(node, 'interleaved', 0) === 1
  return { input: headed(weights, input), rotation: { kind: 'tables', cos, sin, interleaved } }
}

async function projections(
  weights: WeightReader,
  [query, key, value]: readonly [string, string, string],
  sizes: Readonly<Record<'q' | 'k' | 'v', number>>,
  what: string,
): Promise<Omit<Attention, 'rotation' | 'caches'>> {
  const one = async (name: string, rows: number, part: string): Promise<[Product, Norm | undefined]> => {
    const found = await normAt(weights, headed(weights, name))
    const at = headed(weights, found?.stream ?? name)
    const split = weights.producer(at)
    if (split?.operator !== 'Split') return [product(weights, at, `${what}, ${part}`), found]
    const all = product(weights, split.inputs[0] ?? '', `${what}, ${part}`)
    // The only split there is: queries, keys and values of one product.
    const from = [0, sizes.q, sizes.q + sizes.k][split.outputs.indexOf(at)]
    if (from === undefined || all.weights.rows !== sizes.q + sizes.k + sizes.v || split.outputs.length !== 3) {
      throw broken(`${what}: expected queries, keys and values split from one product`)
    }
    const { input, bias } = all
    return [{ input, weights: rowsOf(all.weights, from, rows), bias: bias && partOf(bias, from, rows) }, found]
  }
  const [[q, qNorm], [k, kNorm], [v, vNorm]] = [
    await one(query, sizes.q, 'queries'),
    await one(key, sizes.k, 'keys'),
    await one(value, sizes.v, 'values'),
  ]
  if (vNorm !== undefined) throw broken(`${what}: norms of values are not supported`)
  return { q, k, v, qNorm, kNorm }
}

/** Lengths of rows, made of the mask and nothing else. */
function checkMask(file: OnnxFile, weights: WeightReader, name: string, what: string): void {
  const { inputs } = coneOf(file, weights, [name], () => false, MASK_OPERATORS, `${what}: lengths`, true)
  if ([...inputs].join() !== 'attention_mask') throw broken(`${what}: lengths are not made of attention_mask`)
}

const MASK_OPERATORS: ReadonlySet<string> = new Set(
  'Cast Constant Gather Identity ReduceSum Reshape Shape Squeeze Sub Unsqueeze'.split(' '),
)
