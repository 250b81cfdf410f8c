/**
 * How prompts are cut. A run over one token takes other kernels of the runtime than a run over more, with other
 * roundings; so that the cutting never shows in the answer, no part has one token unless the prompt has one.
 */

/** Tokens of a prompt in one run: bounds how long a long prompt can hold up everyone else's next token. */
export const MAX_CHUNK = 128
/** A shorter part costs as much as this many tokens. */
export const MIN_CHUNK = 8

/** Tokens to take next of `remaining` ones, at most about `budget`. */
export function nextChunk(remaining: number, budget: number): number {
  const most = Math.max(2, Math.min(MAX_CHUNK, Math.floor(budget)))
  if (remaining <= most) return remaining
  if (remaining - most !== 1) return most
  return most > 2 ? most - 1 : most + 1
}

/** Learns how long runs take, and says how much of a prompt fits beside running answers. */
export interface ChunkPacer {
  decoded(ms: number): void
  prefilled(tokens: number, ms: number): void
  /** Tokens whose run takes about as long as a step of the running answers, so that those at most halve their speed. */
  budget(): number
}

export function createChunkPacer(): ChunkPacer {
  let stepMs: number | undefined
  let tokenMs: number | undefined
  const blend = (old: number | undefined, value: number): number =>
    old === undefined ? value : old * 0.8 + value * 0.2
  return {
    decoded(ms) {
      stepMs = blend(stepMs, ms)
    },
    prefilled(tokens, ms) {
      tokenMs = blend(tokenMs, ms / tokens)
    },
    budget() {
      if (stepMs === undefined || tokenMs === undefined || tokenMs === 0) return MAX_CHUNK / 4
      return Math.max(MIN_CHUNK, Math.min(MAX_CHUNK, stepMs / tokenMs))
    },
  }
}
