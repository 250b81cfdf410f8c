import { describe, expect, it } from 'vitest'
import { fetchLine } from '../../client/lines.js'
import { InvalidResponseError, TruncatedResponseError } from '../../client/transport-errors.js'
import { channelOf, withTrailers } from '../../enclave/channel.js'
import { decodeResponse, encodeRequest, type RequestHead } from '../../verifier/protocol/bhttp.js'
import { type Bytes, concat, toBytes, toHex, utf8 } from '../../verifier/protocol/bytes.js'
import { MAX_REQUEST_CONTENT_BYTES } from '../../verifier/protocol/constants.js'
import { KEM_MLKEM768_X25519, KEM_X25519_HKDF_SHA256 } from '../../verifier/protocol/hpke.js'
import { type OhttpForm, openResponse, type SealedRequest, sealRequest } from '../../verifier/protocol/ohttp.js'
import { fromReadable, streamOf, toReadable } from '../../verifier/protocol/streams.js'
import { collect, failureOf } from '../protocol/pieces.js'
import { createPair, gate, NOW, type Pair, post, textOf } from './pair.js'

const echo = async (request: Request) =>
  Response.json({
    method: request.method,
    url: request.url,
    headers: Object.fromEntries(request.headers),
    body: textOf(request),
  })

/** Replays recorded bytes at the gateway, as anyone on the path can. */
const send = ({ gateway }: Pair, body: Uint8Array, headers: Record<string, string> = {}) =>
  gateway(
    new Request('https://worker.example/ohttp', {
      method: 'POST',
      headers: { 'content-type': 'message/ohttp-chunked-req', ...headers },
      body: toBytes(body),
    }),
  )

/** A sealed GET made by hand, for what the transport would never send. */
async function sealedBy(
  pair: Pair,
  lines: Readonly<Record<string, string>> | readonly (readonly [string, string])[],
  head: Partial<RequestHead> = {},
  out: { sealed?: SealedRequest } = {},
  content = '',
): Promise<Uint8Array> {
  const configuration = pair.ring.keys[0]?.configuration
  if (configuration === undefined) throw new Error('no key')
  const fields = Array.isArray(lines) ? lines : Object.entries(lines)
  const whole = { method: 'GET', scheme: 'https', authority: 'a', path: '/', fields, ...head }
  out.sealed = await sealRequest(configuration, streamOf(encodeRequest(whole, utf8(content))))
  return collect(out.sealed.body)
}

describe.each([
  ['X25519', KEM_X25519_HKDF_SHA256],
  ['MLKEM768-X25519', KEM_MLKEM768_X25519],
])('an exchange over %s', (_, kemId) => {
  it('carries method, path, fields and content there, status, fields, content and trailers back', async () => {
    const pair = await createPair(
      async (request) => {
        const response = await echo(request)
        return withTrailers(new Response(response.body, { status: 418, headers: { 'x-inner': 'yes' } }), () => {
          return new Headers({ 'subrosa-receipt': 'abc' })
        })
      },
      { kemId },
    )
    const { response, trailers } = await pair.transport(post('{"canary":"prompt"}'))
    expect(response.status).toBe(418)
    expect(response.headers.get('x-inner')).toBe('yes')
    expect(await response.json()).toEqual({
      method: 'POST',
      url: 'https://worker/v1/chat/completions?x=1',
      headers: { 'content-type': 'application/json', authorization: 'Bearer canary-token', date: NOW.toUTCString() },
      body: '{"canary":"prompt"}',
    })
    expect((await trailers).get('subrosa-receipt')).toBe('abc')
  })
})

describe('what the path sees', () => {
  it('only media type, incremental, hint and sizes in buckets', async () => {
    const pair = await createPair(() => new Response('canary-answer'))
    for (const length of [1, 50, 100]) {
      const { response } = await pair.transport(post('canary-prompt'.padEnd(length, 'x')))
      await response.text()
    }
    const [first] = pair.wire.requests
    expect(Object.fromEntries(first?.headers ?? [])).toEqual({
      'content-type': 'message/ohttp-chunked-req',
      incremental: '?1',
      'subrosa-key': expect.stringMatching(/^[\w-]{22}$/),
    })
    expect(new Set(pair.wire.requests.map(({ body }) => body.length)).size).toBe(1)
    const bytes = Buffer.concat([...pair.wire.requests.map(({ body }) => body), ...pair.wire.responses])
    expect(bytes.includes('canary')).toBe(false)
    expect(bytes.includes('chat/completions')).toBe(false)
  })

  it('the same prompt never looks the same twice', async () => {
    const pair = await createPair(() => new Response('x'))
    for (let i = 0; i < 2; i++) await (await pair.transport(post('same'))).response.text()
    const [one, two] = pair.wire.requests.map(({ body }) => toHex(body.subarray(7, 200)))
    expect(one).not.toBe(two)
  })
})

