/** Processed once (P-7.8), and receipts in a chain without a gap (P-10.3, P-10.4), through the whole channel. */
import { decodeJwt } from 'jose'
import { describe, expect, it } from 'vitest'
import { createIdempotencyTable } from '../../enclave/idempotency.js'
import type { EngineEvent } from '../../enclave/inference/engine.js'
import { closedError, EngineError, type EngineErrorCode } from '../../enclave/inference/errors.js'
import { createSessionTable } from '../../enclave/sessions.js'
import { toBase64Url, toBytes } from '../../verifier/protocol/bytes.js'
import { sha256 } from '../../verifier/protocol/hash.js'
import { verifyReceipt } from '../../verifier/receipt.js'
import { verifyReceipts } from '../../verifier/receipt-chain.js'
import { gate } from '../channel/pair.js'
import {
  chatRequest,
  eventsOf,
  fetchBundle,
  HELLO,
  MODEL,
  type StubEngine,
  stubEngine,
  type TestWorker,
  testWorker,
} from './stub.js'

const STREAM = { ...HELLO, stream: true } as const
const KEY = 'idempotent-0123456789'
const token = (fill: number): string => toBase64Url(new Uint8Array(32).fill(fill))

function request(body: object, headers: Record<string, string>): Request {
  return chatRequest(JSON.stringify(body), { headers: { 'content-type': 'application/json', ...headers } })
}

