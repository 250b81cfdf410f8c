/**
 * ONNX graphs (onnx.proto3) as an importer reads them: nodes by what they produce, and tensors with their bytes or with where
 * those are. Everything is bounded before it is kept. Refused: functions, graphs inside nodes, sparse weights, names given
 * twice or not at all, nodes that need themselves.
 */
import { readFields } from '../../../enclave/inference/onnx/wire.js'
import { fromUtf8 } from '../../../verifier/protocol/bytes.js'
import { broken } from '../model-file.js'

const MAX = {
  nodes: 1 << 18,
  tensors: 1 << 18,
  operands: 1 << 10,
  dimensions: 8,
  attributes: 64,
  entries: 16,
  name: 1024,
}
/** Lists of numbers take many times their bytes while they are read: enough for scales' zero points, not for weights. */
const MAX_LISTED = 1 << 20

/** TensorProto.DataType: code and bits of an element. */
const TYPES = {
  float: [1, 32],
  uint8: [2, 8],
  int8: [3, 8],
  int32: [6, 32],
  int64: [7, 64],
  bool: [9, 8],
  float16: [10, 16],
  double: [11, 64],
  bfloat16: [16, 16],
  uint4: [21, 4],
  int4: [22, 4],
} as const
export type OnnxType = keyof typeof TYPES

export interface TensorFacts {
  readonly name: string
  readonly type: OnnxType
  readonly shape: readonly number[]
  /** Product of the shape. */
  readonly count: number
}

export type OnnxAttribute = number | string | readonly number[]

export interface OnnxNode {
  /** With its domain and a colon where that is not the standard one. */
  readonly operator: string
  /** Empty where one is left out. */
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  readonly attributes: ReadonlyMap<string, OnnxAttribute>
}

export interface TensorDraft extends TensorFacts {
  /** Bytes, or what the graph says about a file that has them. */
  readonly data: Uint8Array | ReadonlyMap<string, string>
}

export interface Graph {
  readonly inputs: Set<string>
  readonly outputs: Set<string>
  readonly producers: Map<string, OnnxNode>
  readonly tensors: Map<string, TensorDraft>
}

/** ModelProto: graph 7, functions 25. GraphProto: node 1, initializer 5, input 11, output 12, sparse_initializer 15. */
export function readGraph(model: Uint8Array): Graph {
  let bytes: Uint8Array | undefined
  for (const field of readFields(model)) {
    if (field.number === 25) throw broken('the graph has functions of its own, which are not supported')
    if (field.number !== 7) continue
    if (bytes !== undefined) throw broken('expected an ONNX file with one graph, got several')
    bytes = field.bytes
  }
  if (bytes === undefined) throw broken('expected an ONNX file, got one without a graph')
  const graph: Graph = { inputs: new Set(), outputs: new Set(), producers: new Map(), tensors: new Map() }
  const nodes: Uint8Array[] = []
  const known = new Set<string>()
  const define = (name: string): void => {
    if (known.has(name)) throw broken(`${name}: is there twice`)
    known.add(name)
  }
  const addTensor = (tensor: TensorDraft): void => {
    if (graph.tensors.size >= MAX.tensors) throw broken('the graph has too many tensors')
    define(tensor.name)
    graph.tensors.set(tensor.name, tensor)
  }
  for (const { number, bytes: part = new Uint8Array() } of readFields(bytes)) {
    if (number === 1) nodes.push(part)
    else if (number === 5) addTensor(tensorOf(part))
    else if (number === 11) graph.inputs.add(nameOf(part))
    else if (number === 12) graph.outputs.add(nameOf(part))
    else if (number === 15) throw broken('sparse weights are not supported')
    if (nodes.length > MAX.nodes) throw broken('the graph has too many nodes')
  }
  // Old files list their initialisers among the inputs as well.
  for (const name of graph.tensors.keys()) graph.inputs.delete(name)
  for (const name of graph.inputs) define(name)
  const kept = new Set<OnnxNode>()
  for (const part of nodes) {
    const { node, value } = nodeOf(part)
    const [output = ''] = node.outputs
    if (node.operator === 'Constant' && value !== undefined) {
      addTensor({ ...value, name: output })
      continue
    }
    kept.add(node)
    for (const name of node.outputs) {
      if (name === '') continue
      define(name)
      graph.producers.set(name, node)
    }
  }
  for (const { inputs } of kept) {
    for (const input of inputs) if (input !== '' && !known.has(input)) throw broken(`${input}: is used and not there`)
  }
  refuseCycles(kept, graph.producers)
  return graph
}

