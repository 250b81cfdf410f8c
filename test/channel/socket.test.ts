/** The same channel over a real loopback socket, through a proxy that records every byte. */
import { once } from 'node:events'
import type { Server as HttpServer } from 'node:http'
import { type AddressInfo, connect, createServer, type Server } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { fetchLine } from '../../client/lines.js'
import { createTransport, type Transport } from '../../client/transport.js'
import { createGateway, withTrailers } from '../../enclave/channel.js'
import { createWorkerServer } from '../../enclave/channel-socket.js'
import { outerOf, responseOf } from '../../enclave/channel-web.js'
import { createLogger } from '../../enclave/log.js'
import { utf8 } from '../../verifier/protocol/bytes.js'
import { KEM_MLKEM768_X25519 } from '../../verifier/protocol/hpke.js'
import { fromReadable, toReadable } from '../../verifier/protocol/streams.js'
import { failureOf } from '../protocol/pieces.js'
import { gate, post, TestRing, textOf } from './pair.js'

describe('over a socket', () => {
  const ring = new TestRing()
  const captured: Buffer[] = []
  const state: { handler: (request: Request) => Response | Promise<Response> } = { handler: () => new Response('') }
  let worker: HttpServer
  const lines: string[] = []
  const log = createLogger({ write: (line) => lines.push(line), level: 'error', now: () => new Date() })
  let proxy: Server
  let transport: Transport
  let endpoint: URL
  const dropAfter = { bytes: Number.POSITIVE_INFINITY }

  beforeAll(async () => {
    await ring.add(1, KEM_MLKEM768_X25519, new Date(Date.now() + 600_000))
    const gateway = createGateway({
      keys: ring,
      handler: (request) => state.handler(request),
      now: () => new Date(),
      limits: { maxRequestBytes: 2_500_000, maxConcurrentRequests: 4 },
    })
    const fetch = async (request: Request, failed?: (error: unknown) => void) =>
      responseOf(await gateway(outerOf(request)), failed)
    worker = createWorkerServer({ fetch, sealed: gateway }, log).listen(0, '127.0.0.1')
    await once(worker, 'listening')
    proxy = createServer((client) => {
      const upstream = connect((worker.address() as AddressInfo).port, '127.0.0.1')
      let answered = 0
      client.on('data', (data) => captured.push(data))
      upstream.on('data', (data) => {
        captured.push(data)
        answered += data.length
        if (answered > dropAfter.bytes) client.destroy()
      })
      for (const socket of [client, upstream]) socket.on('error', () => undefined)
      client.on('close', () => upstream.destroy())
      client.pipe(upstream).pipe(client)
    }).listen(0, '127.0.0.1')
    await once(proxy, 'listening')
    endpoint = new URL(`http://127.0.0.1:${(proxy.address() as AddressInfo).port}/ohttp`)
    transport = createTransport({
      endpoint,
      line: fetchLine(globalThis.fetch),
      keyConfiguration: () => ring.keys[0]?.configuration.encoded ?? new Uint8Array(0),
      now: () => new Date(),
    })
  })
  afterAll(() => {
    proxy.close()
    worker.close()
  })

  it('streams incrementally, with trailers, and shows the path nothing', async () => {
    const held = gate()
    state.handler = async (request) => {
      const prompt = textOf(request)
      async function* content() {
        yield utf8('canary-answer to ')
        await held.promise
        yield utf8(prompt)
      }
      return withTrailers(new Response(toReadable(content())), () => new Headers({ 'x-trailer': 'canary-trailer' }))
    }
    const { response, trailers } = await transport(post('canary-prompt'))
    const pieces = fromReadable(response.body)
    expect((await pieces.next()).value).toEqual(utf8('canary-answer to '))
    held.open()
    expect((await pieces.next()).value).toEqual(utf8('canary-prompt'))
    expect((await pieces.next()).done).toBe(true)
    expect((await trailers).get('x-trailer')).toBe('canary-trailer')
    const bytes = Buffer.concat(captured)
    expect(bytes.includes('subrosa-key')).toBe(true)
    expect(bytes.includes('canary')).toBe(false)
  })

  it('a client that leaves aborts the handler', async () => {
    const seen: { signal?: AbortSignal } = {}
    state.handler = (request) => {
      seen.signal = request.signal
      return new Response(new ReadableStream({ start: (controller) => controller.enqueue(utf8('one')) }))
    }
    const controller = new AbortController()
    const { response } = await transport(post('x', { signal: controller.signal }))
    const pieces = fromReadable(response.body)
    await pieces.next()
    controller.abort()
    expect(await failureOf(() => pieces.next())).toMatchObject({ name: 'AbortError' })
    await expect.poll(() => seen.signal?.aborted, { timeout: 60_000 }).toBe(true)
  })

  it('a client that leaves before the handler answers aborts it too', async () => {
    const seen: { signal?: AbortSignal } = {}
    state.handler = (request) => {
      seen.signal = request.signal
      return new Promise<Response>((_, reject) =>
        request.signal.addEventListener('abort', () => reject(new Error('gone'))),
      )
    }
    const controller = new AbortController()
    const pending = transport(post('x', { signal: controller.signal }))
    await expect.poll(() => seen.signal !== undefined).toBe(true)
    controller.abort()
    expect(await failureOf(() => pending)).toMatchObject({ name: 'AbortError' })
    await expect.poll(() => seen.signal?.aborted, { timeout: 60_000 }).toBe(true)
  })

  it('a cut connection is a truncated response', async () => {
    async function* large() {
      for (let i = 0; i < 200; i++) yield new Uint8Array(8000)
    }
    state.handler = () => new Response(toReadable(large()))
    dropAfter.bytes = 100_000
    const failure = await failureOf(async () => (await transport(post('x'))).response.arrayBuffer())
    dropAfter.bytes = Number.POSITIVE_INFINITY
    expect(failure).toMatchObject({ code: 'transport.truncated' })
  })

  it.each([100, 2_000_000])('refusals arrive as such, %i bytes into the request', async (length) => {
    const held = ring.keys
    ring.keys = []
    const stale = createTransport({
      endpoint,
      line: fetchLine(globalThis.fetch),
      keyConfiguration: () => held[0]?.configuration.encoded ?? new Uint8Array(0),
      now: () => new Date(),
      limits: { maxRequestBytes: 8_000_000 },
    })
    const refused = await failureOf(() => stale(post('x'.repeat(length))))
    ring.keys = held
    expect(refused).toMatchObject({ code: 'transport.key-refused', status: 421 })
    expect(await failureOf(() => stale(post('x'.repeat(length + 3_000_000))))).toMatchObject({ status: 413 })
  })

  /** The status line that comes back when these bytes are sent and no more; empty where the connection just ends. */
  const raw = (bytes: string, leaveAfterMs?: number, server = worker) =>
    new Promise<string>((resolve) => {
      let text = ''
      const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
      socket.write(bytes)
      socket.on('data', (data) => {
        text += data.toString('latin1')
        socket.destroy()
      })
      socket.on('error', () => undefined)
      socket.on('close', () => resolve(text.split('\r\n')[0] ?? ''))
      if (leaveAfterMs !== undefined) setTimeout(() => socket.destroy(), leaveAfterMs)
    })
  const head = (fields: string) =>
    `POST /ohttp HTTP/1.1\r\nhost: w\r\ncontent-type: message/ohttp-chunked-req\r\n${fields}\r\n\r\n`

  it.each([
    ['with their length', 'content-length: 100'],
    ['without it', 'transfer-encoding: chunked'],
  ])('requests that take too long to arrive are told so, %s', async (_, fields) => {
    const handler = (): Response => new Response('x')
    const hasty = createGateway({ keys: ring, handler, now: () => new Date(), limits: { requestTimeoutMs: 50 } })
    const fetch = async (request: Request) => responseOf(await hasty(outerOf(request)))
    const server = createWorkerServer({ fetch, sealed: hasty }, log).listen(0, '127.0.0.1')
    await once(server, 'listening')
    expect(await raw(`${head(fields)}1\r\n`, undefined, server)).toBe('HTTP/1.1 408 Request Timeout')
    server.close()
  })

  it('bytes that do not open are refused alike, with their length and without it', async () => {
    const noise = 'x'.repeat(64)
    const sized = await raw(`${head('content-length: 64')}${noise}`)
    expect(sized).toBe(await raw(`${head('transfer-encoding: chunked')}40\r\n${noise}\r\n0\r\n\r\n`))
    expect(sized).toMatch(/^HTTP\/1\.1 4/)
  })

  it('a client that leaves while it sends gives back its place', async () => {
    state.handler = () => new Response('still here')
    await Promise.all(Array.from({ length: 4 }, () => raw(`${head('content-length: 100')}1`, 20)))
    await expect.poll(async () => (await transport(post('x'))).response.text()).toBe('still here')
  })

  it('slow senders, however many, hold up nobody', async () => {
    const handler = (): Response => new Response('x')
    const limits = { maxArrivingRequests: 8, maxConcurrentRequests: 2 }
    const patient = createGateway({ keys: ring, handler, now: () => new Date(), limits })
    const fetch = async (request: Request) => responseOf(await patient(outerOf(request)))
    const server = createWorkerServer({ fetch, sealed: patient }, log).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const fields = ['content-length: 1000', 'transfer-encoding: chunked']
    const slow = Array.from({ length: 20 }, (_, i) => raw(`${head(fields[i % 2] ?? '')}1\r\n`, undefined, server))
    const busy = 'HTTP/1.1 503 Service Unavailable'
    // One gives way to each that comes when there is no more room.
    expect(await Promise.race(slow)).toBe(busy)
    const direct = createTransport({
      endpoint: new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/ohttp`),
      line: fetchLine(globalThis.fetch),
      keyConfiguration: () => ring.keys[0]?.configuration.encoded ?? new Uint8Array(0),
      now: () => new Date(),
    })
    for (let i = 0; i < 10; i++) expect(await (await direct(post('x'))).response.text()).toBe('x')
    server.closeAllConnections()
    expect(new Set(await Promise.all(slow))).toEqual(new Set([busy, '']))
    server.close()
  })

  it.each([
    ['an encapsulated request', {} as Record<string, string>],
    ['one that does not say how long it is', { 'transfer-encoding': 'chunked' }],
  ])('an answer that fails half way ends the connection without a word of why: to %s', async (_, headers) => {
    async function* failing() {
      yield utf8('first')
      throw new Error('canary-failure')
    }
    state.handler = () => new Response(toReadable(failing()))
    const streamed: typeof globalThis.fetch = (input, init) => {
      if (headers['transfer-encoding'] === undefined) return fetch(input, init)
      const body = new Blob([init?.body as Uint8Array<ArrayBuffer>]).stream()
      return fetch(input, { ...init, body, duplex: 'half' } as RequestInit)
    }
    const failed = createTransport({
      endpoint,
      line: fetchLine(streamed),
      keyConfiguration: () => ring.keys[0]?.configuration.encoded ?? new Uint8Array(0),
      now: () => new Date(),
    })
    const already = captured.length
    const before = lines.length
    const failure = await failureOf(async () => (await failed(post('x'))).response.text())
    expect(failure).toMatchObject({ code: 'transport.truncated' })
    expect(Buffer.concat(captured.slice(already)).toString('latin1')).not.toMatch(/canary|Error/)
    expect(lines.slice(before).map((line) => JSON.parse(line).event)).toEqual(['request.failed'])
  })

  it('an unreachable worker is unavailable', async () => {
    const nobody = createTransport({
      endpoint: new URL('http://127.0.0.1:1/ohttp'),
      line: fetchLine(globalThis.fetch),
      keyConfiguration: () => ring.keys[0]?.configuration.encoded ?? new Uint8Array(0),
      now: () => new Date(),
    })
    expect(await failureOf(() => nobody(post('x')))).toMatchObject({ code: 'transport.unavailable' })
  })
})