describe('the fetch it makes', () => {
  it('carries no credentials, follows no redirect, leaves no trace (P-7.6)', async () => {
    const seen: { init?: RequestInit | undefined } = {}
    const refuse: typeof globalThis.fetch = async (_, init) => {
      seen.init = init
      return new Response(null, { status: 500 })
    }
    const pair = await createPair(echo, { client: { line: fetchLine(refuse) } })
    await failureOf(() => pair.transport(post('x')))
    expect(seen.init).toMatchObject({
      method: 'POST',
      credentials: 'omit',
      redirect: 'error',
      referrerPolicy: 'no-referrer',
      cache: 'no-store',
    })
  })

  it('a date of the caller’s own is replaced, not repeated', async () => {
    const pair = await createPair(echo)
    const { response } = await pair.transport(post('x', { headers: { date: 'Thu, 01 Jan 1970 00:00:00 GMT' } }))
    expect(await response.json()).toMatchObject({ headers: { date: NOW.toUTCString() } })
  })
})

describe('streaming', () => {
  it('each write arrives before the next is made', async () => {
    const gates = [gate(), gate()]
    async function* content() {
      yield utf8('one')
      await gates[0]?.promise
      yield utf8('two')
      await gates[1]?.promise
    }
    const pair = await createPair(() => new Response(toReadable(content())))
    const { response } = await pair.transport(post('go'))
    const pieces = fromReadable(response.body)
    expect((await pieces.next()).value).toEqual(utf8('one'))
    gates[0]?.open()
    expect((await pieces.next()).value).toEqual(utf8('two'))
    gates[1]?.open()
    expect((await pieces.next()).done).toBe(true)
  })

  it('aborting the request aborts the inner signal and the answer', async () => {
    const seen: { signal?: AbortSignal } = {}
    const pair = await createPair((request) => {
      seen.signal = request.signal
      return new Response(toReadable(forever()))
    })
    async function* forever() {
      yield utf8('one')
      await new Promise(() => undefined)
    }
    const controller = new AbortController()
    const { response, trailers } = await pair.transport(post('go', { signal: controller.signal }))
    const pieces = fromReadable(response.body)
    await pieces.next()
    controller.abort(new Error('enough'))
    await expect(pieces.next()).rejects.toThrow('enough')
    await expect(trailers).rejects.toThrow('enough')
    await expect.poll(() => seen.signal?.aborted).toBe(true)
  })

  it('cancelling the body aborts the inner signal even while nothing arrives', async () => {
    const seen: { signal?: AbortSignal } = {}
    const pair = await createPair((request) => {
      seen.signal = request.signal
      return new Response(new ReadableStream({ start: (controller) => controller.enqueue(utf8('one')) }))
    })
    const { response, trailers } = await pair.transport(post('go'))
    const reader = response.body?.getReader()
    await reader?.read()
    const pending = reader?.read()
    await reader?.cancel()
    await pending
    await expect.poll(() => seen.signal?.aborted).toBe(true)
    await expect(trailers).rejects.toMatchObject({ name: 'AbortError' })
  })

  it('an already aborted request sends nothing', async () => {
    const pair = await createPair(echo)
    const gone = post('x', { signal: AbortSignal.abort(new Error('never mind')) })
    await expect(pair.transport(gone)).rejects.toThrow('never mind')
    expect(pair.wire.requests).toHaveLength(0)
  })

  it('responses without content read to their end at once', async () => {
    const pair = await createPair(() =>
      withTrailers(new Response(null, { status: 204 }), () => new Headers({ a: 'b' })),
    )
    const { response, trailers } = await pair.transport(post('x'))
    expect([response.status, response.body]).toEqual([204, null])
    expect((await trailers).get('a')).toBe('b')
  })
})

