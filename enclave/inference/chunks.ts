/**
 * How prompts are cut, so that the cutting never shows in the answer.
 *
 * The runtime computes attention in blocks of rows, twice the size of a head. A block of one row goes through other kernels
 * than a block of more, with other roundings: seen with 65 rows at a head size of 32, with 129 at 64, and with one token
 * at any size. Blocks are multiples of 16 rows for every head size in use, so no part has one token more than a multiple
 * of 16, unless the prompt has a single one.
 */
/** Tokens of a prompt in one run: bounds how long a long prompt can hold up everyone else's next token. */
export const MAX_CHUNK = 128
/** A shorter part costs as much as this many tokens. */
export const MIN_CHUNK = 8

/** Tokens to take next of `remaining` ones, at most about `budget`. */
export function nextChunk(remaining: number, budget: number): number {
  const most = Math.min(remaining, MAX_CHUNK, Math.floor(budget))
  for (let count = most; count >= 2; count--) {
    if (count % BLOCK_STEP !== 1 && remaining - count !== 1) return count
  }
  return Math.min(remaining, 3)
}

const BLOCK_STEP = 16

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
      // Prompts get dearer as they get longer: bad news counts at once, good news slowly.
      tokenMs = tokenMs !== undefined && ms / tokens > tokenMs ? ms / tokens : blend(tokenMs, ms / tokens)
    },
    budget() {
      if (stepMs === undefined || tokenMs === undefined || tokenMs === 0) return MAX_CHUNK / 4
      return Math.max(MIN_CHUNK, Math.min(MAX_CHUNK, stepMs / tokenMs))
    },
  }
}
