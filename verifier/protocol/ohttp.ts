/**
 * Oblivious HTTP encapsulation: RFC 9458 §4 (plain) and draft-ietf-ohai-chunked-ohttp (chunked), bytes unmodified.
 *
 * What goes in and out is Binary HTTP; nothing here looks inside it. Both forms work on streams; the plain form has one
 * ciphertext, so it is buffered, up to a limit. A response opens only with the context of its own request, because its
 * key is exported from that request's HPKE context. Refused: suites that the key configuration does not list, chunk
 * lengths out of range, streams without their final chunk. Replays are the gateway's to refuse: they need memory.
 */
import { type Bytes, concat, utf8 } from './bytes.js'
import {
  type Aead,
  aead,
  HpkeError,
  type HpkePrivateKey,
  type HpkeSuite,
  hkdfExpand,
  hkdfExtract,
  isSupported,
  KEM_SIZES,
  type SenderContext,
  setupBaseR,
  setupBaseS,
} from './hpke.js'
import { nonceSequence, openChunks, openOr, sealChunks, sealWhole } from './ohttp-chunks.js'
import { OhttpError } from './ohttp-errors.js'
import { type KeyConfiguration, routingHint, suiteOf } from './ohttp-keys.js'
import { StreamReader, streamOf, TruncatedError } from './streams.js'

export type OhttpForm = 'chunked' | 'plain'

export const REQUEST_MEDIA_TYPE = { chunked: 'message/ohttp-chunked-req', plain: 'message/ohttp-req' } as const
export const RESPONSE_MEDIA_TYPE = { chunked: 'message/ohttp-chunked-res', plain: 'message/ohttp-res' } as const

/** Largest message of the plain form, which has to be held in memory whole. */
export const MAX_PLAIN_MESSAGE_BYTES: number = 16 * 1024 * 1024

const LABELS = {
  chunked: { request: 'message/bhttp chunked request', response: 'message/bhttp chunked response' },
  plain: { request: 'message/bhttp request', response: 'message/bhttp response' },
} as const

/** What both ends keep of one request: enough for its response and for secrets tied to it, for nothing else. */
export interface RequestContext {
  readonly form: OhttpForm
  readonly suite: HpkeSuite
  readonly enc: Bytes
  /** RFC 9180 §5.3 with the label as exporter context. @throws OhttpError on a label OHTTP itself uses. */
  exportSecret(label: string, length: number): Promise<Bytes>
}

/** The client's side of one request. */
export interface SealedRequest extends RequestContext {
  /** The encapsulated request; one shot. */
  readonly body: AsyncIterable<Bytes>
}

/** The recipient's side of one request whose first chunk has opened. It may still be a replay. */
export interface OpenedRequest extends RequestContext {
  /** The Binary HTTP bytes; one shot. Only its normal end proves that the request is whole. */
  readonly plaintext: AsyncIterable<Bytes>
}

/** RFC 9458 §4.1: key_id u8 ‖ kem_id u16 ‖ kdf_id u16 ‖ aead_id u16. */
export interface RequestHeader extends HpkeSuite {
  readonly keyId: number
}

export interface RecipientKey {
  readonly configuration: KeyConfiguration
  readonly privateKey: HpkePrivateKey
}

/** Seals Binary HTTP to a key. The caller has verified the configuration. @throws FormatError or HpkeError on a bad key. */
export async function sealRequest(
  configuration: KeyConfiguration,
  plaintext: AsyncIterable<Uint8Array>,
  form: OhttpForm = 'chunked',
): Promise<SealedRequest> {
  const { header, context } = takeOut(await prepareSender(configuration, form))
  const { enc, seal } = context

  async function* body(): AsyncGenerator<Bytes> {
    if (form === 'chunked') yield* sealChunks(concat(header, enc), plaintext, seal)
    else yield concat(header, enc, await seal(EMPTY, await wholePlain(plaintext)))
  }
  return { ...requestContext(form, suiteOf(configuration), enc, context.export), body: body() }
}

/**
 * The half of sealing that does not depend on the request, and costs nearly all of its time: one encapsulation to one key,
 * for one request. Whoever holds it can read that request.
 */
export interface PreparedSender {
  readonly configuration: KeyConfiguration
  readonly form: OhttpForm
  /** The routing hint of its key. */
  readonly hint: string
}

const prepared = new WeakMap<PreparedSender, { readonly header: Bytes; readonly context: SenderContext }>()

