/**
 * Whether a decoder graph keeps the rows of a run apart, and the positions of each row but for attention: what the class
 * `batch-invariant` needs of it (PROTOCOL.md P-8.7). Names of operators do not tell: the largest value of a tensor is taken
 * over one row, or over all of them, by the same one.
 *
 * So every node is held against the forms that this project's graphs are made of, with all of its attributes and inputs, and each
 * value is followed from the inputs on: a weight, which is the same for every row, or rows, of which the first axis is the row and
 * the second the position. No form moves or joins those two axes; they reduce, normalise and multiply along the last one, or
 * between values whose axes are the same one by one. Only attention reads other positions, and only those of the cache
 * that is its own. What is not of one of these forms is not judged, and such a graph is served one row a run.
 *
 * Not looked at: how the runtime computes a form. That its kernels give a row the same bits whatever shares the run is
 * tried by tests and at start-up (`trial.ts`), not proven. Nor the types and lengths of tensors, which the runtime checks itself.
 */
import { cacheNames, HIDDEN_STATE, LOGIT_POSITIONS, pastName, presentName } from '../graph-names.js'
import type { AttributeValue, GraphFacts, GraphNode, StoredTensor } from './graph-facts.js'

type Value =
  | { readonly kind: 'input'; readonly name: string }
  | { readonly kind: 'weight'; readonly rank: number; readonly tensor?: StoredTensor }
  /** [row, position, …]. `at` is which positions: all of the run, or those that the value of that name picks. */
  | { readonly kind: 'rows'; readonly rank: number; readonly at: string }
  | { readonly kind: 'cache'; readonly name: string }
type Rows = Extract<Value, { readonly kind: 'rows' }>

/** Gives what each output is, undefined where there is none; or nothing at all where the node is not of its form. */
type Form = (node: GraphNode, inputs: readonly (Value | undefined)[]) => readonly (Value | undefined)[] | undefined

/** Versions of operators that the forms were written for: the demo model's, and the importer's. */
const OPSETS: Readonly<Record<string, readonly bigint[]>> = { '': [17n, 21n], 'com.microsoft': [1n] }
const ALL = ''
const INT64 = 7
const LAST_AXIS = [-1n]

/** The first thing that is not known to keep rows apart, for people; undefined where everything is. */
export function findDependence({ inputs, outputs, tensors, nodes, opsets, extras }: GraphFacts): string | undefined {
  if (extras) return 'parts of the file that nothing is known of'
  for (const [domain, version] of opsets) {
    if (OPSETS[domain]?.includes(version) !== true) return `version ${version} of a set of operators`
  }
  const values = new Map<string, Value>()
  let twice = false
  const define = (name: string, value: Value): void => {
    twice ||= values.has(name)
    values.set(name, value)
  }
  for (const { name } of inputs) define(name, { kind: 'input', name })
  for (const tensor of tensors) {
    if (tensor.name !== '') define(tensor.name, { kind: 'weight', rank: tensor.shape.length, tensor })
  }
  for (const [number, node] of nodes.entries()) {
    const what = `node ${number}, ${node.operator}`
    const form = Object.hasOwn(FORMS, node.operator) ? FORMS[node.operator] : undefined
    if (form === undefined) return `${what}: no operator that is known to keep rows apart`
    // Of those that are not there, or only further down, nothing is known.
    const missing = node.inputs.some((name) => name !== '' && !values.has(name))
    const made =
      missing || node.extras
        ? undefined
        : form(
            node,
            node.inputs.map((name) => values.get(name)),
          )
    if (made === undefined || made.length !== node.outputs.length) {
      return `${what}: not in a form that is known to keep rows apart`
    }
    for (const [i, value] of made.entries()) {
      const name = node.outputs[i] ?? ''
      if ((value === undefined) !== (name === '')) return `${what}: not with the outputs that are known of it`
      if (value !== undefined) define(name, value)
    }
  }
  if (twice) return 'a name that several values have'
  for (const { name } of outputs) {
    const value = values.get(name)
    const answers = name === 'logits' || name === HIDDEN_STATE
    // All positions of a run, one after the other, would be more or fewer by how a prompt was cut.
    if (answers ? value?.kind !== 'rows' || value.at === ALL : value?.kind !== 'cache') {
      return `the output ${name}: not made of picked positions, or of attention`
    }
  }
  return undefined
}

const unary: Form = ({ attributes }, inputs) => {
  const [x] = inputs
  return inputs.length === 1 && isRows(x) && attributes.size === 0 ? [x] : undefined
}