/** Takes nodes away whose inputs are all there, until none is left. */
function refuseCycles(nodes: ReadonlySet<OnnxNode>, producers: ReadonlyMap<string, OnnxNode>): void {
  const waiting = new Map<OnnxNode, number>()
  const users = new Map<OnnxNode, OnnxNode[]>()
  const ready: OnnxNode[] = []
  for (const node of nodes) {
    const needed = node.inputs.map((input) => producers.get(input)).filter((other) => other !== undefined)
    waiting.set(node, needed.length)
    if (needed.length === 0) ready.push(node)
    for (const other of needed) {
      const before = users.get(other)
      if (before === undefined) users.set(other, [node])
      else before.push(node)
    }
  }
  let done = 0
  for (let node = ready.pop(); node !== undefined; node = ready.pop()) {
    done++
    for (const user of users.get(node) ?? []) {
      const left = (waiting.get(user) ?? 0) - 1
      waiting.set(user, left)
      if (left === 0) ready.push(user)
    }
  }
  if (done !== nodes.size) throw broken('the graph has nodes that need themselves')
}

/** NodeProto: input 1, output 2, op_type 4, attribute 5, domain 7. */
function nodeOf(bytes: Uint8Array): { readonly node: OnnxNode; readonly value: TensorDraft | undefined } {
  const [inputs, outputs]: [string[], string[]] = [[], []]
  const attributes = new Map<string, OnnxAttribute>()
  let [operator, domain] = ['', '']
  let value: TensorDraft | undefined
  for (const { number, bytes: part = new Uint8Array() } of readFields(bytes)) {
    if (number === 1) inputs.push(textOf(part))
    else if (number === 2) outputs.push(textOf(part))
    else if (number === 4) operator = textOf(part)
    else if (number === 7) domain = textOf(part)
    else if (number === 5) {
      const attribute = attributeOf(part)
      if (attributes.has(attribute.name)) throw broken(`${attribute.name}: is there twice`)
      attributes.set(attribute.name, attribute.value)
      if (attribute.name === 'value' && attribute.tensor !== undefined) value = attribute.tensor
    }
    if (inputs.length > MAX.operands || outputs.length > MAX.operands || attributes.size > MAX.attributes) {
      throw broken(`${operator || 'a node'}: has too many inputs, outputs or attributes`)
    }
  }
  const qualified = domain === '' || domain === 'ai.onnx' ? operator : `${domain}:${operator}`
  return { node: { operator: qualified, inputs, outputs, attributes }, value }
}

interface Attribute {
  readonly name: string
  readonly value: OnnxAttribute
  readonly tensor: TensorDraft | undefined
}

/** AttributeProto: name 1, f 2, i 3, s 4, t 5, g 6, ints 8, graphs 11. */
function attributeOf(bytes: Uint8Array): Attribute {
  let name = ''
  let value: OnnxAttribute = ''
  let tensor: TensorDraft | undefined
  const list: number[] = []
  for (const { number, bytes: part = new Uint8Array(), value: integer } of readFields(bytes)) {
    if (number === 1) name = textOf(part)
    else if (number === 2) value = new Float32Array(Uint32Array.of(Number(integer)).buffer)[0] ?? 0
    else if (number === 3) value = Number(integer)
    else if (number === 4) value = textOf(part)
    else if (number === 5) tensor = tensorOf(part)
    else if (number === 6 || number === 11) throw broken('graphs inside nodes are not supported')
    else if (number === 8) list.push(...(part.length > 0 ? varints(part, MAX.operands).map(Number) : [Number(integer)]))
    if (list.length > MAX.operands) throw broken(`${name}: is too long a list`)
  }
  return { name, value: list.length > 0 ? list : value, tensor }
}

