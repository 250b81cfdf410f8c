/**
 * Writes ONNX graphs (onnx.proto3, IR version 10): nodes and small tensors into the graph, weights into files beside it.
 */
import { createWireWriter, type WireWriter } from '../../enclave/inference/onnx/wire.js'

/** TensorProto.DataType. */
export const ELEMENT = { float: 1, uint8: 2, int8: 3, int32: 6, int64: 7, float16: 10 } as const
export type ElementType = keyof typeof ELEMENT

/** Where the bytes of a weight went. */
export interface WeightPlace {
  readonly file: string
  readonly offset: number
  readonly length: number
}

/** Takes the bytes of weights one after the other. */
export interface WeightSink {
  write(bytes: Uint8Array): Promise<WeightPlace>
}

export type Attribute = number | string | { readonly float: number }

export interface GraphBuilder {
  /** Adds a node and returns the name of its first output. `outputs` names them where more than one is needed. */
  node(operator: string, inputs: readonly string[], attributes?: Readonly<Record<string, Attribute>>): string
  nodeWith(
    operator: string,
    inputs: readonly string[],
    outputs: readonly string[],
    attributes?: Readonly<Record<string, Attribute>>,
  ): void
  /** A tensor kept in the graph. Returns its name. */
  constant(name: string, type: ElementType, shape: readonly number[], data: ArrayBufferView): string
  /** A tensor kept in the sink. Returns its name. */
  weight(name: string, type: ElementType, shape: readonly number[], data: ArrayBufferView): Promise<string>
  input(name: string, type: ElementType, shape: readonly (number | string)[]): void
  output(name: string, type: ElementType, shape: readonly (number | string)[]): void
  finish(): Uint8Array<ArrayBuffer>
}

const IR_VERSION = 10
const STANDARD_OPSET = 21
const CONTRIB = 'com.microsoft'
/** Operators of the runtime's own domain; all others are standard. */
const CONTRIB_OPERATORS = new Set([
  'DynamicQuantizeMatMul',
  'GroupQueryAttention',
  'MatMulIntegerToFloat',
  'MatMulNBits',
  'SkipSimplifiedLayerNormalization',
])

export function createGraphBuilder(name: string, sink: WeightSink): GraphBuilder {
  const nodes: WireWriter[] = []
  const tensors: WireWriter[] = []
  const inputs: WireWriter[] = []
  const outputs: WireWriter[] = []

  const builder: GraphBuilder = {
    node(operator, operands, attributes = {}) {
      const output = `${operator}.${nodes.length}`
      builder.nodeWith(operator, operands, [output], attributes)
      return output
    },
    nodeWith(operator, operands, results, attributes = {}) {
      const node = createWireWriter()
      for (const operand of operands) node.bytes(1, operand)
      for (const result of results) node.bytes(2, result)
      node.bytes(3, `${nodes.length}`).bytes(4, operator)
      for (const [key, value] of Object.entries(attributes)) node.message(5, attributeOf(key, value))
      if (CONTRIB_OPERATORS.has(operator)) node.bytes(7, CONTRIB)
      nodes.push(node)
    },
    constant(key, type, shape, data) {
      tensors.push(tensorOf(key, type, shape).bytes(9, bytesOf(data)))
      return key
    },
    async weight(key, type, shape, data) {
      const { file, offset, length } = await sink.write(bytesOf(data))
      const tensor = tensorOf(key, type, shape)
      const entries = { location: file, offset: String(offset), length: String(length) }
      for (const [entry, value] of Object.entries(entries)) {
        tensor.message(13, createWireWriter().bytes(1, entry).bytes(2, value))
      }
      tensors.push(tensor.int(14, 1))
      return key
    },
    input: (key, type, shape) => void inputs.push(tensorInfo(key, type, shape)),
    output: (key, type, shape) => void outputs.push(tensorInfo(key, type, shape)),
    finish() {
      const graph = createWireWriter()
      for (const node of nodes) graph.message(1, node)
      graph.bytes(2, name)
      for (const tensor of tensors) graph.message(5, tensor)
      for (const input of inputs) graph.message(11, input)
      for (const output of outputs) graph.message(12, output)
      return createWireWriter()
        .int(1, IR_VERSION)
        .bytes(2, 'subrosa')
        .message(7, graph)
        .message(8, createWireWriter().bytes(1, '').int(2, STANDARD_OPSET))
        .message(8, createWireWriter().bytes(1, CONTRIB).int(2, 1))
        .finish()
    },
  }
  return builder
}

/** AttributeProto: name 1, f 2, i 3, s 4, type 20 (FLOAT 1, INT 2, STRING 3). */
function attributeOf(name: string, value: Attribute): WireWriter {
  const attribute = createWireWriter().bytes(1, name)
  if (typeof value === 'number') return attribute.int(3, value).int(20, 2)
  if (typeof value === 'string') return attribute.bytes(4, value).int(20, 3)
  return attribute.float(2, value.float).int(20, 1)
}

function tensorOf(name: string, type: ElementType, shape: readonly number[]): WireWriter {
  const tensor = createWireWriter()
  for (const dimension of shape) tensor.int(1, dimension)
  return tensor.int(2, ELEMENT[type]).bytes(8, name)
}

function tensorInfo(name: string, type: ElementType, shape: readonly (number | string)[]): WireWriter {
  const dimensions = createWireWriter()
  for (const dimension of shape) {
    const entry = createWireWriter()
    dimensions.message(1, typeof dimension === 'number' ? entry.int(1, dimension) : entry.bytes(2, dimension))
  }
  const tensorType = createWireWriter().int(1, ELEMENT[type]).message(2, dimensions)
  return createWireWriter().bytes(1, name).message(2, createWireWriter().message(1, tensorType))
}

function bytesOf(data: ArrayBufferView): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
}
