/** RMSNorm in ONNX graphs: as one operator, together with the sum before it, or written out. */
import type { OnnxFile } from './file.js'
import type { OnnxNode } from './graph.js'
import type { WeightVector } from './matrix.js'
import { numberOf, onlyAttributes, type WeightReader } from './weights.js'

export interface Norm {
  readonly gain: WeightVector
  readonly epsilon: number
  /** The stream that is normalised, by name where it has one, and the two parts it is the sum of. */
  readonly stream: string
  readonly parts: readonly string[] | undefined
}

const SKIP_NORM = 'com.microsoft:SkipSimplifiedLayerNormalization'

export async function normAt(weights: WeightReader, name: string): Promise<Norm | undefined> {
  const at = weights.plain(name)
  const node = weights.producer(at)
  if (node?.outputs[0] !== at) return undefined
  const [x = '', second = '', third = '', fourth = ''] = node.inputs
  if (node.operator === SKIP_NORM) {
    onlyAttributes(node, ['epsilon'])
    const gain = weights.vector(third)
    if (gain === undefined || fourth !== '') return undefined
    return { gain, epsilon: numberOf(node, 'epsilon'), stream: node.outputs[3] ?? '', parts: [x, second] }
  }
  if (node.operator === 'SimplifiedLayerNormalization' || node.operator === 'RMSNormalization') {
    onlyAttributes(node, ['axis', 'epsilon', 'stash_type'])
    const gain = weights.vector(second)
    if (gain === undefined || numberOf(node, 'axis', -1) !== -1) return undefined
    const stream = weights.plain(x)
    return { gain, epsilon: numberOf(node, 'epsilon', 1e-5), stream, parts: partsOf(weights, stream) }
  }
  if (node.operator !== 'Mul') return undefined
  for (const [first = '', other = ''] of [node.inputs, [...node.inputs].reverse()]) {
    const inner = await spelledNorm(weights, other)
    const gain = inner && weights.vector(first)
    if (gain !== undefined && inner !== undefined) return { gain, ...inner, parts: partsOf(weights, inner.stream) }
  }
  return undefined
}

/** x / √(mean(x²) + ε), or x · 1/√(…), as exporters write it. */
async function spelledNorm(
  weights: WeightReader,
  name: string,
): Promise<{ readonly stream: string; readonly epsilon: number } | undefined> {
  const node = weights.producer(name)
  if (node?.operator !== 'Mul' && node?.operator !== 'Div') return undefined
  const [x = '', factor = ''] = node.inputs
  let root = weights.producer(factor)
  if (node.operator === 'Mul') {
    const inverse = root?.operator === 'Div' ? await weights.scalar(root.inputs[0] ?? '') : 1
    if ((root?.operator !== 'Div' && root?.operator !== 'Reciprocal') || inverse !== 1) return undefined
    root = weights.producer(root.inputs.at(-1) ?? '')
  }
  if (root?.operator !== 'Sqrt') return undefined
  const sum = weights.producer(root.inputs[0] ?? '')
  if (sum?.operator !== 'Add') return undefined
  const [first = '', second = ''] = sum.inputs
  const epsilon = (await weights.scalar(second)) ?? (await weights.scalar(first))
  const mean = weights.producer((await weights.scalar(second)) === undefined ? second : first)
  const square = weights.producer(mean?.inputs[0] ?? '')
  if (epsilon === undefined || mean?.operator !== 'ReduceMean' || square === undefined) return undefined
  if (!(await isAlongRows(weights, mean))) return undefined
  const [base = '', exponent = ''] = square.inputs
  const squared =
    (square.operator === 'Pow' && (await weights.scalar(exponent)) === 2) ||
    (square.operator === 'Mul' && weights.plain(base) === weights.plain(exponent))
  const stream = weights.plain(x)
  return squared && weights.plain(base) === stream ? { stream, epsilon } : undefined
}

/** Whether a mean is of each position's values: over the last of three dimensions, which stays as one of length 1. */
async function isAlongRows(weights: WeightReader, mean: OnnxNode): Promise<boolean> {
  onlyAttributes(mean, ['axes', 'keepdims', 'noop_with_empty_axes'])
  const [, given = ''] = mean.inputs
  const listed = mean.attributes.get('axes')
  const axes = Array.isArray(listed) ? listed : [await weights.position(given)]
  const [axis] = axes
  return axes.length === 1 && (axis === -1 || axis === 2) && numberOf(mean, 'keepdims', 1) === 1
}

/** A sum of the residual stream, under the name of what the next sum adds to. */
function partsOf(weights: WeightReader, name: string): readonly string[] | undefined {
  const at = weights.plain(name)
  const node = weights.producer(at)
  if (node?.operator === 'Add') return node.inputs
  return node?.operator === SKIP_NORM && node.outputs[3] === at ? node.inputs.slice(0, 2) : undefined
}

/** Norms by what they give. Read ahead: whether a value is one, only its numbers tell. */
export async function normsOf(file: OnnxFile, weights: WeightReader): Promise<ReadonlyMap<string, Norm>> {
  const norms = new Map<string, Norm>()
  for (const [name, { operator }] of file.producers) {
    const norm = NORM_OPERATORS.includes(operator) ? await normAt(weights, name) : undefined
    if (norm !== undefined) norms.set(name, norm)
  }
  return norms
}

const NORM_OPERATORS: readonly string[] = ['Mul', 'SimplifiedLayerNormalization', 'RMSNormalization']
