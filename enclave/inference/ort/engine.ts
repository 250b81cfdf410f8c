/**
 * The engine on ONNX Runtime: prefill in chunks, then one token a step, sampling and streaming decode. Every request
 * has its own cache; requests that run together take turns, so each one's answer is the one it would get alone.
 *
 * Prompts, caches and answers are dropped when a request ends, but JavaScript cannot promise to erase them: they stay
 * in the memory of the measured machine until it is reused.
 */
import { createChatEncoder } from '../chat.js'
import { createDetokenizer } from '../detokenizer.js'
import type { Engine, EngineEvent, EngineInfo, FinishReason, GenerateOptions, TokenEvent } from '../engine.js'
import { ContextOverflowError, EngineError } from '../errors.js'
import { checkOptions } from '../options.js'
import type { ModelManifest, ModelPackage } from '../package.js'
import { createSampler, logProbabilities } from '../sampler.js'
import { createStopFilter } from '../stop-strings.js'
import { createTokenizer, type TextTokenizer } from '../tokenizer.js'
import { abortedError, closedError, createTurns, type Turns } from '../turns.js'
import { createOrtModel, type OrtModel, RUNTIME } from './model.js'

/** Prompt tokens a step: bounds how long a long prompt can hold up everyone else's next token. */
const PREFILL_CHUNK = 128

export interface OrtEngineOptions {
  /** Threads a step may use; by default the processors this process may use. */
  readonly threads?: number
}

/**
 * An engine over the checked bytes of a package; nothing is read from disk again.
 * @throws EngineError `package.unusable`.
 */
export async function createOrtEngine(modelPackage: ModelPackage, options: OrtEngineOptions = {}): Promise<Engine> {
  const { manifest } = modelPackage
  const { contextLength, vocabularySize, eosTokenIds } = manifest.architecture
  const tokenizer = createTokenizer(modelPackage)
  const tokenizeChat = createChatEncoder(modelPackage, tokenizer)
  const model = await createOrtModel(modelPackage, options.threads)
  const turns = createTurns()
  let closed = false

  return {
    info: describeOrtEngine(manifest),
    tokenizeChat,
    generate(promptTokens, generateOptions): AsyncIterable<EngineEvent> {
      if (closed) throw closedError()
      checkOptions(generateOptions)
      checkPrompt(promptTokens, vocabularySize)
      if (promptTokens.length + generateOptions.maxTokens > contextLength) {
        throw new ContextOverflowError(promptTokens.length, generateOptions.maxTokens, contextLength)
      }
      return generate({ model, tokenizer, turns, eosTokenIds }, [...promptTokens], generateOptions)
    },
    async close(): Promise<void> {
      if (closed) return
      closed = true
      await turns.close()
      await model.close()
    },
  }
}

/** What the engine over such a package says of itself; it needs no weights. */
export function describeOrtEngine(manifest: ModelManifest): EngineInfo {
  const { determinism, architecture } = manifest
  return { ...RUNTIME, determinism, manifest, contextLength: architecture.contextLength }
}

function checkPrompt(promptTokens: readonly number[], vocabularySize: number): void {
  if (promptTokens.length === 0) throw new EngineError('options.invalid', 'promptTokens: expected at least one token')
  for (const tokenId of promptTokens) {
    if (!(Number.isSafeInteger(tokenId) && tokenId >= 0 && tokenId < vocabularySize)) {
      throw new EngineError('options.invalid', `promptTokens: expected token ids from 0 to ${vocabularySize - 1}`)
    }
  }
}

interface Parts {
  readonly model: OrtModel
  readonly tokenizer: TextTokenizer
  readonly turns: Turns
  readonly eosTokenIds: readonly number[]
}

