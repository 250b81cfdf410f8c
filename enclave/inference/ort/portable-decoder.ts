/**
 * The decoder on the public binding, for machines without a known library: the same answers, slowly. Each slot keeps the
 * tensors of its last run; rows of a decode run are computed one after the other. Only importer of that binding.
 *
 * The binding copies each output and computes on the event loop's thread, and a run cannot be interrupted.
 */
// First, and kept first: see there.
import './no-telemetry.js'
import { env, InferenceSession, Tensor } from 'onnxruntime-node'
import type { Decoder } from '../decoder.js'
import type { RuntimeInfo } from '../engine.js'
import { EngineError } from '../errors.js'
import { cacheNames, HIDDEN_STATE, LOGIT_POSITIONS, lastPositions, pastName, presentName } from '../graph-names.js'
import { fileByRole, type ModelPackage } from '../package.js'
import type { DecoderOptions } from './native-decoder.js'

export const PORTABLE_RUNTIME: RuntimeInfo = {
  name: 'onnxruntime-node',
  version: env.versions.node ?? env.versions.common,
  build: 'cpu, portable',
}

type CacheData = Float32Array | Uint16Array | Int8Array

interface Slot {
  readonly length: number
  readonly tensors: ReadonlyMap<string, Tensor>
}

/** @throws EngineError `package.unusable` when the runtime does not load the graph. */
export async function createPortableDecoder(
  modelPackage: ModelPackage,
  { graph, threads, slots, slotTokens, maxRows }: DecoderOptions,
): Promise<Decoder> {
  const { layers, kvHeads, headSize, cacheType, vocabularySize, hiddenSize, picksPositions } = graph
  const session = await loadSession(modelPackage, threads)
  const caches = Array.from({ length: layers }, (_, layer) => cacheNames(layer)).flat()
  const cacheTensor = (tokens: number): Tensor => {
    const shape = [1, kvHeads, tokens, headSize]
    const length = kvHeads * tokens * headSize
    switch (cacheType) {
      case 'int8':
        return new Tensor('int8', new Int8Array(length), shape)
      case 'float16':
        return new Tensor('float16', new Uint16Array(length), shape)
      case 'float32':
        return new Tensor('float32', new Float32Array(length), shape)
    }
  }
  const emptySlot = (): Slot => ({
    length: 0,
    tensors: new Map(caches.map((cache) => [cache, cacheTensor(0)])),
  })
  const held = new Map<number, Slot>()
  const firstTokens = ({ data }: Tensor, length: number, tokens: number): Tensor => {
    const first = cacheTensor(tokens)
    for (let head = 0; head < kvHeads; head++) {
      const start = head * length * headSize
      const values = (data as CacheData).subarray(start, start + tokens * headSize)
      ;(first.data as CacheData).set(values, head * tokens * headSize)
    }
    return first
  }

  const append = async (
    slot: number,
    tokenIds: readonly number[],
    output: 'logits' | typeof HIDDEN_STATE = 'logits',
    wanted = 1,
  ): Promise<Float32Array> => {
    const { length, tensors } = held.get(slot) ?? emptySlot()
    const total = length + tokenIds.length
    const feeds: Record<string, Tensor> = {
      input_ids: new Tensor('int64', BigInt64Array.from(tokenIds, BigInt), [1, tokenIds.length]),
      seqlens_k: new Tensor('int32', Int32Array.of(total - 1), [1]),
      total_seq: new Tensor('int32', Int32Array.of(total), []),
    }
    if (picksPositions) {
      feeds[LOGIT_POSITIONS] = new Tensor('int64', lastPositions(wanted), [wanted])
    }
    for (const [cache, tensor] of tensors) feeds[pastName(cache)] = tensor
    const outputs = await runSession(session, feeds)
    const expected = output === 'logits' ? wanted * vocabularySize : hiddenSize
    const values = outputs[output]?.data
    if (!(values instanceof Float32Array) || values.length !== expected) {
      throw new EngineError('engine.failed', `expected ${expected} values of ${output}`)
    }
    wipe(tensors)
    held.set(slot, { length: total, tensors: presentTensors(outputs, caches) })
    return values
  }

  async function truncate(slot: number, tokens: number): Promise<void> {
    const { length, tensors } = held.get(slot) ?? emptySlot()
    const kept = new Map([...tensors].map(([cache, tensor]) => [cache, firstTokens(tensor, length, tokens)]))
    wipe(tensors)
    held.set(slot, { length: tokens, tensors: kept })
  }

  return {
    runtime: PORTABLE_RUNTIME,
    slots,
    slotTokens,
    maxRows,
    prefill: (slot, tokenIds) => append(slot, tokenIds),
    ...(hiddenSize === undefined
      ? {}
      : { embed: (slot: number, tokenIds: readonly number[]) => append(slot, tokenIds, HIDDEN_STATE) }),
    ...(picksPositions
      ? {
          async verify(slot: number, tokenIds: readonly number[]) {
            const all = await append(slot, tokenIds, 'logits', tokenIds.length)
            return tokenIds.map((_, row) => all.subarray(row * vocabularySize, (row + 1) * vocabularySize))
          },
        }
      : {}),
    async decode(rows) {
      const logits: Float32Array[] = []
      try {
        for (const { slot, tokenId } of rows) logits.push(await append(slot, [tokenId]))
      } catch (error) {
        // As where all rows are one run: one that fails moves no row on.
        for (const { slot } of rows.slice(0, logits.length)) await truncate(slot, (held.get(slot)?.length ?? 1) - 1)
        throw error
      }
      return logits
    },
    interrupt: () => undefined,
    async clear(slot) {
      wipe(held.get(slot)?.tensors ?? new Map())
      held.delete(slot)
    },
    truncate,
    async close() {
      for (const { tensors } of held.values()) wipe(tensors)
      held.clear()
      await session.release()
    },
  }
}

function wipe(tensors: ReadonlyMap<string, Tensor>): void {
  for (const { data } of tensors.values()) (data as CacheData).fill(0)
}

async function loadSession(modelPackage: ModelPackage, threads: number): Promise<InferenceSession> {
  const weights = modelPackage.manifest.files.filter(({ role }) => role === 'weights')
  try {
    return await InferenceSession.create(fileByRole(modelPackage, 'graph'), {
      executionProviders: ['cpu'],
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      executionMode: 'sequential',
      graphOptimizationLevel: 'all',
      enableProfiling: false,
      logSeverityLevel: 4,
      ...(weights.length === 0
        ? {}
        : {
            externalData: weights.map(({ path }) => ({ path, data: modelPackage.files.get(path) ?? new Uint8Array() })),
          }),
    })
  } catch (cause) {
    throw new EngineError('package.unusable', 'the runtime cannot load the graph', { cause })
  }
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
  caches: readonly string[],
): ReadonlyMap<string, Tensor> {
  return new Map(
    caches.map((cache) => {
      const tensor = outputs[presentName(cache)]
      if (tensor === undefined) throw new EngineError('engine.failed', `the runtime returned no ${presentName(cache)}`)
      return [cache, tensor]
    }),
  )
}
