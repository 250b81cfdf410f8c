/**
 * Generation: from a checked request, of a chat or of a plain completion, to an answer, streamed or whole, padded,
 * committed to and receipted. Everything here happens inside the encryption; the answer leaves record by record as the gateway reads it.
 */
import { setImmediate as nextLoop } from 'node:timers/promises'
import { type Bytes, toBase64Url, toHex, utf8 } from '../verifier/protocol/bytes.js'
import { REUSE_HEADER } from '../verifier/protocol/constants.js'
import { RECEIPT_TRAILER, type ReceiptPayload } from '../verifier/protocol/receipt.js'
import type { PaddingMode } from '../verifier/protocol/statement.js'
import { toReadable } from '../verifier/protocol/streams.js'
import { withTrailers } from './channel-response.js'
import { type Choice, type ChoiceToken, startChoices, tokensOf } from './choices.js'
import type { GenerationRequest } from './generation.js'
import type { Engine, GenerateOptions, TokenEvent } from './inference/engine.js'
import { EngineError } from './inference/errors.js'
import { errorCode, type Logger } from './log.js'
import type { Metrics } from './metrics.js'
import { asOpenAIError, brokenOff, errorBody, OpenAIError, openAIErrorOf } from './openai-error.js'
import { padBody } from './padding.js'
import { type OpenReceipt, RECEIPT_ID_HEADER } from './receipts.js'
import type { Reuse } from './reuse-tokens.js'
import { DONE_EVENT, encodeEvent, packRecords } from './sse.js'

export interface CompletionDeps {
  readonly engine: Engine
  readonly padding: PaddingMode
  readonly metrics: Metrics
  readonly log: Logger
  /** Seconds since the epoch. */
  readonly now: () => number
  /** Longest time one answer may take. */
  readonly timeoutMs: number
}

/** One request on its way to an answer. */
export interface Exchange {
  readonly request: GenerationRequest
  readonly receipt: OpenReceipt
  /** The session token, where there is one: what is shared fairly between sessions is shared by it. */
  readonly session?: string | undefined
  /** What its prompts may be kept and reused under. */
  readonly reuse?: Reuse | undefined
  /** SHA-256(statement): which worker and model this answer came from. */
  readonly statementDigest: Bytes
  /** Aborts when the client goes away. */
  readonly signal: AbortSignal
  /** Runs once, when the answer has ended either way. */
  readonly release: () => void
}

/** @throws OpenAIError before anything was sent. */
export async function complete(deps: CompletionDeps, exchange: Exchange): Promise<Response> {
  const answer = startAnswer(deps, exchange)
  if (exchange.request.sampling.stream) return streamed(deps, exchange, answer)
  try {
    return await whole(deps, exchange, answer)
  } finally {
    answer.end()
  }
}

/** The running state of one answer. */
interface Answer {
  readonly id: string
  readonly created: number
  readonly fingerprint: string
  readonly choices: readonly Choice[]
  readonly streams: boolean
  readonly sampling: ReceiptPayload['sampling']
  readonly seed: number
  readonly promptTokens: number
  /** Whether the request predicted its answer. */
  readonly withPrediction: boolean
  /** Whether the answer ran out of time, rather than the client going away. */
  readonly timedOut: () => boolean
  /** Stops the engine. */
  readonly abort: () => void
  /** Frees what the answer holds; later calls do nothing. */
  readonly end: () => void
}