async function* generate(
  parts: Parts,
  promptTokens: readonly number[],
  options: GenerateOptions,
): AsyncGenerator<EngineEvent, void, undefined> {
  const { tokenizer, eosTokenIds } = parts
  const next = createStepper(parts, options.signal)
  const sampler = createSampler(options)
  const output = createOutput(tokenizer, options.stop)
  let logits = await next(promptTokens)
  let finishReason: FinishReason | undefined
  let completionTokens = 0

  while (finishReason === undefined) {
    const tokenId = sampler.sample(logits)
    completionTokens++
    if (eosTokenIds.includes(tokenId)) {
      finishReason = 'stop'
      break
    }
    const events = output.push(tokenId, describe(tokenizer, logits, tokenId, options.logprobs))
    for (const event of events) yield event
    // Whoever reads may have ended the request while it held the last event.
    if (options.signal?.aborted) throw abortedError()
    if (output.stopped()) finishReason = 'stop'
    else if (completionTokens === options.maxTokens) finishReason = 'length'
    else logits = await next([tokenId])
  }

  for (const event of output.flush()) yield event
  yield { type: 'done', finishReason, usage: { promptTokens: promptTokens.length, completionTokens } }
}

/** Feeds tokens to the model, a chunk a turn, keeping this request's cache; returns the logits after the last one. */
function createStepper(
  { model, turns }: Parts,
  signal: AbortSignal | undefined,
): (tokenIds: readonly number[]) => Promise<Float32Array> {
  let cache = model.emptyCache
  return async (tokenIds) => {
    let logits = new Float32Array()
    for (let at = 0; at < tokenIds.length; at += PREFILL_CHUNK) {
      const chunk = tokenIds.slice(at, at + PREFILL_CHUNK)
      const step = await turns.take(() => model.run(chunk, cache), signal)
      cache = step.cache
      logits = step.logits as Float32Array<ArrayBuffer>
    }
    return logits
  }
}

function describe(
  tokenizer: TextTokenizer,
  logits: Float32Array,
  tokenId: number,
  count: number | undefined,
): Pick<TokenEvent, 'tokenId' | 'logprobs'> {
  if (count === undefined) return { tokenId }
  const { chosen, top } = logProbabilities(logits, tokenId, count)
  return {
    tokenId,
    logprobs: {
      chosen: { tokenId, token: tokenizer.spell(tokenId), logprob: chosen },
      top: top.map((entry) => ({ ...entry, token: tokenizer.spell(entry.tokenId) })),
    },
  }
}

interface Output {
  /** The events a token releases: none while its text is held back. */
  push(tokenId: number, description: Pick<TokenEvent, 'tokenId' | 'logprobs'>): readonly TokenEvent[]
  /** The events still held back, at the end of the answer. */
  flush(): readonly TokenEvent[]
  stopped(): boolean
}

/**
 * Joins decoding and stop strings. A token is announced once all of its text can be: until then it waits, with the text
 * of those before it that wait too, and the last of them carries that text. Tokens of a stop string are never announced.
 */
function createOutput(tokenizer: TextTokenizer, stop: readonly string[]): Output {
  const detokenizer = createDetokenizer(tokenizer.decode)
  const filter = createStopFilter(stop)
  let waiting: Pick<TokenEvent, 'tokenId' | 'logprobs'>[] = []
  let text = ''
  let stopped = false

  function release(): readonly TokenEvent[] {
    // At a stop string only the text before it is left, which the first of the waiting tokens began.
    if (stopped) waiting = text === '' ? [] : waiting.slice(0, 1)
    const last = waiting.length - 1
    const events = waiting.map((token, i): TokenEvent => ({ type: 'token', text: i === last ? text : '', ...token }))
    waiting = []
    text = ''
    return events
  }

  function accept(piece: string): void {
    const result = filter.push(piece)
    text += result.text
    stopped ||= result.stopped
  }

  return {
    push(tokenId, description): readonly TokenEvent[] {
      waiting.push(description)
      accept(detokenizer.push(tokenId))
      return !stopped && (detokenizer.pending() || filter.pending()) ? [] : release()
    },
    flush(): readonly TokenEvent[] {
      accept(detokenizer.flush())
      text += filter.flush()
      return release()
    },
    stopped: () => stopped,
  }
}
