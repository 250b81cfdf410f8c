import fc from 'fast-check'
import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { concat, fromHex, toHex, utf8 } from '../../verifier/protocol/bytes.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { aead, importKeyPair, KEM_MLKEM768_X25519, KEM_X25519_HKDF_SHA256 } from '../../verifier/protocol/hpke.js'
import {
  type OhttpForm,
  type OpenedRequest,
  openRequest,
  openResponse,
  prepareSender,
  type RecipientKey,
  type SealedRequest,
  sealPrepared,
  sealRequest,
  sealResponse,
} from '../../verifier/protocol/ohttp.js'
import { MAX_PIECE_BYTES } from '../../verifier/protocol/ohttp-chunks.js'
import { OhttpError } from '../../verifier/protocol/ohttp-errors.js'
import { generateKeyConfiguration } from '../../verifier/protocol/ohttp-generate.js'
import { encodeKeyConfiguration, parseKeyConfiguration } from '../../verifier/protocol/ohttp-keys.js'
import { streamOf, TruncatedError } from '../../verifier/protocol/streams.js'
import { encodeVarint } from '../../verifier/protocol/varint.js'
import { collect, cut, failureOf, WAYS } from './pieces.js'
import { published } from './published.js'

interface Exchange {
  readonly recipientSecretKey: string
  readonly keyConfig: string
  readonly requestBhttp: string
  readonly requestChunkLengths?: readonly number[]
  readonly ephemeralSecretKey: string
  readonly enc: string
  readonly encapsulatedRequest: string
  readonly responseBhttp: string
  readonly responseChunkLengths?: readonly number[]
  readonly responseNonce: string
  readonly encapsulatedResponse: string
}

const vectors = published<Record<'ohttp_rfc9458_appendix_a' | 'chunked_ohttp_draft_example', Exchange>>('ohttp.json')

/** The vector's pieces: its lengths, where a final 0 is the empty final chunk that we always write. */
async function* piecesOf(hex: string, lengths: readonly number[] | undefined) {
  const bytes = fromHex(hex)
  let at = 0
  for (const length of lengths ?? [bytes.length]) {
    if (length > 0) yield bytes.slice(at, at + length)
    at += length
  }
}

/** RFC 8410 PKCS #8 of an X25519 private key, so that WebCrypto can be made to "generate" a published one. */
async function ephemeralPair(secret: string, enc: string) {
  const pkcs8 = fromHex(`302e020100300506032b656e04220420${secret}`)
  const privateKey = await crypto.subtle.importKey('pkcs8', pkcs8, 'X25519', true, ['deriveBits'])
  const publicKey = await crypto.subtle.importKey('raw', fromHex(enc), 'X25519', true, [])
  return { privateKey, publicKey }
}

