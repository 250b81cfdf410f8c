/**
 * Errors inside the encryption, in the shape OpenAI's clients read. Messages are fixed texts of ours with names of
 * request fields in them, never anything a client sent.
 */
import { EngineError, OverloadedError } from './inference/errors.js'

export type OpenAIErrorCode =
  | 'invalid_json'
  | 'invalid_value'
  | 'unsupported_parameter'
  | 'invalid_json_schema'
  | 'context_length_exceeded'
  | 'model_not_found'
  | 'unsupported_model'
  | 'unknown_url'
  | 'method_not_allowed'
  | 'receipt_not_found'
  | 'duplicate_request'
  | 'overloaded'
  | 'model_locked'
  | 'model_key_refused'
  | 'rate_limit_exceeded'
  | 'timeout'
  | 'answer_broken_off'
  | 'internal_error'

/** An answer that is an error. What to do: 409 do not repeat, 429 wait as long as it says, other 4xx fix the request, 503 try later or elsewhere; after 500 and 504 it may have been processed. */
export class OpenAIError extends Error {
  readonly status: 400 | 404 | 405 | 409 | 429 | 500 | 503 | 504
  readonly code: OpenAIErrorCode
  /** Name of the request field at fault. */
  readonly param: string | null
  /** Seconds to wait before another try. */
  readonly retryAfterS: number | undefined

  constructor(
    status: OpenAIError['status'],
    code: OpenAIErrorCode,
    message: string,
    param: string | null = null,
    retryAfterS?: number,
  ) {
    super(message)
    this.retryAfterS = retryAfterS
    this.name = 'OpenAIError'
    this.status = status
    this.code = code
    this.param = param
  }
}

/** Statuses that say, inside the encryption, that a request was not processed (P-7.8). */
export const UNPROCESSED: ReadonlySet<number> = new Set([400, 429, 503])

/** The body of an error answer. */
export interface OpenAIErrorBody {
  readonly error: {
    readonly message: string
    readonly type: 'invalid_request_error' | 'rate_limit_error' | 'server_error'
    readonly param: string | null
    readonly code: string
  }
}

export function errorBody({ status, code, message, param }: OpenAIError): OpenAIErrorBody {
  const type = status === 429 ? 'rate_limit_error' : status < 500 ? 'invalid_request_error' : 'server_error'
  return { error: { message, type, param, code } }
}

/** Runs what an engine may refuse at once. @throws OpenAIError */
export function asOpenAIError<T>(run: () => T): T {
  try {
    return run()
  } catch (error) {
    throw openAIErrorOf(error)
  }
}

/** Tokenises what came in a field. @throws OpenAIError, which names it where that is too long. */
export async function asTokens(field: string, run: () => Promise<readonly number[]>): Promise<readonly number[]> {
  try {
    return await run()
  } catch (error) {
    if (!(error instanceof EngineError && error.code === 'context.overflow')) throw openAIErrorOf(error)
    const problem = `${field}: more tokens than fit into the context of this model`
    throw new OpenAIError(400, 'context_length_exceeded', problem, field)
  }
}

/** What engines throw of a request before they compute anything of it; `closed` they throw at any time. */
const REFUSALS: ReadonlySet<string> = new Set([
  'schema.unsupported',
  'options.invalid',
  'context.overflow',
  'locked',
  'overloaded',
])

/**
 * What a client may know of an error that came after the engine was given the request. None of the statuses that say it was
 * not processed (P-7.8), unless `untouched`: nothing of it was computed, provided that this is an engine's refusal.
 */
export function brokenOff(error: unknown, untouched: boolean): OpenAIError {
  const known = openAIErrorOf(error)
  if (!UNPROCESSED.has(known.status)) return known
  if (untouched && error instanceof EngineError && REFUSALS.has(error.code)) return known
  return new OpenAIError(500, 'answer_broken_off', 'the answer had been begun and broke off')
}

/** What a client may know of an error. Messages of other errors stay out: they may quote what they choked on. */
export function openAIErrorOf(error: unknown): OpenAIError {
  if (error instanceof OpenAIError) return error
  if (!(error instanceof EngineError)) return new OpenAIError(500, 'internal_error', 'internal error')
  switch (error.code) {
    case 'chat.invalid':
      return new OpenAIError(
        400,
        'invalid_value',
        "messages: the model's template does not allow this chat",
        'messages',
      )
    case 'text.slow':
      return new OpenAIError(400, 'invalid_value', "this model's tokenizer takes too long over a text of the request")
    case 'schema.unsupported':
      return new OpenAIError(400, 'invalid_json_schema', 'this model cannot give answers that follow this schema')
    case 'options.invalid':
      return new OpenAIError(400, 'invalid_value', 'a sampling parameter is out of range')
    case 'context.overflow':
      return new OpenAIError(400, 'context_length_exceeded', 'messages and answer do not fit the context', 'messages')
    case 'locked':
      return new OpenAIError(503, 'model_locked', 'the owner of the model has not yet released its weights here')
    case 'overloaded': {
      const seconds = error instanceof OverloadedError ? error.retryAfterS : 1
      return new OpenAIError(429, 'rate_limit_exceeded', 'too many requests wait already; try again', null, seconds)
    }
    case 'closed':
      return new OpenAIError(503, 'overloaded', 'the worker is shutting down')
    default:
      return new OpenAIError(500, 'internal_error', 'internal error')
  }
}
