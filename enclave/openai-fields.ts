/**
 * What the requests of OpenAI's interface have in common: how a body is read, the sampling fields, and how a wrong field is
 * named without quoting it.
 */
import * as v from 'valibot'
import { type Bytes, fromUtf8 } from '../verifier/protocol/bytes.js'
import { OpenAIError } from './openai-error.js'

/** How to generate, with every default filled in: alike for chats and completions. */
export interface SamplingFields {
  readonly stream: boolean
  readonly includeUsage: boolean
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
}

const MAX_CHOICES = 8
/** Lists and objects inside each other in JSON that comes from a client: what walks them goes that deep into the stack. */
export const MAX_NESTING = 256
const MAX_STOP_CHARACTERS = 256

export const optional = <T extends v.GenericSchema>(
  schema: T,
): v.OptionalSchema<v.NullableSchema<T, undefined>, undefined> => v.optional(v.nullable(schema))
const between = (min: number, max: number): v.GenericSchema<number> =>
  v.pipe(v.number(), v.minValue(min), v.maxValue(max))
export const integer = (min: number, max: number = Number.MAX_SAFE_INTEGER): v.GenericSchema<number> =>
  v.pipe(v.number(), v.safeInteger(), v.minValue(min), v.maxValue(max))

/** Any object, which a list is not. Its members have not been looked at. */
export const anyObject: v.GenericSchema<Record<string, unknown>> = v.custom(isRecord, 'an object')

const stopString = v.pipe(v.string(), v.minLength(1), v.maxLength(MAX_STOP_CHARACTERS))

/** For the entries of a schema. */
export const samplingFields = {
  stream: optional(v.boolean()),
  stream_options: optional(v.pipe(anyObject, v.object({ include_usage: optional(v.boolean()) }))),
  temperature: optional(between(0, 2)),
  top_p: optional(v.pipe(v.number(), v.gtValue(0), v.maxValue(1))),
  top_k: optional(integer(0)),
  min_p: optional(between(0, 1)),
  presence_penalty: optional(between(-2, 2)),
  frequency_penalty: optional(between(-2, 2)),
  stop: optional(v.union([stopString, v.pipe(v.array(stopString), v.maxLength(4))])),
  seed: optional(integer(Number.MIN_SAFE_INTEGER)),
  n: optional(integer(1, MAX_CHOICES)),
}

const samplingSchema = v.object(samplingFields)

export function readSampling(request: v.InferOutput<typeof samplingSchema>): SamplingFields {
  const stop = request.stop ?? []
  return {
    stream: request.stream ?? false,
    includeUsage: request.stream_options?.include_usage ?? false,
    temperature: request.temperature ?? 1,
    topP: request.top_p ?? 1,
    topK: request.top_k ?? 0,
    minP: request.min_p ?? 0,
    presencePenalty: request.presence_penalty ?? 0,
    frequencyPenalty: request.frequency_penalty ?? 0,
    stop: typeof stop === 'string' ? [stop] : stop,
    seed: request.seed ?? undefined,
    n: request.n ?? 1,
  }
}

/** Known fields nothing is done with, and the values that ask for nothing. */
export type UnsupportedFields = ReadonlyMap<string, (value: unknown) => boolean>

/** @throws OpenAIError 400, naming the field and what was expected of it, and quoting nothing. */
export function parseFields<T extends v.GenericSchema>(
  body: Bytes,
  schema: T,
  unsupported: UnsupportedFields,
): v.InferOutput<T> {
  const json = parseJson(body)
  for (const [name, harmless] of unsupported) {
    const value = Object.hasOwn(json, name) ? json[name] : undefined
    if (value !== undefined && value !== null && !harmless(value)) {
      throw new OpenAIError(400, 'unsupported_parameter', `${name}: this worker does not support that`, name)
    }
  }
  const result = v.safeParse(schema, json, { abortEarly: true })
  if (!result.success) throw invalid(result.issues[0])
  return result.output
}

function parseJson(body: Bytes): Record<string, unknown> {
  let json: unknown
  let flat: boolean
  try {
    const text = fromUtf8(body)
    flat = isFlat(text)
    json = JSON.parse(text)
  } catch {
    // The parser's own message quotes the input.
    throw new OpenAIError(400, 'invalid_json', 'the request body is not JSON')
  }
  if (!flat) {
    const message = `the request body has more than ${MAX_NESTING} lists and objects inside each other`
    throw new OpenAIError(400, 'invalid_json', message)
  }
  if (!isRecord(json)) throw new OpenAIError(400, 'invalid_json', 'the request body is not a JSON object')
  return json
}

/** Whether a text that may be JSON has no more than MAX_NESTING lists and objects inside each other. */
export function isFlat(text: string): boolean {
  let depth = 0
  let quoted = false
  for (let i = 0; i < text.length; i++) {
    const character = text[i]
    if (character === '"') quoted = !quoted
    else if (quoted) i += character === '\\' ? 1 : 0
    else if (character === '[' || character === '{') depth++
    else if (character === ']' || character === '}') depth--
    if (depth > MAX_NESTING) return false
  }
  return true
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
  return { keys: own, expected: expectedBy(issue) }
}

/** The library's own words for these are signs, or none at all. */
function expectedBy({ type, requirement, expected, input, message }: v.BaseIssue<unknown>): string {
  const units = typeof input === 'string' ? 'characters' : 'entries'
  const unit = typeof input === 'string' ? 'character' : 'entry'
  switch (type) {
    case 'min_length':
      return `at least ${requirement} ${requirement === 1 ? unit : units}`
    case 'max_length':
      return `at most ${requirement} ${units}`
    case 'min_value':
      return `a number of at least ${requirement}`
    case 'max_value':
      return `a number of at most ${requirement}`
    case 'gt_value':
      return `a number above ${requirement}`
    case 'safe_integer':
      return 'an integer'
    case 'regex':
      return `a text that matches ${requirement}`
    // These say it in our words.
    case 'check':
    case 'custom':
      return message
    default:
      return expected ?? 'another value'
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

export function isEmpty(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0
}