/** @throws FormatError or HpkeError on a bad key. */
export async function prepareSender(
  configuration: KeyConfiguration,
  form: OhttpForm = 'chunked',
): Promise<PreparedSender> {
  const suite = suiteOf(configuration)
  const header = encodeHeader({ keyId: configuration.keyId, ...suite })
  const sender: PreparedSender = { configuration, form, hint: routingHint(configuration.encoded) }
  const context = await setupBaseS(suite, configuration.publicKey, infoOf(form, header))
  prepared.set(sender, { header, context })
  return sender
}

/** A request that was at hand when it was sealed. */
export interface SealedMessage extends RequestContext {
  /** The whole encapsulated request. */
  readonly body: Bytes
}

/** Seals one message to the key it was prepared for. @throws TypeError the second time: two requests would share their keys. */
export async function sealPrepared(sender: PreparedSender, message: Uint8Array): Promise<SealedMessage> {
  const { header, context } = takeOut(sender)
  const { configuration, form } = sender
  const { enc, seal } = context
  const sealed = await (form === 'chunked' ? sealWhole(message, seal) : seal(EMPTY, message))
  return {
    ...requestContext(form, suiteOf(configuration), enc, context.export),
    body: concat(header, enc, sealed),
  }
}

function takeOut(sender: PreparedSender): { readonly header: Bytes; readonly context: SenderContext } {
  const made = prepared.get(sender)
  if (made === undefined) throw new TypeError('a prepared sender seals one request')
  prepared.delete(sender)
  return made
}

/**
 * Opens an encapsulated request up to its first chunk. `findKey` sees only the plaintext header.
 * @throws FormatError on malformed framing, TruncatedError, OhttpError on an unknown key, a foreign suite or bytes that
 * do not open.
 */
export async function openRequest(
  source: AsyncIterable<Uint8Array>,
  findKey: (header: RequestHeader) => RecipientKey | undefined,
  form: OhttpForm = 'chunked',
): Promise<OpenedRequest> {
  const reader = new StreamReader(source, 'encapsulated request')
  const headerBytes = await reader.take(7)
  const header = decodeHeader(headerBytes)
  const key = findKey(header)
  if (key === undefined) throw new OhttpError('ohttp.key-unknown', `no key with id ${header.keyId}`)
  const suite = agreedSuite(header, key.configuration)
  const enc = await reader.take(KEM_SIZES.get(suite.kemId)?.Nenc ?? 0)
  const context = await setupBaseR(suite, enc, key.privateKey, infoOf(form, headerBytes)).catch((cause: unknown) => {
    if (cause instanceof HpkeError) throw new OhttpError('ohttp.open', 'the message is not authentic', { cause })
    throw cause
  })

  const pieces =
    form === 'chunked'
      ? openChunks(reader, context.open, aead(suite.aeadId).Nt)
      : streamOf(await openOr(context.open, EMPTY, await reader.rest(MAX_PLAIN_MESSAGE_BYTES)))
  const first = await pieces.next()

  async function* plaintext(): AsyncGenerator<Bytes> {
    if (first.done === true) return
    yield first.value
    yield* pieces
  }
  return { ...requestContext(form, suite, enc, context.export), plaintext: plaintext() }
}

/**
 * Seals Binary HTTP as the response to an opened request. `responseNonce` is for published vectors only; a nonce used
 * twice for one request repeats its keystream and gives the answer away.
 */
export async function sealResponse(
  request: OpenedRequest,
  plaintext: AsyncIterable<Uint8Array>,
  responseNonce?: Uint8Array,
): Promise<AsyncGenerator<Bytes>> {
  const size = responseNonceBytes(request.suite)
  const nonce = new Uint8Array(responseNonce ?? crypto.getRandomValues(new Uint8Array(size)))
  if (nonce.length !== size) throw new RangeError(`response nonce: expected ${size} bytes, got ${nonce.length}`)
  const keys = await responseKeys(request, nonce)
  const seal = (aad: Uint8Array, piece: Uint8Array) => keys.aead.seal(keys.key, keys.nextNonce(), aad, piece)
  return request.form === 'chunked'
    ? sealChunks(nonce, plaintext, seal)
    : streamOf(concat(nonce, await seal(EMPTY, await wholePlain(plaintext))))
}

/**
 * Opens the response to a sealed request. Ending normally proves it whole, in order, and this request's own.
 * @throws FormatError on malformed framing, TruncatedError without the final chunk, OhttpError `ohttp.open`.
 */
