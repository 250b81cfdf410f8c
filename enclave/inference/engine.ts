/**
 * The interface between the worker and whatever runs the model. Every engine fits behind it: the one in `ort/`, a
 * binding to another runtime, or a server on loopback inside the same measured machine.
 *
 * An engine holds prompts in memory only, and logs nothing.
 */
import type { AnswerFormat, Tool } from './grammar/answers.js'
import type { Grammar } from './grammar/network.js'
import type { ModelManifest } from './package.js'

export type ChatRole = 'system' | 'user' | 'assistant' | 'tool'

export interface ChatMessage {
  readonly role: ChatRole
  readonly content: string
  /** Of an assistant: what it called. */
  readonly toolCalls?: readonly ToolCall[]
  /** Of a tool: the call it answers. */
  readonly toolCallId?: string
}

export interface ToolCall {
  readonly id: string
  readonly name: string
  /** A JSON object, as text. */
  readonly arguments: string
}

/** A chat, and what may be answered to it. */
export interface Chat {
  readonly messages: readonly ChatMessage[]
  /** Those the model is told about: none where it must not call any. */
  readonly tools: readonly Tool[]
  /** Undefined: it may or may not call one. */
  readonly choice: 'required' | { readonly name: string } | undefined
  readonly parallel: boolean
  /** What an answer outside of calls is; undefined: any text. */
  readonly format: AnswerFormat | undefined
}

export interface GenerateOptions {
  /** Most tokens to generate, the end-of-turn token included; 1 or more. Prompt and `maxTokens` must fit the context. */
  readonly maxTokens: number
  /** 0 takes the likeliest token each time; otherwise logits are divided by it. 0 to 2. */
  readonly temperature: number
  /** Keep the likeliest tokens whose probabilities first add up to this much; 1 keeps all. Above 0, up to 1. */
  readonly topP: number
  /** Keep this many of the likeliest tokens; 0 keeps all. */
  readonly topK: number
  /** Drop tokens less likely than this fraction of the likeliest one; 0 drops none. 0 to 1. */
  readonly minP: number
  /** The same seed, prompt and options give the same answer on the same engine version. A safe integer. */
  readonly seed: number
  /** Subtracted once from the logit of every token already generated. -2 to 2. */
  readonly presencePenalty: number
  /** Subtracted from a token's logit for each time it was already generated. -2 to 2. */
  readonly frequencyPenalty: number
  /** The answer ends before the first of these strings, which is not emitted. At most 16, none empty. */
  readonly stop: readonly string[]
  /** Report log-probabilities: of the chosen token, and of this many likeliest ones (0 to 20). Absent: none. */
  readonly logprobs?: number
  /** What the prompt was made of, for engines that make prompts themselves. Absent: the tokens are all there is. */
  readonly chat?: Chat
  /** What the answer must follow, token by token. Absent: nothing. */
  readonly grammar?: Grammar
  /** Whether calls in the answer's text are told apart from it; the grammar then writes them as `grammar/answers.ts` does. */
  readonly calls?: boolean
  /**
   * A text the answer may be like, as tokens; perhaps none. With it the engine guesses at what comes next, from there, from the
   * prompt and from the answer, and computes several tokens at once where it was right. Every token's logits are then those that
   * a prompt's run would give for it, whatever the text is: other roundings than without, and the same with any. Engines that
   * cannot do that ignore it.
   */
  readonly prediction?: readonly number[]
  /**
   * Whose request this is: requests with the same value share one fair part of the machine. Opaque; absent: its own.
   * Nothing computed for one request is used for another, whatever this says.
   */
  readonly tenant?: string
  /**
   * What is computed of this prompt may be kept for a while, for requests with the very same value: they start behind what
   * they have in common. Must be unguessable to everyone else, since how fast an answer comes would tell. Absent: nothing is
   * kept and nothing reused. Answers are the same either way; engines that cannot promise that ignore it.
   */
  readonly reuseKey?: string
  /** Ends the request within one step, with an error of code `aborted`. */
  readonly signal?: AbortSignal
}

export type FinishReason = 'stop' | 'length' | 'tool_calls'

