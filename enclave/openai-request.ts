/**
 * `POST /v1/chat/completions`, the request: OpenAI's field names, checked strictly where they are known.
 *
 * Fields unknown here are ignored, as OpenAI's own servers do, but a known field asking for something this worker does
 * not do is refused: an answer must never silently be another one than was asked for. Refused: images and audio, n above 8,
 * functions of the older kind, logit bias, storage, which nothing here offers, and chat templates, which come from the
 * measured package alone (PROTOCOL.md P-8.2).
 */
import * as v from 'valibot'
import { type Bytes, fromUtf8 } from '../verifier/protocol/bytes.js'
import type { ChatMessage } from './inference/engine.js'
import { OpenAIError } from './openai-error.js'
import {
  integer,
  isEmpty,
  isFlat,
  MAX_NESTING,
  optional,
  parseFields,
  readSampling,
  type SamplingFields,
  samplingFields,
  type UnsupportedFields,
} from './openai-fields.js'
import { type Constraint, constraintOf, expectExactSchemas, toolFields } from './openai-tools.js'

/** A checked request with every default filled in. */
export interface ChatRequest extends SamplingFields {
  readonly model: string
  readonly messages: readonly ChatMessage[]
  /** Absent: as much as fits. */
  readonly maxTokens: number | undefined
  /** Likeliest tokens to name with each token; undefined: no log-probabilities at all. */
  readonly topLogprobs: number | undefined
  /** What the answer may be like. */
  readonly prediction: string | undefined
  /** Tools, and what the answer must follow. */
  readonly constraint: Constraint
}

const MAX_MESSAGES = 1024
const MAX_CALLS = 128

const FLAT = `JSON with at most ${MAX_NESTING} lists and objects inside each other`

const content = v.union([v.string(), v.array(v.object({ type: v.literal('text'), text: v.string() }))])
const call = v.object({
  id: v.pipe(v.string(), v.maxLength(256)),
  type: v.literal('function'),
  function: v.object({
    name: v.pipe(v.string(), v.maxLength(64)),
    arguments: v.pipe(v.string(), v.check(isFlat, FLAT)),
  }),
})
const message = v.variant('role', [
  v.object({ role: v.picklist(['system', 'developer', 'user']), content }),
  v.object({
    role: v.literal('assistant'),
    content: optional(content),
    tool_calls: optional(v.pipe(v.array(call), v.maxLength(MAX_CALLS))),
  }),
  v.object({ role: v.literal('tool'), content, tool_call_id: v.pipe(v.string(), v.maxLength(256)) }),
])

const schema = v.object({
  model: v.string(),
  messages: v.pipe(v.array(message), v.minLength(1), v.maxLength(MAX_MESSAGES)),
  max_tokens: optional(integer(1)),
  max_completion_tokens: optional(integer(1)),
  logprobs: optional(v.boolean()),
  top_logprobs: optional(integer(0, 20)),
  prediction: optional(v.object({ type: v.literal('content'), content })),
  ...samplingFields,
  ...toolFields,
})

const UNSUPPORTED: UnsupportedFields = new Map([
  ['functions', isEmpty],
  ['function_call', (value) => value === 'none' || value === 'auto'],
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
  const request = parseFields(body, schema, UNSUPPORTED)
  const logprobs = request.logprobs ?? false
  if ((request.top_logprobs ?? 0) > 0 && !logprobs) {
    throw new OpenAIError(400, 'invalid_value', 'top_logprobs: expected logprobs to be true with it', 'top_logprobs')
  }
  return {
    ...readSampling(request),
    model: request.model,
    messages: request.messages.map(readMessage),
    maxTokens: request.max_completion_tokens ?? request.max_tokens ?? undefined,
    topLogprobs: logprobs ? (request.top_logprobs ?? 0) : undefined,
    prediction: request.prediction ? textOf(request.prediction.content) : undefined,
    constraint: exactConstraintOf(body, request),
  }
}

function exactConstraintOf(body: Bytes, request: v.InferOutput<typeof schema>): Constraint {
  const schemas = request.response_format?.type === 'json_schema' || (request.tools ?? []).length > 0
  if (schemas) expectExactSchemas(fromUtf8(body))
  return constraintOf(request)
}

function readMessage(message: v.InferOutput<typeof schema>['messages'][number]): ChatMessage {
  const text = textOf(message.content ?? '')
  switch (message.role) {
    case 'tool':
      return { role: 'tool', content: text, toolCallId: message.tool_call_id }
    case 'assistant': {
      const calls = message.tool_calls ?? []
      const toolCalls = calls.map(({ id, function: called }) => ({
        id,
        name: called.name,
        arguments: called.arguments,
      }))
      return { role: 'assistant', content: text, ...(toolCalls.length === 0 ? {} : { toolCalls }) }
    }
    default:
      return { role: message.role === 'developer' ? 'system' : message.role, content: text }
  }
}

function textOf(content: string | readonly { readonly text: string }[]): string {
  return typeof content === 'string' ? content : content.map(({ text }) => text).join('')
}
