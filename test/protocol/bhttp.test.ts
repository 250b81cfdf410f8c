import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import {
  BHTTP_LIMITS,
  type BhttpLimits,
  type BhttpMessage,
  decodeRequest,
  decodeResponse,
  encodeRequest,
  encodeRequestStream,
  encodeResponse,
  encodeResponseStream,
  paddedLength,
  padMessage,
  type RequestHead,
} from '../../verifier/protocol/bhttp.js'
import type { FieldLine } from '../../verifier/protocol/bhttp-fields.js'
import { concat, fromHex, toHex, utf8 } from '../../verifier/protocol/bytes.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { streamOf, TruncatedError } from '../../verifier/protocol/streams.js'
import { encodeVarint } from '../../verifier/protocol/varint.js'
import { collect, cut, failureOf, WAYS } from './pieces.js'

async function whole<Head>(message: Promise<BhttpMessage<Head>>) {
  const { head, content, trailers } = await message
  return { head, content: toHex(await collect(content)), trailers: await trailers }
}

const readRequest = (bytes: Uint8Array, limits?: BhttpLimits) => whole(decodeRequest(streamOf(bytes), limits))
const readResponse = (bytes: Uint8Array, limits?: BhttpLimits) => whole(decodeResponse(streamOf(bytes), limits))

const head: RequestHead = {
  method: 'POST',
  scheme: 'https',
  authority: 'example.com',
  path: '/v1/chat?x=1',
  fields: [
    ['content-type', 'application/json'],
    ['x-a', ''],
    ['x-a', 'caf\u00e9 \t!'],
  ],
}
const text = (value: string) => concat(encodeVarint(value.length), utf8(value))
const control = (framing: number, method = 'GET', scheme = 'https', authority = 'a', path = '/') =>
  concat(encodeVarint(framing), ...[method, scheme, authority, path].map(text))
const line = (name: string, value: string) => concat(text(name), text(value))

describe('binary HTTP, as RFC 9292 writes it', () => {
  it('the request and response of RFC 9458 Appendix A', async () => {
    const request = await readRequest(fromHex('00034745540568747470730b6578616d706c652e636f6d012f'))
    expect(request).toEqual({
      head: { method: 'GET', scheme: 'https', authority: 'example.com', path: '/', fields: [] },
      content: '',
      trailers: [],
    })
    expect(await readResponse(fromHex('0140c8'))).toEqual({
      head: { status: 200, fields: [] },
      content: '',
      trailers: [],
    })
  })

  it('known- and indeterminate-length forms mean the same', async () => {
    const trailers: FieldLine[] = [['x-end', 'yes']]
    const known = encodeRequest(head, utf8('hello'), trailers)
    const streamed = await collect(
      encodeRequestStream(head, streamOf(utf8('he'), utf8(''), utf8('llo')), () => trailers),
    )
    expect(await readRequest(known)).toEqual(await readRequest(streamed))
    expect(await readRequest(known)).toEqual({ head, content: toHex(utf8('hello')), trailers })
  })

  it('skips informational responses of both framings', async () => {
    const known = concat(encodeVarint(1), encodeVarint(100), encodeVarint(0), encodeVarint(204))
    const indeterminate = concat(
      encodeVarint(3),
      encodeVarint(103),
      line('link', 'x'),
      encodeVarint(0),
      encodeVarint(204),
    )
    for (const bytes of [known, indeterminate]) expect((await readResponse(bytes)).head.status).toBe(204)
  })

  it('a message may end where the rest would be empty, and nowhere else', async () => {
    const known = encodeRequest({ ...head, fields: [['a', 'b']] }, utf8('xyz'))
    const lengths: number[] = []
    for (let length = 0; length <= known.length; length++) {
      const failure = await failureOf(() => readRequest(known.subarray(0, length)))
      if (failure === undefined) lengths.push(length)
      else expect(failure).toBeInstanceOf(TruncatedError)
    }
    // after the control data, after the fields, after the content, and whole
    expect(lengths).toEqual([known.length - 10, known.length - 5, known.length - 1, known.length])
  })

  it('an indeterminate body without its terminator is truncated', async () => {
    const bytes = await collect(encodeResponseStream({ status: 200, fields: [] }, streamOf(utf8('abc'))))
    expect(await failureOf(() => readResponse(bytes.subarray(0, -2)))).toBeInstanceOf(TruncatedError)
    expect((await readResponse(bytes.subarray(0, -1))).content).toBe('616263')
  })
})

