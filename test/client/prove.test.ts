/**
 * Proof of possession before a prompt (P-7.11), over real sockets: whoever comes to a verified worker's address gets a small
 * sealed question and nothing more, unless the address was taken within the window that the mode leaves.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import {
  type ConnectOptions,
  connect,
  type PolicyDocument,
  UnprovenError,
  type WorkerSession,
} from '../../client/index.js'
import { POSSESSION_WINDOW_MS, Possession } from '../../client/possession.js'
import type * as transports from '../../client/transport.js'
import { reachedNobody } from '../../client/worker-pool.js'
import { toHex } from '../../verifier/protocol/bytes.js'
import { MODEL, type StubEngine, stubEngine } from '../enclave/stub.js'
import { startHttp } from '../support/http.js'
import { type Impostor, NOBODY, otherSoftware, relayingEvidence, replaying, webServer } from '../support/impostors.js'
import { policyFor, type RunningWorker, startWorker, tapWire, type WireTap } from '../support/worker.js'

/** What was sealed, before it was: the wire shows only that and how long. */
const inner: { readonly method: string; readonly path: string; readonly fields: readonly string[] }[] = []
vi.mock('../../client/transport.js', async (original) => {
  const real = await original<typeof transports>()
  const createTransport: typeof real.createTransport = (options) => {
    const send = real.createTransport(options)
    return (input, init) => {
      const { method, url, headers } = new Request(input, init)
      inner.push({ method, path: new URL(url).pathname, fields: [...headers.keys()] })
      return send(input, init)
    }
  }
  return { ...real, createTransport }
})

/** Stands for all of an address. */
const LINE = {}
const CHAT = '/v1/chat/completions'
const PROOF = '/v1/models'

let engine: StubEngine
let worker: RunningWorker
let policy: PolicyDocument
const running: { close(): Promise<void> }[] = []

beforeAll(async () => {
  engine = stubEngine()
  worker = await startWorker({ engine: { engine, model: MODEL } })
  policy = { ...(await policyFor(worker)), model: { digests: [toHex(MODEL.weightsRoot)] } }
})
beforeEach(() => {
  inner.length = 0
})
afterAll(async () => {
  for (const one of running.reverse()) await one.close()
  await worker.close()
})

interface World {
  readonly tap: WireTap
  readonly session: WorkerSession
  ask(content?: string, init?: RequestInit): Promise<Response>
  /** Moves the caller's clock, which stands still otherwise. */
  pass(ms: number): void
  /** How long each request sealed since the last call was, in bytes. */
  sealed(): readonly number[]
}

