/**
 * Which graphs the engine takes, and what their nodes mean for everyone else's answers.
 *
 * Accepted are decoder graphs of the form this project writes: inputs `input_ids` [batch, n], `seqlens_k` [batch] (tokens
 * of the row up to now, minus one), `total_seq` (the most tokens of any row) and `past_key_values.N.key|value`
 * [batch, heads, capacity, size]; outputs `logits` for the last position and `present.N.key|value`, which may be the very
 * memory of the past, all in fp32, all in fp16, or all in int8 under scales that the graph has. Perhaps also `hidden_state` [batch, 1, size], what the logits of the last position are computed
 * from: embeddings are made of it. Perhaps an input `logit_positions` [n]: which positions of a run logits and state are
 * wanted for, in the place of the last. Refused: any other, and weights in files that the manifest does not list.
 */
import { findCutDependence } from './attention-order.js'
import { EngineError } from './errors.js'
import { cacheNames, HIDDEN_STATE, LOGIT_POSITIONS, pastName, presentName } from './graph-names.js'
import { type GraphFacts, readGraphFacts, type TensorFacts } from './onnx/graph-facts.js'
import { findDependence } from './onnx/row-independence.js'
import { fileByRole, type ModelPackage } from './package.js'

export type CacheType = 'float32' | 'float16' | 'int8'

/** Length in bytes of one value of a cache. */
export const CACHE_ELEMENT_BYTES: Readonly<Record<CacheType, number>> = { float32: 4, float16: 2, int8: 1 }

export interface DecoderGraph {
  readonly layers: number
  readonly kvHeads: number
  readonly headSize: number
  /** What keys and values are kept as. */
  readonly cacheType: CacheType
  readonly vocabularySize: number
  /** Values of `hidden_state`; undefined where the graph gives none. */
  readonly hiddenSize: number | undefined
  /** Whether it gives logits of other positions than the last. */
  readonly picksPositions: boolean
  /**
   * `batch-invariant`: made of nothing but nodes that keep each row to itself, and were seen to do so to the last bit
   * (`onnx/row-independence.ts`), with heads of a size that keeps cuts from showing (`attention-order.ts`). `single`: any other.
   */
  readonly determinism: 'batch-invariant' | 'single'
  /** What keeps the graph from being batch-invariant, for people. Names what the file names: not printable as it is. */
  readonly dependence: string | undefined
  /** Whether every node keeps each row to itself, on any device. */
  readonly rowsApart: boolean
}