describe('truncation', () => {
  const answer = 'a fairly long answer'
  const record = async () => {
    const pair = await createPair(() => new Response(toReadable(streamOf(utf8(answer), utf8(' in two parts')))))
    const whole: { bytes?: Bytes } = {}
    pair.wire.tamper = async (response) => {
      whole.bytes = new Uint8Array(await response.arrayBuffer())
      return new Response(whole.bytes, response)
    }
    const { response } = await pair.transport(post('x'))
    expect(await response.text()).toBe(`${answer} in two parts`)
    return { pair, length: whole.bytes?.length ?? 0 }
  }

  it('at every byte is a typed error, never a short answer (P-7.4)', async () => {
    const { pair, length } = await record()
    for (let keep = 0; keep < length; keep++) {
      pair.wire.tamper = async (response) => new Response((await response.arrayBuffer()).slice(0, keep), response)
      const failure = await failureOf(async () => {
        const { response, trailers } = await pair.transport(post('x'))
        await Promise.all([response.text(), trailers])
      })
      if (keep < length - 16) expect(failure).toBeInstanceOf(TruncatedResponseError)
      else expect(failure instanceof TruncatedResponseError || failure instanceof InvalidResponseError).toBe(true)
    }
  })

  it('a connection that breaks is truncation too', async () => {
    const { pair } = await record()
    pair.wire.tamper = (response) => {
      async function* broken() {
        for await (const piece of fromReadable(response.body)) {
          yield piece
          if (piece.length < 32) throw new TypeError('terminated')
        }
      }
      return new Response(toReadable(broken()), response)
    }
    const failure = await failureOf(async () => (await pair.transport(post('x'))).response.text())
    expect(failure).toMatchObject({ code: 'transport.truncated' })
  })

  it('a handler whose stream fails leaves no final chunk', async () => {
    async function* failing() {
      yield utf8('partial')
      throw new Error('engine failed: canary')
    }
    const pair = await createPair(() => new Response(toReadable(failing())))
    const { response, trailers } = await pair.transport(post('x'))
    await expect(response.text()).rejects.toBeInstanceOf(TruncatedResponseError)
    await expect(trailers).rejects.toBeInstanceOf(TruncatedResponseError)
  })

  it('another exchange’s response, or a changed byte, is invalid', async () => {
    const pair = await createPair(() => new Response('mine'))
    const stolen: { response?: Response } = {}
    pair.wire.tamper = (response) => {
      stolen.response = response
      return new Response(null, { status: 502 })
    }
    expect(await failureOf(() => pair.transport(post('x')))).toMatchObject({ code: 'transport.refused', status: 502 })
    pair.wire.tamper = () => stolen.response as Response
    expect(await failureOf(() => pair.transport(post('x')))).toBeInstanceOf(InvalidResponseError)
    pair.wire.tamper = async (response) => {
      const bytes = new Uint8Array(await response.arrayBuffer())
      bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) ^ 1
      return new Response(bytes, response)
    }
    const failure = await failureOf(async () => (await pair.transport(post('x'))).response.text())
    expect(failure).toBeInstanceOf(InvalidResponseError)
  })

  it('a plaintext answer is never taken for one', async () => {
    const pair = await createPair(echo)
    pair.wire.tamper = () => Response.json({ choices: [] })
    expect(await failureOf(() => pair.transport(post('x')))).toMatchObject({ code: 'transport.refused' })
  })
})

