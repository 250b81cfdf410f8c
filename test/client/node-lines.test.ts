/** One line by itself (P-7.12), before servers that keep, cut, hold back and redirect. */
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { type Answer, LineEndedError, type Lines } from '../../client/lines.js'
import { nodeReach } from '../../client/node-lines.js'
import { collectGarbage } from '../../scripts/bench/measure.js'
import { concat } from '../../verifier/protocol/bytes.js'
import { startHttp } from '../support/http.js'

const running: { close(): Promise<void> | void }[] = []
afterEach(async () => {
  for (const one of running.splice(0).reverse()) await one.close()
})

async function linesTo(listener: RequestListener) {
  const sockets = new Set<object>()
  const server = await startHttp((request, response) => {
    sockets.add(request.socket)
    listener(request, response)
  })
  running.push(server)
  const url = new URL(server.url)
  const lines = nodeReach()(url)
  running.push(lines)
  return { lines, url, connections: () => sockets.size }
}

const { signal } = new AbortController()
const asIs = (error: unknown): unknown => error
const failure = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => undefined,
    (error: unknown) => error,
  )
/** Answers each request once it has come whole. */
const answering =
  (answer: (response: ServerResponse, request: IncomingMessage) => void): RequestListener =>
  (request, response) =>
    void once(request.resume(), 'end').then(() => answer(response, request))

function post(lines: Lines, url: URL, body = new Uint8Array(100), given = signal): Promise<Answer> {
  const line = lines.take(false)
  return line.post(url, { 'x-test': 'yes' }, body, given).finally(() => line.release())
}

async function read(answer: Answer): Promise<Uint8Array> {
  const pieces: Uint8Array[] = []
  for await (const piece of answer.pieces(asIs)) pieces.push(piece)
  return concat(...pieces)
}

describe('a line', () => {
  it('sends what it is given with its length, and nothing of its own that says who asks', async () => {
    const seen: (string | undefined)[][] = []
    const { lines, url } = await linesTo(
      answering((response, { method, url: path, headers }) => {
        seen.push([method, path], Object.keys(headers).sort(), [headers['content-length']])
        response.writeHead(200, { 'content-type': 'a/b' }).end('x')
      }),
    )
    const answer = await post(lines, new URL('/ohttp?x=1', url))
    expect([answer.status, answer.type, (await read(answer)).length]).toEqual([200, 'a/b', 1])
    expect(seen).toEqual([['POST', '/ohttp?x=1'], ['connection', 'content-length', 'host', 'x-test'], ['100']])
  })

  it('follows no redirect, and takes no type that came twice', async () => {
    const { lines, url, connections } = await linesTo(
      answering((response) => response.writeHead(302, { location: '/', 'content-type': ['a/b', 'a/b'] }).end()),
    )
    const answer = await post(lines, url)
    expect([answer.status, answer.type]).toEqual([302, null])
    await answer.discard()
    await expect(lines.fetch(url)).rejects.toMatchObject({ cause: { message: 'unexpected redirect' } })
    expect(connections()).toBe(1)
  })

  it('is used again after an answer that was read, or thrown away when it had come', async () => {
    const { lines, url, connections } = await linesTo(answering((response) => response.end('short')))
    for (let i = 0; i < 3; i++) {
      const answer = await post(lines, url)
      await new Promise((resolve) => setTimeout(resolve, 20))
      await answer.discard()
      await read(await post(lines, url))
    }
    expect(connections()).toBe(1)
  })

  it('is used again where the other end keeps it for no more than a second', async () => {
    const { lines, url, connections } = await linesTo(
      answering((response) => response.writeHead(200, { 'keep-alive': 'timeout=1' }).end('x')),
    )
    for (let i = 0; i < 3; i++) await read(await post(lines, url))
    expect(connections()).toBe(1)
  })

  it('hands on a long answer whole to whoever reads slowly, and takes no more than it hands on', async () => {
    const whole = Buffer.alloc(8 * 1024 * 1024, 'subrosa')
    let written: ServerResponse | undefined
    const { lines, url } = await linesTo(
      answering((response) => {
        written = response
        response.end(whole)
      }),
    )
    const answer = await post(lines, url)
    await new Promise((resolve) => setTimeout(resolve, 100))
    expect(written?.writableFinished).toBe(false)
    expect(Buffer.compare(Buffer.from(await read(answer)), whole)).toBe(0)
  })

  it('says of a connection whether anything was sent when it ended', async () => {
    let count = 0
    const { lines, url, connections } = await linesTo(
      answering((response) => {
        if (count++ % 2 === 0) response.end('x')
        else response.destroy()
      }),
    )
    await read(await post(lines, url))
    expect(await failure(post(lines, url))).toMatchObject({ sent: true })
    const line = lines.take(false)
    await read(await line.post(url, {}, new Uint8Array(1), signal))
    expect(await failure(line.post(url, {}, new Uint8Array(1), signal))).toBeInstanceOf(LineEndedError)
    expect(await failure(line.post(url, {}, new Uint8Array(1), signal))).toMatchObject({ sent: false })
    expect([connections(), count]).toEqual([2, 4])
    // One that never carried an answer was not idle: it is what any failure is.
    expect(
      await failure(nodeReach()(new URL('http://127.0.0.1:1')).take(false).post(url, {}, new Uint8Array(1), signal)),
    ).toMatchObject({
      message: 'fetch failed',
      cause: { code: 'ECONNREFUSED' },
    })
  })

  it('breaks with the error that its reader makes of it', async () => {
    const { lines, url } = await linesTo(
      answering((response) => {
        response.write('begun')
        setTimeout(() => response.destroy(), 20)
      }),
    )
    const answer = await post(lines, url)
    const broken = async () => {
      for await (const _ of answer.pieces(() => new Error('cut')));
    }
    await expect(broken()).rejects.toThrow('cut')
  })

  it('takes the certificate of a name from authorities that this Node trusts only, as its `fetch` does', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'subrosa-'))
    const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')]
    const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost']
    execFileSync('openssl', ['req', '-x509', ...curve, '-keyout', key, '-out', cert, ...subject], { stdio: 'ignore' })
    let requests = 0
    const server = createServer({ key: await readFile(key), cert: await readFile(cert) }, (_, response) => {
      requests++
      response.end()
    }).listen(0, '127.0.0.1')
    await once(server, 'listening')
    running.push({ close: () => void server.close() }, { close: () => rm(folder, { recursive: true }) })
    const url = new URL(`https://localhost:${(server.address() as AddressInfo).port}`)
    for (const error of await Promise.all([post(nodeReach()(url), url), fetch(url)].map(failure))) {
      expect(error).toMatchObject({ cause: { code: 'DEPTH_ZERO_SELF_SIGNED_CERT' } })
    }
    expect(requests).toBe(0)
  })

  it('ends with an answer that was begun and dropped without a word', async () => {
    let closed = false
    const { lines, url } = await linesTo(
      answering((response) => {
        response.on('close', () => {
          closed = true
        })
        response.write('begun')
      }),
    )
    const begin = async () => {
      const answer = await post(lines, url)
      await answer.pieces(asIs)[Symbol.asyncIterator]().next()
    }
    await begin()
    await expect
      .poll(
        () => {
          collectGarbage()
          return closed
        },
        { timeout: 60_000 },
      )
      .toBe(true)
  })
})
