/**
 * What an ONNX graph is made of, read from its bytes before the runtime sees them: inputs, outputs, operators, and which
 * files hold its weights. Only as much as is needed to decide whether to load it and how to serve it.
 */
import { fromUtf8 } from '../../../verifier/protocol/bytes.js'
import { FormatError } from '../../../verifier/protocol/errors.js'
import { EngineError } from '../errors.js'
import { readFields, type WireField } from './wire.js'

export interface TensorFacts {
  readonly name: string
  /** TensorProto.DataType. */
  readonly elementType: number
  /** A name or nothing where a dimension is not fixed. */
  readonly shape: readonly (number | string)[]
}

export interface GraphFacts {
  readonly inputs: readonly TensorFacts[]
  readonly outputs: readonly TensorFacts[]
  /** In the order of the file. */
  readonly nodes: readonly GraphNode[]
  /** Sets of operators by domain, '' the standard one, with their versions. */
  readonly opsets: readonly (readonly [domain: string, version: bigint])[]
  /** Whether the graph has fields besides those that this reads. */
  readonly extras: boolean
  /** Names of the files that hold weights, each once. */
  readonly weightFiles: ReadonlySet<string>
  /** Weights by name, and constants inside nodes under no name. */
  readonly tensors: readonly StoredTensor[]
  /** Names of the tables of cosines and sines that nodes rotate positions by. */
  readonly rotaryTables: ReadonlySet<string>
}

export interface GraphNode {
  /** `domain:op`, without the colon in the standard domain. */
  readonly operator: string
  /** Empty where one is left out. */
  readonly inputs: readonly string[]
  readonly outputs: readonly string[]
  /** Undefined where one is of a kind that this does not read. */
  readonly attributes: ReadonlyMap<string, AttributeValue | undefined>
  /** Whether it has fields besides those that this reads, or an attribute twice. */
  readonly extras: boolean
}

/** An integer, a fraction, or a text. */
export type AttributeValue = bigint | number | string

export interface StoredTensor {
  readonly name: string
  /** TensorProto.DataType. */
  readonly elementType: number
  readonly shape: readonly number[]
  /** Little endian; undefined where the values are kept in other fields, one by one. */
  readonly data: Uint8Array | StoredPlace | undefined
  /** Whether there are values in other fields, one by one, which a reader may prefer. */
  readonly spread?: true
}

/** Bytes of a file; without a length, all from the offset on. Not held against the file yet. */
export interface StoredPlace {
  readonly file: string
  readonly offset: number
  readonly length: number | undefined
}

/** ModelProto, GraphProto, NodeProto, TensorProto and ValueInfoProto field numbers of onnx.proto3. */
const MODEL = { graph: 7, opset: 8, known: [1, 2, 3, 4, 5, 6, 7, 8, 14] }
const GRAPH = { node: 1, name: 2, initializer: 5, input: 11, output: 12, sparseInitializer: 15 }
const NODE = { input: 1, output: 2, name: 3, operator: 4, attribute: 5, note: 6, domain: 7 }
const ATTRIBUTE = { name: 1, fraction: 2, integer: 3, text: 4, tensor: 5, graph: 6, tensors: 10, graphs: 11, type: 20 }
const TENSOR = { dims: 1, type: 2, floats: 4, name: 8, raw: 9, externalData: 13, location: 14 }
/** Of a tensor: values one by one, by their type. */
const SPREAD: readonly number[] = [TENSOR.floats, 5, 6, 7, 10, 11]
/** AttributeProto.type of the fields that hold one value. */
const ATTRIBUTE_TYPES: ReadonlyMap<number, bigint> = new Map([
  [ATTRIBUTE.fraction, 1n],
  [ATTRIBUTE.integer, 2n],
  [ATTRIBUTE.text, 3n],
])
/** How fields are written that are numbers; all others are of wire type 2. */
const NUMBERS = {
  attribute: { [ATTRIBUTE.fraction]: [5], [ATTRIBUTE.integer]: [0], 7: [5, 2], 8: [0, 2], [ATTRIBUTE.type]: [0] },
  model: { 1: [0], 5: [0] },
  opset: { 2: [0] },
  tensor: {
    [TENSOR.dims]: [0, 2],
    [TENSOR.type]: [0],
    3: [2],
    4: [5, 2],
    5: [0, 2],
    7: [0, 2],
    10: [1, 2],
    11: [0, 2],
    [TENSOR.location]: [0],
  },
} as const
const EXTERNAL = 1n
/** Which inputs are tables of cosines and sines. */
const ROTARY: Readonly<Record<string, readonly number[]>> = {
  'com.microsoft:GroupQueryAttention': [7, 8],
  'com.microsoft:RotaryEmbedding': [2, 3],
  RotaryEmbedding: [1, 2],
}

/** @throws EngineError `package.unusable` for anything but one plain graph: functions and graphs inside nodes are refused. */
export function readGraphFacts(model: Uint8Array): GraphFacts {
  try {
    return readModel(model)
  } catch (cause) {
    if (cause instanceof EngineError) throw cause
    if (!(cause instanceof FormatError)) throw cause
    throw new EngineError('package.unusable', cause.message, { cause })
  }
}

