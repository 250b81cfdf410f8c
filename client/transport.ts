/**
 * The client's end of the sealed channel: one web-standard Request in, sealed whole to an already verified key
 * configuration, one Response out whose body opens as it streams (RFC 9458, draft-ietf-ohai-chunked-ohttp, RFC 9292).
 *
 * In plaintext it sends a POST with the media type, `incremental` and the routing hint, and nothing else of ours: no
 * credentials, no referrer, no redirects. It never falls back to plaintext and never retries. The sealed request is
 * buffered, since browsers cannot stream requests; its size is padded to a bucket. Connection-specific fields are not
 * sent, as RFC 9292 §3.6 asks, and `date` is always the client's clock.
 */
import {
  BHTTP_LIMITS,
  type BhttpLimits,
  type BhttpMessage,
  decodeResponse,
  encodeRequest,
  paddedLength,
  padMessage,
  type ResponseHead,
} from '../verifier/protocol/bhttp.js'
import { type FieldLine, fieldLinesOf } from '../verifier/protocol/bhttp-fields.js'
import type { Bytes } from '../verifier/protocol/bytes.js'
import { MAX_REQUEST_CONTENT_BYTES } from '../verifier/protocol/constants.js'
import { FormatError } from '../verifier/protocol/errors.js'
import { openResponse, REQUEST_MEDIA_TYPE, RESPONSE_MEDIA_TYPE, sealPrepared } from '../verifier/protocol/ohttp.js'
import { OhttpError } from '../verifier/protocol/ohttp-errors.js'
import { ROUTING_HINT_HEADER } from '../verifier/protocol/ohttp-keys.js'
import { StreamReader, TruncatedError, toReadable } from '../verifier/protocol/streams.js'
import { type Answer, type Line, LineEndedError } from './lines.js'
import { type ReadRequest, readRequest } from './read-request.js'
import { createSenderStock, type SenderStock } from './sender-stock.js'
import {
  GatewayRefusedError,
  InvalidResponseError,
  TruncatedResponseError,
  UnavailableError,
} from './transport-errors.js'

export interface TransportLimits {
  /** Most bytes of one request's content. */
  readonly maxRequestBytes: number
  /** Most bytes of one response's content. */
  readonly maxResponseBytes: number
}

export const TRANSPORT_LIMITS: TransportLimits = {
  maxRequestBytes: MAX_REQUEST_CONTENT_BYTES,
  maxResponseBytes: 256 * 1024 * 1024,
}

export interface TransportOptions {
  /** The worker's OHTTP resource. */
  readonly endpoint: URL
  /** What it is sent over; taken and released by the caller. */
  readonly line: Pick<Line, 'post'>
  /**
   * The key configuration to seal to, asked for at every request. It must come from an accepted attestation result that
   * still holds: whatever key this returns can read the request.
   */
  readonly keyConfiguration: () => Bytes
  readonly now: () => Date
  readonly limits?: Partial<TransportLimits>
  /** Encapsulations made ahead; share one among the transports to one worker. Default: one of this transport's own. */
  readonly senders?: SenderStock
}

export interface SealedExchange {
  /** Its body errors with TruncatedResponseError or InvalidResponseError; only a body that ends normally is whole. */
  readonly response: Response
  /** Settles when the body has been read to its end; rejects when it fails or is cancelled. */
  readonly trailers: Promise<Headers>
  /** A secret shared with the enclave for this request only. */
  exportSecret(label: string, length: number): Promise<Bytes>
  /** The exact key configuration the request was sealed to. */
  readonly configuration: Bytes
}

const requestOf = new WeakMap<ReadableStream, Request>()

/** Takes what `fetch` takes. */
export type Transport = (input: RequestInfo | URL, init?: RequestInit) => Promise<SealedExchange>

/**
 * The request's `signal` aborts sending, waiting and reading, with its own reason.
 * @throws GatewayRefusedError, UnavailableError, TruncatedResponseError, InvalidResponseError; before anything is sent,
 * FormatError or HpkeError on a bad key configuration, FormatError on a request that is too large, and LineEndedError.
 */
export function createTransport(options: TransportOptions): Transport {
  const limits: TransportLimits = { ...TRANSPORT_LIMITS, ...options.limits }
  const senders = options.senders ?? createSenderStock()
  return async (input, init) => {
    const read = await readRequest(input, init, limits.maxRequestBytes)
    const { request } = read
    const lifetime = new AbortController()
    const follow = () => lifetime.abort(request.signal.reason)
    request.signal.addEventListener('abort', follow, { once: true })
    if (request.signal.aborted) follow()
    try {
      return await exchange(read, { ...options, senders }, limits, lifetime)
    } catch (error) {
      lifetime.abort(error) // nothing may go on reading for an exchange that failed
      throw error
    }
  }
}

