import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createRandom, createSampler, logProbabilities, type SamplingOptions } from '../../enclave/inference/sampler.js'

const NEUTRAL: SamplingOptions = {
  temperature: 1,
  topP: 1,
  topK: 0,
  minP: 0,
  seed: 7,
  presencePenalty: 0,
  frequencyPenalty: 0,
}

function drawMany(logits: readonly number[], options: Partial<SamplingOptions>, times = 400): Set<number> {
  const drawn = new Set<number>()
  for (let seed = 0; seed < times; seed++) {
    drawn.add(createSampler({ ...NEUTRAL, ...options, seed }).sample(Float32Array.from(logits)))
  }
  return drawn
}

const logitsArbitrary = fc
  .array(fc.float({ min: -30, max: 30, noNaN: true }), { minLength: 1, maxLength: 60 })
  .map((values) => Float32Array.from(values))

const optionsArbitrary: fc.Arbitrary<SamplingOptions> = fc.record({
  temperature: fc.double({ min: 0, max: 2, noNaN: true }),
  topP: fc.double({ min: 0.01, max: 1, noNaN: true }),
  topK: fc.integer({ min: 0, max: 70 }),
  minP: fc.double({ min: 0, max: 1, noNaN: true }),
  seed: fc.maxSafeInteger(),
  presencePenalty: fc.double({ min: -2, max: 2, noNaN: true }),
  frequencyPenalty: fc.double({ min: -2, max: 2, noNaN: true }),
})

describe('greedy', () => {
  it('takes the highest logit, and the lower id on a tie', () => {
    expect(createSampler({ ...NEUTRAL, temperature: 0 }).sample(Float32Array.of(1, 5, 5, 2))).toBe(1)
  })
})

describe('filters', () => {
  const logits = [Math.log(0.5), Math.log(0.3), Math.log(0.15), Math.log(0.05)]

  it('without any, every token can be drawn', () => {
    expect(drawMany(logits, {})).toEqual(new Set([0, 1, 2, 3]))
  })

  it('top-k keeps the k likeliest', () => {
    expect(drawMany(logits, { topK: 2 })).toEqual(new Set([0, 1]))
  })

  it('top-p keeps the shortest list that reaches the mass', () => {
    expect(drawMany(logits, { topP: 0.79 })).toEqual(new Set([0, 1]))
    expect(drawMany(logits, { topP: 0.81 })).toEqual(new Set([0, 1, 2]))
  })

  it('top-p looks beyond the heavy tokens when they do not reach the mass', () => {
    const flatTail = [0, ...Array.from({ length: 5000 }, () => -7.5)]
    expect(drawMany(flatTail, { topP: 0.9 }, 100).size).toBeGreaterThan(20)
  })

  it('min-p drops tokens below a fraction of the likeliest', () => {
    expect(drawMany(logits, { minP: 0.29 })).toEqual(new Set([0, 1, 2]))
    expect(drawMany(logits, { minP: 1 })).toEqual(new Set([0]))
  })

  it('low temperature sharpens', () => {
    expect(drawMany(logits, { temperature: 0.01 })).toEqual(new Set([0]))
  })
})

describe('penalties', () => {
  it('presence counts once, frequency each time', () => {
    const logits = Float32Array.of(2, 1.5, 0)
    const presence = createSampler({ ...NEUTRAL, temperature: 0, presencePenalty: 1 })
    expect([presence.sample(logits), presence.sample(logits), presence.sample(logits)]).toEqual([0, 1, 0])
    const frequency = createSampler({ ...NEUTRAL, temperature: 0, frequencyPenalty: 1.2 })
    expect(Array.from({ length: 5 }, () => frequency.sample(logits))).toEqual([0, 1, 0, 1, 2])
  })

  it('leave the logits as they were', () => {
    const logits = Float32Array.of(2, 1)
    const sampler = createSampler({ ...NEUTRAL, presencePenalty: 2, frequencyPenalty: 2 })
    sampler.sample(logits)
    sampler.sample(logits)
    expect(logits).toEqual(Float32Array.of(2, 1))
  })
})

describe('bad logits', () => {
  it.each([
    ['NaN', [1, Number.NaN]],
    ['nothing finite', [Number.NEGATIVE_INFINITY]],
    ['infinity', [1, Number.POSITIVE_INFINITY]],
    ['nothing at all', []],
  ])('%s is an engine failure', (_, logits) => {
    const sample = (): number => createSampler(NEUTRAL).sample(Float32Array.from(logits))
    expect(sample).toThrowError(expect.objectContaining({ code: 'engine.failed' }))
  })
})

describe('properties', () => {
  it('the same seed gives the same tokens, and every token is one of the vocabulary', () => {
    fc.assert(
      fc.property(logitsArbitrary, optionsArbitrary, (logits, options) => {
        const [a, b] = [createSampler(options), createSampler(options)]
        for (let i = 0; i < 8; i++) {
          const tokenId = a.sample(logits)
          expect(tokenId).toBe(b.sample(logits))
          expect(tokenId >= 0 && tokenId < logits.length).toBe(true)
        }
      }),
    )
  })

  it('top-k never draws a token that k others beat', () => {
    fc.assert(
      fc.property(logitsArbitrary, fc.integer({ min: 1, max: 10 }), fc.maxSafeInteger(), (logits, topK, seed) => {
        const chosen = logits[createSampler({ ...NEUTRAL, topK, seed }).sample(logits)] ?? Number.NaN
        expect(logits.filter((logit) => logit > chosen).length).toBeLessThan(topK)
      }),
    )
  })

  it('log-probabilities are those of the whole distribution, likeliest first', () => {
    fc.assert(
      fc.property(logitsArbitrary, (logits) => {
        const { chosen, top } = logProbabilities(logits, 0, logits.length)
        expect(top.reduce((sum, { logprob }) => sum + Math.exp(logprob), 0)).toBeCloseTo(1, 6)
        expect(top.every(({ logprob }, i) => i === 0 || logprob <= (top[i - 1]?.logprob ?? 0))).toBe(true)
        expect(chosen).toBe(top.find(({ tokenId }) => tokenId === 0)?.logprob)
      }),
    )
  })
})

describe('random numbers', () => {
  it('are uniform enough, below one, and differ with either half of the seed', () => {
    const random = createRandom(42)
    const numbers = Array.from({ length: 20_000 }, random)
    expect(numbers.every((value) => value >= 0 && value < 1)).toBe(true)
    expect(numbers.reduce((sum, value) => sum + value, 0) / numbers.length).toBeCloseTo(0.5, 2)
    const firsts = [0, 1, -1, 2 ** 32, 2 ** 33, Number.MAX_SAFE_INTEGER].map((seed) => createRandom(seed)())
    expect(new Set(firsts).size).toBe(firsts.length)
  })

  it('stay the same between releases', () => {
    const random = createRandom(1)
    expect([random(), random(), random()]).toMatchInlineSnapshot(`
      [
        0.09156953175513294,
        0.8881928137485323,
        0.43427017709149285,
      ]
    `)
  })
})