describe('idempotency keys (P-7.8)', () => {
  const send = async ({ transport }: TestWorker, body: object, key = KEY) =>
    (await transport(request(body, { 'idempotency-key': key }))).response

  it('refuse a repeat while the first is in progress and after it, in OpenAI’s shape', async () => {
    const held = gate()
    const worker = await testWorker({ engine: stubEngine({ step: () => held.promise }) })
    const first = send(worker, HELLO)
    await expect.poll(() => worker.engine.calls.length).toBe(1)
    const during = await send(worker, STREAM)
    held.open()
    expect((await first).status).toBe(200)
    const after = await send(worker, HELLO)
    for (const refused of [during, after]) {
      expect([refused.status, refused.headers.get('x-should-retry')]).toEqual([409, 'false'])
      const text = await refused.text()
      expect(text.length % 512).toBe(0)
      expect(JSON.parse(text)).toEqual({
        error: { message: expect.any(String), type: 'invalid_request_error', param: null, code: 'duplicate_request' },
      })
    }
    expect(worker.engine.calls).toHaveLength(1)
    expect((await send(worker, HELLO, `${KEY}-2`)).status).toBe(200)
    expect((await worker.chat(HELLO)).status).toBe(200)
  })

  it('hold across rotation of the HPKE key, and end after 600 s', async () => {
    const { worker, clock, chat, engine, ...rest } = await testWorker({ worker: { keyLifetimeS: 600 } })
    const all = { worker, clock, chat, engine, ...rest }
    expect((await send(all, HELLO)).status).toBe(200)
    clock.at = new Date(clock.at.getTime() + 400_000)
    await worker.refresh()
    expect((await send(all, HELLO)).status).toBe(409)
  })

  it('hold, as sessions do, when the clock is set forth and back', async () => {
    const worker = await testWorker({ worker: { monotonicMs: () => 0 } })
    const chained = async (headers: Record<string, string>): Promise<[number, unknown]> => {
      const { response, trailers } = await worker.transport(request(HELLO, { 'subrosa-session': token(1), ...headers }))
      await response.text()
      const jws = (await trailers).get('subrosa-receipt')
      return [response.status, jws && decodeJwt(jws)['seq']]
    }
    expect(await chained({ 'idempotency-key': KEY })).toEqual([200, 0])
    // An earlier request than this one is under way, say, and its key is found in time.
    const { at } = worker.clock
    const claimedLater = gate()
    const { engine } = worker
    const tokenize = engine.tokenizeChat
    let reached = false
    engine.tokenizeChat = async (messages) => {
      reached = true
      await claimedLater.promise
      return tokenize(messages)
    }
    const underWay = chained({ 'idempotency-key': `${KEY}-2` })
    await expect.poll(() => reached).toBe(true)
    worker.clock.at = new Date(at.getTime() + 4_000_000)
    claimedLater.open()
    expect(await underWay).toEqual([200, 1])
    worker.clock.at = at
    expect((await chained({ 'idempotency-key': KEY }))[0]).toBe(409)
    expect(await chained({})).toEqual([200, 2])
  })

  it('stay free when the request was refused before it was processed', async () => {
    const worker = await testWorker({ engine: stubEngine({ contextLength: 10 }) })
    const long = { ...HELLO, messages: [{ role: 'user', content: 'x'.repeat(20) }] }
    expect((await send(worker, long)).status).toBe(400)
    expect((await send(worker, { ...HELLO, n: 9 })).status).toBe(400)
    expect((await send(worker, HELLO)).status).toBe(200)
  })

  it('stay free when too many requests waited', async () => {
    const engine = stubEngine()
    const { generate } = engine
    engine.generate = () => {
      throw new EngineError('overloaded', 'too many wait')
    }
    const worker = await testWorker({ engine })
    expect((await send(worker, HELLO)).status).toBe(429)
    engine.generate = generate
    expect((await send(worker, HELLO)).status).toBe(200)
  })

  it('are taken by a request that failed half way', async () => {
    const worker = await testWorker({ engine: stubEngine({ failAfter: 2 }) })
    expect((await send(worker, HELLO)).status).toBe(500)
    expect((await send(worker, HELLO)).status).toBe(409)
  })

  /** Tells of one token, if at all, and then breaks off with that code. */
  const breaking = (code: EngineErrorCode, afterOne: boolean): StubEngine => {
    const engine = stubEngine()
    engine.generate = async function* generate(): AsyncGenerator<EngineEvent> {
      if (afterOne) yield { type: 'token', text: 'x', tokenId: 1 }
      throw new EngineError(code, 'broke off')
    }
    return engine
  }
  const BROKEN_OFF = { error: { code: 'answer_broken_off', type: 'server_error' } }

  it.each([
    ['/v1/chat/completions', { ...HELLO, n: 4 }],
    ['/v1/completions', { model: MODEL.id, prompt: 'hello', n: 4 }],
  ])('are taken, and nothing says otherwise, when the worker closes half way: %s', async (path, body) => {
    const closing = gate()
    const engine = stubEngine({ step: () => (engine.closed ? Promise.reject(closedError()) : closing.promise) })
    const worker = await testWorker({ engine })
    const ask = () =>
      worker.transport(
        new Request(`https://worker.example${path}`, {
          method: 'POST',
          headers: { 'content-type': 'application/json', 'idempotency-key': KEY },
          body: JSON.stringify(body),
        }),
      )
    const asked = ask()
    await expect.poll(() => engine.calls.length).toBe(4)
    engine.closed = true
    closing.open()
    const { response } = await asked
    expect(response.status).toBe(500)
    expect(await response.json()).toMatchObject(BROKEN_OFF)
    expect((await ask()).response.status).toBe(409)
  })

  it.each([
    ['closed', false, 1],
    ['overloaded', false, 2],
    ['overloaded', true, 1],
    ['options.invalid', true, 1],
    ['chat.invalid', false, 1],
    ['locked', true, 1],
  ] as const)('are taken by an answer that ended with %s, after a token: %s, of %i', async (code, afterOne, n) => {
    const worker = await testWorker({ engine: breaking(code, afterOne) })
    const response = await send(worker, { ...HELLO, n })
    expect(response.status).toBe(500)
    expect(await response.json()).toMatchObject(BROKEN_OFF)
    expect((await send(worker, HELLO)).status).toBe(409)
  })

  it('are taken by a stream, which says that it broke off', async () => {
    const worker = await testWorker({ engine: breaking('overloaded', false) })
    const response = await send(worker, STREAM)
    expect(response.status).toBe(200)
    expect(eventsOf(await response.text()).at(-1)).toContain('answer_broken_off')
    expect((await send(worker, HELLO)).status).toBe(409)
  })

  it('stay free when the engine refused its only answer before it began', async () => {
    const worker = await testWorker({ engine: breaking('overloaded', false) })
    expect((await send(worker, HELLO)).status).toBe(429)
    expect((await send(worker, HELLO)).status).toBe(429)
  })

  it.each([
    [0, 'overloaded', 429, 429],
    [1, 'overloaded', 500, 409],
    [0, 'closed', 500, 409],
    [1, 'closed', 500, 409],
  ] as const)('with embeddings, of which %i were computed before %s', async (most, code, first, second) => {
    const engine = stubEngine()
    let computed = 0
    const embed = async (): Promise<Float32Array> => {
      if (computed === most) throw new EngineError(code, 'broke off')
      computed += 1
      return Float32Array.of(1)
    }
    const worker = await testWorker({ engine: Object.assign(engine, { embed }) })
    const ask = async () => {
      const headers = { 'content-type': 'application/json', 'idempotency-key': KEY }
      const body = JSON.stringify({ model: MODEL.id, input: ['a', 'b'] })
      const url = 'https://worker.example/v1/embeddings'
      return (await worker.transport(new Request(url, { method: 'POST', headers, body }))).response.status
    }
    expect([await ask(), await ask()]).toEqual([first, second])
  })

  it.each(['short', 'x'.repeat(129), 'with a space in the middle'])('must be of their form: %s', async (key) => {
    const worker = await testWorker()
    expect((await send(worker, HELLO, key)).status).toBe(400)
    expect(worker.engine.calls).toHaveLength(0)
  })

  it('are forgotten in time and never early', () => {
    let at = 0
    const table = createIdempotencyTable({ monotonicMs: () => 1000 * at, maxKeys: 2 })
    const key = (n: number): string => `${KEY}-${n}`
    table.claim(key(1))
    at = 300
    table.claim(key(2))
    expect(() => table.claim(key(3))).toThrow(expect.objectContaining({ status: 503 }))
    at = 599
    expect(() => table.claim(key(1))).toThrow(expect.objectContaining({ status: 409 }))
    at = 600
    const giveBack = table.claim(key(3))
    expect(() => table.claim(key(2))).toThrow(expect.objectContaining({ status: 409 }))
    giveBack()
    table.claim(key(1))
  })
})

