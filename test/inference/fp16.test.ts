/** Half precision: numbers are rounded to the nearest, the demo model answers as in fp32, and keys and values take half the memory. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { inspectGraph } from '../../enclave/inference/graph.js'
import { createDecoder, createOrtEngine } from '../../enclave/inference/ort/engine.js'
import { loadModelPackage } from '../../enclave/inference/package.js'
import { packageOf, randomPackage, SMALL } from '../../scripts/bench/random-model.js'
import { fromHalf, toHalf } from '../../scripts/model/half.js'
import { DEMO_SHAPE, demoWeights } from './demo-weights.js'
import { BINDINGS, collect, GREEDY, loadReference, PACKAGE_DIRECTORY, textOf } from './model.js'

/** Every finite number of half precision, in ascending order. */
const HALVES = [...fromHalf(Uint16Array.from({ length: 0x10000 }, (_, i) => i)).filter(Number.isFinite)].sort(
  (a, b) => a - b,
)

describe('half precision', () => {
  it('keeps what it can hold', () => {
    const all = Uint16Array.from({ length: 0x10000 }, (_, i) => i).filter((bits) => (bits & 0x7c00) !== 0x7c00)
    expect(toHalf(fromHalf(all))).toEqual(all)
  })

  it('takes the nearest, and the even one where two are as near', () => {
    const near = (value: number): void => {
      const single = Math.fround(value)
      const [bits = 0] = toHalf(Float32Array.of(single))
      const [got = Number.NaN] = fromHalf(Uint16Array.of(bits))
      const at = HALVES.findIndex((half) => half >= single)
      const [below = Number.NEGATIVE_INFINITY, above = Number.POSITIVE_INFINITY] = [HALVES[at - 1], HALVES[at]]
      const [down, up] = [single - below, above - single]
      if (down === up) expect(bits & 1).toBe(0)
      expect(Math.abs(got - single)).toBe(Math.min(down, up))
    }
    fc.assert(fc.property(fc.float({ min: -65_504, max: 65_504, noNaN: true }), near), { numRuns: 300 })
    fc.assert(fc.property(fc.double({ min: -(2 ** -13), max: 2 ** -13, noNaN: true }), near), { numRuns: 300 })
    for (const middle of [2 ** -25, 2 ** -25 * 1.5, 2 ** -26, 3 * 2 ** -25, 1 + 2 ** -11, 1 + 3 * 2 ** -11])
      near(middle)
  })

  it.each([65_520, -70_000, Number.POSITIVE_INFINITY, Number.NaN])('refuses a weight of %d', (value) => {
    expect(() => toHalf(Float32Array.of(1, value))).toThrowError(/beyond 65504/)
  })
})

describe.each(BINDINGS)('the demo model in fp16 on the %s decoder', (binding) => {
  it('gives logits within 0.05 of the reference, and its answers', async () => {
    const demo = await loadModelPackage(PACKAGE_DIRECTORY)
    const modelPackage = await packageOf(DEMO_SHAPE, demoWeights(demo), 'fp16', 'fp16')
    expect(inspectGraph(modelPackage).cacheType).toBe('float16')
    const { logits, transcripts } = await loadReference()
    const { decoder } = await createDecoder(modelPackage, { threads: 1, slots: 1, binding })
    let most = 0
    for (const { promptIds, nextIds, rows } of logits) {
      const got = [(await decoder.prefill(0, promptIds)).slice()]
      for (const tokenId of nextIds)
        got.push((await decoder.decode([{ slot: 0, tokenId }]))[0]?.slice() ?? new Float32Array())
      await decoder.clear(0)
      for (const [i, row] of got.entries()) {
        for (const [at, value] of row.entries()) most = Math.max(most, Math.abs(value - (rows[i]?.[at] ?? Number.NaN)))
      }
    }
    expect(most).toBeLessThan(0.05)
    await decoder.close()
    const engine = await createOrtEngine(modelPackage, { threads: 1, binding })
    expect(engine.info.determinism).toBe('batch-invariant')
    for (const { messages, answer } of transcripts) {
      expect(textOf(await collect(engine.generate(await engine.tokenizeChat(messages), GREEDY)))).toBe(answer)
    }
    await engine.close()
  })

  it('keeps twice as much in the same memory, forgotten with its slot', async () => {
    const shape = { ...SMALL, layers: 1, vocabularySize: 256, contextLength: 64 }
    const cacheBytes = 2 * shape.kvHeads * shape.headSize * shape.contextLength * Float32Array.BYTES_PER_ELEMENT
    const options = { threads: 1, cacheBytes, binding }
    const { decoder, determinism } = await createDecoder(await randomPackage(shape, 'int4', 1, 'fp16'), options)
    expect([decoder.slots, determinism]).toEqual([2, 'batch-invariant'])
    const prompt = [5, 6, 7, 8, 9, 10]
    const fresh = (await decoder.prefill(1, prompt)).slice()
    await decoder.clear(1)
    await decoder.prefill(1, [90, 91, 92, 93, 94, 95, 96, 97])
    await decoder.clear(1)
    expect(await decoder.prefill(1, prompt)).toEqual(fresh)
    await decoder.truncate(1, 3)
    expect(await decoder.prefill(1, prompt.slice(3))).toEqual(fresh)
    await decoder.close()
  })
})
