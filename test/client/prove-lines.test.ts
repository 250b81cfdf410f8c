/**
 * One connection for proof and prompt (P-7.12), over real sockets, as Node's clients have it: where connections opened earlier still reach
 * the genuine worker and new ones reach somebody else, nobody gets a byte of a prompt over a connection that did not prove itself.
 */
import { getEventListeners } from 'node:events'
import { request as sendRequest } from 'node:http'
import OpenAI from 'openai'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { connect as connectOverFetch } from '../../client/index.js'
import { LineEndedError, type Reach } from '../../client/lines.js'
import {
  type ConnectOptions,
  connect,
  type PolicyDocument,
  UnprovenError,
  type WorkerSession,
} from '../../client/node.js'
import { nodeReach } from '../../client/node-lines.js'
import { POSSESSION_WINDOW_MS } from '../../client/possession.js'
import { startProxy } from '../../client/proxy.js'
import { connectOver } from '../../client/session.js'
import { reachedNobody } from '../../client/worker-pool.js'
import { toHex } from '../../verifier/protocol/bytes.js'
import { PATH_ATTESTATION, PATH_OHTTP } from '../../verifier/protocol/constants.js'
import { MODEL, type StubEngine, stubEngine } from '../enclave/stub.js'
import { startHttp } from '../support/http.js'
import { relayingEvidence, webServer } from '../support/impostors.js'
import { policyFor, type RunningWorker, startWorker, tapWire, type WireTap } from '../support/worker.js'

const MODES = ['recent', 'always'] as const
const LONG = 'word '.repeat(100)

let engine: StubEngine
/** Held by every answer before its first token, while there is one. */
let gate: Promise<void> | undefined
let worker: RunningWorker
let policy: PolicyDocument
const workers: RunningWorker[] = []
const running: { close(): Promise<void> | void }[] = []

async function started(stub: StubEngine): Promise<RunningWorker> {
  const one = await startWorker({ engine: { engine: stub, model: MODEL } })
  workers.push(one)
  policy = { ...(await policyFor(...workers)), model: { digests: [toHex(MODEL.weightsRoot)] } }
  return one
}

beforeAll(async () => {
  engine = stubEngine({ step: () => gate ?? Promise.resolve() })
  worker = await started(engine)
})
afterEach(async () => {
  gate = undefined
  for (const one of running.splice(0).reverse()) await one.close()
})
afterAll(async () => {
  for (const one of workers) await one.close()
})

function kept<T extends { close(): Promise<void> | void }>(one: T): T {
  running.push(one)
  return one
}

interface World {
  readonly tap: WireTap
  readonly session: WorkerSession
  ask(content?: string, init?: RequestInit): Promise<Response>
  /** Moves the caller's clock, which stands still otherwise. */
  pass(ms: number): void
}