const FLOAT = 1
const INT64 = 7
/** By TensorProto.DataType. */
const CACHE_TYPES: ReadonlyMap<number, CacheType> = new Map([
  [FLOAT, 'float32'],
  [3, 'int8'],
  [10, 'float16'],
])
/** @throws EngineError `package.unusable`. */
export function inspectGraph(modelPackage: ModelPackage): DecoderGraph {
  const facts = readGraphFacts(fileByRole(modelPackage, 'graph'))
  const { layers, vocabularySize, contextLength } = modelPackage.manifest.architecture
  expectWeights(modelPackage, facts.weightFiles)
  expectPositions(facts, contextLength)
  const caches = Array.from({ length: layers }, (_, layer) => cacheNames(layer)).flat()
  const positions = facts.inputs.find(({ name }) => name === LOGIT_POSITIONS)
  const picked = positions === undefined ? [] : [LOGIT_POSITIONS]
  expectNames('input', facts.inputs, ['input_ids', 'seqlens_k', 'total_seq', ...picked, ...caches.map(pastName)])
  if (positions !== undefined && (positions.elementType !== INT64 || positions.shape.length !== 1)) {
    throw unusable(`expected ${LOGIT_POSITIONS} to be a list of int64`)
  }
  const hidden = facts.outputs.find(({ name }) => name === HIDDEN_STATE)
  const outputs = ['logits', ...(hidden === undefined ? [] : [HIDDEN_STATE]), ...caches.map(presentName)]
  expectNames('output', facts.outputs, outputs)
  const shapes = facts.inputs.filter(({ name }) => name.startsWith('past_key_values.'))
  const [, kvHeads, , headSize] = shapes[0]?.shape ?? []
  const cacheElement = shapes[0]?.elementType ?? 0
  const cacheType = CACHE_TYPES.get(cacheElement)
  for (const { name, elementType, shape } of shapes) {
    const [, heads, , size] = shape
    const fixed = typeof heads === 'number' && typeof size === 'number' && heads > 0 && size > 0
    const known = cacheType !== undefined && elementType === cacheElement
    if (!known || !fixed || heads !== kvHeads || size !== headSize) {
      throw unusable(
        `the graph does not declare ${name} as [batch, heads, capacity, size] of fp32, fp16 or int8, alike in all layers`,
      )
    }
  }
  if (cacheType === undefined) throw unusable('the graph keeps no keys and values')
  const given = facts.outputs.find(({ name }) => name === 'logits')
  if (given?.elementType !== FLOAT) throw unusable('expected logits in fp32')
  const logits = given.shape
  if (positions !== undefined && typeof logits.at(-2) !== 'string') {
    throw unusable(`expected logits for as many positions as ${LOGIT_POSITIONS} has`)
  }
  const declared = logits.at(-1)
  if (declared !== vocabularySize) {
    throw unusable(`expected logits for the ${vocabularySize} tokens of the manifest, got ${declared ?? 'none'}`)
  }
  const { hiddenSize } = modelPackage.manifest.architecture
  if (hidden !== undefined && (hidden.elementType !== FLOAT || hidden.shape.at(-1) !== hiddenSize)) {
    throw unusable(`expected ${HIDDEN_STATE} of the ${hiddenSize} fp32 values of the manifest`)
  }
  const mixing = findDependence(facts)
  const dependence = mixing ?? findCutDependence(Number(headSize))
  return {
    layers,
    kvHeads: Number(kvHeads),
    headSize: Number(headSize),
    cacheType,
    vocabularySize,
    hiddenSize: hidden === undefined ? undefined : hiddenSize,
    picksPositions: positions !== undefined,
    determinism: dependence === undefined ? 'batch-invariant' : 'single',
    dependence,
    rowsApart: mixing === undefined,
  }
}

/** Weights outside the manifest would be read from disk by the runtime: past its digests, and past the weights root. */
function expectWeights({ manifest }: ModelPackage, named: ReadonlySet<string>): void {
  const listed = manifest.files.filter(({ role }) => role === 'weights').map(({ path }) => path)
  const stray = [...named].find((path) => !listed.includes(path))
  if (stray !== undefined)
    throw unusable('the graph keeps weights in a file that the manifest does not list as weights')
  const idle = listed.find((path) => !named.has(path))
  if (idle !== undefined) throw unusable(`${idle}: listed as weights, but the graph does not use it`)
}

/** Behind the last row of its tables a run would fail, and with it whatever else it computes. */
function expectPositions({ tensors, rotaryTables }: GraphFacts, contextLength: number): void {
  for (const table of rotaryTables) {
    const rows = tensors.find(({ name }) => name === table)?.shape[0]
    if (rows === undefined) throw unusable('expected the tables of rotary positions to be weights of the graph')
    if (rows < contextLength) {
      throw unusable(`the graph has rotary positions for ${rows} tokens, and the manifest says ${contextLength}`)
    }
  }
}

function expectNames(kind: string, actual: readonly TensorFacts[], expected: readonly string[]): void {
  const names = new Set(actual.map(({ name }) => name))
  const missing = expected.find((name) => !names.has(name))
  if (missing !== undefined) throw unusable(`the graph has no ${kind} ${missing}`)
  const known = new Set(expected)
  if (actual.length !== expected.length || actual.some(({ name }) => !known.has(name))) {
    throw unusable(`the graph has an ${kind} this engine does not know`)
  }
}

function unusable(message: string): EngineError {
  return new EngineError('package.unusable', message)
}
