/**
 * The worker's end of the sealed channel: an OHTTP gateway (RFC 9458 §5, draft-ietf-ohai-chunked-ohttp) that is also
 * its own target. One encapsulated POST in, one web-standard Request to the handler, its Response sealed as it streams.
 *
 * Everything that fails before a request is authentic is answered in plaintext and alike: 421 when the key is not here,
 * otherwise one 400, both of type `ohttp-key` and without detail. Everything after is answered inside the encryption.
 * Refused: replays (§6.5.1: an encapsulation is remembered for as long as its key lives), a missing or skewed `date`,
 * requests above the limits. A request is opened only when all of it is there, and reaches the handler only when its final
 * chunk has opened.
 */
import { createHash } from 'node:crypto'
import { BHTTP_LIMITS, type BhttpLimits, decodeRequest } from '../verifier/protocol/bhttp.js'
import type { Bytes } from '../verifier/protocol/bytes.js'
import { CLOCK_SKEW_S } from '../verifier/protocol/constants.js'
import { FormatError, SubrosaError } from '../verifier/protocol/errors.js'
import {
  type OhttpForm,
  type OpenedRequest,
  openRequest,
  REQUEST_MEDIA_TYPE,
  type RecipientKey,
} from '../verifier/protocol/ohttp.js'
import { OhttpError } from '../verifier/protocol/ohttp-errors.js'
import { ROUTING_HINT_HEADER, routingHint } from '../verifier/protocol/ohttp-keys.js'
import type { PaddingMode } from '../verifier/protocol/statement.js'
import { StreamReader, streamOf } from '../verifier/protocol/streams.js'
import { createPlaces, type Place, type PlaceLimits } from './channel-places.js'
import { type InnerRequest, innerRequest, isTimely } from './channel-request.js'
import { innerError, innerProblem, type OuterAnswer, plaintextProblem, sealInnerResponse } from './channel-response.js'

export { ROUTING_HINT_HEADER } from '../verifier/protocol/ohttp-keys.js'
export { withTrailers } from './channel-response.js'

export interface HpkeKey extends RecipientKey {
  /** The gateway refuses the key from this instant on, whatever the ring says. */
  readonly notAfter: Date
}

export interface KeyRing {
  /** The current key with that id (and hint, if given). Must return the same object for the same key every time. */
  find(keyId: number, hint?: string): HpkeKey | undefined
  /** The key can remember no more encapsulations: stop publishing it, forget it, make a new one. */
  retire(key: HpkeKey): void
}

export interface GatewayLimits extends PlaceLimits {
  /** Most bytes of one encapsulated request. */
  readonly maxRequestBytes: number
  /** Time to receive one whole encapsulated request. */
  readonly requestTimeoutMs: number
  /** Encapsulations remembered for one key before it is retired. */
  readonly maxReplayEntries: number
  /** Tolerated distance of the inner `date` from now, either way. */
  readonly dateWindowMs: number
  /** Most bytes of inner header fields, and most lines of them. */
  readonly maxFieldBytes: number
  readonly maxFieldLines: number
  /** Most bytes of an answer in the plain form, which cannot stream. */
  readonly maxPlainResponseBytes: number
}

export const GATEWAY_LIMITS: GatewayLimits = {
  maxRequestBytes: 8 * 1024 * 1024,
  requestTimeoutMs: 30_000,
  maxArrivingRequests: 256,
  maxConcurrentRequests: 256,
  maxReplayEntries: 100_000,
  dateWindowMs: CLOCK_SKEW_S * 1000,
  maxFieldBytes: 32 * 1024,
  maxFieldLines: 128,
  maxPlainResponseBytes: 8 * 1024 * 1024,
}

export interface GatewayDeps {
  readonly keys: KeyRing
  /** Gets the inner request, whose content its channel has; its `signal` aborts when the client goes away. */
  readonly handler: (request: Request) => Promise<Response> | Response
  readonly now: () => Date
  readonly limits?: Partial<GatewayLimits>
  /** Of what the gateway itself writes, and of the end of every response. Default `tick`; `off` lets sizes tell errors apart. */
  readonly padding?: PaddingMode
  /** Local log of refusals: a fixed code, never content. */
  readonly onRefusal?: (code: string) => void
}

/** What a handler may know about the channel its request came through. */
export interface Channel {
  /** A secret shared with this request's client only (RFC 9180 §5.3). */
  exportSecret(label: string, length: number): Promise<Bytes>
  /** The exact key configuration the request was sealed to. */
  readonly configuration: Bytes
  /** The whole content of the request. The request itself has none: it would make a web stream of it, only to have it read again. */
  readonly content: Bytes
}

const channels = new WeakMap<Request, Channel>()

/** The channel of a request made by a gateway; undefined for any other request. */
export function channelOf(request: Request): Channel | undefined {
  return channels.get(request)
}

