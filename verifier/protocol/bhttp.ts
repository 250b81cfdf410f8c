/**
 * Binary HTTP messages (RFC 9292): requests and responses, known-length and indeterminate-length, read as streams.
 *
 * A message is delivered as it arrives: first the head, then the content piece by piece, then the trailers. Content that
 * ends normally proves that the message, its trailers and its padding were read to the end of the source. Refused:
 * malformed control data, status 101 and anything outside 100–599, more than a few informational responses, fields that
 * HTTP forbids (bhttp-fields.ts), padding that is not zero, anything above the limits.
 */

import {
  encodeIndeterminateFields,
  encodeKnownFields,
  type FieldLimits,
  type FieldLine,
  latin1,
  readFields,
} from './bhttp-fields.js'
import { type Bytes, concat, isZero, toBytes, toCharacters } from './bytes.js'
import { FormatError, SubrosaError } from './errors.js'
import { StreamReader } from './streams.js'
import { encodeVarint } from './varint.js'

export interface RequestHead {
  readonly method: string
  readonly scheme: string
  /** May be empty. */
  readonly authority: string
  /** Path and query. */
  readonly path: string
  readonly fields: readonly FieldLine[]
}

export interface ResponseHead {
  /** 200 to 599. */
  readonly status: number
  readonly fields: readonly FieldLine[]
}

/** A decoded message. Each part arrives only while `content` is being read. */
export interface BhttpMessage<Head> {
  readonly head: Head
  /** One shot. Read it to its end: trailers and truncation are only known there. */
  readonly content: AsyncIterable<Bytes>
  /** Settles when `content` ends; rejects when it fails or is abandoned. */
  readonly trailers: Promise<readonly FieldLine[]>
}

export interface BhttpLimits extends FieldLimits {
  /** Most bytes in each of method, scheme, authority and path. */
  readonly maxControlBytes: number
  readonly maxContentBytes: number
  readonly maxPaddingBytes: number
  readonly maxInformational: number
}

export const BHTTP_LIMITS: BhttpLimits = {
  maxFieldBytes: 64 * 1024,
  maxFieldLines: 256,
  maxControlBytes: 8 * 1024,
  maxContentBytes: 16 * 1024 * 1024,
  maxPaddingBytes: 4 * 1024 * 1024,
  maxInformational: 8,
}

const KNOWN_REQUEST = 0
const KNOWN_RESPONSE = 1
const INDETERMINATE_REQUEST = 2
const INDETERMINATE_RESPONSE = 3

/** Known-length request (§3.1). @throws FormatError when HTTP does not allow the head. */
export function encodeRequest(head: RequestHead, content: Uint8Array, trailers: readonly FieldLine[] = []): Bytes {
  return concat(encodeVarint(KNOWN_REQUEST), requestControl(head), encodeKnownRest(head.fields, content, trailers))
}

/** Known-length response (§3.1). @throws FormatError when HTTP does not allow the head. */
export function encodeResponse(head: ResponseHead, content: Uint8Array, trailers: readonly FieldLine[] = []): Bytes {
  return concat(encodeVarint(KNOWN_RESPONSE), responseControl(head), encodeKnownRest(head.fields, content, trailers))
}

/** Trailers of a streamed message, asked for once its content has ended. */
export type TrailerSource = () => readonly FieldLine[] | Promise<readonly FieldLine[]>

/** Indeterminate-length request (§3.2): the head is the first piece, then one piece per piece of content. */
export function encodeRequestStream(
  head: RequestHead,
  content: AsyncIterable<Uint8Array>,
  trailers: TrailerSource = () => [],
): AsyncGenerator<Bytes> {
  const control = concat(encodeVarint(INDETERMINATE_REQUEST), requestControl(head))
  return encodeIndeterminate(control, head.fields, content, trailers)
}

/**
 * Indeterminate-length response (§3.2): the head is the first piece, then one piece per piece of content. The last one,
 * with the trailers, is padded with zeros (§3.8) to a multiple of `lastPieceBlock` bytes.
 */
