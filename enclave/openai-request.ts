/**
 * `POST /v1/chat/completions`, the request: OpenAI's field names, checked strictly where they are known.
 *
 * Fields unknown here are ignored, as OpenAI's own servers do, but a known field asking for something this worker does
 * not do is refused: an answer must never silently be another one than was asked for. Refused: tools, images and audio,
 * n above 8, response formats other than text, logit bias, storage, which nothing here offers, and chat
 * templates, which come from the measured package alone (PROTOCOL.md P-8.2).
 */
import * as v from 'valibot'
import { type Bytes, fromUtf8 } from '../verifier/protocol/bytes.js'
import type { ChatMessage } from './inference/engine.js'
import { OpenAIError } from './openai-error.js'

/** A checked request with every default filled in. */
export interface ChatRequest {
  readonly model: string
  readonly messages: readonly ChatMessage[]
  readonly stream: boolean
  readonly includeUsage: boolean
  /** Absent: as much as fits. */
  readonly maxTokens: number | undefined
  readonly temperature: number
  readonly topP: number
  readonly topK: number
  readonly minP: number
  readonly presencePenalty: number
  readonly frequencyPenalty: number
  readonly stop: readonly string[]
  readonly seed: number | undefined
  /** Answers to compute. */
  readonly n: number
  /** Likeliest tokens to name with each token; undefined: no log-probabilities at all. */
  readonly topLogprobs: number | undefined
}

const MAX_MESSAGES = 1024
const MAX_CHOICES = 8
const MAX_STOP_CHARACTERS = 256

const optional = <T extends v.GenericSchema>(schema: T): v.OptionalSchema<v.NullableSchema<T, undefined>, undefined> =>
  v.optional(v.nullable(schema))
const between = (min: number, max: number): v.GenericSchema<number> =>
  v.pipe(v.number(), v.minValue(min), v.maxValue(max))
const integer = (min: number, max: number = Number.MAX_SAFE_INTEGER): v.GenericSchema<number> =>
  v.pipe(v.number(), v.safeInteger(), v.minValue(min), v.maxValue(max))

const stopString = v.pipe(v.string(), v.minLength(1), v.maxLength(MAX_STOP_CHARACTERS))
const content = v.union([v.string(), v.array(v.object({ type: v.literal('text'), text: v.string() }))])
const message = v.variant('role', [
  v.object({ role: v.picklist(['system', 'developer', 'user']), content }),
  v.object({ role: v.literal('assistant'), content: optional(content) }),
])

const schema = v.object({
  model: v.string(),
  messages: v.pipe(v.array(message), v.minLength(1), v.maxLength(MAX_MESSAGES)),
  stream: optional(v.boolean()),
  stream_options: optional(v.object({ include_usage: optional(v.boolean()) })),
  max_tokens: optional(integer(1)),
  max_completion_tokens: optional(integer(1)),
  temperature: optional(between(0, 2)),
  top_p: optional(v.pipe(v.number(), v.gtValue(0), v.maxValue(1))),
  top_k: optional(integer(0)),
  min_p: optional(between(0, 1)),
  presence_penalty: optional(between(-2, 2)),
  frequency_penalty: optional(between(-2, 2)),
  stop: optional(v.union([stopString, v.pipe(v.array(stopString), v.maxLength(4))])),
  seed: optional(integer(Number.MIN_SAFE_INTEGER)),
  n: optional(integer(1, MAX_CHOICES)),
  logprobs: optional(v.boolean()),
  top_logprobs: optional(integer(0, 20)),
})

/** Known fields this worker does nothing with, and the values that ask for nothing. */
const UNSUPPORTED: ReadonlyMap<string, (value: unknown) => boolean> = new Map([
  ['tools', isEmpty],
  ['tool_choice', (value) => value === 'none' || value === 'auto'],
  ['functions', isEmpty],
  ['function_call', (value) => value === 'none' || value === 'auto'],
  ['response_format', (value) => isRecord(value) && value['type'] === 'text'],
  ['modalities', (value) => Array.isArray(value) && value.every((item) => item === 'text')],
  ['audio', () => false],
  ['logit_bias', isEmpty],
  ['store', (value) => value === false],
  ['chat_template', () => false],
  ['chat_template_kwargs', isEmpty],
  ['web_search_options', () => false],
])

