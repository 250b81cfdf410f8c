/**
 * Scales for keys and values in int8: how large they get over a text, layer by layer, and what the rounding then costs on
 * another text. Both texts are ours, of several kinds; what is larger elsewhere is cut off at the largest code.
 */
// First, and kept first: see there.
import '../../enclave/inference/ort/no-telemetry.js'
import { createRequire } from 'node:module'
import { MAX_VERIFIED } from '../../enclave/inference/decoder.js'
import { inspectGraph } from '../../enclave/inference/graph.js'
import { cacheNames, LOGIT_POSITIONS, pastName, presentName } from '../../enclave/inference/graph-names.js'
import { createDecoder } from '../../enclave/inference/ort/engine.js'
import { fileByRole, type ModelPackage } from '../../enclave/inference/package.js'
import { createTokenizer } from '../../enclave/inference/tokenizer.js'
import { CALIBRATION_TEXT, CHECK_TEXT } from './calibration-text.js'
import type { CacheScales } from './llama-graph.js'

interface PublicTensor {
  readonly data: unknown
}

interface PublicBinding {
  readonly Tensor: new (type: string, data: ArrayBufferView, dims: readonly number[]) => PublicTensor
  readonly InferenceSession: {
    create(
      graph: Uint8Array,
      options: object,
    ): Promise<{
      run(feeds: Readonly<Record<string, PublicTensor>>): Promise<Readonly<Record<string, PublicTensor>>>
      release(): Promise<void>
    }>
  }
}

const LARGEST_CODE = 127
/** Beyond what was seen: another text has other extremes. */
const MARGIN = 1.1
const MOST_TOKENS = 512

/** Of a package that keeps them in fp32. */
export async function measureCacheScales(modelPackage: ModelPackage): Promise<CacheScales> {
  // Only the engine imports the runtime; its decoder shows no keys, so this borrows its copy.
  const { Tensor, InferenceSession } = createRequire(import.meta.url)('onnxruntime-node') as PublicBinding
  const { layers, kvHeads, headSize } = inspectGraph(modelPackage)
  const weights = modelPackage.manifest.files.filter(({ role }) => role === 'weights')
  const session = await InferenceSession.create(fileByRole(modelPackage, 'graph'), {
    executionProviders: ['cpu'],
    logSeverityLevel: 4,
    externalData: weights.map(({ path }) => ({ path, data: modelPackage.files.get(path) ?? new Uint8Array() })),
  })
  try {
    const ids = await tokensOf(modelPackage, CALIBRATION_TEXT)
    const caches = Array.from({ length: layers }, (_, layer) => cacheNames(layer))
    const empty = (): PublicTensor => new Tensor('float32', new Float32Array(0), [1, kvHeads, 0, headSize])
    const outputs = await session.run({
      ...Object.fromEntries(caches.flat().map((cache) => [pastName(cache), empty()])),
      input_ids: new Tensor('int64', BigInt64Array.from(ids, BigInt), [1, ids.length]),
      seqlens_k: new Tensor('int32', Int32Array.of(ids.length - 1), [1]),
      total_seq: new Tensor('int32', Int32Array.of(ids.length), []),
      [LOGIT_POSITIONS]: new Tensor('int64', BigInt64Array.of(-1n), [1]),
    })
    const scaleOf = (cache: string): number => {
      const values = outputs[presentName(cache)]?.data as Float32Array
      const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), Number.MIN_VALUE)
      return (MARGIN * largest) / LARGEST_CODE
    }
    return caches.map(([key, value]) => ({ key: scaleOf(key), value: scaleOf(value) }))
  } finally {
    await session.release()
  }
}

/** The mean surprise at each next token of the other text, in nats; e to the power of it is the perplexity. */
export async function surprise(modelPackage: ModelPackage): Promise<number> {
  const { decoder } = await createDecoder(modelPackage, { slots: 1 })
  try {
    const ids = await tokensOf(modelPackage, CHECK_TEXT)
    let sum = 0
    let count = 0
    for (let at = 0; at + MAX_VERIFIED < ids.length; at += MAX_VERIFIED) {
      const rows = (await decoder.verify?.(0, ids.slice(at, at + MAX_VERIFIED))) ?? []
      for (const [i, logits] of rows.entries()) sum -= logProbability(logits, ids[at + i + 1] ?? 0)
      count += rows.length
    }
    return sum / count
  } finally {
    await decoder.close()
  }
}

async function tokensOf(modelPackage: ModelPackage, text: string): Promise<readonly number[]> {
  const tokenizer = await createTokenizer(modelPackage)
  try {
    const ids = [...tokenizer.prefix, ...(await tokenizer.encode([text]))]
    return ids.slice(0, Math.min(MOST_TOKENS, modelPackage.manifest.architecture.contextLength))
  } finally {
    await tokenizer.close()
  }
}

function logProbability(logits: Float32Array, token: number): number {
  const most = logits.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY)
  return (logits[token] ?? 0) - most - Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - most), 0))
}