describe('receipt chains (P-10.3)', () => {
  async function receipts(worker: TestWorker, headers: readonly Record<string, string>[]): Promise<string[]> {
    return Promise.all(
      headers.map(async (more) => {
        const { response, trailers } = await worker.transport(request(STREAM, more))
        await response.text()
        return (await trailers).get('subrosa-receipt') ?? ''
      }),
    )
  }

  async function contextOf({ worker }: TestWorker) {
    const { claims } = await fetchBundle(worker)
    const receiptKey = toBytes(claims.statement.keys.receipt)
    return { receiptKey, statementDigest: claims.statementDigest, weightsRoot: MODEL.weightsRoot }
  }

  it('have no gap, however many answers run at once, and do not mix', async () => {
    const worker = await testWorker()
    const context = await contextOf(worker)
    const mine = { 'subrosa-session': token(1) }
    const others = { 'subrosa-session': token(2) }
    const jwss = await receipts(worker, [mine, others, mine, {}, mine, others, mine])
    const parsed = await Promise.all(
      jwss.map(async (jws) => ({ jws, ...(await verifyReceipt(jws, context)).payload! })),
    )
    expect(parsed[3]).toMatchObject({ session: null, seq: null, prev: null })
    const hash = toBase64Url(sha256(toBytes(new Uint8Array(32).fill(1))))
    const chain = parsed.filter(({ session }) => session === hash).sort((a, b) => (a.seq ?? 0) - (b.seq ?? 0))
    expect(chain.map(({ seq }) => seq)).toEqual([0, 1, 2, 3])
    expect(chain[0]?.prev).toBeNull()
    const inOrder = chain.map(({ jws }) => jws)
    expect((await verifyReceipts(inOrder, context)).map(({ verdict }) => verdict)).not.toContain('rejected')
    const gap = await verifyReceipts(
      inOrder.filter((_, i) => i !== 1),
      context,
    )
    expect(gap[1]?.checks.find(({ id }) => id === 'receipt.chain')?.status).toBe('fail')
    const swapped = await verifyReceipts([inOrder[1]!, inOrder[0]!], context)
    expect(swapped[1]?.checks.find(({ id }) => id === 'receipt.chain')?.status).toBe('fail')
    expect(JSON.stringify(parsed)).not.toContain(token(1))
  })

  it.each(['', 'x', token(1).slice(2), `${token(1)}AA`])('refuse a token of another form: "%s"', async (bad) => {
    const worker = await testWorker()
    const { response } = await worker.transport(request(HELLO, { 'subrosa-session': bad }))
    expect(response.status).toBe(400)
    expect(worker.engine.calls).toHaveLength(0)
  })

  it('go on after a signature that failed, begin anew with another boot, and make room only of idle ones', async () => {
    let at = 0
    const table = createSessionTable({ monotonicMs: () => 1000 * at, maxSessions: 2, idleS: 100 })
    const boot = {}
    const next = (chain: ReturnType<typeof table.chainOf>) => chain.append(async (link) => JSON.stringify(link))
    const seqOf = async (fill: number, of: object = boot) => JSON.parse(await next(table.chainOf(token(fill), of))).seq
    expect([await seqOf(1), await seqOf(1)]).toEqual([0, 1])
    await expect(table.chainOf(token(1), boot).append(() => Promise.reject(new Error('no')))).rejects.toThrow('no')
    expect(await seqOf(1)).toBe(2)
    expect(await seqOf(1, {})).toBe(0)
    at = 50
    expect(await seqOf(2)).toBe(0)
    expect(() => table.chainOf(token(3), boot)).toThrow(expect.objectContaining({ status: 503 }))
    expect(await seqOf(2)).toBe(1)
    at = 100
    expect(await seqOf(3)).toBe(0)
    expect(() => table.chainOf(token(1), boot)).toThrow(expect.objectContaining({ status: 503 }))
    expect(await seqOf(2)).toBe(2)
  })
})