/** TensorProto: dims 1, data_type 2, float_data 4, int32_data 5, int64_data 7, name 8, raw_data 9, external_data 13, data_location 14. */
function tensorOf(bytes: Uint8Array): TensorDraft {
  const shape: number[] = []
  const entries = new Map<string, string>()
  let [name, code, external] = ['', 0, false]
  let raw: Uint8Array | undefined
  let packed: Uint8Array | undefined
  const once = (before: Uint8Array | undefined, part: Uint8Array): Uint8Array => {
    if (before !== undefined) throw broken(`${name || 'a tensor'}: has its values in several parts`)
    return part
  }
  for (const { number, bytes: part, value } of readFields(bytes)) {
    if (number === 1) shape.push(...(part === undefined ? [value] : varints(part, MAX.dimensions)).map(Number))
    else if (number === 2) code = Number(value)
    else if (number === 8 && part !== undefined) name = textOf(part)
    else if ((number === 9 || number === 4) && part !== undefined) raw = once(raw, part)
    else if ((number === 5 || number === 7) && part !== undefined) packed = once(packed, part)
    else if (number === 13 && part !== undefined) entries.set(...entryOf(part))
    else if (number === 14) external = value === 1n
    if (shape.length > MAX.dimensions || entries.size > MAX.entries) throw broken(`${name}: has too many dimensions`)
  }
  const type = (Object.keys(TYPES) as OnnxType[]).find((key) => TYPES[key][0] === code)
  if (type === undefined) throw broken(`${name || 'a tensor'}: elements of type ${code} are not supported`)
  const count = shape.reduce((product, size) => (size < 0 ? Number.NaN : product * size), 1)
  if (!Number.isSafeInteger(count * 8)) throw broken(`${name || 'a tensor'}: has no size`)
  const fact = { name, type, shape, count }
  if (external) return { ...fact, data: entries }
  if (packed === undefined) return { ...fact, data: raw ?? new Uint8Array() }
  return { ...fact, data: unpacked(fact, packed) }
}

/** Elements in lists of numbers: each by itself, however few bits it has. */
function unpacked({ name, type, count }: TensorFacts, packed: Uint8Array): Uint8Array {
  if (count > MAX_LISTED) throw broken(`${name}: expected its ${count} values as bytes, not as a list of numbers`)
  const values = varints(packed, count)
  if (TYPES[type][1] === 4) throw broken(`${name}: elements of four bits are supported as bytes only`)
  const bytes = new Uint8Array((values.length * TYPES[type][1]) / 8)
  const view = new DataView(bytes.buffer)
  const width = TYPES[type][1] / 8
  for (const [index, value] of values.entries()) {
    if (width === 8) view.setBigInt64(index * 8, value, true)
    else if (width === 4) view.setInt32(index * 4, Number(BigInt.asIntN(32, value)), true)
    else if (width === 2) view.setUint16(index * 2, Number(BigInt.asUintN(16, value)), true)
    else view.setUint8(index, Number(BigInt.asUintN(8, value)))
  }
  return bytes
}

/** At most `most` numbers. */
function varints(bytes: Uint8Array, most: number): bigint[] {
  const values: bigint[] = []
  let [value, shift] = [0n, 0n]
  for (const byte of bytes) {
    value |= BigInt(byte & 0x7f) << shift
    shift += 7n
    if (byte >= 0x80) {
      if (shift > 63n) throw broken('a number has more than ten bytes')
      continue
    }
    if (values.length >= most) throw broken('a list is longer than its shape')
    values.push(BigInt.asIntN(64, value))
    value = 0n
    shift = 0n
  }
  return values
}

/** StringStringEntryProto. */
function entryOf(bytes: Uint8Array): readonly [string, string] {
  let [key, value] = ['', '']
  for (const { number, bytes: part = new Uint8Array() } of readFields(bytes)) {
    if (number === 1) key = textOf(part)
    if (number === 2) value = textOf(part)
  }
  return [key, value]
}

/** ValueInfoProto: name 1. */
function nameOf(bytes: Uint8Array): string {
  for (const { number, bytes: part = new Uint8Array() } of readFields(bytes)) if (number === 1) return textOf(part)
  return ''
}

function textOf(bytes: Uint8Array): string {
  if (bytes.length > MAX.name) throw broken(`expected names of at most ${MAX.name} bytes, got ${bytes.length}`)
  return fromUtf8(bytes)
}

export function byteLength({ type, count }: Pick<TensorFacts, 'type' | 'count'>): number {
  return Math.ceil((count * TYPES[type][1]) / 8)
}
