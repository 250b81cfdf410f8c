/** How a session lives on: many requests on one attestation, renewal ahead of expiry, workers replaced, evidence refused. */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { connect, NotTrustedError, type PolicyDocument } from '../../client/node.js'
import { reachedNobody } from '../../client/worker-pool.js'
import { encodeBundle, parseBundle } from '../../verifier/protocol/bundle.js'
import { toHex } from '../../verifier/protocol/bytes.js'
import { MODEL, stubEngine } from '../enclave/stub.js'
import { policyFor, type RunningWorker, startWorker } from '../support/worker.js'

let worker: RunningWorker
let successor: RunningWorker
let policy: PolicyDocument

beforeAll(async () => {
  // One clock for workers and sessions, moved by hand and never back.
  vi.useFakeTimers({ toFake: ['Date'] })
  worker = await startWorker({ engine: { engine: stubEngine(), model: MODEL } })
  successor = await startWorker({ engine: { engine: stubEngine(), model: MODEL } })
  policy = { ...(await policyFor(worker, successor)), model: { digests: [toHex(MODEL.weightsRoot)] } }
})

afterAll(async () => {
  await worker.close()
  await successor.close()
  vi.useRealTimers()
})

type Change = (bytes: Uint8Array) => Uint8Array

/** A session over a network that counts, may lead to another worker, may fail, and may alter evidence. */
async function world(signal?: AbortSignal) {
  const network = {
    to: worker.url,
    evidence: 0,
    keys: 0,
    sealed: 0,
    down: undefined as 'evidence' | undefined,
    change: undefined as Change | undefined,
    second: undefined as Promise<void> | undefined,
    answer: undefined as (() => Response) | undefined,
    hang: false,
  }
  const meddling: typeof fetch = async (input, init) => {
    const { pathname, search } = new URL(String(input))
    const kind = pathname === '/ohttp' ? 'sealed' : pathname.endsWith('/attestation') ? 'evidence' : 'keys'
    network[kind]++
    if (kind === 'sealed' && network.sealed === 2) await network.second
    if (kind === 'evidence' && network.hang) await new Promise(() => undefined)
    if (kind === 'sealed' && network.answer !== undefined) return network.answer()
    if (network.down === kind) throw new TypeError('fetch failed')
    const response = await fetch(network.to + pathname + search, init)
    if (kind !== 'evidence' || network.change === undefined) return response
    const changed = network.change(new Uint8Array(await response.arrayBuffer()))
    return new Response(new Uint8Array(changed), { headers: response.headers })
  }
  const session = await connect(worker.url, { policy, fetch: meddling, ...(signal === undefined ? {} : { signal }) })
  const models = async () => (await session.fetch(`${session.baseURL}/models`)).status
  // What follows is within the window of this proof, until the clock is moved (P-7.11; prove.test.ts is about that).
  await models()
  network.sealed = 0
  const leftMs = () => session.worker.validUntil.getTime() - Date.now()
  return { network, session, models, leftMs }
}