describe('the gateway refuses', () => {
  it('a replay, in the same words as any bad ciphertext (P-7.3, P-7.5)', async () => {
    let handled = 0
    const pair = await createPair(() => new Response(String(++handled)))
    await (await pair.transport(post('x'))).response.text()
    const body = pair.wire.requests[0]?.body ?? new Uint8Array(0)
    const replayed = await send(pair, body)
    const noise = new Uint8Array(body)
    noise[50] = (noise[50] ?? 0) ^ 1
    const refused = await send(pair, noise)
    const cut = await send(pair, body.slice(0, -1))
    const texts = await Promise.all(
      [replayed, refused, cut].map(async (r) => [r.status, [...r.headers], await r.text()]),
    )
    expect(texts[0]).toEqual(texts[1])
    expect(texts[0]).toEqual(texts[2])
    expect(texts[0]?.[0]).toBe(400)
    expect(JSON.parse(String(texts[0]?.[2]))).toEqual({
      type: 'https://iana.org/assignments/http-problem-types#ohttp-key',
      title: 'request could not be opened',
    })
    expect(handled).toBe(1)
    expect(pair.refusals).toEqual(['channel.replay', 'ohttp.open', 'ohttp.open'])
  })

  it('a replay sent at the same moment as the original', async () => {
    let handled = 0
    const pair = await createPair(() => new Response(String(++handled)))
    pair.wire.tamper = () => new Response(null, { status: 500 })
    const donor = await createPair(() => new Response('x'))
    donor.ring.keys = pair.ring.keys
    await (await donor.transport(post('x'))).response.text()
    const body = donor.wire.requests[0]?.body ?? new Uint8Array(0)
    const statuses = (await Promise.all([1, 2, 3].map(() => send(pair, body)))).map((r) => r.status)
    expect(statuses.sort()).toEqual([200, 400, 400])
    expect(handled).toBe(1)
  })

  it('keys it does not have, no longer has, or that do not fit the hint, with 421 (P-7.5)', async () => {
    const pair = await createPair(echo)
    const old = pair.ring.keys[0]
    await (await pair.transport(post('x'))).response.text()
    const body = pair.wire.requests[0]?.body ?? new Uint8Array(0)
    expect((await send(pair, body, { 'subrosa-key': 'AAAAAAAAAAAAAAAAAAAAAA' })).status).toBe(421)
    pair.ring.keys = []
    const gone = await send(pair, body)
    expect(gone.status).toBe(421)
    expect(await gone.json()).toMatchObject({ type: expect.stringContaining('#ohttp-key') })
    pair.ring.keys = old === undefined ? [] : [{ ...old, notAfter: NOW }]
    expect((await send(pair, body)).status).toBe(421)
    expect(await failureOf(() => pair.transport(post('x')))).toMatchObject({
      code: 'transport.key-refused',
      status: 421,
    })
  })

  it('more encapsulations than it can remember: the key is retired', async () => {
    const pair = await createPair(() => new Response('x'), { gateway: { limits: { maxReplayEntries: 2 } } })
    for (let i = 0; i < 2; i++) await (await pair.transport(post('x'))).response.text()
    expect(await failureOf(() => pair.transport(post('x')))).toMatchObject({ code: 'transport.key-refused' })
    expect(pair.ring.retired).toHaveLength(1)
    await pair.ring.add(2)
    expect(await (await pair.transport(post('x'))).response.text()).toBe('x')
  })

  it.each([-121, 121, -86_400])(
    'a date %i seconds from now, inside the encryption and with its own',
    async (seconds) => {
      const clock = () => new Date(NOW.getTime() + seconds * 1000)
      const pair = await createPair(echo, { client: { now: clock } })
      const { response } = await pair.transport(post('x'))
      expect(response.status).toBe(400)
      expect(response.headers.get('date')).toBe(NOW.toUTCString())
      expect(await response.json()).toMatchObject({ type: 'https://iana.org/assignments/http-problem-types#date' })
    },
  )

  it.each([-120, 120])('but not one %i seconds away', async (seconds) => {
    const pair = await createPair(echo, { client: { now: () => new Date(NOW.getTime() + seconds * 1000) } })
    expect((await pair.transport(post('x'))).response.status).toBe(200)
  })

  it('a key that does not fit the hint, even when the ring does not look', async () => {
    const pair = await createPair(echo, {
      gateway: { keys: { find: () => pair.ring.keys[0], retire: () => undefined } },
    })
    await (await pair.transport(post('x'))).response.text()
    const body = pair.wire.requests[0]?.body ?? new Uint8Array(0)
    expect((await send(pair, body, { 'subrosa-key': 'AAAAAAAAAAAAAAAAAAAAAA' })).status).toBe(421)
  })

  const limits = { maxRequestBytes: 2000, maxConcurrentRequests: 1 }

  it('requests above its size, outside the encryption', async () => {
    const pair = await createPair(echo, { gateway: { limits } })
    expect(await failureOf(() => pair.transport(post('x'.repeat(3000))))).toMatchObject({ status: 413 })
  })

  it('requests whose content is above the protocol’s limit, at the client, with nothing sent (P-7.9)', async () => {
    const pair = await createPair(async (request) => new Response(String(textOf(request).length)))
    const largest = await pair.transport(post('x'.repeat(MAX_REQUEST_CONTENT_BYTES)))
    expect(await largest.response.text()).toBe(String(MAX_REQUEST_CONTENT_BYTES))
    const failure = await failureOf(() => pair.transport(post('x'.repeat(MAX_REQUEST_CONTENT_BYTES + 1))))
    expect(failure).toMatchObject({
      code: 'stream.too-long',
      message: expect.stringContaining(`${MAX_REQUEST_CONTENT_BYTES}`),
    })
    expect(pair.wire.requests).toHaveLength(1)
  })

  it('requests that take too long to arrive', async () => {
    const pair = await createPair(echo, { gateway: { limits: { ...limits, requestTimeoutMs: 50 } } })
    const body = new ReadableStream({ start: (controller) => controller.enqueue(new Uint8Array([1])) })
    const init = { method: 'POST', headers: { 'content-type': 'message/ohttp-chunked-req' }, body, duplex: 'half' }
    expect((await pair.gateway(new Request('https://w/ohttp', init as RequestInit))).status).toBe(408)
    const sized = { ...init, headers: { ...init.headers, 'content-length': '100' }, body: new ReadableStream() }
    expect((await pair.gateway(new Request('https://w/ohttp', sized as RequestInit))).status).toBe(408)
  })

  it.each(['9', '1000000000000', '-1', 'x'])(
    'more than their limit, whatever length they claim: %s',
    async (claimed) => {
      const pair = await createPair(echo, { gateway: { limits } })
      const headers = { 'content-type': 'message/ohttp-chunked-req', 'content-length': claimed }
      const init = { method: 'POST', headers, body: new Uint8Array(limits.maxRequestBytes + 1) }
      expect((await pair.gateway(new Request('https://w/ohttp', init))).status).toBe(413)
    },
  )

  it('more at once than its limit, and counts them back down', async () => {
    const held = gate()
    const pair = await createPair(() => held.promise.then(() => new Response('x')), { gateway: { limits } })
    const first = pair.transport(post('x'))
    await expect.poll(() => pair.wire.requests.length).toBe(1)
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(await failureOf(() => pair.transport(post('x')))).toMatchObject({ status: 503, code: 'transport.refused' })
    held.open()
    await (await first).response.text()
    await (await pair.transport(post('x'))).response.body?.cancel()
    expect(await (await pair.transport(post('x'))).response.text()).toBe('x')
  })

  /** A request whose first byte comes at once and the rest when `finish` is called. */
  function slow(sealed: Uint8Array) {
    let finish = (): void => undefined
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        controller.enqueue(sealed.slice(0, 1))
        finish = () => {
          controller.enqueue(sealed.slice(1))
          controller.close()
        }
      },
    })
    const headers = { 'content-type': 'message/ohttp-chunked-req' }
    const init = { method: 'POST', headers, body, duplex: 'half' } as RequestInit
    return { outer: new Request('https://w/ohttp', init), finish: () => finish() }
  }

  const sealedOnly = (pair: Pair) => sealedBy(pair, { date: NOW.toUTCString() })

  it('whoever began to send first, where too many take their time, and never a newcomer', async () => {
    const gateway = { limits: { maxArrivingRequests: 2, maxConcurrentRequests: 1 } }
    const pair = await createPair(echo, { gateway })
    const senders = [slow(await sealedOnly(pair)), slow(await sealedOnly(pair)), slow(await sealedOnly(pair))]
    const [first, second, third] = senders.map(({ outer }) => pair.gateway(outer))
    const crowdedOut = await first
    expect([crowdedOut?.status, crowdedOut?.headers.get('connection')]).toEqual([503, 'close'])
    expect(await (await pair.transport(post('x'))).response.text()).toContain('x')
    expect((await second)?.status).toBe(503)
    senders[2]?.finish()
    expect((await third)?.status).toBe(200)
    expect(pair.refusals).toEqual(['channel.busy', 'channel.busy'])
  })

  it('what is whole when no place is free any more', async () => {
    const held = gate()
    let handled = 0
    const handler = async (): Promise<Response> => {
      handled += 1
      await held.promise
      return new Response('x')
    }
    const pair = await createPair(handler, { gateway: { limits: { maxConcurrentRequests: 1 } } })
    const late = slow(await sealedOnly(pair))
    const outcome = pair.gateway(late.outer)
    const first = pair.transport(post('x'))
    await expect.poll(() => handled).toBe(1)
    late.finish()
    expect((await outcome).status).toBe(503)
    held.open()
    await (await first).response.text()
    expect(handled).toBe(1)
    expect(await (await pair.transport(post('x'))).response.text()).toBe('x')
  })

  it('what was begun while its key lived and is whole only afterwards (P-5.3)', async () => {
    const clock = { at: NOW }
    const pair = await createPair(echo, { gateway: { now: () => clock.at } })
    const sealed = await sealedOnly(pair)
    const late = slow(sealed)
    const outcome = pair.gateway(late.outer)
    await new Promise((resolve) => setTimeout(resolve, 20))
    clock.at = pair.ring.keys[0]?.notAfter ?? NOW
    late.finish()
    expect((await outcome).status).toBe(421)
  })

  it('other methods and media types', async () => {
    const pair = await createPair(echo)
    const outer = (init: RequestInit) => pair.gateway(new Request('https://w/ohttp', init))
    expect((await outer({ headers: { 'content-type': 'message/ohttp-req' } })).status).toBe(405)
    expect((await outer({ method: 'POST', body: '{"messages":[]}' })).status).toBe(415)
  })
})