describe.each<[string, OhttpForm, Exchange | undefined]>([
  ['RFC 9458 Appendix A', 'plain', vectors?.ohttp_rfc9458_appendix_a],
  ['the example of draft-ietf-ohai-chunked-ohttp', 'chunked', vectors?.chunked_ohttp_draft_example],
])('%s', (_, form, vector) => {
  afterEach(() => vi.restoreAllMocks())
  if (vector === undefined) return it.skip('needs the shared vectors (ohttp.json)')

  const configuration = parseKeyConfiguration(fromHex(vector.keyConfig))
  const recipient = async (): Promise<RecipientKey> => ({
    configuration,
    privateKey: await importKeyPair(
      KEM_X25519_HKDF_SHA256,
      fromHex(vector.recipientSecretKey),
      configuration.publicKey,
    ),
  })
  const sealWithItsKey = async (): Promise<SealedRequest> => {
    await generateKeyConfiguration(1, KEM_X25519_HKDF_SHA256) // the choice of KEM implementation also generates a key
    const pair = await ephemeralPair(vector.ephemeralSecretKey, vector.enc)
    vi.spyOn(crypto.subtle, 'generateKey').mockResolvedValueOnce(pair as never)
    return sealRequest(configuration, piecesOf(vector.requestBhttp, vector.requestChunkLengths), form)
  }

  it('the request is sealed to exactly those bytes', async () => {
    const sealed = await sealWithItsKey()
    expect(toHex(await collect(sealed.body))).toBe(vector.encapsulatedRequest)
  })

  it.each(Object.entries(WAYS))('the request opens, %s', async (_way, way) => {
    const key = await recipient()
    const opened = await openRequest(way(fromHex(vector.encapsulatedRequest)), () => key, form)
    expect(toHex(await collect(opened.plaintext))).toBe(vector.requestBhttp)
  })

  it('the response is sealed to exactly those bytes', async () => {
    const key = await recipient()
    const opened = await openRequest(streamOf(fromHex(vector.encapsulatedRequest)), () => key, form)
    const pieces = piecesOf(vector.responseBhttp, vector.responseChunkLengths)
    const sealed = await collect(await sealResponse(opened, pieces, fromHex(vector.responseNonce)))
    expect(toHex(sealed)).toBe(vector.encapsulatedResponse)
  })

  it.each(Object.entries(WAYS))('the response opens, %s', async (_way, way) => {
    const sealed = await sealWithItsKey()
    expect(toHex(await collect(openResponse(sealed, way(fromHex(vector.encapsulatedResponse)))))).toBe(
      vector.responseBhttp,
    )
  })
})

let key: RecipientKey
let hybridKey: RecipientKey
beforeAll(async () => {
  key = await generateKeyConfiguration(1, KEM_X25519_HKDF_SHA256)
  hybridKey = await generateKeyConfiguration(2, KEM_MLKEM768_X25519)
})

async function exchange(form: OhttpForm = 'chunked', to = key) {
  const sealed = await sealRequest(to.configuration, streamOf(utf8('question')), form)
  const requestBytes = await collect(sealed.body)
  const opened = await openRequest(streamOf(requestBytes), () => to, form)
  return { sealed, opened, requestBytes }
}

/** The response as its separate wire pieces: nonce, then one piece per chunk. */
async function responsePieces(opened: OpenedRequest, pieces: readonly Uint8Array[]) {
  const wire: Uint8Array[] = []
  for await (const piece of await sealResponse(opened, streamOf(...pieces))) wire.push(piece)
  const [first = new Uint8Array(0), ...rest] = wire
  const nonceBytes = aead(opened.suite.aeadId).Nk
  return [first.subarray(0, nonceBytes), first.subarray(nonceBytes), ...rest]
}

const open = (sealed: SealedRequest, wire: readonly Uint8Array[]) => collect(openResponse(sealed, streamOf(...wire)))

describe('a message at hand', () => {
  it.each([
    [0, [0]],
    [1, [1]],
    [16_384, [16_384]],
    [16_385, [16_384, 1]],
    [3 * 16_384, [16_384, 16_384, 16_384]],
  ])('of %i bytes takes as few chunks as hold it, the last of them final', async (length, chunks) => {
    const message = crypto.getRandomValues(new Uint8Array(length % 65_536))
    const sealed = await sealPrepared(await prepareSender(key.configuration), message)
    const framing = chunks.reduce((sum, _, i) => sum + 16 + (i === chunks.length - 1 ? 1 : 4), 0)
    expect(sealed.body.length).toBe(7 + 32 + length + framing)
    const opened = await openRequest(streamOf(sealed.body), () => key)
    const pieces: number[] = []
    const parts: Uint8Array[] = []
    for await (const piece of opened.plaintext) {
      pieces.push(piece.length)
      parts.push(piece)
    }
    expect(pieces).toEqual(chunks.filter((size) => size > 0))
    expect(concat(...parts)).toEqual(message)
  })

  it('is one chunk in the plain form too, and its answer opens', async () => {
    const sealed = await sealPrepared(await prepareSender(key.configuration, 'plain'), utf8('question'))
    const opened = await openRequest(streamOf(sealed.body), () => key, 'plain')
    expect(await collect(opened.plaintext)).toEqual(utf8('question'))
    const answer = await sealResponse(opened, streamOf(utf8('answer')))
    expect(await collect(openResponse(sealed, answer))).toEqual(utf8('answer'))
  })
})