describe('binary HTTP streams', () => {
  const response = collect(
    encodeResponseStream({ status: 201, fields: [['a', 'b']] }, cut(utf8('some content here'), 5), () => [['t', 'v']]),
  )

  it.each(Object.entries(WAYS))('decodes %s alike', async (_, way) => {
    const bytes = await response
    expect(await whole(decodeResponse(way(bytes)))).toEqual(await readResponse(bytes))
    const request = encodeRequest(head, utf8('body'))
    expect(await whole(decodeRequest(way(request)))).toEqual(await readRequest(request))
  })

  it('truncated at every boundary: the same answer or TruncatedError', async () => {
    const bytes = await response
    for (let length = 0; length < bytes.length; length++) {
      for (const way of Object.values(WAYS)) {
        const failure = await failureOf(() => whole(decodeResponse(way(bytes.subarray(0, length)))))
        if (failure !== undefined) expect(failure).toBeInstanceOf(TruncatedError)
      }
    }
  })

  it('delivers content before the message ends', async () => {
    async function* endless() {
      yield concat(encodeVarint(3), encodeVarint(200), encodeVarint(0), encodeVarint(1000), utf8('first'))
      await new Promise(() => undefined)
    }
    const { content } = await decodeResponse(endless())
    const first = await content[Symbol.asyncIterator]().next()
    expect(first.value).toEqual(utf8('first'))
  })

  it('trailers of abandoned content reject', async () => {
    const message = await decodeResponse(streamOf(await response))
    for await (const _ of message.content) break
    await expect(message.trailers).rejects.toMatchObject({ code: 'bhttp.abandoned' })
  })

  it('asks for trailers only when the content has ended', async () => {
    let ended = false
    async function* content() {
      yield utf8('x')
      ended = true
    }
    const bytes = await collect(
      encodeResponseStream({ status: 200, fields: [] }, content(), async () => [['ended', String(ended)]]),
    )
    expect((await readResponse(bytes)).trailers).toEqual([['ended', 'true']])
  })
})

describe('binary HTTP refuses', () => {
  const known = (...fields: Uint8Array[]) => {
    const section = concat(...fields)
    return concat(control(0), encodeVarint(section.length), section)
  }
  it.each([
    ['a response where a request is due', concat(encodeVarint(1), encodeVarint(200)), 'bhttp.framing'],
    ['an unknown framing', control(4), 'bhttp.framing'],
    ['a pseudo-field', known(line(':method', 'GET')), 'bhttp.field-name'],
    ['an upper-case name', known(line('Host', 'a')), 'bhttp.field-name'],
    ['an empty name', known(line('', 'a')), 'bhttp.field-name'],
    ['a name with a space', known(line('a b', 'a')), 'bhttp.field-name'],
    ['NUL in a value', known(line('a', 'x\0y')), 'bhttp.field-value'],
    ['CR in a value', known(line('a', 'x\ry')), 'bhttp.field-value'],
    ['LF in a value', known(line('a', 'x\ny')), 'bhttp.field-value'],
    ['a value that starts with a space', known(line('a', ' x')), 'bhttp.field-value'],
    ['a method that is no token', control(0, 'GE T'), 'bhttp.control'],
    ['a path with a line break', control(0, 'GET', 'https', 'a', '/\n'), 'bhttp.control'],
    ['an empty path', control(0, 'GET', 'https', 'a', ''), 'bhttp.control'],
    ['an upper-case scheme', control(0, 'GET', 'HTTPS'), 'bhttp.control'],
    ['padding that is not zero', concat(control(0), new Uint8Array([0, 0, 0, 0, 1])), 'bhttp.padding'],
    ['an upper-case trailer', concat(control(2), new Uint8Array([0, 0]), line('A', 'b')), 'bhttp.field-name'],
  ])('%s', async (_, bytes, code) => {
    const error = await failureOf(() => readRequest(bytes))
    expect(error).toBeInstanceOf(FormatError)
    expect(error).toMatchObject({ code })
  })

  it.each([99, 101, 600, 0])('status %i', async (status) => {
    expect(await failureOf(() => readResponse(concat(encodeVarint(1), encodeVarint(status))))).toMatchObject({
      code: 'bhttp.status',
    })
  })

  it('informational responses without end', async () => {
    const loop = concat(
      encodeVarint(1),
      ...Array.from({ length: 20 }, () => concat(encodeVarint(100), encodeVarint(0))),
    )
    expect(await failureOf(() => readResponse(loop))).toMatchObject({ code: 'bhttp.informational' })
  })

  it.each([
    ['field bytes', { maxFieldBytes: 10 }, encodeRequest(head, utf8('')), 'bhttp.fields-too-large'],
    ['field lines', { maxFieldLines: 2 }, encodeRequest(head, utf8('')), 'bhttp.fields-too-large'],
    ['content', { maxContentBytes: 4 }, encodeRequest(head, utf8('hello')), 'bhttp.content-too-large'],
    ['control data', { maxControlBytes: 4 }, encodeRequest(head, utf8('')), 'bhttp.control'],
    ['padding', { maxPaddingBytes: 9 }, concat(encodeRequest(head, utf8('')), new Uint8Array(10)), 'bhttp.padding'],
  ])('more %s than its limit', async (_, limit, bytes, code) => {
    expect(await failureOf(() => readRequest(bytes, { ...BHTTP_LIMITS, ...limit }))).toMatchObject({ code })
  })

  it('a section that claims gigabytes, before reading it', async () => {
    expect(await failureOf(() => readRequest(concat(control(0), encodeVarint(2 ** 40))))).toMatchObject({
      code: 'bhttp.fields-too-large',
    })
    const name = concat(control(2), encodeVarint(2 ** 40))
    expect(await failureOf(() => readRequest(name))).toMatchObject({ code: 'bhttp.fields-too-large' })
  })

  it('to write what it would not read', () => {
    expect(() => encodeRequest({ ...head, fields: [['a', '\u0100']] }, utf8(''))).toThrow(FormatError)
    expect(() => encodeRequest({ ...head, fields: [['a', 'x\r\ny']] }, utf8(''))).toThrow(FormatError)
    expect(() => encodeRequest({ ...head, method: 'A B' }, utf8(''))).toThrow(FormatError)
    expect(() => encodeResponse({ status: 101, fields: [] }, utf8(''))).toThrow(FormatError)
    expect(() => encodeResponseStream({ status: 200, fields: [['A', '']] }, streamOf())).toThrow(FormatError)
  })
})