function readModel(model: Uint8Array): GraphFacts {
  let graph: Uint8Array | undefined
  const opsets: (readonly [string, bigint])[] = []
  for (const { number, bytes } of fieldsOf(model, NUMBERS.model)) {
    // The runtime would merge two graphs; a reader that took one of them would judge another graph than the one that runs.
    if (number === MODEL.graph && graph !== undefined) throw refused('more than one graph')
    if (number === MODEL.graph) graph = bytes
    if (number === MODEL.opset && bytes !== undefined) opsets.push(readOpset(bytes))
    // Functions, training steps, and whatever later versions add.
    if (!MODEL.known.includes(number)) throw refused('parts this engine does not know')
  }
  if (graph === undefined) throw refused('no graph')
  const inputs: TensorFacts[] = []
  const outputs: TensorFacts[] = []
  const nodes: GraphNode[] = []
  const tensors: StoredTensor[] = []
  let extras = false
  for (const { number, bytes = new Uint8Array() } of fieldsOf(graph)) {
    if (number === GRAPH.node) nodes.push(readNode(bytes, tensors))
    else if (number === GRAPH.initializer) tensors.push(readTensor(bytes))
    else if (number === GRAPH.input) inputs.push(readValue(bytes))
    else if (number === GRAPH.output) outputs.push(readValue(bytes))
    else if (number === GRAPH.sparseInitializer) throw refused('sparse weights')
    else extras ||= number !== GRAPH.name
  }
  const named = tensors.map(({ name }) => name).filter((name) => name !== '')
  // A reader that took one of them would judge another weight than the one that is computed with.
  if (new Set(named).size !== named.length) throw refused('a weight that is there twice')
  const weightFiles = new Set(
    tensors.flatMap(({ data }) => (data === undefined || data instanceof Uint8Array ? [] : [data.file])),
  )
  return { inputs, outputs, nodes, opsets, extras, weightFiles, tensors, rotaryTables: rotaryTablesOf(nodes) }
}

/** The fields of a message. Written in another way than ONNX has it, one would be read here and left out by the runtime. */
function* fieldsOf(
  message: Uint8Array,
  numbers: Readonly<Record<number, readonly number[]>> = {},
): Generator<WireField> {
  for (const field of readFields(message)) {
    if (!(numbers[field.number] ?? [2]).includes(field.wireType)) throw refused('fields of another kind than ONNX has')
    yield field
  }
}

function readOpset(opset: Uint8Array): readonly [string, bigint] {
  let [domain, version] = ['', 0n]
  for (const { number, bytes, value } of fieldsOf(opset, NUMBERS.opset)) {
    if (number === 1) domain = domainOf(bytes)
    if (number === 2) version = value
  }
  return [domain, version]
}

/** The standard one has two names. */
function domainOf(bytes: Uint8Array = new Uint8Array()): string {
  const domain = fromUtf8(bytes)
  return domain === 'ai.onnx' ? '' : domain
}

/** Tensors inside are added to `tensors`. */
function readNode(node: Uint8Array, tensors: StoredTensor[]): GraphNode {
  let [operator, domain] = ['', '']
  let extras = false
  const inputs: string[] = []
  const outputs: string[] = []
  const attributes = new Map<string, AttributeValue | undefined>()
  for (const { number, bytes = new Uint8Array() } of fieldsOf(node)) {
    if (number === NODE.operator) operator = fromUtf8(bytes)
    else if (number === NODE.domain) domain = domainOf(bytes)
    else if (number === NODE.input) inputs.push(fromUtf8(bytes))
    else if (number === NODE.output) outputs.push(fromUtf8(bytes))
    else if (number === NODE.attribute) {
      const [name, value] = readAttribute(bytes, tensors)
      extras ||= attributes.has(name)
      attributes.set(name, value)
    } else extras ||= number !== NODE.name && number !== NODE.note
  }
  return { operator: domain === '' ? operator : `${domain}:${operator}`, inputs, outputs, attributes, extras }
}

function readAttribute(attribute: Uint8Array, tensors: StoredTensor[]): readonly [string, AttributeValue | undefined] {
  let [name, type] = ['', 0n]
  const values: (readonly [bigint, AttributeValue])[] = []
  let other = false
  for (const { number, bytes = new Uint8Array(), value } of fieldsOf(attribute, NUMBERS.attribute)) {
    if (number === ATTRIBUTE.graph || number === ATTRIBUTE.graphs) throw refused('graphs inside nodes')
    if (number === ATTRIBUTE.tensor || number === ATTRIBUTE.tensors) tensors.push({ ...readTensor(bytes), name: '' })
    const kind = ATTRIBUTE_TYPES.get(number)
    if (number === ATTRIBUTE.name) name = fromUtf8(bytes)
    else if (number === ATTRIBUTE.type) type = value
    else if (kind === undefined) other = true
    else if (number === ATTRIBUTE.text) values.push([kind, textOf(bytes)])
    else values.push([kind, number === ATTRIBUTE.integer ? value : fractionOf(value)])
  }
  const [only] = values
  return [name, other || values.length !== 1 || only?.[0] !== type ? undefined : only[1]]
}