describe('encapsulation', () => {
  it.each<[string, OhttpForm]>([
    ['X25519', 'chunked'],
    ['X25519', 'plain'],
    ['MLKEM768-X25519', 'chunked'],
    ['MLKEM768-X25519', 'plain'],
  ])('%s %s: there and back, with a shared export', async (kem, form) => {
    const { sealed, opened } = await exchange(form, kem === 'X25519' ? key : hybridKey)
    expect(await collect(opened.plaintext)).toEqual(utf8('question'))
    expect(await open(sealed, await responsePieces(opened, [utf8('an '), utf8('answer')]))).toEqual(utf8('an answer'))
    expect(await sealed.exportSecret('subrosa receipt request', 32)).toEqual(
      await opened.exportSecret('subrosa receipt request', 32),
    )
    expect(await sealed.exportSecret('a', 32)).not.toEqual(await sealed.exportSecret('b', 32))
    await expect(opened.exportSecret('message/bhttp chunked response', 32)).rejects.toMatchObject({
      code: 'ohttp.label-reserved',
    })
  })

  it('pieces above the limit are split; a chunk is delivered as soon as it is complete', async () => {
    const { sealed, opened } = await exchange()
    const large = crypto.getRandomValues(new Uint8Array(MAX_PIECE_BYTES * 2 + 5))
    const wire = await responsePieces(opened, [large])
    expect(wire.map((piece) => piece.length)).toEqual([32, 16_384 + 16 + 4, 16_384 + 16 + 4, 5 + 16 + 1, 17])
    async function* stalled() {
      yield* streamOf(...wire.slice(0, 2))
      await new Promise(() => undefined)
    }
    const first = await openResponse(sealed, stalled()).next()
    expect(first.value).toEqual(large.slice(0, MAX_PIECE_BYTES))
  })

  it('responses open four ways: whole, odd pieces, byte by byte, truncated at every boundary', async () => {
    const { sealed, opened } = await exchange()
    const bytes = concat(...(await responsePieces(opened, [utf8('one'), utf8('two'), utf8('three')])))
    for (const way of Object.values(WAYS)) {
      expect(await collect(openResponse(sealed, way(bytes)))).toEqual(utf8('onetwothree'))
    }
    for (let length = 0; length < bytes.length; length++) {
      const failure = await failureOf(() => collect(openResponse(sealed, cut(bytes.subarray(0, length), 11))))
      // Nothing of the final chunk distinguishes a cut from a change once a whole tag's worth of bytes is there.
      expect(
        failure instanceof TruncatedError || (failure instanceof OhttpError && failure.code === 'ohttp.open'),
      ).toBe(true)
      if (length < bytes.length - 16) expect(failure).toBeInstanceOf(TruncatedError)
    }
  })

  it.each<OhttpForm>(['chunked', 'plain'])('%s requests truncated at every boundary never open whole', async (form) => {
    const { requestBytes } = await exchange(form)
    for (let length = 0; length < requestBytes.length; length++) {
      const failure = await failureOf(async () => {
        const opened = await openRequest(cut(requestBytes.subarray(0, length), 13), () => key, form)
        await collect(opened.plaintext)
      })
      expect(failure instanceof TruncatedError || failure instanceof OhttpError).toBe(true)
    }
  })

  it('any flipped bit of a request or a response is refused', async () => {
    const { sealed, opened, requestBytes } = await exchange()
    const bytes = concat(...(await responsePieces(opened, [utf8('answer')])))
    const flipped = (input: Uint8Array, at: number, bit: number) => {
      const copy = new Uint8Array(input)
      copy[at] = (copy[at] ?? 0) ^ (1 << bit)
      return copy
    }
    for (let at = 0; at < bytes.length; at++) {
      const failure = await failureOf(() => open(sealed, [flipped(bytes, at, at % 8)]))
      expect(failure instanceof OhttpError || failure instanceof FormatError).toBe(true)
    }
    for (let at = 0; at < requestBytes.length; at++) {
      const failure = await failureOf(async () => {
        const again = await openRequest(streamOf(flipped(requestBytes, at, at % 8)), ({ keyId }) =>
          keyId === 1 ? key : undefined,
        )
        await collect(again.plaintext)
      })
      expect(failure instanceof OhttpError || failure instanceof FormatError).toBe(true)
    }
  })

  it('reordered, dropped, repeated or appended chunks never open', async () => {
    const { sealed, opened } = await exchange()
    const wire = await responsePieces(opened, ['a', 'b', 'c', 'd'].map(utf8))
    const [nonce = new Uint8Array(0), ...chunks] = wire
    await fc.assert(
      fc.asyncProperty(fc.array(fc.nat(chunks.length - 1), { maxLength: 8 }), async (order) => {
        const picked = order.map((i) => chunks[i] ?? new Uint8Array(0))
        const intact = order.length === chunks.length && order.every((value, i) => value === i)
        const failure = await failureOf(() => open(sealed, [nonce, ...picked]))
        if (intact) expect(failure).toBeUndefined()
        else expect(failure instanceof OhttpError || failure instanceof FormatError).toBe(true)
      }),
      {
        numRuns: 200,
        examples: [[[0, 1, 2, 3, 4]], [[0, 1, 2, 4]], [[0, 1, 2, 3, 4, 4]], [[1, 0, 2, 3, 4]], [[0, 0, 1]]],
      },
    )
    expect(await open(sealed, wire)).toEqual(utf8('abcd'))
  })

  it('a response opens for its own request only, in its own form only', async () => {
    const one = await exchange()
    const two = await exchange()
    const wire = await responsePieces(one.opened, [utf8('mine')])
    expect(await failureOf(() => open(two.sealed, wire))).toMatchObject({ code: 'ohttp.open' })
    const spliced = [...(await responsePieces(two.opened, [utf8('theirs')])).slice(0, 2), ...wire.slice(2)]
    expect(await failureOf(() => open(two.sealed, spliced))).toMatchObject({ code: 'ohttp.open' })
    // The same request answered twice: chunks of one answer do not fit the other.
    const again = await responsePieces(one.opened, [utf8('mine')])
    expect(await failureOf(() => open(one.sealed, [...wire.slice(0, 1), ...again.slice(1)]))).toMatchObject({
      code: 'ohttp.open',
    })
    const { requestBytes } = await exchange('plain')
    expect(await failureOf(() => openRequest(streamOf(requestBytes), () => key, 'chunked'))).toBeInstanceOf(Error)
  })

  it('arbitrary responses raise FormatError or OhttpError, nothing else', async () => {
    const { sealed } = await exchange()
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (bytes) => {
        const failure = await failureOf(() => open(sealed, [bytes]))
        expect(failure instanceof OhttpError || failure instanceof FormatError).toBe(true)
      }),
    )
  })

  it.each([
    ['empty piece', 16],
    ['oversized', MAX_PIECE_BYTES + 17],
    ['gigabytes', 2 ** 40],
  ])('a chunk length of an %s is refused before it is read', async (_, length) => {
    const { sealed } = await exchange()
    const wire = [new Uint8Array(32), encodeVarint(length), new Uint8Array(64)]
    expect(await failureOf(() => open(sealed, wire))).toMatchObject({ code: 'ohttp.chunk-length' })
  })

  it('unknown keys and suites outside the configuration are refused before decapsulation', async () => {
    const { requestBytes } = await exchange()
    expect(await failureOf(() => openRequest(streamOf(requestBytes), () => undefined))).toMatchObject({
      code: 'ohttp.key-unknown',
    })
    const { configuration } = key
    const narrower = encodeKeyConfiguration({ ...configuration, algorithms: [{ kdfId: 1, aeadId: 1 }] })
    expect(
      await failureOf(() => openRequest(streamOf(requestBytes), () => ({ ...key, configuration: narrower }))),
    ).toMatchObject({ code: 'ohttp.suite-mismatch' })
  })
})
