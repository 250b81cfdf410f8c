/**
 * Load and latency: so many readers at once, each asking again as soon as it has its answer. What is measured is what a reader
 * sees: how long until the first token, and how long between tokens.
 */

/** What answers: an engine in this process, or a worker behind its sealed channel. */
export interface Target {
  /** For people: what was measured. */
  readonly title: string
  /** What the numbers cover, in one sentence. */
  readonly path: string
  /** Answers one question; `onToken` as each token arrives. @throws what the target throws when it does not answer. */
  ask(question: Question, onToken: () => void): Promise<void>
  /** Resident memory of what computes, in bytes; absent where it cannot be seen. */
  readonly memory?: () => number
  close(): Promise<void>
}

export interface Question {
  /** No two questions of a run have the same, so that nothing computed for one serves another. */
  readonly number: number
  readonly promptTokens: number
  readonly answerTokens: number
}

export interface LoadOptions {
  /** Readers at once, one level after the other. */
  readonly levels: readonly number[]
  /** Answers for each reader at each level. */
  readonly rounds: number
  readonly promptTokens: number
  readonly answerTokens: number
  /** Milliseconds, monotonic. */
  readonly monotonicMs: () => number
  readonly onLevel?: (level: LoadLevel) => void
}

export interface LoadLevel {
  readonly readers: number
  readonly answers: number
  readonly tokens: number
  /** Of all readers together. */
  readonly tokensPerSecond: number
  readonly firstTokenMs: Spread
  /** Undefined when no answer had two tokens. */
  readonly betweenTokensMs: Spread | undefined
  /** Bytes, the most there was between two answers. */
  readonly memoryBytes: number | undefined
}

export interface Spread {
  readonly p50: number
  readonly p99: number
}

/** @throws Error when a target answers without a single token. */
export async function measureLoad(target: Target, options: LoadOptions): Promise<readonly LoadLevel[]> {
  let number = 0
  const question = (): Question => ({ ...options, number: number++ })
  // Not counted: the first answer pays for what is made once.
  await target.ask(question(), () => undefined)
  const levels: LoadLevel[] = []
  for (const readers of options.levels) {
    const level = await measureLevel(target, readers, question, options)
    options.onLevel?.(level)
    levels.push(level)
  }
  return levels
}

async function measureLevel(
  target: Target,
  readers: number,
  question: () => Question,
  { rounds, monotonicMs }: LoadOptions,
): Promise<LoadLevel> {
  const firsts: number[] = []
  const gaps: number[] = []
  let tokens = 0
  let memoryBytes: number | undefined
  let failed = false
  const read = async (): Promise<void> => {
    for (let round = 0; round < rounds && !failed; round++) {
      const asked = monotonicMs()
      let last: number | undefined
      const onToken = (): void => {
        const now = monotonicMs()
        if (last === undefined) firsts.push(now - asked)
        else gaps.push(now - last)
        last = now
        tokens += 1
      }
      await target.ask(question(), onToken).catch((error: unknown) => {
        // What is asked from here on would be answered for nobody.
        failed = true
        throw error
      })
      if (target.memory !== undefined) memoryBytes = Math.max(memoryBytes ?? 0, target.memory())
    }
  }
  const started = monotonicMs()
  await Promise.all(Array.from({ length: readers }, read))
  const seconds = (monotonicMs() - started) / 1000
  const firstTokenMs = spread(firsts)
  if (firstTokenMs === undefined) throw new Error('no answer had a single token: nothing to measure')
  return {
    readers,
    answers: readers * rounds,
    tokens,
    tokensPerSecond: tokens / seconds,
    firstTokenMs,
    betweenTokensMs: spread(gaps),
    memoryBytes,
  }
}

/** The smallest values that at least half, and at least 99 of 100, do not exceed. */
export function spread(values: readonly number[]): Spread | undefined {
  if (values.length === 0) return undefined
  const sorted = [...values].sort((a, b) => a - b)
  const at = (share: number): number => sorted[Math.ceil(sorted.length * share) - 1] ?? 0
  return { p50: at(0.5), p99: at(0.99) }
}