export async function* openResponse(request: RequestContext, source: AsyncIterable<Uint8Array>): AsyncGenerator<Bytes> {
  const reader = new StreamReader(source, 'encapsulated response')
  try {
    const keys = await responseKeys(request, await reader.take(responseNonceBytes(request.suite)))
    const open = (aad: Uint8Array, piece: Uint8Array) => keys.aead.open(keys.key, keys.nextNonce(), aad, piece)
    if (request.form === 'chunked') {
      yield* openChunks(reader, open, keys.aead.Nt)
    } else {
      const sealed = await reader.rest(MAX_PLAIN_MESSAGE_BYTES + keys.aead.Nt)
      if (sealed.length < keys.aead.Nt) throw new TruncatedError('encapsulated response')
      yield await openOr(open, EMPTY, sealed)
    }
  } finally {
    await reader.cancel()
  }
}

const EMPTY: Bytes = new Uint8Array(0)

function encodeHeader({ keyId, kemId, kdfId, aeadId }: RequestHeader): Bytes {
  const out = new Uint8Array(7)
  const view = new DataView(out.buffer)
  view.setUint8(0, keyId)
  view.setUint16(1, kemId)
  view.setUint16(3, kdfId)
  view.setUint16(5, aeadId)
  return out
}

function decodeHeader(bytes: Bytes): RequestHeader {
  const view = new DataView(bytes.buffer, bytes.byteOffset, 7)
  return { keyId: view.getUint8(0), kemId: view.getUint16(1), kdfId: view.getUint16(3), aeadId: view.getUint16(5) }
}

/** The suite of the header, which must be one that the configuration offers. */
function agreedSuite({ kemId, kdfId, aeadId }: RequestHeader, configuration: KeyConfiguration): HpkeSuite {
  const suite = { kemId, kdfId, aeadId }
  const offered = configuration.algorithms.some((pair) => pair.kdfId === kdfId && pair.aeadId === aeadId)
  if (kemId !== configuration.kemId || !offered || !isSupported(suite)) {
    throw new OhttpError('ohttp.suite-mismatch', 'the key configuration does not list this suite')
  }
  return suite
}

function infoOf(form: OhttpForm, header: Uint8Array): Bytes {
  return concat(utf8(LABELS[form].request), new Uint8Array(1), header)
}

function requestContext(
  form: OhttpForm,
  suite: HpkeSuite,
  enc: Bytes,
  exporter: (context: Uint8Array, length: number) => Promise<Bytes>,
): RequestContext {
  const exportSecret = async (label: string, length: number): Promise<Bytes> => {
    // A caller who could export under OHTTP's own labels would hold, and might publish, the response key.
    if (label.startsWith('message/bhttp')) throw new OhttpError('ohttp.label-reserved', 'label is reserved by OHTTP')
    return exporter(utf8(label), length)
  }
  const context = { form, suite, enc, exportSecret }
  exporters.set(exportSecret, exporter)
  return context
}

/** Keeps the unrestricted exporter reachable from this module only. */
const exporters = new WeakMap<RequestContext['exportSecret'], (context: Uint8Array, length: number) => Promise<Bytes>>()

function responseNonceBytes(suite: HpkeSuite): number {
  const { Nk, Nn } = aead(suite.aeadId)
  return Math.max(Nk, Nn)
}

/** RFC 9458 §4.4: secret, salt, prk, key, nonce. */
async function responseKeys(
  request: RequestContext,
  responseNonce: Uint8Array,
): Promise<{ aead: Aead; key: Bytes; nextNonce: () => Bytes }> {
  const exporter = exporters.get(request.exportSecret)
  if (exporter === undefined) throw new TypeError('not a context made by sealRequest or openRequest')
  const algorithm = aead(request.suite.aeadId)
  const secret = await exporter(utf8(LABELS[request.form].response), responseNonceBytes(request.suite))
  const prk = await hkdfExtract(concat(request.enc, responseNonce), secret)
  const key = await hkdfExpand(prk, utf8('key'), algorithm.Nk)
  const nonce = await hkdfExpand(prk, utf8('nonce'), algorithm.Nn)
  return { aead: algorithm, key, nextNonce: nonceSequence(nonce) }
}

async function wholePlain(plaintext: AsyncIterable<Uint8Array>): Promise<Bytes> {
  return new StreamReader(plaintext, 'message').rest(MAX_PLAIN_MESSAGE_BYTES)
}