describe('the gateway and a client that leaves', () => {
  const waiting = () => new Response(new ReadableStream({ start: (controller) => controller.enqueue(utf8('one')) }))

  it('tells the handler when the sealed answer is cancelled', async () => {
    const seen: { signal?: AbortSignal } = {}
    const pair = await createPair((request) => {
      seen.signal = request.signal
      return waiting()
    })
    pair.wire.tamper = () => new Response(null, { status: 500 })
    const outer = await send(pair, await sealedBy(pair, { date: NOW.toUTCString() }))
    const reader = outer.body?.getReader()
    // The head, with the nonce ahead of it, and the first piece of the content.
    for (let i = 0; i < 2; i++) await reader?.read()
    expect(seen.signal?.aborted).toBe(false)
    await reader?.cancel()
    expect(seen.signal?.aborted).toBe(true)
  })

  it('tells the handler when it had left before', async () => {
    const seen: { aborted?: boolean } = {}
    const pair = await createPair((request) => {
      seen.aborted = request.signal.aborted
      return new Response('x')
    })
    const init = {
      method: 'POST',
      headers: { 'content-type': 'message/ohttp-chunked-req' },
      body: toBytes(await sealedBy(pair, { date: NOW.toUTCString() })),
      signal: AbortSignal.abort(),
    }
    await pair.gateway(new Request('https://w/ohttp', init))
    expect(seen.aborted).toBe(true)
  })
})