async function world(options: ConnectOptions = {}, url = worker.url): Promise<World> {
  const tap = await tapWire(url)
  running.push(tap)
  let nowMs = Date.now()
  const session = await connect(tap.url, { policy, now: () => new Date(nowMs), ...options })
  let counted = 0
  return {
    tap,
    session,
    ask: (content = 'hello', init = {}) =>
      session.fetch(`${session.baseURL}/chat/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ model: MODEL.id, messages: [{ role: 'user', content }] }),
        ...init,
      }),
    pass: (ms) => {
      nowMs += ms
    },
    sealed() {
      const all = tap.sealed()
      const fresh = all.slice(counted)
      counted = all.length
      return fresh
    },
  }
}

const read = async (response: Promise<Response>): Promise<number> => {
  const { status, ...rest } = await response.then(async (answer) => ({
    status: answer.status,
    text: await answer.text(),
  }))
  expect(rest.text).not.toBe('')
  return status
}
const failure = (response: Promise<Response>): Promise<unknown> =>
  response.then(
    () => undefined,
    (error: unknown) => error,
  )
const paths = (): readonly string[] => inner.map(({ path }) => path)

async function trusted<
  T extends { readonly rootsPem?: string | readonly string[] | undefined; close(): Promise<void> },
>(one: T): Promise<T> {
  running.push(one)
  policy = { ...policy, trustAnchors: [...(policy.trustAnchors ?? []), ...[one.rootsPem ?? []].flat()] }
  return one
}

describe('the question', () => {
  it('is one sealed GET with nothing of the caller’s in it, as long whatever is asked after it', async () => {
    const lengths = new Set<number>()
    for (const content of ['x', 'word '.repeat(100)]) {
      const { ask, sealed } = await world({ prove: 'always', session: true })
      expect(
        await read(ask(content, { headers: { 'content-type': 'application/json', authorization: 'Bearer secret' } })),
      ).toBe(200)
      const [question = 0, prompt = 0] = sealed()
      expect(prompt).not.toBe(question)
      lengths.add(question)
    }
    expect(lengths.size).toBe(1)
    const [question, prompt] = inner
    expect(question).toEqual({ method: 'GET', path: PROOF, fields: [] })
    expect(prompt).toMatchObject({ method: 'POST', path: CHAT })
    expect(prompt?.fields).toEqual(expect.arrayContaining(['authorization', 'idempotency-key', 'subrosa-session']))
  })

  it('is in no receipt: the chain counts prompts only', async () => {
    const { ask, session } = await world({ prove: 'always', session: true })
    const numbers: unknown[] = []
    for (const content of ['a', 'b', 'c']) {
      const answer = await ask(content)
      await answer.text()
      numbers.push((await session.receipt(answer)).payload?.seq)
    }
    expect(numbers).toEqual([0, 1, 2])
    expect(paths()).toEqual([PROOF, CHAT, PROOF, CHAT, PROOF, CHAT])
  })
})

describe('`recent`, the default', () => {
  it('asks before the first request, and then where nothing asked within the window was answered', async () => {
    const { ask, pass } = await world()
    expect(await read(ask())).toBe(200)
    pass(POSSESSION_WINDOW_MS - 1)
    expect(await read(ask())).toBe(200)
    pass(POSSESSION_WINDOW_MS - 1)
    expect(await read(ask())).toBe(200)
    expect(paths()).toEqual([PROOF, CHAT, CHAT, CHAT])
    pass(POSSESSION_WINDOW_MS)
    expect(await read(ask())).toBe(200)
    expect(paths().slice(4)).toEqual([PROOF, CHAT])
    pass(-1)
    expect(await read(ask())).toBe(200)
    expect(paths().slice(6)).toEqual([PROOF, CHAT])
  })

  it('counts from when something was asked: an answer that still comes proves nothing of the address', async () => {
    let go: () => void = () => undefined
    const gate = new Promise<void>((resolve) => {
      go = resolve
    })
    let steps = 0
    const slow = await trusted(
      await startWorker({
        engine: { engine: stubEngine({ step: () => (steps++ < 2 ? Promise.resolve() : gate) }), model: MODEL },
      }),
    )
    const { ask, pass, session } = await world({}, slow.url)
    const body = JSON.stringify({ model: MODEL.id, messages: [{ role: 'user', content: 'x' }], stream: true })
    const running = await ask('', { body })
    pass(POSSESSION_WINDOW_MS)
    go()
    expect(await running.text()).toContain('[DONE]')
    await session.receipt(running)
    expect(await read(ask())).toBe(200)
    expect(paths()).toEqual([PROOF, CHAT, PROOF, CHAT])
  })

  it('shares one question among requests made at once', async () => {
    const { ask } = await world()
    const many = await Promise.all(Array.from({ length: 12 }, () => read(ask())))
    expect(new Set(many)).toEqual(new Set([200]))
    expect(paths().filter((path) => path === PROOF)).toHaveLength(1)
    expect(paths()[0]).toBe(PROOF)
    expect(paths()).toHaveLength(13)
  })

  it('joins no question that was asked a window ago, however late its answer comes', async () => {
    const impostor = await webServer(404)
    running.push(impostor)
    const { fetch: held, arrived, release } = holding()
    const { ask, pass, tap } = await world({ fetch: held })
    const first = failure(ask())
    await arrived // The worker has answered; the answer is held back on the path.
    tap.lead(impostor.url)
    pass(POSSESSION_WINDOW_MS)
    const second = failure(ask('word '.repeat(100)))
    await new Promise((resolve) => setImmediate(resolve))
    release()
    await first // made before the address was taken
    expect(await second).toMatchObject({ code: 'worker.status' })
    expect(paths().filter((path) => path === CHAT).length).toBeLessThanOrEqual(1)
  })

  it('asks anew when something sealed was not answered, though evidence of the same boot came since', async () => {
    const { fetch: broken, arrived, release } = breaking()
    const { ask, session } = await world({ fetch: broken })
    expect(await read(ask())).toBe(200)
    const lost = failure(ask('lost'))
    await arrived
    await session.refresh()
    release()
    expect(await lost).toMatchObject({ code: 'transport.refused' })
    expect(session.doubted).toBe(false)
    expect(await read(ask())).toBe(200)
    expect(paths()).toEqual([PROOF, CHAT, CHAT, PROOF, CHAT])
  })

  it('leaves the window that it says: what is sealed in it reaches whoever took the address, and no more after that', async () => {
    const impostor = await webServer(200)
    running.push(impostor)
    let to = worker.url
    const led: typeof fetch = (input, init) => {
      const { pathname, search } = new URL(String(input))
      return fetch(to + pathname + search, init)
    }
    const taken = await tapWire(impostor.url)
    running.push(taken)
    const { ask } = await world({ fetch: led })
    expect(await read(ask())).toBe(200)
    to = taken.url
    expect(await failure(ask())).toMatchObject({ code: 'transport.refused' })
    expect(await failure(ask())).toMatchObject({ code: 'worker.media-type' })
    expect(taken.sealed()).toHaveLength(1)
    expect(paths()).toEqual([PROOF, CHAT, CHAT])
  })
})

describe('`always`', () => {
  it('asks after every request was made', async () => {
    const { ask } = await world({ prove: 'always' })
    for (let i = 0; i < 3; i++) expect(await read(ask())).toBe(200)
    expect(paths()).toEqual([PROOF, CHAT, PROOF, CHAT, PROOF, CHAT])
  })

  it('takes no answer for a proof that may have been given before the request was made, and asks twice at most', async () => {
    const { fetch: held, arrived, release } = holding()
    const { ask } = await world({ prove: 'always', fetch: held })
    const first = read(ask())
    await arrived // The worker has answered; the answer is held back on the path.
    const later = Array.from({ length: 8 }, () => read(ask()))
    release()
    expect(new Set(await Promise.all([first, ...later]))).toEqual(new Set([200]))
    expect(paths().filter((path) => path === PROOF)).toHaveLength(2)
    expect(paths().filter((path) => path === CHAT)).toHaveLength(9)
  })

  it('so that an address taken while that answer was held back gets no prompt', async () => {
    const impostor = await webServer(404)
    running.push(impostor)
    const { fetch: held, arrived, release } = holding()
    const { ask, tap } = await world({ prove: 'always', fetch: held })
    const first = failure(ask())
    await arrived
    tap.lead(impostor.url)
    const second = failure(ask('word '.repeat(100)))
    release()
    await first // made before the address was taken
    expect(await second).toMatchObject({ code: 'worker.status' })
    expect(paths().filter((path) => path === CHAT).length).toBeLessThanOrEqual(1)
  })
})

describe.each<[string, string, (genuine: string) => Promise<Impostor>]>([
  ['of other software', 'client.not-trusted', otherSoftware],
  ['that is not there', 'worker.unreachable', async () => NOBODY],
  ['without a TEE, which knows no evidence', 'worker.status', () => webServer(404)],
  ['without a TEE, with a page for everything', 'worker.media-type', () => webServer(200)],
  ['that plays back recorded evidence', 'client.stale', replaying],
  ['that hands on live evidence', 'client.unproven', relayingEvidence],
])('an impostor %s, at the address of a verified worker', (_, code, start) => {
  it.each(['recent', 'always'] as const)(
    'gets the question and no byte of a prompt’s ciphertext (%s)',
    async (prove) => {
      const impostor = await start(worker.url)
      await trusted(impostor)
      const calls = engine.calls.length
      const { ask, tap, pass, sealed } = await world({ prove })
      expect(await read(ask())).toBe(200)
      const [question = 0] = sealed()
      tap.lead(impostor.url)
      if (prove === 'recent') pass(POSSESSION_WINDOW_MS)
      const refused = await failure(ask('word '.repeat(100)))
      expect(refused).toMatchObject({ code })
      // Nobody has it, so that another worker may be given it.
      expect(reachedNobody(refused)).toBe(true)
      expect(String(refused)).not.toMatch(/may have been processed/)
      const first = sealed()
      expect(first.length).toBeLessThanOrEqual(code === 'client.unproven' ? 2 : 1)
      expect(await failure(ask('word '.repeat(200)))).toMatchObject({ code })
      for (const length of [...first, ...sealed()]) expect(length).toBe(question)
      expect(paths().filter((path) => path === CHAT)).toHaveLength(1)
      expect(engine.calls).toHaveLength(calls + 1)
    },
  )
})

describe('an impostor from the beginning, with evidence that it hands on', () => {
  it('gets no prompt either', async () => {
    const impostor = await relayingEvidence(worker.url)
    running.push(impostor)
    const { ask } = await world({}, impostor.url)
    const refused = await failure(ask())
    expect(refused).toBeInstanceOf(UnprovenError)
    expect(refused).toMatchObject({
      message: expect.stringMatching(/^not sent, not even sealed/),
      cause: { code: 'transport.response-invalid' },
    })
    expect(paths()).toEqual([PROOF, PROOF])
  })
})

describe('a worker that comes back with new keys', () => {
  it.each(['recent', 'always'] as const)(
    'is verified anew and gets the prompt once, so that its refusal would count (%s)',
    async (prove) => {
      const next = stubEngine()
      const successor = await trusted(await startWorker({ engine: { engine: next, model: MODEL } }))
      const { ask, tap, pass, sealed, session } = await world({ prove })
      expect(await read(ask())).toBe(200)
      const before = toHex(session.worker.statementDigest)
      const [question, prompt] = sealed()
      tap.lead(successor.url)
      if (prove === 'recent') pass(POSSESSION_WINDOW_MS)
      const answer = await ask()
      expect([answer.status, session.sealedOnce(answer), session.doubted]).toEqual([200, true, false])
      await answer.text()
      expect(toHex(session.worker.statementDigest)).not.toBe(before)
      // A question over the connection that was cut is seen by nobody.
      const after = sealed()
      expect(after.at(-1)).toBe(prompt)
      for (const length of after.slice(0, -1)) expect(length).toBe(question)
      expect(paths()).toEqual([PROOF, CHAT, PROOF, PROOF, CHAT])
      expect(next.calls).toHaveLength(1)
    },
  )

  it('has to prove itself under these: what the old keys answered counts for nothing', async () => {
    const successor = await trusted(await startWorker({ engine: { engine: stubEngine(), model: MODEL } }))
    const { ask, tap, session } = await world()
    expect(await read(ask())).toBe(200)
    tap.lead(successor.url)
    await session.refresh().catch(() => session.refresh()) // the connection that was cut may be met first
    expect(await read(ask())).toBe(200)
    expect(paths()).toEqual([PROOF, CHAT, PROOF, CHAT])
  })

  it('is in no doubt by what was sealed to the keys before them, and lost', async () => {
    const successor = await trusted(await startWorker({ engine: { engine: stubEngine(), model: MODEL } }))
    const { fetch: broken, arrived, release } = breaking()
    const { ask, tap, session } = await world({ fetch: broken })
    expect(await read(ask())).toBe(200)
    const lost = failure(ask('lost'))
    await arrived
    tap.lead(successor.url)
    await session.refresh().catch(() => session.refresh()) // the connection that was cut may be met first
    expect(await read(ask())).toBe(200)
    release()
    expect(await lost).toMatchObject({ code: 'transport.refused' })
    expect(session.doubted).toBe(false)
    expect(await read(ask())).toBe(200)
    expect(paths()).toEqual([PROOF, CHAT, CHAT, PROOF, CHAT, CHAT])
  })
})

describe('a question without an answer', () => {
  it('ends with the request’s own signal for who waits for it, and nothing is sealed for them later', async () => {
    const { fetch: held, arrived, release } = holding()
    const { ask } = await world({ fetch: held })
    const leaving = new AbortController()
    const left = failure(ask('x', { signal: leaving.signal }))
    const other = read(ask('y'))
    await arrived
    leaving.abort()
    expect(await left).toMatchObject({ name: 'AbortError' })
    release()
    expect(await other).toBe(200)
    expect(paths()).toEqual([PROOF, CHAT])
  })

  it('is given up after `timeoutMs`', async () => {
    const silent = await startHttp((request) => void request.resume())
    running.push(silent)
    const { ask, tap } = await world({ timeoutMs: 5_000, prove: 'always' })
    expect(await read(ask())).toBe(200)
    tap.lead(silent.url)
    expect(await failure(ask())).toMatchObject({ code: expect.stringMatching(/^worker\./) })
    expect(paths()).toEqual([PROOF, CHAT, PROOF])
  })

  it('leaves nothing behind when the session was closed meanwhile', async () => {
    const { fetch: held, arrived, release } = holding()
    const { ask, session } = await world({ fetch: held })
    const refused = failure(ask())
    await arrived
    session.close()
    release()
    expect(await refused).toMatchObject({ code: 'client.closed' })
    expect(paths()).toEqual([PROOF])
  })
})

describe('an answer that breaks off in the middle', () => {
  it('puts the address in doubt: it has to prove itself anew, also within the window (P-7.10)', async () => {
    const stuck = await trusted(
      await startWorker({ engine: { engine: stubEngine({ step: () => new Promise(() => undefined) }), model: MODEL } }),
    )
    const impostor = await webServer(404)
    running.push(impostor)
    const { ask, tap, session, sealed } = await world({}, stuck.url)
    const body = JSON.stringify({ model: MODEL.id, messages: [{ role: 'user', content: 'x' }], stream: true })
    const broken = await ask('', { body })
    const rest = broken.text()
    rest.catch(() => undefined)
    sealed()
    tap.lead(impostor.url)
    await expect(rest).rejects.toMatchObject({ code: 'transport.truncated' })
    expect(session.doubted).toBe(true)
    expect(await failure(ask())).toMatchObject({ code: 'worker.status' })
    expect(sealed()).toEqual([])
  })
})

describe('the mode', () => {
  it.each(['never', '', null, true])('is a caller’s mistake when it is %o', async (prove) => {
    const attempt = connect(worker.url, { policy, prove: prove as never })
    await expect(attempt).rejects.toMatchObject({
      code: 'client.prove',
      message: expect.stringMatching(/'recent' or 'always'/),
    })
  })

  it('says when a proof is due, and never by a clock that went back', () => {
    let nowMs = 0
    const possession = new Possession('recent', () => new Date(nowMs))
    expect(possession.recent(LINE)).toBe(false)
    possession.answered(LINE, possession.asked())
    const due = [0, POSSESSION_WINDOW_MS - 1, POSSESSION_WINDOW_MS, -1].map((at) => {
      nowMs = at
      return !possession.recent(LINE)
    })
    expect(due).toEqual([false, false, true, true])
    nowMs = 0
    possession.forget()
    expect(possession.recent(LINE)).toBe(false)
  })

  it('does not come back by an answer to what was asked before a doubt, be it of the same instant', () => {
    const possession = new Possession('recent', () => new Date(0))
    const before = possession.asked()
    possession.answered(LINE, before)
    possession.forget()
    possession.answered(LINE, before)
    expect([possession.counts(before), possession.recent(LINE)]).toEqual([false, false])
    const after = possession.asked()
    possession.answered(LINE, after)
    expect([possession.counts(after), possession.recent(LINE)]).toEqual([true, true])
  })

  it.each<[string, (possession: Possession<number>, pass: (ms: number) => void) => void, number]>([
    ['younger than the window', (_, pass) => pass(POSSESSION_WINDOW_MS - 1), 1],
    ['as old as the window', (_, pass) => pass(POSSESSION_WINDOW_MS), 2],
    ['of later than now', (_, pass) => pass(-1), 2],
    ['of before a doubt', (possession) => possession.forget(), 2],
  ])('lets requests share a question that is %s, or has them wait for the next', async (_, meanwhile, expected) => {
    let nowMs = 0
    const possession = new Possession<number>('recent', () => new Date(nowMs))
    const answers: (() => void)[] = []
    const ask = () => new Promise<number>((resolve) => answers.push(() => resolve(answers.length)))
    const first = possession.prove(LINE, ask)
    meanwhile(possession, (ms) => {
      nowMs += ms
    })
    const later = [possession.prove(LINE, ask), possession.prove(LINE, ask)]
    expect(answers).toHaveLength(1)
    answers[0]?.()
    expect(await first).toBe(1)
    await vi.waitFor(() => expect(answers).toHaveLength(expected))
    answers[1]?.()
    expect(await Promise.all(later)).toEqual([expected, expected])
  })
})

/** Something that is waited for, and what ends the wait. */
function gate(): { opened: Promise<void>; open(): void } {
  let open: () => void = () => undefined
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  return { opened, open: () => open() }
}

/** A network that holds back the first answer from inside the encryption until it is told to hand it on. */
function holding(): { fetch: typeof fetch; arrived: Promise<void>; release(): void } {
  const [answer, leave] = [gate(), gate()]
  let first = true
  return {
    arrived: answer.opened,
    release: leave.open,
    async fetch(input, init) {
      const response = await fetch(input, init)
      if (init?.method !== 'POST' || !first) return response
      first = false
      const whole = await response.arrayBuffer()
      answer.open()
      await leave.opened
      return new Response(whole, { status: response.status, headers: response.headers })
    },
  }
}

/** A network that answers the third thing sealed itself, with 502, once it is told to. */
function breaking(): { fetch: typeof fetch; arrived: Promise<void>; release(): void } {
  const [request, leave] = [gate(), gate()]
  let posts = 0
  return {
    arrived: request.opened,
    release: leave.open,
    async fetch(input, init) {
      if (init?.method !== 'POST' || ++posts !== 3) return fetch(input, init)
      request.open()
      await leave.opened
      return new Response('', { status: 502 })
    },
  }
}