/** With weights of one axis at most: those meet the last axis of rows. With other rows axis by axis, rank and positions being alike. */
const elementwise: Form = ({ attributes }, inputs) => {
  const [a, b] = inputs
  if (inputs.length !== 2 || attributes.size !== 0 || !isRows(a)) return undefined
  return isWeight(b, 0) || isWeight(b, 1) || (isRows(b, a.rank) && a.at === b.at) ? [a] : undefined
}

/** Along the last of at least three axes, which is neither row nor position. */
const reduced =
  (keepdims: bigint, rank: 3 | 4, after: number): Form =>
  ({ attributes }, inputs) => {
    const [x, axis] = inputs
    const last = sameNumbers(numbersOf(axis), LAST_AXIS)
    return inputs.length === 2 && isRows(x, rank) && last && exactly(attributes, { keepdims })
      ? [{ ...x, rank: after }]
      : undefined
  }

const FORMS: Readonly<Record<string, Form>> = {
  Abs: unary,
  Identity: unary,
  Sigmoid: unary,
  Add: elementwise,
  Div: elementwise,
  Max: elementwise,
  Mul: elementwise,
  // What stays behind it is the largest of each row and position.
  ReduceMax: reduced(1n, 3, 3),
  ReduceSum: reduced(0n, 4, 3),

  /** To fp32 or fp16. */
  Cast({ attributes }, inputs) {
    const [x] = inputs
    const known = exactly(attributes, { to: 1n }) || exactly(attributes, { to: 10n })
    return inputs.length === 1 && isRows(x) && known ? [x] : undefined
  },

  /** A token's row of a table; or some positions of every row. */
  Gather({ inputs: names, attributes }, inputs) {
    const [from, by] = inputs
    if (inputs.length !== 2) return undefined
    if (isWeight(from, 2) && isInput(by, 'input_ids') && exactly(attributes, { axis: 0n })) {
      return [{ kind: 'rows', rank: 3, at: ALL }]
    }
    const picks = isInput(by, LOGIT_POSITIONS) || sameNumbers(numbersOf(by), LAST_AXIS)
    return isRows(from, 3) && from.at === ALL && picks && exactly(attributes, { axis: 1n })
      ? [{ ...from, at: names[1] ?? ALL }]
      : undefined
  },

  MatMul({ attributes }, inputs) {
    const [x, matrix] = inputs
    return inputs.length === 2 && isRows(x, 3) && isWeight(matrix, 2) && attributes.size === 0 ? [x] : undefined
  },

  'com.microsoft:MatMulNBits'({ attributes }, inputs) {
    const [x, codes, scales] = inputs
    const known = {
      K: isInteger,
      N: isInteger,
      bits: (value: AttributeValue) => value === 4n || value === 8n,
      block_size: (value: AttributeValue) => value === 32n || value === 64n,
      accuracy_level: 4n,
    }
    return inputs.length === 3 &&
      isRows(x, 3) &&
      isWeight(codes, 3) &&
      isWeight(scales, 1) &&
      exactly(attributes, known)
      ? [x]
      : undefined
  },

  /** Scales of the inputs, and what stands for zero, are one number: what differs by row is multiplied in behind it. */
  'com.microsoft:MatMulIntegerToFloat'({ attributes }, inputs) {
    const [x, codes, step, scales, zero] = inputs
    const weights = isWeight(codes, 2) && isWeight(step, 0) && isWeight(scales, 1) && isWeight(zero, 0)
    return inputs.length === 5 && isRows(x, 3) && weights && attributes.size === 0 ? [x] : undefined
  },

  QuantizeLinear({ attributes }, inputs) {
    const [x, step, zero] = inputs
    const numbers = isWeight(step, 0) && isWeight(zero, 0)
    return inputs.length === 3 && isRows(x, 3) && numbers && attributes.size === 0 ? [x] : undefined
  },

  /** The first two axes stay what they are: a zero copies a length. */
  Reshape({ attributes }, inputs) {
    const [x, lengths] = inputs
    const [rows, positions, ...others] = numbersOf(lengths) ?? []
    const kept = rows === 0n && positions === 0n && others.length >= 1 && others.length <= 2
    return inputs.length === 2 && isRows(x) && kept && others.every((length) => length > 0n) && attributes.size === 0
      ? [{ ...x, rank: 2 + others.length }]
      : undefined
  },

  /** Of a weight, whose axes are all alike to rows. */
  Transpose(_, inputs) {
    const [matrix] = inputs
    return inputs.length === 1 && isWeight(matrix, 2) ? [{ kind: 'weight', rank: 2 }] : undefined
  },

  SimplifiedLayerNormalization({ attributes }, inputs) {
    const [x, gain] = inputs
    const known = exactly(attributes, { axis: -1n, epsilon: isFraction, stash_type: 1n })
    return inputs.length === 2 && isRows(x) && isWeight(gain, 1) && known ? [x] : undefined
  },

  'com.microsoft:SkipSimplifiedLayerNormalization'({ attributes }, inputs) {
    const [x, branch, gain] = inputs
    const streams = isRows(x, 3) && isRows(branch, 3) && x.at === branch.at
    return inputs.length === 3 && streams && isWeight(gain, 1) && exactly(attributes, { epsilon: isFraction })
      ? [x, undefined, undefined, x]
      : undefined
  },

  /** Query, key and value in one or apart; of one layer's cache, which it reads and writes; under scales where that is in int8. */
  'com.microsoft:GroupQueryAttention'({ outputs, attributes }, inputs) {
    const [q, k, v, pastKey, pastValue, lengths, longest, cos, sin, positions, bias, sinks, keyScale, valueScale] =
      inputs
    const apart = isPositioned(k) && isPositioned(v)
    const layer = /^present\.(\d{1,4})\.key$/.exec(outputs[1] ?? '')?.[1]
    if (!isPositioned(q) || !(apart || (k === undefined && v === undefined)) || layer === undefined) return undefined
    const [key, value] = cacheNames(Number(layer))
    const own = isInput(pastKey, pastName(key)) && isInput(pastValue, pastName(value))
    const kept = outputs[1] === presentName(key) && outputs[2] === presentName(value)
    const tables = isWeight(cos, 2) && isWeight(sin, 2)
    const given = isInput(lengths, 'seqlens_k') && isInput(longest, 'total_seq')
    const scaled = isWeight(keyScale, 1) && isWeight(valueScale, 1)
    const empty = positions === undefined && bias === undefined && sinks === undefined
    const whole = inputs.length === 9 || (inputs.length === 14 && scaled && empty)
    const plain = exactly(attributes, HEADS) || exactly(attributes, TURNED_HEADS)
    const known = scaled ? exactly(attributes, { ...TURNED_HEADS, ...IN_INT8 }) : plain
    return own && kept && tables && given && whole && known
      ? [q, { kind: 'cache', name: key }, { kind: 'cache', name: value }]
      : undefined
  },
}