describe('an inner request', () => {
  const fields = { date: NOW.toUTCString() }
  it.each<[string, Parameters<typeof sealedBy>[1], Partial<RequestHead>, number, string?]>([
    ['as it should be', fields, {}, 200],
    ['with two dates', [...Object.entries(fields), ...Object.entries(fields)], {}, 400],
    ['with a date in another format', { date: NOW.toISOString() }, {}, 400],
    ['with a date that is none', { date: 'today' }, {}, 400],
    ['for another scheme', fields, { scheme: 'http' }, 400],
    ['without an absolute path', fields, { path: '.elsewhere.example/' }, 400],
    ['with a method Request refuses', fields, { method: 'CONNECT' }, 400],
    ['with content where its method has none', fields, { method: 'GET' }, 400, 'x'],
    ['with content of its length', { ...fields, 'content-length': '1' }, { method: 'POST' }, 200, 'x'],
    ['with content of another length', { ...fields, 'content-length': '2' }, { method: 'POST' }, 400, 'x'],
  ])('%s', async (_, lines, head, status, text = '') => {
    let handled = 0
    const pair = await createPair(() => {
      handled++
      return new Response('x')
    })
    const keys: { sealed?: SealedRequest } = {}
    const outer = await send(pair, await sealedBy(pair, lines, head, keys, text))
    expect(outer.status).toBe(200)
    if (keys.sealed === undefined) throw new Error('not sealed')
    const { head: answer, content } = await decodeResponse(openResponse(keys.sealed, fromReadable(outer.body)))
    await collect(content)
    expect([answer.status, handled]).toEqual([status, status === 200 ? 1 : 0])
  })

  it('that is not Binary HTTP at all', async () => {
    const pair = await createPair(echo)
    const configuration = pair.ring.keys[0]?.configuration
    if (configuration === undefined) throw new Error('no key')
    const sealed = await sealRequest(configuration, streamOf(utf8('not bhttp')))
    const outer = await send(pair, await collect(sealed.body))
    const { head } = await decodeResponse(openResponse(sealed, fromReadable(outer.body)))
    expect([outer.status, head.status]).toEqual([200, 400])
  })
})