function textOf(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes)
}

/** Of the bits of a number in single precision. */
function fractionOf(bits: bigint): number {
  return new Float32Array(Uint32Array.of(Number(bits)).buffer)[0] ?? Number.NaN
}

function rotaryTablesOf(nodes: readonly GraphNode[]): ReadonlySet<string> {
  const tables = nodes.flatMap(({ operator, inputs }) =>
    (Object.hasOwn(ROTARY, operator) ? (ROTARY[operator] ?? []) : []).map((at) => inputs[at] ?? ''),
  )
  return new Set(tables.filter((table) => table !== ''))
}

function readTensor(tensor: Uint8Array): StoredTensor {
  let external = false
  let [name, elementType] = ['', 0]
  const shape: number[] = []
  const place = new Map<string, string>()
  let data: Uint8Array | undefined
  let spread = false
  for (const { number, bytes, value } of fieldsOf(tensor, NUMBERS.tensor)) {
    spread ||= SPREAD.includes(number)
    if (number === TENSOR.dims) shape.push(...(bytes === undefined ? [value] : packedNumbers(bytes)).map(Number))
    // As wide as the runtime has it.
    else if (number === TENSOR.type) elementType = Number(BigInt.asIntN(32, value))
    else if (number === TENSOR.name) name = fromUtf8(bytes ?? new Uint8Array())
    else if (number === TENSOR.location) external ||= value === EXTERNAL
    // Fields that are there twice are joined by some readers, and replaced by others.
    else if (number === TENSOR.raw || number === TENSOR.floats) {
      if (data !== undefined) throw refused('a weight in several parts')
      data = bytes
    } else if (number === TENSOR.externalData && bytes !== undefined) {
      const [key, text] = readEntry(bytes)
      if (place.has(key)) throw refused('a weight in several places')
      place.set(key, text)
    }
  }
  const file = place.get('location')
  if (external && file === undefined) throw refused('weights in a file without a name')
  const others = spread ? { spread } : {}
  if (file === undefined) return { name, elementType, shape, data, ...others }
  const length = place.get('length')
  return {
    name,
    elementType,
    shape,
    ...others,
    data: {
      file,
      offset: byteCount(place.get('offset') ?? '0'),
      length: length === undefined ? undefined : byteCount(length),
    },
  }
}

function byteCount(text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text)
  throw refused('weights at a place that is no number')
}

/** Varints one after the other, as newer writers keep lists of numbers. */
function packedNumbers(bytes: Uint8Array): readonly bigint[] {
  const numbers: bigint[] = []
  let [value, shift] = [0n, 0n]
  for (const byte of bytes) {
    value |= BigInt(byte & 0x7f) << shift
    shift += 7n
    if (shift > 63n) throw refused('a dimension beyond all others')
    if (byte >= 0x80) continue
    numbers.push(value)
    ;[value, shift] = [0n, 0n]
  }
  return numbers
}

/** StringStringEntryProto. */
function readEntry(entry: Uint8Array): readonly [string, string] {
  let key = ''
  let value = ''
  for (const field of readFields(entry)) {
    if (field.number === 1) key = fromUtf8(field.bytes ?? new Uint8Array())
    if (field.number === 2) value = fromUtf8(field.bytes ?? new Uint8Array())
  }
  return [key, value]
}

/** ValueInfoProto of a tensor: name 1, type 2 { tensor_type 1 { elem_type 1, shape 2 { dim 1 { value 1 | name 2 } } } }. */
function readValue(value: Uint8Array): TensorFacts {
  const name = fromUtf8(child(value, 1))
  const tensorType = child(child(value, 2), 1)
  let elementType = 0
  let shape: (number | string)[] = []
  for (const { number, bytes, value: integer } of readFields(tensorType)) {
    if (number === 1) elementType = Number(integer)
    if (number === 2 && bytes !== undefined) {
      shape = [...readFields(bytes)].filter((field) => field.number === 1).map((field) => readDimension(field.bytes))
    }
  }
  return { name, elementType, shape }
}

function readDimension(dimension: Uint8Array | undefined): number | string {
  for (const { number, bytes, value } of readFields(dimension ?? new Uint8Array())) {
    if (number === 1) return Number(value)
    if (number === 2 && bytes !== undefined) return fromUtf8(bytes)
  }
  return ''
}

function child(message: Uint8Array, field: number): Uint8Array {
  let found: Uint8Array | undefined
  for (const { number, bytes } of readFields(message)) {
    if (number !== field) continue
    // Of several, readers take the last one, or all of them together.
    if (bytes === undefined || found !== undefined) throw refused('an input or output that is described twice')
    found = bytes
  }
  return found ?? new Uint8Array()
}

function refused(what: string): EngineError {
  return new EngineError('package.unusable', `this engine takes plain graphs, and this one has ${what}`)
}
