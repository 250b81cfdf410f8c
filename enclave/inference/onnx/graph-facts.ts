/**
 * What an ONNX graph is made of, read from its bytes before the runtime sees them: inputs, outputs, operators, and which
 * files hold its weights. Only as much as is needed to decide whether to load it and how to serve it.
 */
import { fromUtf8 } from '../../../verifier/protocol/bytes.js'
import { FormatError } from '../../../verifier/protocol/errors.js'
import { EngineError } from '../errors.js'
import { readFields } from './wire.js'

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
  /** `domain:op`, without the colon in the standard domain; each once. */
  readonly operators: ReadonlySet<string>
  /** Names of the files that hold weights, each once. */
  readonly weightFiles: ReadonlySet<string>
  /** Weights by name, and constants inside nodes under no name. */
  readonly tensors: readonly StoredTensor[]
  /** Names of the tables of cosines and sines that nodes rotate positions by. */
  readonly rotaryTables: ReadonlySet<string>
}

export interface StoredTensor {
  readonly name: string
  /** TensorProto.DataType. */
  readonly elementType: number
  readonly shape: readonly number[]
  /** Little endian; undefined where the values are kept in other fields, one by one. */
  readonly data: Uint8Array | StoredPlace | undefined
}

/** Bytes of a file; without a length, all from the offset on. Not held against the file yet. */
export interface StoredPlace {
  readonly file: string
  readonly offset: number
  readonly length: number | undefined
}

/** ModelProto, GraphProto, NodeProto, TensorProto and ValueInfoProto field numbers of onnx.proto3. */
const MODEL = { graph: 7, known: [1, 2, 3, 4, 5, 6, 7, 8, 14] }
const GRAPH = { node: 1, initializer: 5, input: 11, output: 12, sparseInitializer: 15 }
const NODE = { input: 1, operator: 4, attribute: 5, domain: 7 }
const ATTRIBUTE = { tensor: 5, graph: 6, tensors: 10, graphs: 11 }
const TENSOR = { dims: 1, type: 2, floats: 4, name: 8, raw: 9, externalData: 13, location: 14 }
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
  for (const { number, bytes } of readFields(model)) {
    // The runtime would merge two graphs; a reader that took one of them would judge another graph than the one that runs.
    if (number === MODEL.graph && graph !== undefined) throw refused('more than one graph')
    if (number === MODEL.graph) graph = bytes
    // Functions, training steps, and whatever later versions add.
    if (!MODEL.known.includes(number)) throw refused('parts this engine does not know')
  }
  if (graph === undefined) throw refused('no graph')
  const inputs: TensorFacts[] = []
  const outputs: TensorFacts[] = []
  const operators = new Set<string>()
  const tensors: StoredTensor[] = []
  const rotaryTables = new Set<string>()
  for (const { number, bytes = new Uint8Array() } of readFields(graph)) {
    if (number === GRAPH.node) readNode(bytes, operators, tensors, rotaryTables)
    else if (number === GRAPH.initializer) tensors.push(readTensor(bytes))
    else if (number === GRAPH.input) inputs.push(readValue(bytes))
    else if (number === GRAPH.output) outputs.push(readValue(bytes))
    else if (number === GRAPH.sparseInitializer) throw refused('sparse weights')
  }
  const named = tensors.map(({ name }) => name).filter((name) => name !== '')
  // A reader that took one of them would judge another weight than the one that is computed with.
  if (new Set(named).size !== named.length) throw refused('a weight that is there twice')
  const weightFiles = new Set(
    tensors.flatMap(({ data }) => (data === undefined || data instanceof Uint8Array ? [] : [data.file])),
  )
  return { inputs, outputs, operators, weightFiles, tensors, rotaryTables }
}

function readNode(node: Uint8Array, operators: Set<string>, tensors: StoredTensor[], rotaryTables: Set<string>): void {
  let operator = ''
  let domain = ''
  const inputs: string[] = []
  for (const { number, bytes = new Uint8Array() } of readFields(node)) {
    if (number === NODE.operator) operator = fromUtf8(bytes)
    else if (number === NODE.domain) domain = fromUtf8(bytes)
    else if (number === NODE.input) inputs.push(fromUtf8(bytes))
    else if (number === NODE.attribute) {
      for (const attribute of readFields(bytes)) {
        if (attribute.number === ATTRIBUTE.graph || attribute.number === ATTRIBUTE.graphs) {
          throw refused('graphs inside nodes')
        }
        const tensor = attribute.number === ATTRIBUTE.tensor || attribute.number === ATTRIBUTE.tensors
        if (tensor && attribute.bytes !== undefined) tensors.push({ ...readTensor(attribute.bytes), name: '' })
      }
    }
  }
  const whole = domain === '' || domain === 'ai.onnx' ? operator : `${domain}:${operator}`
  operators.add(whole)
  if (!Object.hasOwn(ROTARY, whole)) return
  for (const at of ROTARY[whole] ?? []) {
    const table = inputs[at] ?? ''
    if (table !== '') rotaryTables.add(table)
  }
}

function readTensor(tensor: Uint8Array): StoredTensor {
  let external = false
  let [name, elementType] = ['', 0]
  const shape: number[] = []
  const place = new Map<string, string>()
  let data: Uint8Array | undefined
  for (const { number, bytes, value } of readFields(tensor)) {
    if (number === TENSOR.dims) shape.push(...(bytes === undefined ? [value] : packedNumbers(bytes)).map(Number))
    else if (number === TENSOR.type) elementType = Number(value)
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
  if (file === undefined) return { name, elementType, shape, data }
  const length = place.get('length')
  return {
    name,
    elementType,
    shape,
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
  for (const { number, bytes } of readFields(message)) {
    if (number === field && bytes !== undefined) return bytes
  }
  return new Uint8Array()
}

function refused(what: string): EngineError {
  return new EngineError('package.unusable', `this engine takes plain graphs, and this one has ${what}`)
}
