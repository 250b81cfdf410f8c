/**
 * What a server streams, read strictly into the events of an engine. Chats and plain completions differ in where the text
 * and the log-probabilities are.
 */
import { createParser } from 'eventsource-parser'
import * as v from 'valibot'
import type { CallPiece, EngineEvent, FinishReason, TokenEvent, TokenLogprob } from '../engine.js'
import { EngineError } from '../errors.js'

const MAX_EVENT_CHARACTERS = 4 * 1024 * 1024

const maybe = <T extends v.GenericSchema>(schema: T): v.OptionalSchema<v.NullableSchema<T, undefined>, undefined> =>
  v.optional(v.nullable(schema))
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0))
const usage = maybe(v.object({ prompt_tokens: count, completion_tokens: maybe(count) }))
const finish = maybe(v.picklist(['stop', 'length', 'tool_calls', 'function_call', 'eos', 'abort', 'content_filter']))
const described = v.object({ token: v.string(), logprob: v.number() })

const content = v.object({
  content: maybe(v.array(v.object({ ...described.entries, top_logprobs: maybe(v.array(described)) }))),
})

const chatChunk = v.object({
  choices: v.array(
    v.object({
      delta: maybe(
        v.object({
          content: maybe(v.string()),
          tool_calls: maybe(
            v.array(
              v.object({
                index: count,
                function: maybe(v.object({ name: maybe(v.string()), arguments: maybe(v.string()) })),
              }),
            ),
          ),
        }),
      ),
      finish_reason: finish,
      logprobs: maybe(content),
    }),
  ),
  usage,
})

/** As OpenAI has it for completions. */
const columns = v.object({
  tokens: v.array(v.string()),
  token_logprobs: v.array(v.nullable(v.number())),
  top_logprobs: maybe(v.array(v.nullable(v.record(v.string(), v.number())))),
})

const textChunk = v.object({
  choices: v.array(
    v.object({
      text: v.string(),
      finish_reason: finish,
      // llama.cpp has the same here as in chats.
      logprobs: maybe(v.union([columns, v.strictObject(content.entries)])),
    }),
  ),
  usage,
})

interface Piece {
  readonly text: string
  readonly calls: readonly CallPiece[]
  readonly logprobs: readonly NonNullable<TokenEvent['logprobs']>[]
  readonly finishReason: FinishReason | undefined
}

/** The events of a stream, `done` last. @throws EngineError `engine.failed` on whatever is not such a stream, or ends early. */
export async function* readStream(
  body: AsyncIterable<Uint8Array>,
  kind: 'chat' | 'text',
  promptTokens: number,
): AsyncGenerator<EngineEvent> {
  let finishReason: FinishReason | undefined
  let used: { promptTokens: number; completionTokens: number } | undefined
  let events = 0
  for await (const data of eventsOf(body)) {
    const json = parseJson(data)
    const { pieces, usage: reported } = kind === 'chat' ? readChat(json) : readText(json)
    if (reported !== undefined)
      used = { promptTokens: reported.prompt_tokens, completionTokens: reported.completion_tokens ?? 0 }
    for (const piece of pieces) {
      for (const event of tokensOf(piece)) {
        events += 1
        yield event
      }
      finishReason = piece.finishReason ?? finishReason
    }
  }
  if (finishReason === undefined) throw new EngineError('engine.failed', 'the server ended before the answer did')
  yield { type: 'done', finishReason, usage: used ?? { promptTokens, completionTokens: events } }
}

/** One event for each token that has a log-probability, the text with the last; otherwise one for each piece. */
function tokensOf({ text, calls, logprobs }: Piece): readonly TokenEvent[] {
  if (logprobs.length === 0 && text === '' && calls.length === 0) return []
  const last = Math.max(0, logprobs.length - 1)
  return Array.from({ length: last + 1 }, (_, i): TokenEvent => {
    const own = logprobs[i]
    return {
      type: 'token',
      tokenId: -1,
      text: i === last ? text : '',
      ...(own === undefined ? {} : { logprobs: own }),
      ...(i === last && calls.length > 0 ? { calls } : {}),
    }
  })
}

function readChat(json: unknown) {
  const chunk = parsed(chatChunk, json)
  return {
    usage: chunk.usage ?? undefined,
    pieces: chunk.choices.map(
      (choice): Piece => ({
        text: choice.delta?.content ?? '',
        calls: (choice.delta?.tool_calls ?? []).map(({ index, function: called }) => ({
          index,
          ...(called?.name ? { name: called.name } : {}),
          arguments: called?.arguments ?? '',
        })),
        logprobs: ofContent(choice.logprobs),
        finishReason: finishReasonOf(choice.finish_reason ?? undefined),
      }),
    ),
  }
}

function readText(json: unknown) {
  const chunk = parsed(textChunk, json)
  return {
    usage: chunk.usage ?? undefined,
    pieces: chunk.choices.map(
      (choice): Piece => ({
        text: choice.text,
        calls: [],
        logprobs:
          choice.logprobs && 'tokens' in choice.logprobs ? ofColumns(choice.logprobs) : ofContent(choice.logprobs),
        finishReason: finishReasonOf(choice.finish_reason ?? undefined),
      }),
    ),
  }
}

function ofContent(logprobs: v.InferOutput<typeof content> | null | undefined): Piece['logprobs'] {
  return (logprobs?.content ?? []).map(({ top_logprobs: top, ...chosen }) => ({
    chosen: logprob(chosen),
    top: (top ?? []).map(logprob),
  }))
}

function ofColumns({
  tokens,
  token_logprobs: chosen,
  top_logprobs: top,
}: v.InferOutput<typeof columns>): Piece['logprobs'] {
  return tokens.map((token, i) => ({
    chosen: logprob({ token, logprob: chosen[i] ?? 0 }),
    top: Object.entries(top?.[i] ?? {}).map(([other, value]) => logprob({ token: other, logprob: value })),
  }))
}

function logprob({ token, logprob: value }: { token: string; logprob: number }): TokenLogprob {
  return { tokenId: -1, token, logprob: value }
}

/** @throws EngineError `engine.failed` for an answer that was not finished but broken off. */
function finishReasonOf(reason: string | undefined): FinishReason | undefined {
  if (reason === undefined) return undefined
  if (reason === 'stop' || reason === 'eos') return 'stop'
  if (reason === 'length' || reason === 'tool_calls') return reason
  throw new EngineError('engine.failed', 'the server broke off the answer')
}

function parsed<T extends v.GenericSchema>(schema: T, json: unknown): v.InferOutput<T> {
  const result = v.safeParse(schema, json, { abortEarly: true })
  if (result.success) return result.output
  throw new EngineError('engine.failed', 'the server streams something else than was asked of it')
}

function parseJson(data: string): unknown {
  try {
    return JSON.parse(data)
  } catch {
    throw new EngineError('engine.failed', 'the server streams something else than JSON')
  }
}

/** The data of each event up to [DONE], which must come. */
async function* eventsOf(body: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const waiting: string[] = []
  const parser = createParser({ onEvent: ({ data }) => void waiting.push(data) })
  const decoder = new TextDecoder()
  let unfinished = 0
  for await (const bytes of body) {
    parser.feed(decoder.decode(bytes, { stream: true }))
    unfinished = waiting.length === 0 ? unfinished + bytes.length : 0
    if (unfinished > MAX_EVENT_CHARACTERS) throw new EngineError('engine.failed', 'the server says too much at once')
    for (let data = waiting.shift(); data !== undefined; data = waiting.shift()) {
      if (data === '[DONE]') return
      yield data
    }
  }
  throw new EngineError('engine.failed', 'the server ended before the answer did')
}
