/**
 * How prompts are cut, so that the cutting never shows in the answer.
 *
 * The runtime computes attention in blocks of rows, twice the size of a head. A block of one row goes through other kernels
 * than a block of more, with other roundings: seen with 65 rows at a head size of 32, with 129 at 64, and with one token
 * at any size. Blocks are multiples of 16 rows, or graph and machine are not called batch-invariant (`attention-order.ts`), so
 * no part has one token more than a multiple of 16, unless the prompt has a single one.
 */
/** Most tokens of a prompt in one run. */
export const MAX_CHUNK = 128

/** Tokens to take next of `remaining` ones, at most about `budget`. */
export function nextChunk(remaining: number, budget: number): number {
  const most = Math.min(remaining, MAX_CHUNK, Math.floor(budget))
  for (let count = most; count >= 2; count--) {
    if (count % BLOCK_STEP !== 1 && remaining - count !== 1) return count
  }
  return Math.min(remaining, 3)
}

/** Rows of a block are a multiple of this. */
export const BLOCK_STEP = 16

/** A part of a prompt that was computed, and how long its run took. */
export interface Part {
  readonly tokens: number
  readonly ms: number
}

/** Says how much of a prompt fits between two steps of the running answers, from how long runs took. */
export interface ChunkPacer {
  decoded(ms: number): void
  /** A prompt's first part. */
  began(part: Part): void
  /** What parts may take between two steps, in milliseconds; undefined before the first step. */
  budgetMs(): number | undefined
  /** Tokens to take next of a prompt of which `last` was computed. */
  next(last: Part | undefined): number
}

/**
 * A part may take this many steps of the running answers: what they notice is then a little more than two steps between tokens,
 * and runs that take longer than was to be expected stay within two and a half. Less would compute long prompts in ever
 * smaller parts, each of which reads all weights and the whole cache of its prompt.
 */
const STEPS_A_PART = 1.2
const FIRST_CHUNK = 16
const MIN_CHUNK = 2
/** Bounds of how much larger or smaller than the last a part is: one slow run says little. */
const [MOST_GROWTH, MOST_SHRINKING] = [1.25, 0.25]

export function createChunkPacer(): ChunkPacer {
  let stepMs: number | undefined
  let beginning: Part | undefined
  const budgetMs = (): number | undefined => (stepMs === undefined ? undefined : stepMs * STEPS_A_PART)
  return {
    decoded(ms) {
      stepMs = stepMs === undefined ? ms : stepMs * 0.8 + ms * 0.2
    },
    began(part) {
      // A short prompt says nothing of what a longer part would take.
      if (part.tokens >= FIRST_CHUNK || beginning === undefined) beginning = part
    },
    budgetMs,
    next(last = beginning) {
      const most = budgetMs()
      if (last === undefined || most === undefined || last.ms <= 0) return FIRST_CHUNK
      // Prompts get dearer with each part, because all that came before is read again.
      const change = Math.min(MOST_GROWTH, Math.max(MOST_SHRINKING, most / last.ms))
      const tokens = change > 1 ? Math.ceil(last.tokens * change) : Math.floor(last.tokens * change)
      return Math.max(MIN_CHUNK, Math.min(MAX_CHUNK, tokens))
    },
  }
}