async function world(options: ConnectOptions = {}, url = worker.url, connectBy = connect): Promise<World> {
  const tap = kept(await tapWire(url))
  let nowMs = Date.now()
  const session = kept(await connectBy(tap.url, { policy, now: () => new Date(nowMs), ...options }))
  return {
    tap,
    session,
    ask: (content = 'hello', init = {}) =>
      session.fetch(`${session.baseURL}/chat/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: bodyOf(content),
        ...init,
      }),
    pass: (ms) => {
      nowMs += ms
    },
  }
}

const bodyOf = (content: string, more: object = {}) =>
  JSON.stringify({ model: MODEL.id, messages: [{ role: 'user', content }], ...more })

async function whole(response: Promise<Response>): Promise<number> {
  const answer = await response
  expect(await answer.text()).not.toBe('')
  return answer.status
}
const failure = (response: Promise<unknown>): Promise<unknown> =>
  response.then(
    () => undefined,
    (error: unknown) => error,
  )

/** How often evidence was asked for. */
const askedForEvidence = (tap: WireTap): number =>
  tap.bytes().toString('latin1').split(`GET ${PATH_ATTESTATION}?`).length - 1

/** An impostor, and everything that anyone sends to it. */
async function impostor(start: () => Promise<{ url: string; close(): Promise<void> }>) {
  const server = kept(await start())
  const seen = kept(await tapWire(server.url))
  return seen
}

const prompts = (): number => engine.calls.length
const promptOf = ({ promptTokens }: StubEngine['calls'][number]) => String.fromCodePoint(...promptTokens)

describe('where older connections reach the worker, and new ones somebody else', () => {
  const IMPOSTORS: readonly (readonly [string, () => Promise<{ url: string; close(): Promise<void> }>])[] = [
    ['that hands on live evidence', () => relayingEvidence(worker.url)],
    ['that is any web server', () => webServer(200)],
  ]

  describe.each(IMPOSTORS)('somebody %s', (_, start) => {
    it.each(MODES)('gets questions and no byte of a prompt’s ciphertext, of sixteen at once (%s)', async (prove) => {
      const other = await impostor(start)
      const { ask, tap, pass } = await world({ prove })
      expect(await whole(ask())).toBe(200)
      const [question] = tap.sealed()
      const before = prompts()
      tap.divert(other.url)
      pass(POSSESSION_WINDOW_MS)
      const results = await Promise.all(Array.from({ length: 16 }, () => failure(whole(ask(LONG)))))
      for (const error of results) {
        if (error === undefined) continue
        expect(reachedNobody(error)).toBe(true)
        expect(error).toMatchObject({ code: expect.stringMatching(/^(client\.unproven|worker\.)/) })
      }
      const answered = results.filter((error) => error === undefined).length
      expect(answered).toBeLessThanOrEqual(1)
      expect(prompts() - before).toBe(answered)
      expect(other.connections()).toBeGreaterThan(0)
      for (const length of other.sealed()) expect(length).toBe(question)
    })

    it.each(MODES)('gets nothing while one connection does for all that is asked (%s)', async (prove) => {
      const other = await impostor(start)
      const { ask, tap, pass } = await world({ prove })
      expect(await whole(ask())).toBe(200)
      tap.divert(other.url)
      for (let i = 0; i < 3; i++) {
        pass(POSSESSION_WINDOW_MS)
        expect(await whole(ask(LONG))).toBe(200)
      }
      expect(other.bytes().length).toBe(0)
    })

    it('gets no prompt of the openai package, nor of a program behind the proxy', async () => {
      const other = await impostor(start)
      const tap = kept(await tapWire(worker.url))
      const session = kept(await connect(tap.url, { policy, prove: 'always' }))
      const proxy = kept(
        await startProxy({ workers: [tap.url], port: 0, connect: { policy, prove: 'always' }, firstLookMs: 60_000 }),
      )
      const clients = [
        new OpenAI({ baseURL: session.baseURL, fetch: session.fetch, apiKey: 'unused', maxRetries: 0 }),
        new OpenAI({ baseURL: proxy.baseURL, apiKey: proxy.token, maxRetries: 0 }),
      ]
      const say = (client: OpenAI, content: string) =>
        client.chat.completions.create({ model: MODEL.id, messages: [{ role: 'user', content }] })
      for (const client of clients) await say(client, 'hello')
      const question = Math.min(...tap.sealed())
      tap.divert(other.url)
      for (const client of clients) {
        const results = await Promise.all(Array.from({ length: 4 }, () => failure(say(client, LONG))))
        expect(results.filter((error) => error === undefined).length).toBeLessThanOrEqual(1)
      }
      expect(other.connections()).toBeGreaterThan(0)
      for (const length of other.sealed()) expect(length).toBe(question)
    })
  })

  it('is sent a prompt over a `fetch`, which does not say which connection it takes', async () => {
    const other = await impostor(() => relayingEvidence(worker.url))
    const { ask, tap, pass } = await world({}, worker.url, connectOverFetch)
    expect(await whole(ask())).toBe(200)
    const [question] = tap.sealed()
    tap.divert(other.url)
    pass(POSSESSION_WINDOW_MS)
    // They share the question, which goes over the connection that is open.
    await Promise.all(Array.from({ length: 4 }, () => failure(whole(ask(LONG)))))
    expect(other.sealed().some((length) => length !== question)).toBe(true)
  })
})

describe('a connection', () => {
  it.each(MODES)(
    'that ends between proof and prompt takes no prompt with it: another one proves itself (%s)',
    async (prove) => {
      const { url, sealed } = await front((count) => (count === 1 ? { connection: 'close' } : {}))
      const { ask, session } = await world({ prove }, url)
      const before = prompts()
      const answer = await ask('once')
      expect([answer.status, session.sealedOnce(answer), session.doubted]).toEqual([200, true, false])
      await answer.text()
      expect(sealed()).toHaveLength(3)
      expect(engine.calls.slice(before).map(promptOf)).toEqual(['once'])
    },
  )

  it('is never opened again: where each ends after one answer, nothing of a prompt is sent', async () => {
    const { url, sealed } = await front(() => ({ connection: 'close' }))
    const { ask } = await world({}, url)
    const before = prompts()
    const error = await failure(ask(LONG))
    expect(error).toBeInstanceOf(UnprovenError)
    expect(error).toMatchObject({ message: expect.stringMatching(/^not sent: each connection/) })
    expect((error as Error).cause).toBeInstanceOf(LineEndedError)
    expect(reachedNobody(error)).toBe(true)
    expect(prompts()).toBe(before)
    expect(new Set(sealed()).size).toBe(1)
  })

  it('that was closed for having been idle costs neither an error nor a doubt', async () => {
    const { ask, session, tap, pass } = await world()
    expect(await whole(ask())).toBe(200)
    for (let i = 0; i < 3; i++) {
      tap.lead(worker.url)
      pass(POSSESSION_WINDOW_MS)
      expect(await whole(ask())).toBe(200)
      expect(session.doubted).toBe(false)
    }
    expect(askedForEvidence(tap)).toBe(1)
    tap.lead(worker.url)
    await session.refresh()
    expect(askedForEvidence(tap)).toBe(2)
  })

  it('that is closed when a prompt is sent over it, within the window, is followed by one that proves itself', async () => {
    const { ask, session, tap } = await world()
    expect(await whole(ask())).toBe(200)
    const sealed = tap.sealed().length
    tap.lead(worker.url)
    await noticed()
    expect(await whole(ask())).toBe(200)
    expect(tap.sealed().length - sealed).toBe(2)
    expect(session.doubted).toBe(false)
  })

  it('carries one exchange at a time: of 32 at once each gets its own answer, and proves its own', async () => {
    const { ask, session, tap, pass } = await world({ session: true })
    for (let round = 0; round < 2; round++) {
      const answers = await Promise.all(Array.from({ length: 32 }, (_, i) => ask(`question ${i}`)))
      await Promise.all(answers.map((answer) => answer.text()))
      const receipts = await Promise.all(answers.map((answer) => session.receipt(answer)))
      expect(new Set(receipts.map(({ verdict }) => verdict))).toEqual(new Set(['accepted']))
      if (round === 0) expect(tap.sealed()).toHaveLength(64)
      else expect(tap.sealed()).toHaveLength(96)
    }
    expect(tap.connections()).toBeLessThanOrEqual(32)
    pass(POSSESSION_WINDOW_MS)
    expect(await whole(ask())).toBe(200)
    expect(tap.sealed()).toHaveLength(98)
  })

  it('is used again for evidence, question and prompt', async () => {
    const { ask, tap, pass, session } = await world()
    for (let i = 0; i < 3; i++) {
      expect(await whole(ask())).toBe(200)
      pass(POSSESSION_WINDOW_MS)
      await session.refresh()
    }
    expect(tap.connections()).toBe(1)
  })

  it('whose answer was left in the middle is closed, and not used again', async () => {
    const { ask, tap, session } = await world()
    expect(await whole(ask())).toBe(200)
    gate = new Promise(() => undefined)
    const leaving = new AbortController()
    const left = await ask('x', { body: bodyOf('x', { stream: true }), signal: leaving.signal })
    const rest = failure(left.text())
    leaving.abort(new Error('enough'))
    expect(await rest).toMatchObject({ message: 'enough' })
    await expect.poll(() => tap.open()).toBe(0)
    const cancelled = await ask('y', { body: bodyOf('y', { stream: true }) })
    await cancelled.body?.cancel()
    await expect.poll(() => tap.open()).toBe(0)
    gate = undefined
    expect(await whole(ask())).toBe(200)
    expect([tap.connections(), session.doubted]).toEqual([3, false])
    expect(getEventListeners(leaving.signal, 'abort')).toEqual([])
  })

  it('whose question is left by its caller serves the next one', async () => {
    let arrived = (): void => undefined
    let release = (): void => undefined
    const asked = new Promise<void>((resolve) => {
      arrived = resolve
    })
    const held = new Promise<void>((resolve) => {
      release = resolve
    })
    const { url } = await front(async (count) => {
      if (count > 1) return {}
      arrived()
      await held
      return {}
    })
    const { ask, tap } = await world({ prove: 'always' }, url)
    const leaving = new AbortController()
    const left = failure(ask('x', { signal: leaving.signal }))
    await asked
    leaving.abort()
    expect(await left).toMatchObject({ name: 'AbortError' })
    expect(prompts()).toBe(engine.calls.length)
    release()
    await noticed()
    expect(await whole(ask())).toBe(200)
    expect([tap.connections(), tap.sealed().length]).toEqual([1, 3])
  })

  it('is nobody else’s while a question is on its way, at whichever point its caller left', async () => {
    const late: string[] = []
    const reach: Reach = (url) => {
      const lines = nodeReach()(url)
      return {
        fetch: lines.fetch,
        drop: () => lines.drop(),
        close: () => lines.close(),
        take(fresh) {
          const line = lines.take(fresh)
          let released = false
          return {
            post(...what) {
              if (released) late.push('sent over a line that was given back')
              return line.post(...what)
            },
            release() {
              if (released) late.push('given back twice')
              released = true
              line.release()
            },
          }
        },
      }
    }
    const { ask } = await world({ prove: 'always' }, worker.url, (url, options = {}) =>
      connectOver(url, options, reach),
    )
    for (let turns = 0; turns < 40; turns++) {
      const leaving = new AbortController()
      const left = failure(ask('x', { signal: leaving.signal }))
      for (let turn = 0; turn < turns; turn++) await Promise.resolve()
      leaving.abort()
      expect(await left).toMatchObject({ name: 'AbortError' })
    }
    expect(await whole(ask())).toBe(200)
    expect(late).toEqual([])
  })

  it('ends with the session, when its answer has', async () => {
    const { ask, tap, session } = await world()
    let go = (): void => undefined
    gate = new Promise((resolve) => {
      go = resolve
    })
    const streaming = await ask('x', { body: bodyOf('x', { stream: true }) })
    gate = undefined
    expect(await whole(ask())).toBe(200)
    expect(tap.open()).toBe(2)
    session.close()
    await expect.poll(() => tap.open()).toBe(1)
    go()
    expect(await streaming.text()).toContain('[DONE]')
    await expect.poll(() => tap.open()).toBe(0)
  })

  it('is not kept where no session came about', async () => {
    const tap = kept(await tapWire(worker.url))
    const other = { ...policy, measurements: [{ digest: 'ab'.repeat(48) }] }
    await expect(connect(tap.url, { policy: other })).rejects.toMatchObject({ code: 'client.not-trusted' })
    expect(tap.connections()).toBe(1)
    await expect.poll(() => tap.open()).toBe(0)
  })

  it('over which a doubt came is not used again', async () => {
    const other = await impostor(() => relayingEvidence(worker.url))
    const { ask, tap, pass } = await world()
    expect(await whole(ask())).toBe(200)
    tap.lead(other.url)
    pass(POSSESSION_WINDOW_MS)
    expect(await failure(ask())).toBeInstanceOf(UnprovenError)
    await expect.poll(() => tap.open()).toBe(0)
    tap.divert(worker.url)
    expect(await whole(ask())).toBe(200)
  })
})

describe('a worker that comes back with new keys', () => {
  it.each(['cut', 'kept'] as const)('gets the prompt once, where older connections are %s', async (older) => {
    const next = stubEngine()
    const successor = await started(next)
    const { ask, tap, pass, session } = await world()
    expect(await whole(ask())).toBe(200)
    const before = prompts()
    if (older === 'cut') tap.lead(successor.url)
    else tap.divert(successor.url)
    pass(POSSESSION_WINDOW_MS)
    const answers = await Promise.all([ask('one'), ask('two')])
    for (const answer of answers) {
      expect([answer.status, session.sealedOnce(answer)]).toEqual([200, true])
      await answer.text()
    }
    expect(session.doubted).toBe(false)
    expect(prompts() - before + next.calls.length).toBe(2)
    if (older === 'cut') expect(next.calls).toHaveLength(2)
  })
})

describe('a runtime that goes its own way to the network', () => {
  const LEGACY = Symbol.for('undici.globalDispatcher.1')

  it.each<[string, () => () => void]>([
    ['such as Bun', () => put('Bun', {})],
    ['such as Deno', () => put('Deno', {})],
    ['through a proxy, by a dispatcher of its own', () => put(LEGACY, new (class EnvHttpProxyAgent {})())],
  ])('%s is asked by its `fetch`', async (_, change) => {
    await fetch(`${worker.url}/readyz`)
    const asked = vi.spyOn(globalThis, 'fetch').mockRejectedValue(new TypeError('fetch failed'))
    const undo = change()
    try {
      await expect(connect(worker.url, { policy })).rejects.toMatchObject({ code: 'worker.unreachable' })
      expect(asked).toHaveBeenCalledTimes(1)
    } finally {
      undo()
      asked.mockRestore()
    }
    const session = kept(await connect(worker.url, { policy }))
    expect(session.doubted).toBe(false)
  })

  it('is left alone where its `fetch` was only used before', async () => {
    await fetch(`${worker.url}/readyz`)
    const asked = vi.spyOn(globalThis, 'fetch')
    const session = kept(await connect(worker.url, { policy }))
    await session.ready()
    expect(asked).not.toHaveBeenCalled()
    asked.mockRestore()
  })
})

/** Sets a global for the time being. */
function put(name: string | symbol, value: object): () => void {
  const before: unknown = Reflect.get(globalThis, name)
  if (before === undefined) {
    Object.defineProperty(globalThis, name, { value, configurable: true, writable: true })
    return () => Reflect.deleteProperty(globalThis, name)
  }
  Reflect.set(globalThis, name, value)
  return () => Reflect.set(globalThis, name, before)
}

/** As long as it takes to see what came over a socket of this machine. */
const noticed = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 100))

/** A proxy before the worker; `answering` may hold back each answer from inside the encryption, and add header fields to it. */
async function front(answering: (count: number) => Promise<object> | object) {
  let count = 0
  const lengths: number[] = []
  const { url } = kept(
    await startHttp((request, response) => {
      const { method, url: path = '/', headers } = request
      if (path === PATH_OHTTP) lengths.push(Number(headers['content-length']))
      const upstream = sendRequest(new URL(path, worker.url), { method, headers }, async (answer) => {
        const more = path === PATH_OHTTP ? await answering(++count) : {}
        response.writeHead(answer.statusCode ?? 500, { ...answer.headers, ...more })
        answer.pipe(response)
      })
      request.pipe(upstream)
    }),
  )
  return { url, sealed: () => lengths }
}
