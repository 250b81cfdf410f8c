/**
 * Ranges of the generation options, checked once before a request starts. Nothing is clamped: a value outside its
 * range is the caller's mistake.
 */
import type { GenerateOptions } from './engine.js'
import { EngineError } from './errors.js'

const MAX_STOP_STRINGS = 16
const MAX_STOP_LENGTH = 1024
const MAX_LOGPROBS = 20

/** @throws EngineError `options.invalid`, naming the option. */
export function checkOptions(options: GenerateOptions): void {
  integer('maxTokens', options.maxTokens, 1, Number.MAX_SAFE_INTEGER)
  number('temperature', options.temperature, 0, 2)
  number('topP', options.topP, Number.MIN_VALUE, 1)
  integer('topK', options.topK, 0, Number.MAX_SAFE_INTEGER)
  number('minP', options.minP, 0, 1)
  integer('seed', options.seed, Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER)
  number('presencePenalty', options.presencePenalty, -2, 2)
  number('frequencyPenalty', options.frequencyPenalty, -2, 2)
  if (options.logprobs !== undefined) integer('logprobs', options.logprobs, 0, MAX_LOGPROBS)
  if (options.stop.length > MAX_STOP_STRINGS) throw invalid('stop', `at most ${MAX_STOP_STRINGS} strings`)
  for (const stop of options.stop) {
    if (typeof stop !== 'string' || stop.length === 0 || stop.length > MAX_STOP_LENGTH) {
      throw invalid('stop', `strings of 1 to ${MAX_STOP_LENGTH} characters`)
    }
  }
}

function number(name: string, value: number, least: number, most: number): void {
  if (!(typeof value === 'number' && value >= least && value <= most)) {
    throw invalid(name, least === Number.MIN_VALUE ? `above 0 and up to ${most}` : `${least} to ${most}`)
  }
}

function integer(name: string, value: number, least: number, most: number): void {
  if (!(Number.isSafeInteger(value) && value >= least && value <= most)) {
    throw invalid(name, `an integer from ${least} to ${most}`)
  }
}

function invalid(name: string, expected: string): EngineError {
  return new EngineError('options.invalid', `${name}: expected ${expected}`)
}
