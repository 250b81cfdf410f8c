/**
 * From logits to one token. Pure: the same logits, options and seed give the same tokens. In order: penalties,
 * the mask, then the likeliest token (temperature 0), or temperature, top-k, top-p, min-p, and a draw. Ties go to the lower token id.
 *
 * The generator is xoshiro128** seeded by SplitMix32: reproducible, and no secret. A caller who wants answers nobody
 * can predict passes a random seed.
 */
import type { GenerateOptions } from './engine.js'
import { EngineError } from './errors.js'
import { keepHeaviest, keepNucleus, total } from './heaviest.js'

export type SamplingOptions = Pick<
  GenerateOptions,
  'temperature' | 'topP' | 'topK' | 'minP' | 'seed' | 'presencePenalty' | 'frequencyPenalty'
>

export interface Sampler {
  /**
   * The next token, with a mask one of those whose bit is set. `logits` has one entry a token and is not changed.
   * @throws EngineError `engine.failed` on NaN.
   */
  sample(logits: Float32Array, mask?: Uint32Array): number
}

/** A sampler for one answer: it remembers the tokens it has chosen. Options must have been checked. */
export function createSampler(options: SamplingOptions): Sampler {
  const random = createRandom(options.seed)
  const counts = new Map<number, number>()
  return {
    sample(logits: Float32Array, mask?: Uint32Array): number {
      const unmasked = applyPenalties(logits, counts, options)
      const penalised = mask === undefined ? unmasked : applyMask(unmasked, mask)
      const best = argmax(penalised)
      const tokenId = options.temperature === 0 ? best : choose(penalised, penalised[best] ?? 0, options, random())
      counts.set(tokenId, (counts.get(tokenId) ?? 0) + 1)
      return tokenId
    },
  }
}

/** The `count` likeliest tokens and the chosen one, as natural logarithms of the model's own probabilities. */
export function logProbabilities(
  logits: Float32Array,
  chosen: number,
  count: number,
): { readonly chosen: number; readonly top: readonly { readonly tokenId: number; readonly logprob: number }[] } {
  const highest = logits[argmax(logits)] ?? 0
  let sum = 0
  for (const logit of logits) sum += Math.exp(logit - highest)
  const normaliser = highest + Math.log(sum)
  return {
    chosen: (logits[chosen] ?? Number.NEGATIVE_INFINITY) - normaliser,
    top: likeliest(logits, count).map((tokenId) => ({ tokenId, logprob: (logits[tokenId] ?? 0) - normaliser })),
  }
}

function applyPenalties(
  logits: Float32Array,
  counts: ReadonlyMap<number, number>,
  { presencePenalty, frequencyPenalty }: SamplingOptions,
): Float32Array {
  if (counts.size === 0 || (presencePenalty === 0 && frequencyPenalty === 0)) return logits
  const penalised = logits.slice()
  for (const [tokenId, count] of counts) {
    penalised[tokenId] = (penalised[tokenId] ?? 0) - presencePenalty - frequencyPenalty * count
  }
  return penalised
}

function applyMask(logits: Float32Array, mask: Uint32Array): Float32Array {
  const masked = logits.slice()
  for (let i = 0; i < masked.length; i++) {
    const allowed = ((mask[i >>> 5] ?? 0) >>> (i & 31)) & 1
    // What is not a number stays: it means that the run went wrong.
    if (allowed === 0 && !Number.isNaN(masked[i] ?? Number.NaN)) masked[i] = Number.NEGATIVE_INFINITY
  }
  return masked
}

function argmax(logits: Float32Array): number {
  let best = -1
  let highest = Number.NEGATIVE_INFINITY
  for (let i = 0; i < logits.length; i++) {
    const logit = logits[i] ?? Number.NaN
    // A NaN anywhere means the run went wrong; comparing would silently skip it.
    if (Number.isNaN(logit)) throw new EngineError('engine.failed', 'the model returned a logit that is not a number')
    if (logit > highest) {
      highest = logit
      best = i
    }
  }
  if (best < 0 || highest === Number.POSITIVE_INFINITY) {
    throw new EngineError('engine.failed', 'the model returned no finite logits')
  }
  return best
}

/** Draws one token. The likeliest one can always be drawn. */
function choose(logits: Float32Array, highest: number, options: SamplingOptions, uniform: number): number {
  const { temperature, topK, topP, minP } = options
  const weights = new Float32Array(logits.length)
  for (let i = 0; i < weights.length; i++) {
    weights[i] = Math.exp(((logits[i] ?? Number.NEGATIVE_INFINITY) - highest) / temperature)
  }
  if (topK > 0 && topK < weights.length) keepHeaviest(logits, weights, topK)
  if (topP < 1) keepNucleus(logits, weights, topP)
  if (minP > 0) {
    for (let i = 0; i < weights.length; i++) if ((weights[i] ?? 0) < minP) weights[i] = 0
  }
  return draw(weights, uniform)
}

/** One of them, as likely as it is heavy. `uniform` in [0, 1). */
function draw(weights: Float32Array, uniform: number): number {
  const goal = uniform * total(weights)
  let sum = 0
  let last = 0
  for (let i = 0; i < weights.length; i++) {
    const weight = weights[i] ?? 0
    if (weight === 0) continue
    sum += weight
    last = i
    if (sum > goal) return i
  }
  // Rounding can leave the sum a hair below the goal.
  return last
}

/** Ids of the `count` highest logits, highest first, ties by id: one pass with a short sorted list. */
function likeliest(logits: Float32Array, count: number): number[] {
  const best: number[] = []
  if (count === 0) return best
  for (let i = 0; i < logits.length; i++) {
    const logit = logits[i] ?? Number.NEGATIVE_INFINITY
    const lowest = best[best.length - 1]
    if (best.length === count && lowest !== undefined && logit <= (logits[lowest] ?? 0)) continue
    let at = best.length
    while (at > 0 && logit > (logits[best[at - 1] ?? 0] ?? 0)) at--
    best.splice(at, 0, i)
    if (best.length > count) best.pop()
  }
  return best
}

/** Uniform numbers in [0, 1) with 53 random bits, from a safe integer. */
export function createRandom(seed: number): () => number {
  const next32 = createXoshiro(seed)
  return () => {
    const high = next32() >>> 5
    const low = next32() >>> 6
    return (high * 67108864 + low) / 9007199254740992
  }
}

/** xoshiro128** 1.1 (Blackman and Vigna), its state filled by SplitMix32 from both halves of the seed. */
function createXoshiro(seed: number): () => number {
  const low = seed >>> 0
  const high = Math.floor(seed / 4294967296) >>> 0
  const fill = createSplitMix(low)
  let [a, b, c, d] = [fill(), fill() ^ high, fill(), fill() | 1]
  return () => {
    const result = Math.imul(rotateLeft(Math.imul(b, 5), 7), 9) >>> 0
    const t = b << 9
    c ^= a
    d ^= b
    b ^= c
    a ^= d
    c ^= t
    d = rotateLeft(d, 11)
    return result
  }
}

function createSplitMix(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + 0x9e3779b9) | 0
    let z = state ^ (state >>> 16)
    z = Math.imul(z, 0x21f0aaad)
    z ^= z >>> 15
    z = Math.imul(z, 0x735a2d97)
    return z ^ (z >>> 15)
  }
}

function rotateLeft(value: number, by: number): number {
  return (value << by) | (value >>> (32 - by))
}
