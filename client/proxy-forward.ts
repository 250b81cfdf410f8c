/**
 * One request through the proxy: read from the local caller, sealed to a verified worker, streamed back. What the
 * caller's program says about itself and this machine (token, cookies, origin, connection) stays here.
 */
import { once } from 'node:events'
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http'
import {
  FormatError,
  GatewayRefusedError,
  InvalidResponseError,
  NotTrustedError,
  SubrosaError,
  TruncatedResponseError,
} from './errors.js'
import { type LocalRefusal, refuse } from './local-door.js'
import type { ReceivedReceipt } from './receipts.js'
import { TRANSPORT_LIMITS } from './transport.js'
import { UnavailableError } from './transport-errors.js'
import { type HeldWorker, NoWorkerError, reachedNobody, type WorkerPool } from './worker-pool.js'

/** RFC 9110 §7.6.1, and what belongs to the hop between the caller and this program. */
const OWN_HOP =
  /^(connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|expect|host|content-length|accept-encoding|authorization|cookie|origin|referer|sec-.*|forwarded|x-forwarded-.*|x-real-ip|via)$/
/** A worker decides neither who may read an answer here, nor what a browser does with it, nor what this origin remembers. */
const NOT_RETURNED =
  /^(connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|content-length|set-cookie|access-control-.*|cache-control|content-security-policy|cross-origin-.*|referrer-policy|x-content-type-options|refresh|clear-site-data|strict-transport-security|alt-svc)$/

/** Forwards a request for `/v1/…` and answers it; `onReceipt` sees each receipt that came with a whole answer. */
export async function forward(
  request: IncomingMessage,
  response: ServerResponse,
  pool: WorkerPool,
  onReceipt: (receipt: ReceivedReceipt, worker: HeldWorker) => void,
): Promise<void> {
  const left = new AbortController()
  response.once('close', () => {
    if (!response.writableFinished) left.abort(new DOMException('the caller left', 'AbortError'))
  })
  try {
    const body = await readBody(request)
    const { method = 'GET', url = '/' } = request
    const { pathname, search } = new URL(`http://local${url}`)
    const { worker, answer } = await pool.send(pathname.slice('/v1'.length) + search, {
      method,
      headers: forwardedHeaders(request.headers),
      signal: left.signal,
      ...(method === 'POST' ? { body } : {}),
    })
    await relay(answer, response, left.signal)
    const receipt = await worker.session.receipt(answer).catch(() => undefined)
    if (receipt !== undefined) onReceipt(receipt, worker)
  } catch (error) {
    if (left.signal.aborted) response.destroy()
    else refuse(response, refusalFor(error))
  }
}

class BodyTooLargeError extends Error {}

/** So much of a request that is too large is read and dropped: a caller that still sends would not see why it is refused. */
const MOST_DROPPED = 64 * 1024 * 1024

async function readBody(request: IncomingMessage): Promise<Uint8Array<ArrayBuffer>> {
  let pieces: Buffer[] = []
  let size = 0
  for await (const piece of request as AsyncIterable<Buffer>) {
    size += piece.length
    if (size > MOST_DROPPED) break
    if (size > TRANSPORT_LIMITS.maxRequestBytes) pieces = []
    else pieces.push(piece)
  }
  if (size > TRANSPORT_LIMITS.maxRequestBytes) throw new BodyTooLargeError()
  return new Uint8Array(Buffer.concat(pieces))
}

/** What a worker is told of the caller’s request: nothing of this hop, and never the token. */
export function forwardedHeaders(headers: IncomingHttpHeaders): Headers {
  const listed = (headers.connection ?? '').split(',').map((name) => name.trim().toLowerCase())
  const kept = new Headers()
  for (const [name, value] of Object.entries(headers)) {
    if (OWN_HOP.test(name) || listed.includes(name) || value === undefined) continue
    for (const one of Array.isArray(value) ? value : [value]) kept.append(name, one)
  }
  return kept
}

/** Streams the answer on as it opens. One that breaks cuts the connection: it must not look finished. */
async function relay(answer: Response, response: ServerResponse, signal: AbortSignal): Promise<void> {
  const headers = Object.fromEntries([...answer.headers].filter(([name]) => !NOT_RETURNED.test(name)))
  if (response.req.httpVersion === '1.0') {
    // There the end of the connection is all that ends an answer, a broken one too: it is sent whole, with its length, or not.
    const whole = new Uint8Array(await answer.arrayBuffer())
    response.writeHead(answer.status, { ...headers, 'content-length': whole.length }).end(whole)
    return
  }
  response.writeHead(answer.status, headers)
  response.flushHeaders()
  for await (const piece of answer.body ?? []) {
    if (!response.write(piece)) await once(response, 'drain', { signal })
  }
  response.end()
}

/** What the caller is told. 503: nothing was sent, ask again later. 502: it may have been processed. */
export function refusalFor(error: unknown): LocalRefusal {
  if (error instanceof BodyTooLargeError)
    return { status: 413, code: 'request_too_large', message: 'the request is too large' }
  if (error instanceof NoWorkerError || error instanceof NotTrustedError) {
    const { checks, message } = error
    if (error instanceof NotTrustedError && error.possiblyProcessed) {
      return { status: 502, code: 'worker_not_trusted', message, headers: { 'x-should-retry': 'false' }, checks }
    }
    if (checks.length === 0) return unavailable(`no verified worker, nothing was sent: ${message}`)
    return {
      status: 503,
      code: 'worker_not_trusted',
      message: `no verified worker, nothing was sent: ${message}`,
      // Asking again at once would not change the verdict; OpenAI's clients heed this.
      headers: { 'x-should-retry': 'false' },
      checks,
    }
  }
  if (reachedNobody(error) && error instanceof SubrosaError) return unavailable(error.message)
  if (error instanceof GatewayRefusedError && (error.status === 429 || error.status === 503)) {
    return unavailable('the worker is busy')
  }
  if (error instanceof FormatError) return { status: 400, code: 'invalid_request', message: error.message }
  if (
    error instanceof GatewayRefusedError ||
    error instanceof UnavailableError ||
    error instanceof InvalidResponseError ||
    error instanceof TruncatedResponseError
  ) {
    return { status: 502, code: error.code, message: error.message }
  }
  return { status: 500, code: 'internal_error', message: 'the proxy failed for a reason of its own making' }
}

function unavailable(message: string): LocalRefusal {
  return { status: 503, code: 'worker_unavailable', message, headers: { 'retry-after': '2' } }
}