describe('inside the encryption', () => {
  it('a handler’s failure is a 500 without detail', async () => {
    const pair = await createPair(() => Promise.reject(new Error('secret path')))
    const { response } = await pair.transport(post('x'))
    expect(response.status).toBe(500)
    expect(await response.json()).toEqual({
      error: { message: 'internal error', type: 'server_error', param: null, code: 'internal_error' },
    })
  })

  it('a response HTTP cannot carry is a 500', async () => {
    const pair = await createPair(() => Response.error())
    expect((await pair.transport(post('x'))).response.status).toBe(500)
  })

  it('a content-length that lies is refused before the handler', async () => {
    const pair = await createPair(echo)
    const request = post('12345')
    request.headers.set('content-length', '4')
    const { response } = await pair.transport(request)
    expect([response.status, await response.json()]).toEqual([
      400,
      {
        error: {
          message: 'the request is malformed',
          type: 'invalid_request_error',
          param: null,
          code: 'malformed_request',
        },
      },
    ])
  })

  it('handler and client can derive the same secret, tied to the request', async () => {
    const exported: string[] = []
    const pair = await createPair(async (request) => {
      const channel = channelOf(request)
      exported.push(toHex((await channel?.exportSecret('subrosa receipt request', 32)) ?? new Uint8Array(0)))
      return new Response('x')
    })
    const one = await pair.transport(post('x'))
    const two = await pair.transport(post('x'))
    expect(toHex(await one.exportSecret('subrosa receipt request', 32))).toBe(exported[0])
    expect(toHex(await two.exportSecret('subrosa receipt request', 32))).toBe(exported[1])
    expect(exported[0]).not.toBe(exported[1])
    expect(channelOf(new Request('https://x/'))).toBeUndefined()
  })

  it('drops connection-specific fields, which mean nothing there', async () => {
    const pair = await createPair(
      () => new Response('x', { headers: { 'transfer-encoding': 'chunked', 'x-kept': '1' } }),
    )
    const { response } = await pair.transport(post('x'))
    expect([response.headers.get('transfer-encoding'), response.headers.get('x-kept')]).toEqual([null, '1'])
  })
})

describe.each<[OhttpForm, string]>([
  ['plain', 'message/ohttp-res'],
  ['chunked', 'message/ohttp-chunked-res'],
])('a %s client that knows only the standards', (form, mediaType) => {
  it('gets an answer', async () => {
    const pair = await createPair(echo)
    const configuration = pair.ring.keys[0]?.configuration
    if (configuration === undefined) throw new Error('no key')
    const fields: [string, string][] = [['date', NOW.toUTCString()]]
    const inner = encodeRequest(
      { method: 'GET', scheme: 'https', authority: 'a', path: '/v1/models', fields },
      utf8(''),
    )
    const sealed = await sealRequest(configuration, streamOf(inner), form)
    const outer = await send(pair, await collect(sealed.body), { 'content-type': mediaType.replace('res', 'req') })
    expect([outer.status, outer.headers.get('content-type')]).toEqual([200, mediaType])
    const answer = await collect(openResponse(sealed, fromReadable(outer.body)))
    expect(Buffer.from(answer).includes('https://worker/v1/models')).toBe(true)
  })

  it('without a date gets none (P-7.2)', async () => {
    const pair = await createPair(echo)
    const configuration = pair.ring.keys[0]?.configuration
    if (configuration === undefined) throw new Error('no key')
    const inner = encodeRequest({ method: 'GET', scheme: 'https', authority: 'a', path: '/', fields: [] }, utf8(''))
    const sealed = await sealRequest(configuration, streamOf(concat(inner)), form)
    const outer = await send(pair, await collect(sealed.body), { 'content-type': mediaType.replace('res', 'req') })
    const answer = await collect(openResponse(sealed, fromReadable(outer.body)))
    expect(Buffer.from(answer).includes('problem-types#date')).toBe(true)
  })
})
