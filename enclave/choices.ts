/** The answers to one request side by side. */
import type { Engine, EngineEvent, FinishReason, GenerateOptions, TokenEvent } from './inference/engine.js'

/** One of the answers to a request: `n` to each of its prompts. */
export interface Choice {
  readonly index: number
  /** Which of the prompts it answers. */
  readonly prompt: number
  readonly events: AsyncIterable<EngineEvent>
  completionTokens: number
  /** Tokens of its prompt that were not computed for it. */
  cachedTokens: number
  /** Tokens that were guessed, and how many of them came. */
  predicted: { readonly accepted: number; readonly rejected: number }
  finishReason: FinishReason | undefined
}

const NOTHING_PREDICTED = { accepted: 0, rejected: 0 } as const

export interface ChoiceToken {
  readonly choice: Choice
  readonly event: TokenEvent
}

/** All choices or none: when one is refused, those before it give back their places. @throws whatever the engine throws at once. */
export function startChoices(
  engine: Engine,
  prompts: readonly (readonly number[])[],
  options: GenerateOptions,
  n: number,
): readonly Choice[] {
  const group = new AbortController()
  const signal = options.signal === undefined ? group.signal : AbortSignal.any([options.signal, group.signal])
  try {
    return Array.from({ length: prompts.length * n }, (_, index) => {
      const own = { ...options, signal, seed: seedOf(options.seed, index) }
      const prompt = Math.floor(index / n)
      const events = engine.generate(prompts[prompt] ?? [], own)
      return {
        index,
        prompt,
        events,
        completionTokens: 0,
        cachedTokens: 0,
        predicted: NOTHING_PREDICTED,
        finishReason: undefined,
      }
    })
  } catch (error) {
    group.abort()
    throw error
  }
}

/**
 * The tokens of all choices as they come; afterwards each choice says how it ended. Leaving the loop early ends them all.
 * @throws the first error of any of them.
 */
export async function* tokensOf(choices: readonly Choice[]): AsyncGenerator<ChoiceToken> {
  const running = new Map(
    choices.map((choice) => {
      const iterator = choice.events[Symbol.asyncIterator]()
      const next = (): Promise<Arrival> => iterator.next().then((result) => ({ choice, result }))
      return [choice, { iterator, next, pending: next() }]
    }),
  )
  try {
    while (running.size > 0) {
      const { choice, result } = await Promise.race([...running.values()].map(({ pending }) => pending))
      const source = running.get(choice)
      if (result.done === true || source === undefined) {
        running.delete(choice)
        continue
      }
      source.pending = source.next()
      if (result.value.type === 'token') {
        choice.completionTokens += 1
        yield { choice, event: result.value }
      } else {
        choice.completionTokens = result.value.usage.completionTokens
        choice.cachedTokens = result.value.usage.cachedTokens ?? 0
        choice.predicted = result.value.usage.predicted ?? NOTHING_PREDICTED
        choice.finishReason = result.value.finishReason
      }
    }
  } finally {
    for (const { iterator, pending } of running.values()) {
      // Nobody waits for what is still on its way, nor for its failure.
      pending.catch(() => undefined)
      void iterator.return?.().catch(() => undefined)
    }
  }
}

interface Arrival {
  readonly choice: Choice
  readonly result: IteratorResult<EngineEvent>
}

/** The seed of a choice: the request's own for the first, its neighbours for the others. */
function seedOf(seed: number, index: number): number {
  return Number.isSafeInteger(seed + index) ? seed + index : seed - index
}
