/** Written graphs, opened again for tests to change one thing of. */
import { createWireWriter, readFields, type WireWriter } from '../../enclave/inference/onnx/wire.js'
import type { ModelPackage } from '../../enclave/inference/package.js'
import { ELEMENT, type ElementType } from '../../scripts/model/graph-builder.js'
import { fromUtf8, toBytes } from '../../verifier/protocol/bytes.js'

export interface EditedNode {
  operator: string
  domain: string
  inputs: string[]
  outputs: string[]
  /** By name; AttributeProto. */
  attributes: Map<string, WireWriter | Uint8Array>
  /** Adds fields to it. */
  extra?: (node: WireWriter) => void
}

export interface EditedGraph {
  nodes: EditedNode[]
  /** By name; TensorProto. */
  tensors: Map<string, WireWriter | Uint8Array>
  inputs: (WireWriter | Uint8Array)[]
  outputs: (WireWriter | Uint8Array)[]
  /** OperatorSetIdProto. */
  opsets: [domain: string, version: number][]
  extra?: (graph: WireWriter) => void
}

/** The package with its graph changed. */
export function editGraph(modelPackage: ModelPackage, change: (graph: EditedGraph) => void): ModelPackage {
  const graph = open(modelPackage.files.get('model.onnx') ?? new Uint8Array())
  change(graph)
  return { ...modelPackage, files: new Map([...modelPackage.files, ['model.onnx', toBytes(encode(graph))]]) }
}

/** The node of that operator, by order. */
export function nodeOf({ nodes }: EditedGraph, operator: string, at = 0): EditedNode {
  const node = nodes.filter((one) => one.operator === operator).at(at)
  if (node === undefined) throw new Error(`the graph has no ${operator}`)
  return node
}

export function newNode(
  operator: string,
  inputs: string[],
  outputs: string[],
  attributes: Record<string, WireWriter> = {},
): EditedNode {
  return { operator, domain: '', inputs, outputs, attributes: new Map(Object.entries(attributes)) }
}

export const integer = (name: string, value: number): WireWriter =>
  createWireWriter().bytes(1, name).int(3, value).int(20, 2)
export const integers = (name: string, values: readonly number[]): WireWriter =>
  values.reduce((writer, value) => writer.int(8, value), createWireWriter().bytes(1, name)).int(20, 7)

export function constant(name: string, type: ElementType, shape: readonly number[], data: ArrayBufferView): WireWriter {
  return header(name, type, shape).bytes(9, new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
}

/** A tensor without its values. */
export function header(name: string, type: ElementType, shape: readonly number[]): WireWriter {
  const writer = createWireWriter()
  for (const length of shape) writer.int(1, length)
  return writer.int(2, ELEMENT[type]).bytes(8, name)
}

export const whole = (
  name: string,
  values: readonly number[],
  shape: readonly number[] = [values.length],
): WireWriter => constant(name, 'int64', shape, BigInt64Array.from(values, BigInt))

function open(model: Uint8Array): EditedGraph {
  const graph: EditedGraph = { nodes: [], tensors: new Map(), inputs: [], outputs: [], opsets: [] }
  for (const { number, bytes = new Uint8Array() } of readFields(model)) {
    if (number === 8)
      graph.opsets.push([textOf(bytes, 1), Number([...readFields(bytes)].find((f) => f.number === 2)?.value)])
    if (number !== 7) continue
    for (const part of readFields(bytes)) {
      const own = part.bytes ?? new Uint8Array()
      if (part.number === 1) graph.nodes.push(openNode(own))
      if (part.number === 5) graph.tensors.set(textOf(own, 8), own)
      if (part.number === 11) graph.inputs.push(own)
      if (part.number === 12) graph.outputs.push(own)
    }
  }
  return graph
}

function openNode(bytes: Uint8Array): EditedNode {
  const node = newNode(textOf(bytes, 4), [], [])
  node.domain = textOf(bytes, 7)
  for (const { number, bytes: own = new Uint8Array() } of readFields(bytes)) {
    if (number === 1) node.inputs.push(fromUtf8(own))
    if (number === 2) node.outputs.push(fromUtf8(own))
    if (number === 5) node.attributes.set(textOf(own, 1), own)
  }
  return node
}

function textOf(message: Uint8Array, field: number): string {
  for (const { number, bytes } of readFields(message)) if (number === field && bytes) return fromUtf8(bytes)
  return ''
}

function encode({ nodes, tensors, inputs, outputs, opsets, extra }: EditedGraph): Uint8Array {
  const graph = createWireWriter()
  const add = (writer: WireWriter, field: number, part: WireWriter | Uint8Array): void =>
    void (part instanceof Uint8Array ? writer.bytes(field, part) : writer.message(field, part))
  for (const { operator, domain, inputs: from, outputs: to, attributes, extra: more } of nodes) {
    const node = createWireWriter()
    for (const name of from) node.bytes(1, name)
    for (const name of to) node.bytes(2, name)
    node.bytes(4, operator)
    if (domain !== '') node.bytes(7, domain)
    for (const attribute of attributes.values()) add(node, 5, attribute)
    more?.(node)
    graph.message(1, node)
  }
  graph.bytes(2, 'edited')
  for (const tensor of tensors.values()) add(graph, 5, tensor)
  for (const input of inputs) add(graph, 11, input)
  for (const output of outputs) add(graph, 12, output)
  extra?.(graph)
  const model = createWireWriter().int(1, 10).message(7, graph)
  for (const [domain, version] of opsets) model.message(8, createWireWriter().bytes(1, domain).int(2, version))
  return model.finish()
}