describe('a session', () => {
  it('shares one attestation among many requests', async () => {
    const { network, models } = await world()
    expect(await Promise.all(Array.from({ length: 20 }, models))).toEqual(Array.from({ length: 20 }, () => 200))
    expect(network).toMatchObject({ evidence: 1, sealed: 20 })
  })

  it('follows a worker restarted with new keys: one new attestation and proof, each request sealed at most twice', async () => {
    const { network, session, models } = await world()
    expect(await models()).toBe(200)
    const before = toHex(session.worker.statementDigest)
    network.to = successor.url
    expect(await Promise.all([models(), models(), models(), models()])).toEqual([200, 200, 200, 200])
    expect(toHex(session.worker.statementDigest)).not.toBe(before)
    expect(network.evidence).toBe(2)
    expect(network.sealed).toBeLessThanOrEqual(10)
    expect(await models()).toBe(200)
  })

  it('says of which answers the request was sealed once only: of others an encrypted refusal proves nothing', async () => {
    const { network, session } = await world()
    const ask = () => session.fetch(`${session.baseURL}/models`)
    expect(session.sealedOnce(await ask())).toBe(true)
    network.to = successor.url
    const again = await ask()
    expect([again.status, network.sealed, session.sealedOnce(again)]).toEqual([200, 4, false])
    expect(session.sealedOnce(await ask())).toBe(true)
    expect(session.sealedOnce(new Response())).toBe(false)
  })

  it('does not ask for evidence again when a late refusal is about a key already replaced', async () => {
    const { network, models } = await world()
    network.to = successor.url
    let arrive: () => void = () => undefined
    network.second = new Promise((resolve) => {
      arrive = resolve
    })
    // Sealing takes its time, so either request may be the second on the wire.
    const both = [models(), models()]
    expect(await Promise.race(both)).toBe(200)
    arrive()
    expect(await Promise.all(both)).toEqual([200, 200])
    expect(network).toMatchObject({ evidence: 2, sealed: 5 })
  })

  it.each([
    ['an error in plaintext', () => new Response('no', { status: 500 })],
    ['that it is busy', () => new Response('no', { status: 503 })],
    ['a page', () => new Response('<html>', { headers: { 'content-type': 'text/html' } })],
    [
      'what does not open',
      () => new Response(new Uint8Array(200), { headers: { 'content-type': 'message/ohttp-chunked-res' } }),
    ],
    ['nothing', () => new Response(null, { headers: { 'content-type': 'message/ohttp-chunked-res' } })],
  ])(
    'seals nothing more to an address that answered %s, until it has proven itself anew (P-7.10)',
    async (_, answer) => {
      const { network, session, models } = await world()
      network.answer = answer
      await expect(models()).rejects.toMatchObject({ code: expect.stringMatching(/^transport\./) })
      expect(session.doubted).toBe(true)
      expect(network).toMatchObject({ evidence: 1, sealed: 1 })
      network.down = 'evidence'
      await expect(models()).rejects.toMatchObject({ code: 'worker.unreachable' })
      expect(network).toMatchObject({ evidence: 2, sealed: 1 })
      network.answer = network.down = undefined
      expect(await models()).toBe(200)
      expect(session.doubted).toBe(false)
      expect(network).toMatchObject({ evidence: 3, sealed: 3 })
    },
  )

  it('never says that nothing was sent of a request that was refused after one attempt (P-7.10)', async () => {
    const { network, models } = await world()
    network.answer = () => new Response(null, { status: 421 })
    network.down = 'evidence'
    const unproven = await models().catch((error: unknown) => error)
    expect(unproven).toMatchObject({ code: 'transport.key-refused', cause: { code: 'worker.unreachable' } })
    expect(reachedNobody(unproven)).toBe(false)
    network.down = undefined
    network.answer = undefined
    expect(await models()).toBe(200)
    network.answer = () => new Response(null, { status: 421 })
    network.change = flipReport
    const refused = await models().catch((error: unknown) => error)
    expect(refused).toMatchObject({ code: 'client.tampered', possiblyProcessed: true })
    expect(String(refused)).not.toContain('not sent:')
    expect(reachedNobody(refused)).toBe(false)
    const unsent = await models().catch((error: unknown) => error)
    expect(unsent).toMatchObject({ code: 'client.tampered', possiblyProcessed: false })
    expect(reachedNobody(unsent)).toBe(true)
  })

  it('heeds a request’s signal while a renewal hangs, and forgets the one that connect was given', async () => {
    const before = new AbortController()
    const { network, session, models, leftMs } = await world(before.signal)
    before.abort()
    await session.refresh()
    vi.setSystemTime(Date.now() + leftMs())
    network.hang = true
    const init = { signal: AbortSignal.timeout(100) }
    const left = await session.fetch(`${session.baseURL}/models`, init).catch((error: unknown) => error)
    expect(left).toMatchObject({ name: 'TimeoutError' })
    network.hang = false
    session.close()
    await expect(models()).rejects.toMatchObject({ code: 'client.closed' })
  })

  it('fetches new keys, not new evidence, when only the keys have run out', async () => {
    const { network, models } = await world()
    vi.setSystemTime(Date.now() + 11 * 60_000)
    expect(await Promise.all([models(), models()])).toEqual([200, 200])
    expect(network).toMatchObject({ evidence: 1, keys: 1 })
  })

  it('renews evidence beside a request, ahead of its end', async () => {
    const { network, session, models, leftMs } = await world()
    expect(leftMs()).toBeGreaterThan(30 * 60_000)
    vi.setSystemTime(Date.now() + leftMs() - 30_000)
    network.down = 'evidence'
    expect(await models()).toBe(200) // nothing new to be had, and what is held still holds
    expect(network.evidence).toBe(2)
    network.down = undefined
    const { validUntil } = session.worker
    expect(await models()).toBe(200)
    await expect.poll(() => session.worker.validUntil.getTime()).toBeGreaterThan(validUntil.getTime())
    expect(network.evidence).toBe(3)
  })

  it('sends nothing once the evidence has ended and no new one is to be had', async () => {
    const { network, session, models, leftMs } = await world()
    vi.setSystemTime(Date.now() + leftMs())
    network.down = 'evidence'
    await expect(models()).rejects.toMatchObject({ code: 'worker.unreachable' })
    await expect(session.ready()).rejects.toMatchObject({ code: 'worker.unreachable' })
    expect(network.sealed).toBe(0)
    network.down = undefined
    expect(await models()).toBe(200)
  })

  it('sends nothing after a refusal, until evidence is accepted again', async () => {
    const { network, session, models } = await world()
    network.change = flipReport
    await expect(session.refresh()).rejects.toBeInstanceOf(NotTrustedError)
    await expect(models()).rejects.toMatchObject({ code: 'client.tampered' })
    expect(() => session.worker).toThrow('holds no verified worker')
    expect(network.sealed).toBe(0)
    network.change = undefined
    expect(await models()).toBe(200)
  })

  it('asks for new evidence when the keys that come are not the attested worker’s', async () => {
    const { network, models } = await world()
    vi.setSystemTime(Date.now() + 11 * 60_000)
    network.to = successor.url
    expect(await models()).toBe(200)
    expect(network).toMatchObject({ evidence: 2, keys: 1, sealed: 2 })
  })
})