/** @throws OpenAIError 400, naming the field and what was expected of it, and quoting nothing. */
export function parseChatRequest(body: Bytes): ChatRequest {
  const json = parseJson(body)
  for (const [name, harmless] of UNSUPPORTED) {
    const value = Object.hasOwn(json, name) ? json[name] : undefined
    if (value !== undefined && value !== null && !harmless(value)) {
      throw new OpenAIError(400, 'unsupported_parameter', `${name}: this worker does not support that`, name)
    }
  }
  const result = v.safeParse(schema, json, { abortEarly: true })
  if (!result.success) throw invalid(result.issues[0])
  const request = result.output
  const stop = request.stop ?? []
  const logprobs = request.logprobs ?? false
  if ((request.top_logprobs ?? 0) > 0 && !logprobs) {
    throw new OpenAIError(400, 'invalid_value', 'top_logprobs: expected logprobs to be true with it', 'top_logprobs')
  }
  return {
    model: request.model,
    messages: request.messages.map(({ role, content }) => ({
      role: role === 'developer' ? 'system' : role,
      content: textOf(content ?? ''),
    })),
    stream: request.stream ?? false,
    includeUsage: request.stream_options?.include_usage ?? false,
    maxTokens: request.max_completion_tokens ?? request.max_tokens ?? undefined,
    temperature: request.temperature ?? 1,
    topP: request.top_p ?? 1,
    topK: request.top_k ?? 0,
    minP: request.min_p ?? 0,
    presencePenalty: request.presence_penalty ?? 0,
    frequencyPenalty: request.frequency_penalty ?? 0,
    stop: typeof stop === 'string' ? [stop] : stop,
    seed: request.seed ?? undefined,
    n: request.n ?? 1,
    topLogprobs: logprobs ? (request.top_logprobs ?? 0) : undefined,
  }
}

function parseJson(body: Bytes): Record<string, unknown> {
  let json: unknown
  try {
    json = JSON.parse(fromUtf8(body))
  } catch {
    // The parser's own message quotes the input.
    throw new OpenAIError(400, 'invalid_json', 'the request body is not JSON')
  }
  if (!isRecord(json)) throw new OpenAIError(400, 'invalid_json', 'the request body is not a JSON object')
  return json
}

/** Only the schema's own words go into the message: an issue's `received` and `input` are what the client sent. */
function invalid(issue: v.BaseIssue<unknown>): OpenAIError {
  const { keys, expected } = deepest(issue)
  const param = keys.reduce<string>(
    (name, key) => (typeof key === 'number' ? `${name}[${key}]` : name === '' ? key : `${name}.${key}`),
    '',
  )
  return new OpenAIError(400, 'invalid_value', `${param}: expected ${expected}`, param)
}

/** Of the ways in which an alternative failed, the one that got furthest is the one that was meant. */
function deepest(issue: v.BaseIssue<unknown>): { keys: readonly (string | number)[]; expected: string } {
  const own = (issue.path ?? []).map(({ key }) => (typeof key === 'number' ? key : String(key)))
  const nested = (issue.issues ?? []).map(deepest).sort((a, b) => b.keys.length - a.keys.length)[0]
  if (nested !== undefined && nested.keys.length > 0) {
    return { keys: [...own, ...nested.keys], expected: nested.expected }
  }
  return { keys: own, expected: issue.expected ?? 'another value' }
}

function textOf(content: string | readonly { readonly text: string }[]): string {
  return typeof content === 'string' ? content : content.map(({ text }) => text).join('')
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isEmpty(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0
}
