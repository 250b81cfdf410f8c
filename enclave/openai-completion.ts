/**
 * `POST /v1/completions`, the request: OpenAI's older interface, where a text or its tokens go on. Read as strictly as
 * chats are. Refused: echo, suffix, best_of beyond n, logit bias, more than 8 answers altogether.
 */
import * as v from 'valibot'
import type { Bytes } from '../verifier/protocol/bytes.js'
import { OpenAIError } from './openai-error.js'
import {
  integer,
  isEmpty,
  optional,
  parseFields,
  readSampling,
  type SamplingFields,
  samplingFields,
  type UnsupportedFields,
} from './openai-fields.js'

export interface CompletionRequest extends SamplingFields {
  readonly model: string
  /** Texts, or tokens. */
  readonly prompts: readonly (string | readonly number[])[]
  readonly maxTokens: number
  /** Likeliest tokens to name with each token; undefined: no log-probabilities at all. */
  readonly topLogprobs: number | undefined
}

const MAX_ANSWERS = 8
const MAX_LOGPROBS = 5
/** OpenAI's own default. */
const DEFAULT_MAX_TOKENS = 16

export const tokenList = v.pipe(v.array(integer(0)), v.minLength(1))

const schema = v.object({
  model: v.string(),
  prompt: v.union([v.string(), tokenList, v.pipe(v.array(v.union([v.string(), tokenList])), v.minLength(1))]),
  max_tokens: optional(integer(1)),
  logprobs: optional(integer(0, MAX_LOGPROBS)),
  best_of: optional(integer(1)),
  ...samplingFields,
})

const UNSUPPORTED: UnsupportedFields = new Map([
  ['echo', (value) => value === false],
  ['suffix', (value) => value === ''],
  ['logit_bias', isEmpty],
])

/** @throws OpenAIError 400, naming the field and what was expected of it, and quoting nothing. */
export function parseCompletionRequest(body: Bytes): CompletionRequest {
  const request = parseFields(body, schema, UNSUPPORTED)
  const sampling = readSampling(request)
  const prompts = promptsOf(request.prompt)
  if (prompts.length * sampling.n > MAX_ANSWERS) {
    throw new OpenAIError(400, 'invalid_value', `prompt: expected at most ${MAX_ANSWERS} answers altogether`, 'prompt')
  }
  if ((request.best_of ?? sampling.n) !== sampling.n) {
    throw new OpenAIError(400, 'unsupported_parameter', 'best_of: expected no more than n', 'best_of')
  }
  return {
    ...sampling,
    model: request.model,
    prompts,
    maxTokens: request.max_tokens ?? DEFAULT_MAX_TOKENS,
    topLogprobs: request.logprobs ?? undefined,
  }
}

/** One prompt or several: a list of numbers is one. */
export function promptsOf(
  prompt: string | readonly number[] | readonly (string | readonly number[])[],
): readonly (string | readonly number[])[] {
  if (typeof prompt === 'string') return [prompt]
  return isTokens(prompt) ? [prompt] : prompt
}

function isTokens(list: readonly number[] | readonly (string | readonly number[])[]): list is readonly number[] {
  return typeof list[0] === 'number'
}