describe('a request sealed twice', () => {
  it('is processed once: both times it goes under one idempotency key, which nobody had to give', async () => {
    const engine = stubEngine()
    const once = await startWorker({ engine: { engine, model: MODEL } })
    try {
      const sealed: number[] = []
      // Hands the request on, and then claims that the key was gone.
      const lying: typeof fetch = async (input, init) => {
        const response = await fetch(input, init)
        if (new URL(String(input)).pathname !== '/ohttp') return response
        sealed.push(response.status)
        if (sealed.length !== 2) return response // neither of the proofs nor of the second time
        await response.arrayBuffer()
        return new Response(null, { status: 421 })
      }
      const trusting = { ...policy, trustAnchors: [...(policy.trustAnchors ?? []), once.rootsPem ?? ''] }
      const session = await connect(once.url, { policy: trusting, fetch: lying })
      const response = await session.fetch(`${session.baseURL}/chat/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ model: MODEL.id, messages: [{ role: 'user', content: 'once' }] }),
      })
      expect(sealed).toEqual([200, 200, 200, 200])
      expect(response.status).toBe(409)
      await response.arrayBuffer()
      expect(engine.calls).toHaveLength(1)
    } finally {
      await once.close()
    }
  })
})

describe('refused evidence', () => {
  it('is stale when it is a recording, and when its time is over', async () => {
    const recorded = new Uint8Array(await (await fetch(`${worker.url}/.well-known/attestation`)).arrayBuffer())
    const { network, session } = await world()
    network.change = () => recorded
    await expect(session.refresh()).rejects.toMatchObject({ code: 'client.stale', checks: ['binding.nonce'] })
    vi.setSystemTime(Date.now() + 2 * 3600_000)
    await expect(session.refresh()).rejects.toMatchObject({ code: 'client.stale' })
    expect(network.sealed).toBe(0)
  })

  it('is tampered with when what was signed is not what came', async () => {
    const { network, session } = await world()
    network.change = (bytes) => bytes.slice(0, -1)
    await expect(session.refresh()).rejects.toMatchObject({ code: 'client.tampered' })
    network.change = flipReport
    await expect(session.refresh()).rejects.toMatchObject({ code: 'client.tampered' })
    const theirs = parseBundle(
      new Uint8Array(await (await fetch(`${successor.url}/.well-known/attestation`)).arrayBuffer()),
    )
    network.change = (bytes) => encodeBundle({ ...parseBundle(bytes), keys: theirs.keys })
    await expect(session.refresh()).rejects.toMatchObject({ code: 'client.tampered' })
    expect(network.sealed).toBe(0)
  })

  it.each(['strict', null, 7])('is a caller’s mistake when the policy is %o', async (policy) => {
    const attempt = connect(worker.url, { policy: policy as never })
    await expect(attempt).rejects.toMatchObject({
      code: 'client.policy',
      message: expect.stringMatching(/expected a document/),
    })
  })

  it('refuses a request that no worker would take before anything is asked of anyone', async () => {
    const { network, session, leftMs } = await world()
    vi.setSystemTime(Date.now() + leftMs())
    const init = { method: 'POST', body: new Uint8Array(2 ** 20 + 1) }
    const attempt = session.fetch(`${session.baseURL}/chat/completions`, init)
    await expect(attempt).rejects.toMatchObject({ code: 'client.request-too-large' })
    expect(network).toMatchObject({ evidence: 1, keys: 0, sealed: 0 })
  })

  it('is neither when it is in order and only not acceptable', async () => {
    const digests = ['ab'.repeat(32)]
    const attempt = connect(worker.url, { policy: { ...policy, model: { digests } } })
    await expect(attempt).rejects.toMatchObject({ code: 'client.not-trusted', checks: ['model.digest'] })
  })
})

/** Another bit in the report, in a bundle that is otherwise in order. */
function flipReport(bytes: Uint8Array): Uint8Array {
  const bundle = parseBundle(bytes)
  const evidence = new Uint8Array(bundle.cpu.evidence)
  evidence[0x50] = evidence[0x50]! ^ 1
  return encodeBundle({ ...bundle, cpu: { ...bundle.cpu, evidence } })
}
