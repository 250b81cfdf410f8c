/**
 * The answers of the sealed channel: plaintext refusals (RFC 9457 problem details, no detail in them), errors inside
 * the encryption, and the sealing of a handler's Response, trailers included, as it streams.
 *
 * A handler's stream that fails half way leaves the sealed stream without its final chunk, which the client reports as
 * truncated: the status is long gone, and an answer must never look whole when it is not.
 */
import { encodeResponse, encodeResponseStream, padMessage } from '../verifier/protocol/bhttp.js'
import { type FieldLine, fieldLinesOf } from '../verifier/protocol/bhttp-fields.js'
import type { Bytes } from '../verifier/protocol/bytes.js'
import { type OpenedRequest, RESPONSE_MEDIA_TYPE, sealResponse } from '../verifier/protocol/ohttp.js'
import type { PaddingMode } from '../verifier/protocol/statement.js'
import { fromReadable, type ReadableEnd, StreamReader, streamOf } from '../verifier/protocol/streams.js'
import { lastPieceBlock, padBody } from './padding.js'

const PROBLEM_TYPES = 'https://iana.org/assignments/http-problem-types#'
const PROBLEM_HEADERS = { 'content-type': 'application/problem+json', 'cache-control': 'no-store' }

type Trailers = () => Headers | Promise<Headers>

const trailersOf = new WeakMap<object, Trailers>()

/**
 * Attaches trailers to a response; the function is called once its body has ended. They survive a middleware that
 * rebuilds the Response around the same body.
 */
export function withTrailers(response: Response, trailers: Trailers): Response {
  trailersOf.set(response, trailers)
  if (response.body !== null) trailersOf.set(response.body, trailers)
  return response
}

/** What goes back outside the encryption. */
export interface OuterAnswer {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  /** Text of a refusal, or the pieces of a sealed answer, one shot. */
  readonly body: string | { readonly pieces: AsyncIterable<Bytes>; readonly end: Required<ReadableEnd> }
}

/** An unauthenticated answer, outside the encryption. */
export function plaintextProblem(
  status: number,
  type: 'about:blank' | 'ohttp-key',
  title: string,
  headers: Readonly<Record<string, string>> = {},
): OuterAnswer {
  const body = JSON.stringify({ type: type === 'ohttp-key' ? `${PROBLEM_TYPES}ohttp-key` : type, title })
  return { status, headers: { ...PROBLEM_HEADERS, ...headers }, body }
}

/** A problem for inside the encryption. */
export function innerProblem(
  padding: PaddingMode,
  status: number,
  type: 'date',
  title: string,
  headers: Readonly<Record<string, string>>,
): Response {
  const text = JSON.stringify({ type: `${PROBLEM_TYPES}${type}`, title })
  return new Response(padBody(padding, text), { status, headers: { ...PROBLEM_HEADERS, ...headers } })
}

/** An error for inside the encryption, in the shape OpenAI's clients read. */
export function innerError(
  padding: PaddingMode,
  status: number,
  type: string,
  code: string,
  message: string,
): Response {
  return new Response(padBody(padding, JSON.stringify({ error: { message, type, param: null, code } })), {
    status,
    headers: { 'content-type': 'application/json' },
  })
}

/** What applies to every response of one gateway. */
export interface ResponseRules {
  readonly padding: PaddingMode
  /** Most bytes of an answer in the plain form. */
  readonly maxPlainResponseBytes: number
}

/**
 * Seals a handler's response. `gone` is aborted when the client stops reading; `release` runs when the exchange is over either way,
 * maybe more than once. A response that HTTP cannot carry becomes an inner 500, and so does one of the plain form whose body fails, since nothing of it has been sent.
 */
export async function sealInnerResponse(
  opened: OpenedRequest,
  response: Response,
  gone: AbortController,
  rules: ResponseRules,
  release: () => void,
): Promise<OuterAnswer> {
  const plaintext = await encodeOr500(response, opened.form === 'plain', gone.signal, rules)
  const end = {
    cancelled(reason: unknown) {
      gone.abort(reason)
      if (response.body?.locked === false) response.body.cancel(reason).catch(() => undefined)
      release()
    },
    ended: release,
    failed(error: unknown) {
      release()
      return error
    },
  }
  return {
    status: 200,
    headers: {
      'content-type': RESPONSE_MEDIA_TYPE[opened.form],
      'cache-control': 'no-store',
      ...(opened.form === 'chunked' ? { incremental: '?1' } : {}),
    },
    body: { pieces: await sealResponse(opened, plaintext), end },
  }
}

async function encodeOr500(
  response: Response,
  plain: boolean,
  signal: AbortSignal,
  rules: ResponseRules,
): Promise<AsyncIterable<Bytes>> {
  try {
    return await encode(response, plain, signal, rules)
  } catch {
    if (response.body?.locked === false) response.body.cancel().catch(() => undefined)
    const failure = innerError(rules.padding, 500, 'server_error', 'internal_error', 'internal error')
    return encode(failure, plain, signal, rules)
  }
}

/** One piece per piece of the handler's body, so that each of its writes becomes one sealed record. */
async function encode(
  response: Response,
  plain: boolean,
  signal: AbortSignal,
  rules: ResponseRules,
): Promise<AsyncIterable<Bytes>> {
  const head = { status: response.status, fields: fieldLinesOf(response.headers) }
  const trailers = trailersOf.get(response) ?? (response.body === null ? undefined : trailersOf.get(response.body))
  const trailerLines = async (): Promise<readonly FieldLine[]> =>
    trailers === undefined ? [] : fieldLinesOf(await trailers())
  const content = fromReadable(response.body, signal)
  const block = lastPieceBlock(rules.padding)
  if (!plain) return encodeResponseStream(head, content, trailerLines, block)
  const whole = await new StreamReader(content, 'response').rest(rules.maxPlainResponseBytes)
  const message = encodeResponse(head, whole, await trailerLines())
  return streamOf(padMessage(message, Math.ceil(message.length / block) * block))
}
