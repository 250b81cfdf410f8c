/**
 * The errors of the inference engine and of model packages. Match on `code`; messages never contain a prompt or an answer.
 */
import { SubrosaError } from '../../verifier/protocol/errors.js'

export type EngineErrorCode =
  /** The manifest is not JSON of schema subrosa-model/1. */
  | 'package.manifest'
  /** The manifest names a path outside the package, or one it does not allow. */
  | 'package.path'
  /** A file the manifest lists is not there, or is not a regular file. */
  | 'package.missing'
  /** A file's length is not the one in the manifest. */
  | 'package.size'
  /** A file's SHA-256 is not the one in the manifest. */
  | 'package.digest'
  /** Something lies in the folder that the manifest does not list, where a server could read it. */
  | 'package.unlisted'
  /** The key at hand does not open an encrypted file, or the file is not one. */
  | 'package.sealed'
  /** The weights are encrypted and their key has not come yet. */
  | 'locked'
  /** The files are the ones listed, but do not make a model this engine can run. */
  | 'package.unusable'
  /** The device asked for is not there, lacks what it takes, or does not compute this package. */
  | 'device.unavailable'
  /** The chat cannot be put into the model's words: unknown role, or refused by the template. */
  | 'chat.invalid'
  /** The package's tokenizer takes too long over a text: it is given a time for each, by its length. */
  | 'text.slow'
  /** A JSON schema asks for what constrained answers cannot follow. */
  | 'schema.unsupported'
  /** A generation option is outside its range. */
  | 'options.invalid'
  /** Prompt and answer do not fit into the model's context. */
  | 'context.overflow'
  /** Too many requests wait already. */
  | 'overloaded'
  /** The caller's signal ended the request. */
  | 'aborted'
  /** The engine was closed. */
  | 'closed'
  /** The configuration of an inference server is not one that may serve. */
  | 'server.config'
  /** The runtime failed. */
  | 'engine.failed'

/**
 * What to do, by prefix: `package.` stop and replace the package; `device.` install what the message names, or choose another; `server.` correct its configuration; `chat.`, `text.`, `schema.`, `options.` and `context.` fix the request;
 * `overloaded` try again after `retryAfterS`, or elsewhere; `aborted` nothing; `locked` wait for the model's owner; `closed`
 * and `engine.failed` try another worker.
 */
export class EngineError extends SubrosaError {
  declare readonly code: EngineErrorCode

  constructor(code: EngineErrorCode, message: string, options?: { cause?: unknown }) {
    super(code, message, options)
  }
}

/** Prompt and answer do not fit. Thrown before the first token. What to do: shorten the chat or ask for fewer tokens. */
export class ContextOverflowError extends EngineError {
  readonly promptTokens: number
  readonly maxTokens: number
  /** Tokens the model can hold: prompt and answer together. */
  readonly contextLength: number

  constructor(promptTokens: number, maxTokens: number, contextLength: number) {
    super(
      'context.overflow',
      `prompt of ${promptTokens} and answer of up to ${maxTokens} tokens exceed the context of ${contextLength}`,
    )
    this.promptTokens = promptTokens
    this.maxTokens = maxTokens
    this.contextLength = contextLength
  }
}

/** The queue is full. Thrown before anything was computed. What to do: wait, or try another worker. */
export class OverloadedError extends EngineError {
  /** Seconds after which a place is likely to be free; 1 or more. */
  readonly retryAfterS: number

  constructor(retryAfterS: number) {
    super('overloaded', `too many requests wait already; try again in ${retryAfterS} s`)
    this.retryAfterS = retryAfterS
  }
}

export function abortedError(): EngineError {
  return new EngineError('aborted', 'the request was ended by its caller')
}

export function closedError(): EngineError {
  return new EngineError('closed', 'the engine was closed')
}
