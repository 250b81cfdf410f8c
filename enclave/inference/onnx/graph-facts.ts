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
}

/** ModelProto, GraphProto, NodeProto, TensorProto and ValueInfoProto field numbers of onnx.proto3. */
const MODEL = { graph: 7, known: [1, 2, 3, 4, 5, 6, 7, 8, 14] }
const GRAPH = { node: 1, initializer: 5, input: 11, output: 12, sparseInitializer: 15 }
const NODE = { operator: 4, attribute: 5, domain: 7 }
const ATTRIBUTE = { tensor: 5, graph: 6, tensors: 10, graphs: 11 }
const TENSOR = { externalData: 13, location: 14 }
const EXTERNAL = 1n

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
  const weightFiles = new Set<string>()
  for (const { number, bytes = new Uint8Array() } of readFields(graph)) {
    if (number === GRAPH.node) readNode(bytes, operators, weightFiles)
    else if (number === GRAPH.initializer) readTensor(bytes, weightFiles)
    else if (number === GRAPH.input) inputs.push(readValue(bytes))
    else if (number === GRAPH.output) outputs.push(readValue(bytes))
    else if (number === GRAPH.sparseInitializer) throw refused('sparse weights')
  }
  return { inputs, outputs, operators, weightFiles }
}

function readNode(node: Uint8Array, operators: Set<string>, weightFiles: Set<string>): void {
  let operator = ''
  let domain = ''
  for (const { number, bytes = new Uint8Array() } of readFields(node)) {
    if (number === NODE.operator) operator = fromUtf8(bytes)
    else if (number === NODE.domain) domain = fromUtf8(bytes)
    else if (number === NODE.attribute) {
      for (const attribute of readFields(bytes)) {
        if (attribute.number === ATTRIBUTE.graph || attribute.number === ATTRIBUTE.graphs) {
          throw refused('graphs inside nodes')
        }
        const tensor = attribute.number === ATTRIBUTE.tensor || attribute.number === ATTRIBUTE.tensors
        if (tensor && attribute.bytes !== undefined) readTensor(attribute.bytes, weightFiles)
      }
    }
  }
  operators.add(domain === '' || domain === 'ai.onnx' ? operator : `${domain}:${operator}`)
}

function readTensor(tensor: Uint8Array, weightFiles: Set<string>): void {
  let external = false
  let location: string | undefined
  for (const { number, bytes, value } of readFields(tensor)) {
    if (number === TENSOR.location) external ||= value === EXTERNAL
    if (number !== TENSOR.externalData || bytes === undefined) continue
    const [key, text] = readEntry(bytes)
    if (key === 'location') location = text
  }
  if (external && location === undefined) throw refused('weights in a file without a name')
  if (location !== undefined) weightFiles.add(location)
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
