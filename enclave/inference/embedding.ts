/** One embedding: a sequence for the scheduler whose prompt is all there is to it. */
import type { EmbedOptions } from './engine.js'
import { EngineError } from './errors.js'
import type { Scheduler } from './scheduler.js'

/** @throws EngineError `overloaded`, `aborted`, `closed`, `engine.failed`. */
export function embedText(
  scheduler: Scheduler,
  promptTokens: readonly number[],
  { tenant, signal }: EmbedOptions,
): Promise<Float32Array> {
  return new Promise((resolve, reject) => {
    scheduler.submit({
      promptTokens,
      embed: true,
      tenant,
      signal,
      wanted: () => true,
      failed: reject,
      next(state) {
        resolve(unit(state))
        return undefined
      },
    })
  })
}

/** The same direction at length 1. */
function unit(state: Float32Array): Float32Array {
  const length = Math.hypot(...state)
  if (!(Number.isFinite(length) && length > 0)) {
    throw new EngineError('engine.failed', 'the model returned a state that is no direction')
  }
  return state.map((value) => value / length)
}