describe('binary HTTP properties', () => {
  const token = fc.stringMatching(/^[!#$%&'*+\-.^_`|~0-9a-z]{1,12}$/)
  const value = fc.stringMatching(/^([!-~](?:[ -~]{0,20}[!-~])?)?$/)
  const fields = fc.array(fc.tuple(token, value), { maxLength: 6 })
  const bytes = fc.uint8Array({ maxLength: 300 })

  it('decode inverts encode, both framings, padded', async () => {
    const requests = fc.record({
      method: token,
      scheme: fc.constant('https'),
      authority: fc.stringMatching(/^[!-~]{0,20}$/),
      path: fc.stringMatching(/^\/[!-~]{0,20}$/),
      fields,
    })
    await fc.assert(
      fc.asyncProperty(requests, bytes, fields, fc.nat(40), async (request, content, trailers, padding) => {
        const expected = { head: request, content: toHex(content), trailers }
        const known = encodeRequest(request, content, trailers)
        expect(await readRequest(padMessage(known, known.length + padding))).toEqual(expected)
        const streamed = await collect(encodeRequestStream(request, cut(content, 7), () => trailers))
        expect(await readRequest(padMessage(streamed, streamed.length + padding))).toEqual(expected)
      }),
    )
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 200, max: 599 }),
        fields,
        bytes,
        fields,
        async (status, lines, content, trailers) => {
          const expected = { head: { status, fields: lines }, content: toHex(content), trailers }
          expect(await readResponse(encodeResponse(expected.head, content, trailers))).toEqual(expected)
          const streamed = encodeResponseStream(expected.head, cut(content, 50), () => trailers)
          expect(await readResponse(await collect(streamed))).toEqual(expected)
        },
      ),
    )
  })

  it('any bytes decode or raise FormatError, nothing else', async () => {
    const good = encodeRequest(head, utf8('hello'), [['t', 'v']])
    const mutated = fc.tuple(fc.nat(good.length - 1), fc.nat(255)).map(([at, to]) => {
      const copy = new Uint8Array(good)
      copy[at] = to
      return copy
    })
    await fc.assert(
      fc.asyncProperty(fc.oneof(bytes, mutated), async (input) => {
        for (const read of [readRequest, readResponse]) {
          const failure = await failureOf(() => read(input))
          if (failure !== undefined) expect(failure).toBeInstanceOf(FormatError)
        }
      }),
      { numRuns: 500 },
    )
  })
})

describe('request padding', () => {
  it('goes up in steps of 256, then of one eighth of a power of two', () => {
    expect([0, 1, 256, 257, 4095, 4096, 4097, 8191, 8193, 100_000].map(paddedLength)).toEqual([
      256, 256, 256, 512, 4096, 4096, 4608, 8192, 9216, 106_496,
    ])
  })

  it('adds at most an eighth (or to the first 256), and is stable', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2 ** 30 }), (n) => {
        const padded = paddedLength(n)
        expect(padded).toBeGreaterThanOrEqual(n)
        expect(padded - n).toBeLessThan(Math.max(256, n / 8))
        expect(paddedLength(padded)).toBe(padded)
      }),
    )
  })
})