/** Natural logarithm of a token's probability under the model, before temperature, penalties and filters. */
export interface TokenLogprob {
  readonly tokenId: number
  /** The token decoded alone: a part of a character shows as U+FFFD. */
  readonly token: string
  readonly logprob: number
}

export interface TokenEvent {
  readonly type: 'token'
  /** Whole characters only. Empty where a token's text came out with a later one, as with the bytes of one character. */
  readonly text: string
  /** -1 where the engine does not say. */
  readonly tokenId: number
  readonly logprobs?: { readonly chosen: TokenLogprob; readonly top: readonly TokenLogprob[] }
  /** What the token added to calls; no part of `text`. */
  readonly calls?: readonly CallPiece[]
}

/** The beginning of a call, which names the tool, or more of its arguments. */
export interface CallPiece {
  /** Of the answer's calls, from 0. */
  readonly index: number
  readonly name?: string
  readonly arguments: string
}

export interface DoneEvent {
  readonly type: 'done'
  /** `stop`: end-of-turn token, stop string, or all the grammar allows. `length`: `maxTokens` reached. `tool_calls`: as `stop`, with calls. */
  readonly finishReason: FinishReason
  /**
   * `completionTokens` counts every token computed, those of the end of turn or of a stop string included; `cachedTokens` those
   * of the prompt that an earlier request had computed. Absent: none. `predicted`: of the tokens guessed, how many came.
   */
  readonly usage: {
    readonly promptTokens: number
    readonly cachedTokens?: number
    readonly completionTokens: number
    readonly predicted?: { readonly accepted: number; readonly rejected: number }
  }
}

export type EngineEvent = TokenEvent | DoneEvent

export interface RuntimeInfo {
  /** Runtime, for example `onnxruntime-node`. */
  readonly name: string
  readonly version: string
  /** Which code exactly, for example `cpu, sha256:…` of the library that computes. */
  readonly build?: string
}

export interface EngineInfo extends RuntimeInfo {
  /**
   * `batch-invariant`: an answer's bits do not depend on what else runs. `single`: holds only because no two rows share a
   * run. `none`: nothing is promised.
   */
  readonly determinism: 'batch-invariant' | 'single' | 'none'
  readonly manifest: ModelManifest
  /** Tokens the model can hold: prompt and answer together. */
  readonly contextLength: number
}

export type EmbedOptions = Pick<GenerateOptions, 'tenant' | 'signal'>

export interface Engine {
  readonly info: EngineInfo
  /**
   * Token ids of a chat, ending where the assistant begins to speak, with the tools it may call. Text of a request never
   * becomes a control token. Neither of these holds up other requests.
   * @throws EngineError `chat.invalid`, `context.overflow` where it cannot fit, `closed`, `engine.failed`.
   */
  tokenizeChat(messages: readonly ChatMessage[], tools?: readonly Tool[]): Promise<number[]>
  /**
   * Token ids of a text as it is, behind what the model begins every text with. Text never becomes a control token.
   * @throws EngineError `context.overflow` where it cannot fit, `closed`, `engine.failed`.
   */
  tokenizeText(text: string): Promise<number[]>
  /**
   * Generates an answer: `token` events, then exactly one `done`. Iterate it once. It computes only a few tokens ahead of
   * its reader; leaving the loop early ends the request. Concurrent requests advance together, one token each.
   * @throws EngineError at once: `options.invalid`, `schema.unsupported`, `context.overflow`, `overloaded`, `closed`. While iterating: `aborted`,
   * `closed`, `engine.failed`; what was emitted until then is an unfinished answer.
   */
  generate(promptTokens: readonly number[], options: GenerateOptions): AsyncIterable<EngineEvent>
  /**
   * The embedding of a text: the state behind its last token, behind the last norm, scaled to length 1. Absent where the
   * model gives none. @throws EngineError `options.invalid`, `context.overflow`, `overloaded`, `aborted`, `closed`,
   * `engine.failed`.
   */
  readonly embed?: ((promptTokens: readonly number[], options: EmbedOptions) => Promise<Float32Array>) | undefined
  /** Whether it can answer now. Absent: as long as it is not closed. */
  readonly healthy?: () => boolean
  /** Ends running requests with `closed`, waits for the step in progress, and frees the model. */
  close(): Promise<void>
}