async function exchange(
  { request, content }: ReadRequest,
  options: TransportOptions & { readonly senders: SenderStock },
  limits: TransportLimits,
  lifetime: AbortController,
): Promise<SealedExchange> {
  const { signal } = lifetime
  signal.throwIfAborted()
  const message = encodeInner(request, content, options.now())
  const sender = await options.senders.take(options.keyConfiguration())
  const sealed = await sealPrepared(sender, message)
  signal.throwIfAborted()

  const outer = await post(options, sealed.body, sender.hint, signal)
  // A connection that breaks is a truncated response, an abort stays an abort.
  const bytes = outer.pieces((error) => (signal.aborted ? signal.reason : new TruncatedResponseError(error)))
  const opened = await rethrow(decodeResponse(openResponse(sealed, bytes), bhttpLimits(limits)), signal)
  const { response, trailers } = await responseOf(opened, lifetime)
  const configuration = sender.configuration.encoded
  const refill = () => options.senders.refill(configuration)
  trailers.then(refill, refill)
  // undici forgets to forward aborts to a Request that was collected, so it lives as long as the answer's body.
  if (response.body !== null) requestOf.set(response.body, request)
  return { response, trailers, exportSecret: sealed.exportSecret, configuration }
}

/** Known-length Binary HTTP, padded with zeros to its bucket (RFC 9292 §3.8). */
function encodeInner(request: Request, content: Bytes, now: Date): Bytes {
  const url = new URL(request.url)
  const fields = fieldLinesOf(request.headers).filter(([name]) => name !== 'date')
  fields.push(['date', now.toUTCString()])
  const head = {
    method: request.method,
    scheme: 'https',
    authority: url.host,
    path: url.pathname + url.search,
    fields,
  }
  const message = encodeRequest(head, content)
  return padMessage(message, paddedLength(message.length))
}

async function post(
  { endpoint, line }: TransportOptions,
  body: Bytes,
  hint: string,
  signal: AbortSignal,
): Promise<Answer> {
  const headers = { 'content-type': REQUEST_MEDIA_TYPE.chunked, incremental: '?1', [ROUTING_HINT_HEADER]: hint }
  const outer = await line.post(endpoint, headers, body, signal).catch((cause: unknown) => {
    signal.throwIfAborted()
    if (cause instanceof GatewayRefusedError || (cause instanceof LineEndedError && !cause.sent)) throw cause
    throw new UnavailableError(cause)
  })
  const { status, type } = outer
  if (status === 200 && type === RESPONSE_MEDIA_TYPE.chunked) return outer
  // The body of a refusal is anyone's word and may be long: the status and media type are all that is used of it.
  await outer.discard()
  const aboutKey = status === 421 || (status === 400 && type === 'application/problem+json')
  throw new GatewayRefusedError(aboutKey ? 'transport.key-refused' : 'transport.refused', status)
}

async function responseOf(
  opened: BhttpMessage<ResponseHead>,
  lifetime: AbortController,
): Promise<{ response: Response; trailers: Promise<Headers> }> {
  const { signal } = lifetime
  const { status, fields } = opened.head
  const lines = opened.trailers.catch((error: unknown) => {
    throw channelError(error, signal)
  })
  // Content that was never asked for cannot settle its trailers, so leaving does.
  const left = new Promise<never>((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true })
  })
  const trailers = Promise.race([lines, left]).then(headersOf)
  trailers.catch(() => undefined) // a caller that never asks for trailers must not crash the process

  if (status === 204 || status === 205 || status === 304) {
    const content = await rethrow(new StreamReader(opened.content, 'response').rest(0), signal)
    return {
      response: new Response(content.length === 0 ? null : content, { status, headers: headersOf(fields) }),
      trailers,
    }
  }
  const body = toReadable(opened.content, {
    cancelled: (reason) => lifetime.abort(reason ?? new DOMException('the response was cancelled', 'AbortError')),
    failed: (error) => channelError(error, signal),
  })
  return { response: new Response(body, { status, headers: headersOf(fields) }), trailers }
}

function headersOf(lines: readonly FieldLine[]): Headers {
  return new Headers(lines.map(([name, value]): [string, string] => [name, value]))
}

function bhttpLimits({ maxResponseBytes }: TransportLimits): BhttpLimits {
  return { ...BHTTP_LIMITS, maxContentBytes: maxResponseBytes }
}

async function rethrow<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  try {
    return await promise
  } catch (error) {
    throw channelError(error, signal)
  }
}

/** A failure below, as this module's own error. Inside an opened message an early end is the sender's, not the path's. */
function channelError(error: unknown, signal: AbortSignal): unknown {
  if (signal.aborted) return signal.reason
  if (error instanceof TruncatedError) return new TruncatedResponseError(error)
  if (error instanceof FormatError || error instanceof OhttpError) return new InvalidResponseError(error)
  return error
}
