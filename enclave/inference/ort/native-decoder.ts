/**
 * The decoder on the C interface. The keys and values of a layer lie in memory that a run reads and writes in place: past and
 * present are the same, so a step costs no copy of the cache, wherever it computes. Only logits come back from a device.
 *
 * A decode run takes a range of slots. A slot in the range that takes no part gets a dummy row, which writes one position
 * behind what the slot holds; the next token of that slot overwrites it, and no other row reads it.
 */
import { type DecodeRow, type Decoder, MAX_VERIFIED } from '../decoder.js'
import type { RuntimeInfo } from '../engine.js'
import type { DecoderGraph } from '../graph.js'
import { cacheNames, HIDDEN_STATE, LOGIT_POSITIONS, lastPositions, pastName, presentName } from '../graph-names.js'
import type { ModelPackage } from '../package.js'
import { fileByRole } from '../package.js'
import { bindNames, loadRuntime } from './c-api.js'
import { createDeviceCache } from './device-cache.js'
import type { DeviceLibrary } from './device-library.js'
import { createHostCache } from './host-cache.js'
import { RUNTIME_VERSION } from './library.js'
import { type Provider, providerFor } from './provider.js'
import { bindTensor, createSession } from './session.js'

export interface DecoderOptions {
  readonly graph: DecoderGraph
  readonly threads: number
  readonly slots: number
  readonly slotTokens: number
  readonly maxRows: number
}

/** The build names the device and every library of the runtime's that computes there. */
export function nativeRuntime({ device, sha256, providers }: DeviceLibrary): RuntimeInfo {
  const digests = [`sha256:${sha256}`, ...providers.map((provider) => `${provider.part} sha256:${provider.sha256}`)]
  return { name: 'onnxruntime-node', version: RUNTIME_VERSION, build: [device, ...digests].join(', ') }
}

/**
 * `provider`: by default that of the library's device; for tests.
 * @throws EngineError `package.unusable` when the runtime does not load the graph, `device.unavailable`.
 */