export function encodeResponseStream(
  head: ResponseHead,
  content: AsyncIterable<Uint8Array>,
  trailers: TrailerSource = () => [],
  lastPieceBlock = 1,
): AsyncGenerator<Bytes> {
  const control = concat(encodeVarint(INDETERMINATE_RESPONSE), responseControl(head))
  return encodeIndeterminate(control, head.fields, content, trailers, lastPieceBlock)
}

/** Trailing zero bytes up to `length` (§3.8). @throws RangeError when the message is already longer. */
export function padMessage(message: Uint8Array, length: number): Bytes {
  const out = new Uint8Array(length)
  out.set(message)
  return out
}

/**
 * The length to pad a message to: a multiple of 256, or from 4,096 bytes on a multiple of one eighth of the largest
 * power of two in its length. Eight sizes a doubling, so at most one eighth is added and few sizes can be told apart.
 */
export function paddedLength(length: number): number {
  const step = Math.max(256, 2 ** Math.floor(Math.log2(Math.max(1, length))) / 8)
  return Math.max(1, Math.ceil(length / step)) * step
}

/** Reads a request of either framing up to its head. @throws FormatError, and whatever `source` throws. */
export async function decodeRequest(
  source: AsyncIterable<Uint8Array>,
  limits: BhttpLimits = BHTTP_LIMITS,
): Promise<BhttpMessage<RequestHead>> {
  const reader = new StreamReader(source, 'binary HTTP request')
  const known = framing(await reader.varint(), KNOWN_REQUEST, INDETERMINATE_REQUEST)
  const text = async (): Promise<string> => {
    const length = await reader.varint()
    if (length > limits.maxControlBytes) throw new FormatError('bhttp.control', `control data of ${length} bytes`)
    return toCharacters(await reader.take(length))
  }
  const control = { method: await text(), scheme: await text(), authority: await text(), path: await text() }
  checkRequestControl(control)
  return message({ ...control, fields: await readFields(reader, known, limits) }, reader, known, limits)
}

/** Reads a response of either framing up to its final head. @throws FormatError, and whatever `source` throws. */
export async function decodeResponse(
  source: AsyncIterable<Uint8Array>,
  limits: BhttpLimits = BHTTP_LIMITS,
): Promise<BhttpMessage<ResponseHead>> {
  const reader = new StreamReader(source, 'binary HTTP response')
  const known = framing(await reader.varint(), KNOWN_RESPONSE, INDETERMINATE_RESPONSE)
  for (let informational = 0; ; informational++) {
    const status = await reader.varint()
    if (status >= 200 && status <= 599) {
      return message({ status, fields: await readFields(reader, known, limits) }, reader, known, limits)
    }
    if (status < 100 || status === 101 || status > 199) throw new FormatError('bhttp.status', `status ${status}`)
    if (informational === limits.maxInformational) {
      throw new FormatError('bhttp.informational', `more than ${limits.maxInformational} informational responses`)
    }
    await readFields(reader, known, limits)
  }
}

function encodeKnownRest(fields: readonly FieldLine[], content: Uint8Array, trailers: readonly FieldLine[]): Bytes {
  return concat(encodeKnownFields(fields), encodeVarint(content.length), content, encodeKnownFields(trailers))
}

/** Checks and encodes the head before anything is awaited, so that a bad one fails here and not mid-stream. */
function encodeIndeterminate(
  control: Bytes,
  fields: readonly FieldLine[],
  content: AsyncIterable<Uint8Array>,
  trailers: TrailerSource,
  lastPieceBlock = 1,
): AsyncGenerator<Bytes> {
  const head = concat(control, encodeIndeterminateFields(fields))
  async function* pieces(): AsyncGenerator<Bytes> {
    yield head
    for await (const piece of content) {
      if (piece.length > 0) yield concat(encodeVarint(piece.length), piece)
    }
    const last = concat(encodeVarint(0), encodeIndeterminateFields(await trailers()))
    yield padMessage(last, Math.ceil(last.length / lastPieceBlock) * lastPieceBlock)
  }
  return pieces()
}

