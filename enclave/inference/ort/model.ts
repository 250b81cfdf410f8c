/**
 * The model under ONNX Runtime: token ids and a cache in, logits and a longer cache out. Only importer of the runtime.
 *
 * Accepts decoder graphs of the form this project writes: inputs `input_ids` [1, n], `seqlens_k` [1] (cached plus new
 * tokens, minus one), `total_seq` (cached plus new tokens) and `past_key_values.N.key|value` [1, heads, past, size];
 * outputs `logits` for the last position and `present.N.key|value` [1, heads, past + n, size]. Refuses any other,
 * and graphs that keep weights in another file.
 *
 * The public API copies each output, so a step costs time in proportion to the cache; that is fine for small models.
 */
// First, and kept first: see there.
import './no-telemetry.js'
import { availableParallelism } from 'node:os'
import { env, InferenceSession, Tensor } from 'onnxruntime-node'
import { EngineError } from '../errors.js'
import { fileByRole, type ModelPackage } from '../package.js'

/** Name and version of the runtime. */
export const RUNTIME: { readonly name: string; readonly version: string } = {
  name: 'onnxruntime-node',
  version: env.versions.node ?? env.versions.common,
}

/** Keys and values of every token so far, one request's own. Opaque outside this file. */
export interface Cache {
  readonly length: number
  readonly tensors: ReadonlyMap<string, Tensor>
}

export interface OrtModel {
  readonly emptyCache: Cache
  /**
   * Runs the model over `tokenIds`, which follow the tokens in `cache`. Returns the logits for the token after them.
   * @throws EngineError `engine.failed`.
   */
  run(tokenIds: readonly number[], cache: Cache): Promise<{ readonly logits: Float32Array; readonly cache: Cache }>
  close(): Promise<void>
}

/** `threads` defaults to the processors this process may use. @throws EngineError `package.unusable`. */
export async function createOrtModel(modelPackage: ModelPackage, threads?: number): Promise<OrtModel> {
  const graph = fileByRole(modelPackage, 'graph')
  refuseOutsideWeights(modelPackage, graph)
  const session = await createSession(graph, threads ?? availableParallelism())
  const { layers, vocabularySize } = modelPackage.manifest.architecture
  const cacheNames = Array.from({ length: layers }, (_, layer) => [`${layer}.key`, `${layer}.value`]).flat()
  const emptyCache: Cache = { length: 0, tensors: emptyTensors(session, cacheNames) }
  expectNames(session.inputNames, ['input_ids', 'seqlens_k', 'total_seq', ...cacheNames.map(past)])
  expectNames(session.outputNames, ['logits', ...cacheNames.map(present)])

  return {
    emptyCache,
    async run(tokenIds, cache) {
      const total = cache.length + tokenIds.length
      const feeds: Record<string, Tensor> = {
        input_ids: new Tensor('int64', BigInt64Array.from(tokenIds, BigInt), [1, tokenIds.length]),
        seqlens_k: new Tensor('int32', Int32Array.of(total - 1), [1]),
        total_seq: new Tensor('int32', Int32Array.of(total), []),
      }
      for (const [name, tensor] of cache.tensors) feeds[past(name)] = tensor
      const outputs = await runSession(session, feeds)
      const logits = outputs['logits']?.data
      if (!(logits instanceof Float32Array) || logits.length !== vocabularySize) {
        throw new EngineError('engine.failed', `expected ${vocabularySize} logits`)
      }
      return { logits, cache: { length: total, tensors: presentTensors(outputs, cacheNames) } }
    },
    close: () => session.release(),
  }
}

function past(name: string): string {
  return `past_key_values.${name}`
}

function present(name: string): string {
  return `present.${name}`
}

/** How a tensor kept in another file begins in ONNX: a StringStringEntryProto whose key is `location`. */
const EXTERNAL_DATA = Buffer.from('\n\x08location\x12', 'latin1')

/** Weights outside the graph would be read from disk by the runtime: past the manifest, and past the weights root. */
function refuseOutsideWeights({ manifest }: ModelPackage, graph: Uint8Array): void {
  const listed = manifest.files.some((file) => file.role === 'weights')
  if (listed || Buffer.from(graph.buffer, graph.byteOffset, graph.byteLength).includes(EXTERNAL_DATA)) {
    throw new EngineError('package.unusable', 'this engine takes graphs that hold their own weights')
  }
}

async function createSession(graph: Uint8Array, threads: number): Promise<InferenceSession> {
  try {
    return await InferenceSession.create(graph, {
      executionProviders: ['cpu'],
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      executionMode: 'sequential',
      graphOptimizationLevel: 'all',
      enableProfiling: false,
      logSeverityLevel: 3,
    })
  } catch (cause) {
    throw new EngineError('package.unusable', 'the runtime cannot load the graph', { cause })
  }
}

function expectNames(actual: readonly string[], expected: readonly string[]): void {
  const missing = expected.find((name) => !actual.includes(name))
  const extra = actual.find((name) => !expected.includes(name))
  if (missing !== undefined) throw new EngineError('package.unusable', `the graph has no ${missing}`)
  if (extra !== undefined) throw new EngineError('package.unusable', `the graph has an unknown ${extra}`)
}

/** Caches of no tokens, with the head count and size the graph declares. */
function emptyTensors(session: InferenceSession, cacheNames: readonly string[]): Map<string, Tensor> {
  return new Map(
    cacheNames.map((name) => {
      const input = session.inputMetadata.find((candidate) => candidate.name === past(name))
      const [, heads, , size] = input?.isTensor ? input.shape : []
      if (typeof heads !== 'number' || typeof size !== 'number') {
        throw new EngineError('package.unusable', `the graph does not declare the shape of ${past(name)}`)
      }
      return [name, new Tensor('float32', new Float32Array(0), [1, heads, 0, size])]
    }),
  )
}

async function runSession(
  session: InferenceSession,
  feeds: Record<string, Tensor>,
): Promise<InferenceSession.OnnxValueMapType> {
  try {
    return await session.run(feeds)
  } catch (cause) {
    throw new EngineError('engine.failed', 'the runtime failed in a step', { cause })
  }
}

function presentTensors(
  outputs: InferenceSession.OnnxValueMapType,
  cacheNames: readonly string[],
): Map<string, Tensor> {
  return new Map(
    cacheNames.map((name) => {
      const tensor = outputs[present(name)]
      if (tensor === undefined) throw new EngineError('engine.failed', `the runtime returned no ${present(name)}`)
      return [name, tensor]
    }),
  )
}
