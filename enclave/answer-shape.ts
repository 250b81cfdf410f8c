/**
 * The two shapes OpenAI has for an answer: the chat's, with messages and calls, and the older one of plain completions.
 * A shape belongs to one answer and remembers what its choices have said so far.
 */
import { toBase64Url, utf8 } from '../verifier/protocol/bytes.js'
import type { FinishReason, TokenEvent, TokenLogprob } from './inference/engine.js'

export interface AnswerShape {
  readonly idPrefix: string
  readonly object: string
  readonly chunkObject: string
  /** What a stream begins each choice with, before anything of it. */
  opening(index: number): object | undefined
  /** One piece of a choice in a stream; undefined when there is nothing to say. */
  piece(index: number, event: TokenEvent): object | undefined
  /** What a stream ends each choice with. */
  closing(index: number, finishReason: FinishReason): object
  /** A choice that was not streamed. */
  whole(index: number, events: readonly TokenEvent[], finishReason: FinishReason): object
}

export function chatShape(withLogprobs: boolean): AnswerShape {
  const ids = new Map<string, string>()
  const idOf = (choice: number, call: number): string => {
    const key = `${choice} ${call}`
    const known = ids.get(key)
    if (known !== undefined) return known
    const id = `call_${toBase64Url(crypto.getRandomValues(new Uint8Array(18)))}`
    ids.set(key, id)
    return id
  }
  const part = (index: number, delta: object, finishReason: FinishReason | null, entry?: object): object => ({
    index,
    delta,
    logprobs: entry === undefined ? null : { content: [entry], refusal: null },
    finish_reason: finishReason,
  })
  return {
    idPrefix: 'chatcmpl-',
    object: 'chat.completion',
    chunkObject: 'chat.completion.chunk',
    opening: (index) => part(index, { role: 'assistant', content: '' }, null),
    piece(index, event) {
      const entry = logprobEntry(event)
      const calls = event.calls?.map((call) => ({
        index: call.index,
        ...(call.name === undefined ? {} : { id: idOf(index, call.index), type: 'function' }),
        function: { ...(call.name === undefined ? {} : { name: call.name }), arguments: call.arguments },
      }))
      // Without text a token is only worth saying for its probability.
      if (event.text === '' && entry === undefined && calls === undefined) return undefined
      const delta = { ...(event.text === '' && calls !== undefined ? {} : { content: event.text }), tool_calls: calls }
      return part(index, delta, null, entry)
    },
    closing: (index, finishReason) => part(index, {}, finishReason),
    whole(index, events, finishReason) {
      const text = events.map((event) => event.text).join('')
      const calls: { id: string; type: 'function'; function: { name: string; arguments: string } }[] = []
      for (const piece of events.flatMap((event) => event.calls ?? [])) {
        const known = calls[piece.index]
        if (known !== undefined) known.function.arguments += piece.arguments
        else {
          const called = { name: piece.name ?? '', arguments: piece.arguments }
          calls[piece.index] = { id: idOf(index, piece.index), type: 'function', function: called }
        }
      }
      const content = text === '' && calls.length > 0 ? null : text
      return {
        index,
        message: { role: 'assistant', content, refusal: null, ...(calls.length > 0 ? { tool_calls: calls } : {}) },
        logprobs: withLogprobs ? { content: events.map((event) => logprobEntry(event) ?? {}), refusal: null } : null,
        finish_reason: finishReason,
      }
    },
  }
}

export function completionShape(withLogprobs: boolean): AnswerShape {
  /** Characters of each choice so far. */
  const offsets = new Map<number, number>()
  const part = (index: number, events: readonly TokenEvent[], finishReason: FinishReason | null): object => {
    let offset = offsets.get(index) ?? 0
    const text = events.map((event) => event.text).join('')
    const starts = events.map((event) => {
      const start = offset
      offset += event.text.length
      return start
    })
    offsets.set(index, offset)
    return { text, index, logprobs: withLogprobs ? legacyLogprobs(events, starts) : null, finish_reason: finishReason }
  }
  return {
    idPrefix: 'cmpl-',
    object: 'text_completion',
    chunkObject: 'text_completion',
    opening: () => undefined,
    piece: (index, event) =>
      event.text === '' && event.logprobs === undefined ? undefined : part(index, [event], null),
    closing: (index, finishReason) => ({ text: '', index, logprobs: null, finish_reason: finishReason }),
    whole: (index, events, finishReason) => part(index, events, finishReason),
  }
}

/** One entry of `logprobs.content` of a chat. */
function logprobEntry({ logprobs }: TokenEvent): object | undefined {
  if (logprobs === undefined) return undefined
  return { ...described(logprobs.chosen), top_logprobs: logprobs.top.map(described) }
}

function described({ token, logprob }: TokenLogprob): object {
  // A part of a character has no text of its own, and this engine does not spell out its bytes.
  return { token, logprob, bytes: token.includes('\uFFFD') ? null : [...utf8(token)] }
}

/** `logprobs` of a plain completion: lists side by side. */
function legacyLogprobs(events: readonly TokenEvent[], starts: readonly number[]): object {
  return {
    tokens: events.map(({ logprobs }) => logprobs?.chosen.token ?? ''),
    token_logprobs: events.map(({ logprobs }) => logprobs?.chosen.logprob ?? null),
    top_logprobs: events.map(({ logprobs }) =>
      Object.fromEntries((logprobs?.top ?? []).map(({ token, logprob }) => [token, logprob])),
    ),
    text_offset: starts,
  }
}