function framing(indicator: number, known: number, indeterminate: number): boolean {
  if (indicator === known) return true
  if (indicator === indeterminate) return false
  throw new FormatError('bhttp.framing', `framing indicator ${indicator}: expected ${known} or ${indeterminate}`)
}

function message<Head>(head: Head, reader: StreamReader, known: boolean, limits: BhttpLimits): BhttpMessage<Head> {
  let settle: { resolve(lines: readonly FieldLine[]): void; reject(error: unknown): void } | undefined
  const trailers = new Promise<readonly FieldLine[]>((resolve, reject) => {
    settle = { resolve, reject }
  })
  trailers.catch(() => undefined) // a caller that never asks for trailers must not crash the process

  async function* content(): AsyncGenerator<Bytes> {
    // Made only when it is needed: an error costs a stack trace.
    let failure: (() => unknown) | undefined = () =>
      new SubrosaError('bhttp.abandoned', 'the content was not read to its end')
    try {
      yield* known ? knownContent(reader, limits) : indeterminateContent(reader, limits)
      const lines = await readFields(reader, known, limits)
      await readPadding(reader, limits)
      failure = undefined
      settle?.resolve(lines)
    } catch (error) {
      failure = () => error
      throw error
    } finally {
      if (failure !== undefined) {
        settle?.reject(failure())
        await reader.cancel()
      }
    }
  }
  return { head, content: content(), trailers }
}

async function* knownContent(reader: StreamReader, limits: BhttpLimits): AsyncGenerator<Bytes> {
  if (await reader.ended()) return
  const length = await reader.varint()
  if (length > limits.maxContentBytes) throw contentTooLarge(limits)
  yield* pieces(reader, length)
}

async function* indeterminateContent(reader: StreamReader, limits: BhttpLimits): AsyncGenerator<Bytes> {
  if (await reader.ended()) return
  let budget = limits.maxContentBytes
  for (;;) {
    const length = await reader.varint()
    if (length === 0) return
    budget -= length
    if (budget < 0) throw contentTooLarge(limits)
    yield* pieces(reader, length)
  }
}

/** The next `length` bytes as they come, so that a large declared length costs no memory. */
async function* pieces(reader: StreamReader, length: number): AsyncGenerator<Bytes> {
  for (let left = length; left > 0; ) {
    const piece = await reader.some(left)
    left -= piece.length
    yield toBytes(piece)
  }
}

async function readPadding(reader: StreamReader, limits: BhttpLimits): Promise<void> {
  let budget = limits.maxPaddingBytes
  while (!(await reader.ended())) {
    const piece = await reader.some(Number.POSITIVE_INFINITY)
    budget -= piece.length
    if (budget < 0) throw new FormatError('bhttp.padding', `more than ${limits.maxPaddingBytes} bytes of padding`)
    if (!isZero(piece)) throw new FormatError('bhttp.padding', 'padding is not zero')
  }
}

function contentTooLarge({ maxContentBytes }: BhttpLimits): FormatError {
  return new FormatError('bhttp.content-too-large', `more than ${maxContentBytes} bytes of content`)
}

function requestControl(head: RequestHead): Bytes {
  checkRequestControl(head)
  const parts = [head.method, head.scheme, head.authority, head.path].map(latin1)
  return concat(...parts.flatMap((part) => [encodeVarint(part.length), part]))
}

function responseControl({ status }: ResponseHead): Bytes {
  if (!Number.isInteger(status) || status < 200 || status > 599)
    throw new FormatError('bhttp.status', `status ${status}`)
  return encodeVarint(status)
}

function checkRequestControl({ method, scheme, authority, path }: Omit<RequestHead, 'fields'>): void {
  const ok =
    /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/.test(method) &&
    /^[a-z][a-z0-9+.-]*$/.test(scheme) &&
    /^[\x21-\x7e]*$/.test(authority) &&
    /^[\x21-\x7e]+$/.test(path)
  if (!ok) throw new FormatError('bhttp.control', 'malformed method, scheme, authority or path')
}
