/** Keys and values in int8: as many more fit, the logits are near those of fp32, and nothing of them stays in a slot. */
import { describe, expect, it } from 'vitest'
import { inspectGraph } from '../../enclave/inference/graph.js'
import { createDecoder } from '../../enclave/inference/ort/engine.js'
import type { ModelPackage } from '../../enclave/inference/package.js'
import { randomPackage, SMALL } from '../../scripts/bench/random-model.js'
import { createGraphBuilder, type ElementType } from '../../scripts/model/graph-builder.js'
import { toBytes } from '../../verifier/protocol/bytes.js'
import { BINDINGS } from './model.js'

const SHAPE = { ...SMALL, layers: 2, vocabularySize: 1024, contextLength: 256 }
const SCALES = Array.from({ length: SHAPE.layers }, () => ({ key: 0.04, value: 0.03 }))
const prompt = Array.from({ length: 40 }, (_, i) => (i * 7919) % 1024)

/** Declares caches of these types, and computes nothing. */
async function declaring(types: readonly ElementType[]): Promise<ModelPackage> {
  const base = await randomPackage({ ...SHAPE, layers: 1 }, 'fp32')
  const graph = createGraphBuilder('declares', { write: () => Promise.reject(new Error('not used')) })
  graph.input('input_ids', 'int64', ['batch', 'n'])
  graph.input('seqlens_k', 'int32', ['batch'])
  graph.input('total_seq', 'int32', [])
  graph.output('logits', 'float', ['batch', 1, 1024])
  for (const [i, part] of ['key', 'value'].entries()) {
    graph.input(`past_key_values.0.${part}`, types[i] ?? 'float', ['batch', 1, 'past', 16])
    graph.output(`present.0.${part}`, types[i] ?? 'float', ['batch', 1, 'total', 16])
  }
  const files = base.manifest.files.filter(({ role }) => role !== 'weights')
  return {
    ...base,
    manifest: { ...base.manifest, files },
    files: new Map([...base.files, ['model.onnx', toBytes(graph.finish())]]),
  }
}

describe('caches', () => {
  it.each<readonly [readonly ElementType[], string]>([
    [['float', 'float'], 'float32'],
    [['int8', 'int8'], 'int8'],
  ])('of %j are told apart', async (types, expected) => {
    expect(inspectGraph(await declaring(types)).cacheType).toBe(expected)
  })

  it.each<readonly [readonly ElementType[]]>([
    [['float', 'int8']],
    [['int8', 'float']],
    [['uint8', 'uint8']],
    [['int32', 'int32']],
  ])('of %j are refused', async (types) => {
    const modelPackage = await declaring(types)
    expect(() => inspectGraph(modelPackage)).toThrowError(expect.objectContaining({ code: 'package.unusable' }))
  })
})

describe.each(BINDINGS)('keys and values in int8 on the %s decoder', (binding) => {
  it('take a quarter of the memory, and give nearly the same logits', async () => {
    const { kvHeads, headSize, layers, contextLength } = SHAPE
    const cacheBytes = 2 * layers * kvHeads * headSize * contextLength * Float32Array.BYTES_PER_ELEMENT
    const options = { binding, threads: 1, cacheBytes } as const
    const [plain, small] = await Promise.all([
      createDecoder(await randomPackage(SHAPE, 'fp32'), options),
      createDecoder(await randomPackage(SHAPE, 'fp32', 1, SCALES), options),
    ])
    expect([plain.decoder.slots, small.decoder.slots]).toEqual([1, 4])
    expect([plain.determinism, small.determinism]).toEqual(['batch-invariant', 'batch-invariant'])
    const [a, b] = await Promise.all(
      [plain, small].map(async ({ decoder }) => (await decoder.prefill(0, prompt)).slice()),
    )
    if (a === undefined || b === undefined) throw new Error('no logits')
    const dot = (x: Float32Array, y: Float32Array): number => x.reduce((sum, value, i) => sum + value * (y[i] ?? 0), 0)
    expect(b).not.toEqual(a)
    expect(dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))).toBeGreaterThan(0.99)
    await plain.decoder.close()
    await small.decoder.close()
  }, 60_000)

  it('are forgotten with their slot, and cut where they are kept', async () => {
    const { decoder } = await createDecoder(await randomPackage(SHAPE, 'pr8', 1, SCALES), {
      binding,
      threads: 1,
      slots: 2,
    })
    const fresh = (await decoder.prefill(1, prompt)).slice()
    await decoder.clear(1)
    await decoder.prefill(1, [900, 901, 902, 903, 904, 905, 906])
    await decoder.clear(1)
    expect(await decoder.prefill(1, prompt)).toEqual(fresh)
    await decoder.truncate(1, 20)
    expect(await decoder.prefill(1, prompt.slice(20))).toEqual(fresh)
    await decoder.close()
  }, 60_000)
})