export async function createNativeDecoder(
  modelPackage: ModelPackage,
  library: DeviceLibrary,
  { graph, threads, slots, slotTokens, maxRows }: DecoderOptions,
  provider: Provider | undefined = providerFor(library.device),
): Promise<Decoder> {
  const { layers, kvHeads, headSize, cacheType, vocabularySize, hiddenSize, picksPositions } = graph
  const runtime = loadRuntime(library)
  const caches = Array.from({ length: layers }, (_, layer) => cacheNames(layer)).flat()
  const session = createSession(runtime, {
    graph: fileByRole(modelPackage, 'graph'),
    weights: weightsOf(modelPackage),
    threads,
    inputNames: [
      'input_ids',
      'seqlens_k',
      'total_seq',
      ...(picksPositions ? [LOGIT_POSITIONS] : []),
      ...caches.map(pastName),
    ],
    outputNames: ['logits', ...caches.map(presentName)],
    provider,
  })
  const shape = { caches: caches.length, type: cacheType, slots, kvHeads, slotTokens, headSize }
  const memory =
    provider === undefined
      ? createHostCache(runtime, shape)
      : await createDeviceCache(runtime, session, provider, shape).catch((error: unknown) => {
          session.close()
          throw error
        })
  const logits = new Float32Array(
    Math.max(maxRows === 1 ? 1 : slots, picksPositions ? MAX_VERIFIED : 1) * vocabularySize,
  )
  const hidden = new Float32Array(hiddenSize ?? 0)
  const hiddenNames = bindNames([HIDDEN_STATE, ...caches.map(presentName)])
  /** Tokens in each slot. */
  const lengths = new Int32Array(slots)
  /** Positions of each slot that were ever written since it was cleared: those of dummy rows and interrupted runs too. */
  const touched = new Int32Array(slots)

  /** `totals`: tokens of each row with this run's. `wanted`: logits of that many last positions of each. */
  const run = async (
    first: number,
    ids: readonly number[],
    totals: readonly number[],
    output: 'logits' | 'hidden' = 'logits',
    wanted = 1,
  ): Promise<void> => {
    const count = totals.length
    const cache = memory.range(first, count)
    totals.forEach((total, row) => {
      touched[first + row] = Math.max(touched[first + row] ?? 0, total)
    })
    const own = [
      bindTensor(runtime, 'int64', BigInt64Array.from(ids, BigInt), [count, ids.length / count]),
      bindTensor(
        runtime,
        'int32',
        Int32Array.from(totals, (total) => total - 1),
        [count],
      ),
      bindTensor(runtime, 'int32', Int32Array.of(Math.max(...totals)), []),
      ...(picksPositions ? [bindTensor(runtime, 'int64', lastPositions(wanted), [wanted])] : []),
    ]
    const result =
      output === 'logits'
        ? bindTensor(runtime, 'float32', logits.subarray(0, count * wanted * vocabularySize), [
            count,
            wanted,
            vocabularySize,
          ])
        : bindTensor(runtime, 'float32', hidden, [count, 1, hidden.length])
    try {
      const names = output === 'logits' ? undefined : hiddenNames
      await session.run([...own, ...cache], [result, ...cache], names)
    } finally {
      for (const tensor of [...own, result]) tensor.release()
    }
  }
  const rowLogits = (row: number): Float32Array => logits.subarray(row * vocabularySize, (row + 1) * vocabularySize)

  return {
    runtime: nativeRuntime(library),
    slots,
    slotTokens,
    maxRows,
    async prefill(slot, tokenIds) {
      const total = (lengths[slot] ?? 0) + tokenIds.length
      await run(slot, tokenIds, [total])
      lengths[slot] = total
      return rowLogits(0)
    },
    ...(hiddenSize === undefined
      ? {}
      : {
          async embed(slot: number, tokenIds: readonly number[]) {
            const total = (lengths[slot] ?? 0) + tokenIds.length
            await run(slot, tokenIds, [total], 'hidden')
            lengths[slot] = total
            return hidden
          },
        }),
    ...(picksPositions
      ? {
          async verify(slot: number, tokenIds: readonly number[]) {
            const total = (lengths[slot] ?? 0) + tokenIds.length
            await run(slot, tokenIds, [total], 'logits', tokenIds.length)
            lengths[slot] = total
            return tokenIds.map((_, row) => rowLogits(row))
          },
        }
      : {}),
    async decode(rows: readonly DecodeRow[]) {
      const first = rows[0]?.slot ?? 0
      const count = (rows.at(-1)?.slot ?? 0) - first + 1
      if (count > maxRows) throw new RangeError(`expected ${maxRows} rows in a run at most, got ${count}`)
      const ids = new Array<number>(count).fill(0)
      for (const { slot, tokenId } of rows) ids[slot - first] = tokenId
      const totals = ids.map((_, row) => (lengths[first + row] ?? 0) + 1)
      await run(first, ids, totals)
      for (const { slot } of rows) lengths[slot] = totals[slot - first] ?? 0
      return rows.map(({ slot }) => rowLogits(slot - first))
    },
    interrupt: session.interrupt,
    clear: (slot) => truncate(slot, 0),
    truncate,
    async close() {
      try {
        // Only what was written: most of the memory the system has not even given yet.
        for (let slot = 0; slot < slots; slot++) await truncate(slot, 0)
      } finally {
        memory.close()
        session.close()
        logits.fill(0)
        hidden.fill(0)
      }
    },
  }

  async function truncate(slot: number, tokens: number): Promise<void> {
    await memory.clear(slot, tokens, touched[slot] ?? 0)
    lengths[slot] = tokens
    touched[slot] = tokens
  }
}

function weightsOf({ manifest, files }: ModelPackage): Map<string, Uint8Array> {
  const weights = manifest.files.filter(({ role }) => role === 'weights')
  return new Map(weights.map(({ path }) => [path, files.get(path) ?? new Uint8Array()]))
}