const HEADS: Expected = { num_heads: isInteger, kv_num_heads: isInteger, do_rotary: 1n }
const TURNED_HEADS: Expected = { ...HEADS, rotary_interleaved: isFlag }
const IN_INT8: Expected = { k_quant_type: 'PER_TENSOR', v_quant_type: 'PER_TENSOR', kv_cache_bit_width: 8n }

function isRows(value: Value | undefined, rank?: number): value is Rows {
  return value?.kind === 'rows' && (rank === undefined || value.rank === rank)
}

/** All positions of a run: attention over some of them would keep what a prompt's cut left. */
function isPositioned(value: Value | undefined): value is Rows {
  return isRows(value, 3) && value.at === ALL
}

function isWeight(value: Value | undefined, rank: number): boolean {
  return value?.kind === 'weight' && value.rank === rank
}

function isInput(value: Value | undefined, name: string): boolean {
  return value?.kind === 'input' && value.name === name
}

type Expected = Readonly<Record<string, AttributeValue | ((value: AttributeValue) => boolean)>>

/** These attributes, and no others. */
function exactly(attributes: GraphNode['attributes'], expected: Expected): boolean {
  const names = Object.keys(expected)
  if (names.length !== attributes.size) return false
  return names.every((name) => {
    const [value, wanted] = [attributes.get(name), expected[name]]
    return value !== undefined && (typeof wanted === 'function' ? wanted(value) : value === wanted)
  })
}

function isInteger(value: AttributeValue): boolean {
  return typeof value === 'bigint'
}

function isFlag(value: AttributeValue): boolean {
  return value === 0n || value === 1n
}

function isFraction(value: AttributeValue): boolean {
  return typeof value === 'number'
}

/** The integers of a list that the graph has in itself, and in no other field that a reader might prefer. */
function numbersOf(value: Value | undefined): readonly bigint[] | undefined {
  const tensor = value?.kind === 'weight' ? value.tensor : undefined
  if (tensor === undefined || tensor.elementType !== INT64 || tensor.shape.length !== 1) return undefined
  const { data, spread } = tensor
  if (spread || !(data instanceof Uint8Array) || data.length !== 8 * (tensor.shape[0] ?? 0)) return undefined
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength)
  return Array.from({ length: data.length / 8 }, (_, i) => view.getBigInt64(8 * i, true))
}

function sameNumbers(a: readonly bigint[] | undefined, b: readonly bigint[]): boolean {
  return a !== undefined && a.length === b.length && a.every((number, i) => number === b[i])
}
