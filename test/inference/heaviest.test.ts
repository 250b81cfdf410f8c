import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { keepHeaviest, keepNucleus } from '../../enclave/inference/heaviest.js'
import { createRandom } from '../../enclave/inference/sampler.js'

/** Few different logits, so that there are ties, and any others. */
const logitsArbitrary = fc
  .array(fc.oneof(fc.constantFrom(-1, 0, 0.5, 2), fc.float({ min: -40, max: 40, noNaN: true })), {
    minLength: 1,
    maxLength: 80,
  })
  .map((values) => Float32Array.from(values, (value) => value + 0))

const weigh = (logits: Float32Array): Float32Array => {
  const highest = Math.max(...logits)
  return logits.map((logit) => Math.exp(logit - highest))
}

/** By sorting: ids from the highest logit down, of equal ones the lowest first. */
const ranked = (logits: Float32Array): number[] =>
  [...logits.keys()].sort((a, b) => (logits[b] ?? 0) - (logits[a] ?? 0) || a - b)

const kept = (before: Float32Array, after: Float32Array): number[] => {
  expect(after.every((weight, i) => weight === 0 || weight === before[i])).toBe(true)
  return [...after.keys()].filter((i) => before[i] !== 0 && after[i] !== 0)
}

describe('the heaviest', () => {
  it('are those that sorting finds', () => {
    fc.assert(
      fc.property(logitsArbitrary, fc.integer({ min: 1, max: 90 }), (logits, count) => {
        const weights = weigh(logits)
        const after = weights.slice()
        keepHeaviest(logits, after, count)
        const expected = ranked(logits).slice(0, count)
        expect(kept(weights, after)).toEqual(expected.filter((i) => weights[i] !== 0).sort((a, b) => a - b))
      }),
    )
  })
})

describe('a large vocabulary', () => {
  it.each([
    ['few that weigh something', 30],
    ['nearly all alike', 0.5],
    ['all alike', 0],
  ])('%s', (_, spread) => {
    const random = createRandom(9)
    const logits = Float32Array.from({ length: 20_000 }, () => (random() + random() - 1) * spread)
    const weights = weigh(logits)
    for (const count of [1, 50, 3000, 19_999]) {
      const after = weights.slice()
      keepHeaviest(logits, after, count)
      expect(kept(weights, after)).toEqual(
        ranked(logits)
          .slice(0, count)
          .sort((a, b) => a - b),
      )
    }
  })
})

describe('the nucleus', () => {
  it('is the shortest list from the likeliest down that reaches the share, with whole numbers exactly', () => {
    const whole = fc.array(fc.integer({ min: 1, max: 6 }), { minLength: 1, maxLength: 60 })
    fc.assert(
      fc.property(whole, fc.integer({ min: 1, max: 16 }), (numbers, sixteenths) => {
        const weights = Float32Array.from(numbers)
        const after = weights.slice()
        keepNucleus(weights, after, sixteenths / 16)
        const goal = (sixteenths / 16) * numbers.reduce((sum, weight) => sum + weight, 0)
        const expected: number[] = []
        let sum = 0
        for (const i of ranked(weights)) {
          if (sum >= goal) break
          sum += weights[i] ?? 0
          expected.push(i)
        }
        expect(kept(weights, after)).toEqual(expected.sort((a, b) => a - b))
      }),
    )
  })

  it('of everything keeps everything that weighs, and of nearly nothing the likeliest', () => {
    fc.assert(
      fc.property(logitsArbitrary, (logits) => {
        const weights = weigh(logits)
        const [all, least] = [weights.slice(), weights.slice()]
        keepNucleus(logits, least, Number.MIN_VALUE)
        expect(kept(weights, least)).toEqual([ranked(logits)[0]])
        keepNucleus(logits, all, 1)
        const lost = [...weights.keys()].filter((i) => all[i] === 0).map((i) => weights[i] ?? 0)
        // Only what rounding cannot tell from nothing.
        expect(lost.every((weight) => weight < 1e-12)).toBe(true)
      }),
    )
  })
})