function startAnswer(deps: CompletionDeps, exchange: Exchange): Answer {
  const { request, session, reuse, statementDigest, signal, release } = exchange
  const { engine, log, metrics, now } = deps
  const { prompts, field, sampling } = request
  const longest = Math.max(...prompts.map(({ length }) => length))
  const room = engine.info.contextLength - longest
  if (room < 1) {
    throw new OpenAIError(
      400,
      'context_length_exceeded',
      `${field}: ${longest} tokens leave no room for an answer in a context of ${engine.info.contextLength}`,
      field,
    )
  }
  const abort = new AbortController()
  const leave = (): void => abort.abort()
  const options: GenerateOptions = {
    maxTokens: Math.min(request.maxTokens ?? room, room),
    temperature: sampling.temperature,
    topP: sampling.topP,
    topK: sampling.topK,
    minP: sampling.minP,
    seed: sampling.seed ?? crypto.getRandomValues(new Uint32Array(1))[0] ?? 0,
    presencePenalty: sampling.presencePenalty,
    frequencyPenalty: sampling.frequencyPenalty,
    stop: sampling.stop,
    ...request.options,
    signal: abort.signal,
    ...(session === undefined ? {} : { tenant: session }),
    ...(reuse === undefined ? {} : { reuseKey: reuse.key }),
  }
  const choices = asOpenAIError(() => startChoices(engine, prompts, options, sampling.n))
  const startedAt = performance.now()
  let late = false
  let ended = false
  const timer = setTimeout(() => {
    late = true
    abort.abort()
    answer.end()
  }, deps.timeoutMs)
  signal.addEventListener('abort', leave, { once: true })
  if (signal.aborted) leave()

  const answer: Answer = {
    id: `${request.shape.idPrefix}${toBase64Url(crypto.getRandomValues(new Uint8Array(16)))}`,
    created: Math.floor(now()),
    fingerprint: `fp_${toHex(statementDigest.subarray(0, 8))}`,
    choices,
    streams: sampling.stream,
    sampling: {
      temperature: options.temperature,
      top_p: options.topP,
      top_k: options.topK,
      min_p: options.minP,
      presence_penalty: options.presencePenalty,
      frequency_penalty: options.frequencyPenalty,
      max_tokens: options.maxTokens,
    },
    seed: options.seed,
    promptTokens: prompts.reduce((sum, { length }) => sum + length, 0),
    withPrediction: request.options.prediction !== undefined,
    timedOut: () => late,
    abort: leave,
    end() {
      if (ended) return
      ended = true
      clearTimeout(timer)
      signal.removeEventListener('abort', leave)
      release()
      const durationMs = performance.now() - startedAt
      if (!isWhole(answer)) {
        log.info('inference.aborted', { durationMs })
      } else {
        metrics.answer(completionTokensOf(answer), durationMs)
        log.info('inference.done', { durationMs })
      }
    },
  }
  return answer
}

function isWhole({ choices }: Answer): boolean {
  return choices.every(({ finishReason }) => finishReason !== undefined)
}

function completionTokensOf(answer: Answer): number {
  return sum(answer, ({ completionTokens }) => completionTokens)
}

function sum({ choices }: Answer, of: (choice: Choice) => number): number {
  return choices.reduce((total, choice) => total + of(choice), 0)
}

/** Tokens of each prompt that none of its choices computed. */
function cachedTokensOf({ choices }: Answer): number {
  const least = new Map<number, number>()
  for (const { prompt, cachedTokens } of choices) {
    least.set(prompt, Math.min(cachedTokens, least.get(prompt) ?? Number.POSITIVE_INFINITY))
  }
  return [...least.values()].reduce((sum, tokens) => sum + tokens, 0)
}

/** The tokens of the answer; afterwards its choices say how they ended. @throws OpenAIError */
async function* checkedTokens({ log }: CompletionDeps, answer: Answer): AsyncGenerator<ChoiceToken> {
  try {
    yield* tokensOf(answer.choices)
  } catch (error) {
    if (answer.timedOut()) throw new OpenAIError(504, 'timeout', 'the answer took too long')
    if (!(error instanceof EngineError && error.code === 'aborted'))
      log.error('inference.failed', { code: errorCode(error) })
    throw brokenOff(error, isUntouched(answer))
  }
}

/** Of several choices others may have begun when one is refused; and a stream has begun by its status. */
function isUntouched({ choices, streams }: Answer): boolean {
  return !streams && choices.length === 1 && choices[0]?.completionTokens === 0
}

async function whole(deps: CompletionDeps, exchange: Exchange, answer: Answer): Promise<Response> {
  const { request } = exchange
  const events = answer.choices.map((): TokenEvent[] => [])
  for await (const { choice, event } of checkedTokens(deps, answer)) events[choice.index]?.push(event)
  const body = {
    id: answer.id,
    object: request.shape.object,
    created: answer.created,
    model: request.model,
    system_fingerprint: answer.fingerprint,
    choices: answer.choices.map(({ index, finishReason }) =>
      request.shape.whole(index, events[index] ?? [], finishReason ?? 'stop'),
    ),
    usage: usageOf(answer),
  }
  const bytes = padBody(deps.padding, JSON.stringify(body))
  exchange.receipt.record(bytes)
  return receipted(deps, exchange, answer, new Response(bytes, { headers: headersFor('application/json', exchange) }))
}