/** An encapsulated request, however it came. */
export interface Outer {
  readonly method: string
  /** By its name in lower case. */
  header(name: string): string | undefined
  /** One shot; fails with the reason of the signal. */
  body(signal: AbortSignal): AsyncGenerator<Bytes>
  /** Aborts when the client goes away. */
  readonly signal: AbortSignal
}

/**
 * `ended` runs once, when the answer of that status has ended, failed, or lost its reader; of a refusal, when it is made.
 * Never rejects: every failure is an answer.
 */
export type Gateway = (outer: Outer, ended?: (status: number) => void) => Promise<OuterAnswer>

export function createGateway(deps: GatewayDeps): Gateway {
  const limits: GatewayLimits = { ...GATEWAY_LIMITS, ...deps.limits }
  const { padding = 'tick' } = deps
  const rules = { padding, maxPlainResponseBytes: limits.maxPlainResponseBytes }
  const memory = new WeakMap<HpkeKey, KeyMemory>()
  const places = createPlaces(limits)

  return async (outer, ended) => {
    const unread = (status: number, title: string, headers?: Readonly<Record<string, string>>): OuterAnswer => {
      ended?.(status)
      return plaintextProblem(status, 'about:blank', title, headers)
    }
    const form = formOf(outer.header('content-type'))
    if (outer.method !== 'POST') return unread(405, 'method not allowed', { allow: 'POST' })
    if (form === undefined) return unread(415, 'unsupported media type')
    const arriving = new AbortController()
    const place = places.enter(() => arriving.abort(new Refusal('busy')))
    if (place === undefined) return unread(503, 'busy', { 'retry-after': '1' })
    const gone = new AbortController()
    const leave = () => gone.abort(outer.signal.reason)
    outer.signal.addEventListener('abort', leave, { once: true })
    if (outer.signal.aborted) leave()
    let released = false
    const release = (status = 200) => {
      if (released) return
      released = true
      place.leave()
      outer.signal.removeEventListener('abort', leave)
      ended?.(status)
    }
    try {
      const sealed = await receive(outer, place, arriving, limits)
      const received = await open(sealed, outer.header(ROUTING_HINT_HEADER), form, deps, limits, memory)
      const inner = await answer(received, deps, limits, padding, gone.signal)
      return await sealInnerResponse(received.opened, inner, gone, rules, release)
    } catch (error) {
      const response = refuse(error, deps)
      release(response.status)
      return response
    }
  }
}

interface Received {
  readonly key: HpkeKey
  readonly opened: OpenedRequest
  /** The whole Binary HTTP message, authentic. */
  readonly plaintext: Bytes
}

/** The whole encapsulated request, which has its place among those to be answered. @throws Refusal */
async function receive(
  outer: Outer,
  place: Place,
  arriving: AbortController,
  { maxRequestBytes, requestTimeoutMs }: GatewayLimits,
): Promise<Bytes> {
  const timer = setTimeout(() => arriving.abort(new Refusal('timeout')), requestTimeoutMs)
  const body = outer.body(arriving.signal)
  try {
    const sealed = await new StreamReader(limited(body, maxRequestBytes), 'encapsulated request').rest(maxRequestBytes)
    if (!place.arrived()) throw new Refusal('busy')
    return sealed
  } finally {
    await drain(body, maxRequestBytes)
    clearTimeout(timer)
  }
}

/**
 * Everything cryptographic about a request. What it returns is authentic and new. The key is looked for when all of the request
 * has come, so that the time it takes does not lengthen the key's.
 */
async function open(
  sealed: Bytes,
  hint: string | undefined,
  form: OhttpForm,
  deps: GatewayDeps,
  limits: GatewayLimits,
  memory: WeakMap<HpkeKey, KeyMemory>,
): Promise<Received> {
  const used: { key?: HpkeKey } = {}
  const findKey = ({ keyId }: { readonly keyId: number }): HpkeKey | undefined => {
    const key = deps.keys.find(keyId, hint)
    const usable = key !== undefined && deps.now() < key.notAfter
    if (!usable || (hint !== undefined && hint !== memoryOf(key, memory).hint)) return undefined
    used.key = key
    return key
  }
  const opened = await openRequest(streamOf(sealed), findKey, form)
  const { key } = used
  if (key === undefined) throw new Refusal('key-unknown')
  remember(key, opened.enc, deps.keys, limits, memoryOf(key, memory).seen)
  const plaintext = await new StreamReader(opened.plaintext, 'request').rest(limits.maxRequestBytes)
  return { key, opened, plaintext }
}

/** What the gateway keeps of a key for as long as the key lives. */
interface KeyMemory {
  /** The routing hint of the key. */
  readonly hint: string
  /** Encapsulations to it, as SHA-256 in hexadecimal. */
  readonly seen: Set<string>
}

