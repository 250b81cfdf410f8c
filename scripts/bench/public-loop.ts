/**
 * The loop that transformers.js runs for a batch of sequences of one length, on the runtime's public binding: each step gives
 * the session the whole past as tensors and takes the whole present as new ones, which are the next step's past.
 */
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { inspectGraph } from '../../enclave/inference/graph.js'
import { cacheNames, pastName, presentName } from '../../enclave/inference/graph-names.js'
import { fileByRole, type ModelPackage } from '../../enclave/inference/package.js'

interface PublicTensor {
  readonly data: unknown
  dispose(): void
}

interface PublicSession {
  run(feeds: Readonly<Record<string, PublicTensor>>): Promise<Readonly<Record<string, PublicTensor>>>
  release(): Promise<void>
}

interface PublicBinding {
  readonly Tensor: new (type: string, data: ArrayBufferView, dims: readonly number[]) => PublicTensor
  readonly InferenceSession: { create(graph: Uint8Array, options: object): Promise<PublicSession> }
}

export interface PublicLoop {
  /** Empties all sequences and gives each `length` tokens, a batch of prompts of one length. */
  fill(length: number): Promise<void>
  /** One token for each sequence, the likeliest. */
  step(): Promise<void>
  close(): Promise<void>
}

/** The graph must be one whose batches have one length here: no padding is needed. */
export async function createPublicLoop(modelPackage: ModelPackage, batch: number): Promise<PublicLoop> {
  // Only the engine imports the runtime; this side of a benchmark borrows its copy.
  const { Tensor, InferenceSession } = createRequire(import.meta.url)('onnxruntime-node') as PublicBinding
  const { layers, kvHeads, headSize, vocabularySize } = inspectGraph(modelPackage)
  const weights = modelPackage.manifest.files.filter(({ role }) => role === 'weights')
  const session = await InferenceSession.create(fileByRole(modelPackage, 'graph'), {
    executionProviders: ['cpu'],
    intraOpNumThreads: availableParallelism(),
    externalData: weights.map(({ path }) => ({ path, data: modelPackage.files.get(path) ?? new Uint8Array() })),
  })
  const caches = Array.from({ length: layers }, (_, layer) => cacheNames(layer)).flat()
  let past: Readonly<Record<string, PublicTensor>> = {}
  let length = 0
  let next: readonly number[] = []

  const run = async (ids: readonly number[]): Promise<void> => {
    length += ids.length / batch
    const outputs = await session.run({
      ...past,
      input_ids: new Tensor('int64', BigInt64Array.from(ids, BigInt), [batch, ids.length / batch]),
      seqlens_k: new Tensor('int32', new Int32Array(batch).fill(length - 1), [batch]),
      total_seq: new Tensor('int32', Int32Array.of(length), []),
      logit_positions: new Tensor('int64', BigInt64Array.of(-1n), [1]),
    })
    const of = (name: string): PublicTensor => {
      const tensor = outputs[name]
      if (tensor === undefined) throw new Error(`the runtime returned no ${name}`)
      return tensor
    }
    past = Object.fromEntries(caches.map((cache) => [pastName(cache), of(presentName(cache))]))
    const logits = of('logits').data as Float32Array
    next = Array.from({ length: batch }, (_, row) => likeliest(logits, row * vocabularySize, vocabularySize))
  }
  return {
    async fill(count) {
      const empty = (): PublicTensor => new Tensor('float32', new Float32Array(0), [batch, kvHeads, 0, headSize])
      past = Object.fromEntries(caches.map((cache) => [pastName(cache), empty()]))
      length = 0
      await run(Array.from({ length: batch * count }, (_, i) => 300 + ((i * 7919) % 40_000)))
    },
    step: () => run(next),
    close: () => session.release(),
  }
}

function likeliest(logits: Float32Array, start: number, count: number): number {
  let best = 0
  for (let i = 1; i < count; i++) if ((logits[start + i] ?? 0) > (logits[start + best] ?? 0)) best = i
  return best
}