function streamed(deps: CompletionDeps, exchange: Exchange, answer: Answer): Response {
  async function* records(): AsyncGenerator<Bytes> {
    try {
      const events = eventsOf(deps, exchange, answer)
      for await (const bytes of deps.padding === 'tick' ? packRecords(events) : encoded(events)) {
        exchange.receipt.record(bytes)
        yield bytes
      }
    } finally {
      answer.abort()
      answer.end()
    }
  }
  const body = toReadable(records(), {
    cancelled() {
      // A stream nobody started reading has no generator to clean up after it.
      answer.abort()
      answer.end()
    },
  })
  return receipted(
    deps,
    exchange,
    answer,
    new Response(body, { headers: headersFor('text/event-stream; charset=utf-8', exchange) }),
  )
}

async function* eventsOf(deps: CompletionDeps, { request }: Exchange, answer: Answer): AsyncGenerator<string> {
  const { shape, sampling } = request
  const chunk = (choices: readonly object[], usage: object | null = null): string =>
    encodeEvent({
      id: answer.id,
      object: shape.chunkObject,
      created: answer.created,
      model: request.model,
      system_fingerprint: answer.fingerprint,
      choices,
      ...(sampling.includeUsage ? { usage } : {}),
    })

  // The role goes with the first words: alone it would take up a record of its own.
  const openings = answer.choices.map(({ index }) => {
    const first = shape.opening(index)
    return first === undefined ? '' : chunk([first])
  })
  const opening = (index: number): string => {
    const text = openings[index] ?? ''
    openings[index] = ''
    return text
  }
  try {
    for await (const { choice, event } of checkedTokens(deps, answer)) {
      const piece = shape.piece(choice.index, event)
      if (piece !== undefined) yield opening(choice.index) + chunk([piece])
    }
  } catch (error) {
    // The status is long gone: the error travels as an event, and the receipt says that the answer is not whole.
    yield openings.join('') + encodeEvent(errorBody(openAIErrorOf(error)))
    return
  }
  for (const { index, finishReason } of answer.choices) {
    yield opening(index) + chunk([shape.closing(index, finishReason ?? 'stop')])
  }
  if (sampling.includeUsage) yield chunk([], usageOf(answer))
  yield DONE_EVENT
}

async function* encoded(events: AsyncIterable<string>): AsyncGenerator<Bytes> {
  for await (const event of events) yield utf8(event)
}

function receipted({ engine }: CompletionDeps, { receipt }: Exchange, answer: Answer, response: Response): Response {
  return withTrailers(response, async () => {
    // What was said last leaves before time is spent on the receipt of it.
    await nextLoop()
    const jws = await receipt.sign({
      final: isWhole(answer),
      sampling: answer.sampling,
      seed: answer.seed,
      determinism: engine.info.determinism,
      promptTokens: answer.promptTokens,
      completionTokens: completionTokensOf(answer),
    })
    return new Headers({ [RECEIPT_TRAILER]: jws })
  })
}

function headersFor(contentType: string, { receipt, reuse }: Exchange): Headers {
  return new Headers({
    'content-type': contentType,
    'cache-control': 'no-store',
    [RECEIPT_ID_HEADER]: receipt.id,
    ...(reuse?.issued === undefined ? {} : { [REUSE_HEADER]: reuse.issued }),
  })
}

function usageOf(answer: Answer): object {
  const { promptTokens } = answer
  const completionTokens = completionTokensOf(answer)
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: cachedTokensOf(answer) },
    ...(answer.withPrediction
      ? {
          completion_tokens_details: {
            accepted_prediction_tokens: sum(answer, ({ predicted }) => predicted.accepted),
            rejected_prediction_tokens: sum(answer, ({ predicted }) => predicted.rejected),
          },
        }
      : {}),
  }
}