function memoryOf(key: HpkeKey, memory: WeakMap<HpkeKey, KeyMemory>): KeyMemory {
  const known = memory.get(key)
  if (known !== undefined) return known
  const fresh = { hint: routingHint(key.configuration.encoded), seen: new Set<string>() }
  memory.set(key, fresh)
  return fresh
}

/** RFC 9458 §6.5.1. Only encapsulations whose first chunk opened get here, so noise cannot fill the set. */
function remember(key: HpkeKey, enc: Uint8Array, keys: KeyRing, limits: GatewayLimits, known: Set<string>): void {
  const id = createHash('sha256').update(enc).digest('hex')
  // Answered in plaintext like any failure: a refusal inside the encryption would tell the client that its request was
  // not processed, and here it was, once.
  if (known.has(id)) throw new Refusal('replay')
  if (known.size >= limits.maxReplayEntries) {
    keys.retire(key)
    throw new Refusal('key-unknown')
  }
  known.add(id)
}

/** The response to an authentic request, whatever happens: bad inner requests and handler failures included. */
async function answer(
  { key, opened, plaintext }: Received,
  deps: GatewayDeps,
  limits: GatewayLimits,
  padding: PaddingMode,
  signal: AbortSignal,
): Promise<Response> {
  let inner: InnerRequest
  try {
    const message = await decodeRequest(streamOf(plaintext), bhttpLimits(limits))
    const now = deps.now()
    if (!isTimely(message.head, now, limits.dateWindowMs)) {
      deps.onRefusal?.('date')
      const headers = { date: now.toUTCString() }
      return innerProblem(padding, 400, 'date', 'the date field is missing or too far from now', headers)
    }
    inner = await innerRequest(message, limits.maxRequestBytes, signal)
  } catch (error) {
    if (!(error instanceof FormatError || error instanceof TypeError)) throw error
    deps.onRefusal?.('malformed')
    return innerError(padding, 400, 'invalid_request_error', 'malformed_request', 'the request is malformed')
  }
  const { exportSecret } = opened
  channels.set(inner.request, { exportSecret, configuration: key.configuration.encoded, content: inner.content })
  try {
    return await deps.handler(inner.request)
  } catch {
    deps.onRefusal?.('handler')
    return innerError(padding, 500, 'server_error', 'internal_error', 'internal error')
  }
}

/** A reason to answer in plaintext; the reason itself stays here. */
class Refusal extends SubrosaError {
  constructor(reason: 'busy' | 'timeout' | 'too-large' | 'key-unknown' | 'replay') {
    super(`channel.${reason}`, `refused: ${reason}`)
  }
}

/** The connection is not kept for the rest of a request that did not come. */
const UNFINISHED = { connection: 'close' } as const

function refuse(error: unknown, deps: GatewayDeps): OuterAnswer {
  const code = error instanceof SubrosaError ? error.code : 'channel.internal'
  deps.onRefusal?.(code)
  if (code === 'channel.timeout') return plaintextProblem(408, 'about:blank', 'request timeout', UNFINISHED)
  if (code === 'channel.busy')
    return plaintextProblem(503, 'about:blank', 'busy', { ...UNFINISHED, 'retry-after': '1' })
  if (code === 'channel.too-large') return plaintextProblem(413, 'about:blank', 'content too large')
  if (code === 'channel.key-unknown' || (error instanceof OhttpError && code === 'ohttp.key-unknown')) {
    return plaintextProblem(421, 'ohttp-key', 'key not available')
  }
  return plaintextProblem(400, 'ohttp-key', 'request could not be opened')
}

/** Unlike a for-await loop it leaves the source open when it refuses, so that the rest can be drained. */
async function* limited(source: AsyncGenerator<Bytes>, maxBytes: number): AsyncGenerator<Bytes> {
  let budget = maxBytes
  for (let next = await source.next(); next.done !== true; next = await source.next()) {
    budget -= next.value.length
    if (budget < 0) throw new Refusal('too-large')
    yield next.value
  }
}

/** Reads and forgets what is left: a client still sending when the answer comes would take it for a broken connection. */
async function drain(source: AsyncGenerator<Bytes>, maxBytes: number): Promise<void> {
  try {
    let budget = maxBytes
    for (let next = await source.next(); next.done !== true && budget > 0; next = await source.next()) {
      budget -= next.value.length
    }
    await source.return(undefined)
  } catch {
    // The client left or was too slow; there is nobody to answer.
  }
}

function bhttpLimits(limits: GatewayLimits): BhttpLimits {
  const { maxFieldBytes, maxFieldLines, maxRequestBytes } = limits
  return { ...BHTTP_LIMITS, maxFieldBytes, maxFieldLines, maxContentBytes: maxRequestBytes }
}

function formOf(contentType: string | undefined): OhttpForm | undefined {
  if (contentType === REQUEST_MEDIA_TYPE.chunked) return 'chunked'
  if (contentType === REQUEST_MEDIA_TYPE.plain) return 'plain'
  return undefined
}
