/**
 * One answer: a sequence for the scheduler on one side, events for its reader on the other. Sampling, decoding and stop
 * strings happen as the logits come in; the reader is at most READ_AHEAD events behind, or the sequence pauses.
 */
import type { Background } from './background.js'
import type { EngineEvent, GenerateOptions } from './engine.js'
import { abortedError } from './errors.js'
import { createEventQueue } from './event-queue.js'
import type { Matcher, MatcherFactory } from './grammar/matcher.js'
import { createOutput, describeToken } from './output.js'
import { createPromptLookup } from './prompt-lookup.js'
import { createSampler } from './sampler.js'
import type { Scheduler, SequenceRequest, Ticket } from './scheduler.js'
import type { TextTokenizer } from './tokenizer.js'

const READ_AHEAD = 8

export interface AnswerParts {
  readonly scheduler: Scheduler
  readonly tokenizer: TextTokenizer
  readonly eosTokenIds: readonly number[]
  /** Needed where the options have a grammar. */
  readonly matchers: MatcherFactory | undefined
  /** Where masks that take longer are worked out. */
  readonly background: Background
}

/** Takes a place at once. @throws OverloadedError, EngineError `closed`. */
export function startAnswer(
  { scheduler, tokenizer, eosTokenIds, matchers, background }: AnswerParts,
  promptTokens: readonly number[],
  options: GenerateOptions,
): AsyncIterable<EngineEvent> {
  const sampler = createSampler(options)
  const output = createOutput(tokenizer, options.stop, options.calls)
  const matcher = options.grammar && matchers?.create(options.grammar)
  const queue = createEventQueue<EngineEvent>(() => ticket?.wake())
  const lookup = options.prediction && createPromptLookup(promptTokens, options.prediction)
  let completionTokens = 0
  let cachedTokens = 0

  let masked = true
  let left = false
  let problem: unknown
  /** Undefined until the request has a place, and for ever where it gets none. */
  let ticket: Ticket | undefined
  /** One slice of the next mask at once, and the rest, where there is one, while the answer waits for it. */
  const mask = (): void => {
    if (matcher === undefined || matcher.prepare()) return
    masked = false
    const slice = (): boolean => {
      try {
        return left || matcher.prepare()
      } catch (error) {
        problem = error
        return true
      }
    }
    background.add(slice, () => {
      masked = true
      ticket?.wake()
    })
  }
  mask()

  const finish = (finishReason: 'stop' | 'length'): undefined => {
    for (const event of output.flush()) queue.push(event)
    const reason = finishReason === 'stop' && output.called() ? 'tool_calls' : finishReason
    const usage = {
      promptTokens: promptTokens.length,
      cachedTokens,
      completionTokens,
      ...(lookup === undefined ? {} : { predicted: lookup.tally() }),
    }
    queue.push({ type: 'done', finishReason: reason, usage })
    queue.end()
  }
  const request: SequenceRequest = {
    promptTokens,
    tenant: options.tenant,
    reuseKey: options.reuseKey,
    reused(tokens) {
      cachedTokens = tokens
    },
    signal: options.signal,
    ...(lookup === undefined ? {} : { propose: lookup.propose }),
    wanted: () => masked && queue.length < READ_AHEAD,
    ready: () => masked,
    failed: (error) => queue.end(error),
    next(logits) {
      if (problem !== undefined) throw problem
      const tokenId = sampler.sample(logits, matcher && maskOf(matcher, eosTokenIds))
      completionTokens++
      lookup?.push(tokenId)
      if (eosTokenIds.includes(tokenId)) return finish('stop')
      matcher?.accept(tokenId)
      for (const event of output.push(tokenId, describeToken(tokenizer, logits, tokenId, options.logprobs))) {
        queue.push(event)
      }
      if (output.stopped() || matcher?.mustEnd()) return finish('stop')
      if (completionTokens === options.maxTokens) return finish('length')
      mask()
      return tokenId
    },
  }
  try {
    ticket = scheduler.submit(request)
  } catch (error) {
    left = true
    throw error
  }

  async function* read(): AsyncGenerator<EngineEvent, void, undefined> {
    try {
      for (;;) {
        const event = await queue.take()
        if (event === undefined) return
        yield event
        // Whoever reads may have ended the request while it held the last event; what was computed ahead is dropped.
        if (options.signal?.aborted && event.type !== 'done') throw abortedError()
      }
    } finally {
      left = true
      ticket?.leave()
      queue.discard()
    }
  }
  return read()
}

/** What the grammar allows next, the end of the turn included where the text may end. */
function maskOf(matcher: Matcher, eosTokenIds: readonly number[]): Uint32Array {
  const mask = matcher.mask()
  if (!matcher.mayEnd()) return mask
  for (const token of eosTokenIds) mask[token >>> 5] = (mask[token >>> 5] ?? 0) | (1 << (token & 31))
  return mask
}
