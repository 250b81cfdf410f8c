/** Who may open encrypted weights: the owner the configuration names, for this boot and this model, and nobody else. */
import { CompactSign } from 'jose'
import { beforeAll, describe, expect, it } from 'vitest'
import { signRelease } from '../../client/model-release.js'
import { EngineError } from '../../enclave/inference/errors.js'
import { createLockedEngine } from '../../enclave/inference/locked.js'
import { type Bytes, fromUtf8, toBase64Url, toBytes, utf8 } from '../../verifier/protocol/bytes.js'
import { PATH_MODEL_KEY } from '../../verifier/protocol/model-key.js'
import { fetchBundle, HELLO, NOW, stubEngine, testWorker } from './stub.js'

const KEY = `AGE-SECRET-KEY-1${'Q'.repeat(58)}`
const WRONG = `AGE-SECRET-KEY-1${'P'.repeat(58)}`

let owner: CryptoKeyPair
let stranger: CryptoKeyPair
let ownerKey: Bytes

beforeAll(async () => {
  const make = async (): Promise<CryptoKeyPair> =>
    (await crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify'])) as CryptoKeyPair
  owner = await make()
  stranger = await make()
  ownerKey = toBytes(new Uint8Array(await crypto.subtle.exportKey('raw', owner.publicKey)))
})

async function lockedWorker() {
  const inside = stubEngine()
  const keys: string[] = []
  const locked = createLockedEngine(inside.info, async (key) => {
    keys.push(key)
    if (key !== KEY) throw new EngineError('package.sealed', `model.age: that key does not open it`)
    return inside
  })
  const engine = Object.assign(stubEngine(), locked.engine)
  const tested = await testWorker({ engine, worker: { locked, modelOwnerKey: ownerKey } })
  const { claims } = await fetchBundle(tested.worker)
  const send = async (jws: string) =>
    (await tested.transport(new Request(`https://worker.example${PATH_MODEL_KEY}`, { method: 'POST', body: jws })))
      .response
  const ready = async () => (await tested.worker.fetch(new Request('http://worker.example/readyz'))).status
  return { ...tested, claims, send, ready, keys, inside }
}

type Locked = Awaited<ReturnType<typeof lockedWorker>>

/** A release as the owner would sign it, with some members changed. */
async function release({ claims }: Locked, change: object = {}, key = owner.privateKey, typ = 'subrosa-model-key+jwt') {
  const jws = await signRelease(claims, KEY, owner.privateKey, NOW.getTime())
  const payload = JSON.parse(fromUtf8(Buffer.from(jws.split('.')[1] ?? '', 'base64url')))
  return new CompactSign(utf8(JSON.stringify({ ...payload, ...change })))
    .setProtectedHeader({ alg: 'EdDSA', typ })
    .sign(key)
}

describe('a worker with encrypted weights', () => {
  it('attests, but is not ready and answers no chat until the key has come', async () => {
    const worker = await lockedWorker()
    expect(await worker.ready()).toBe(503)
    const refused = await worker.chat(HELLO)
    expect([refused.status, (await refused.json()).error.code]).toEqual([503, 'model_locked'])
    const opened = await worker.send(await release(worker))
    expect([opened.status, await opened.json()]).toEqual([200, { object: 'model_key', opened: true }])
    expect(await worker.ready()).toBe(200)
    expect((await worker.chat(HELLO)).status).toBe(200)
    expect(worker.inside.calls).toHaveLength(1)
  })

  it('looks at no key once it is open', async () => {
    const worker = await lockedWorker()
    await worker.send(await release(worker))
    expect((await worker.send(await release(worker, { key: WRONG }))).status).toBe(200)
    expect(worker.keys).toEqual([KEY])
    expect(await worker.ready()).toBe(200)
  })

  const digest = toBase64Url(new Uint8Array(32))
  const at = NOW.getTime() / 1000
  it.each<[string, (worker: Locked) => Promise<string>]>([
    ['another owner (P-8.5)', (w) => release(w, {}, stranger.privateKey)],
    ['another boot (P-8.5)', (w) => release(w, { stmt: digest })],
    ['another model (P-8.5)', (w) => release(w, { weights: digest })],
    ['a token of another type', (w) => release(w, {}, owner.privateKey, 'subrosa-receipt+jwt')],
    ['one that is over', (w) => release(w, { iat: at - 500, exp: at - 200 })],
    ['one that is not yet', (w) => release(w, { iat: at + 200, exp: at + 400 })],
    ['one that holds too long', (w) => release(w, { exp: at + 301 })],
    ['an unknown member', (w) => release(w, { more: 1 })],
    ['no age identity', (w) => release(w, { key: 'canary' })],
    ['no token', async () => 'canary'],
    ['nothing', async () => ''],
    ['too much', async () => 'x'.repeat(20_000)],
  ])('refuses %s, and does not try its key', async (_, make) => {
    const worker = await lockedWorker()
    const response = await worker.send(await make(worker))
    const text = await response.text()
    expect([response.status, JSON.parse(text).error.code]).toEqual([400, 'model_key_refused'])
    expect(text).not.toContain('canary')
    expect(worker.keys).toEqual([])
    expect(await worker.ready()).toBe(503)
  })

  it('refuses a key that does not open the weights in the same words, and takes the right one after (P-8.6)', async () => {
    const worker = await lockedWorker()
    const wrong = await worker.send(await release(worker, { key: WRONG }))
    const strange = await worker.send(await release(worker, {}, stranger.privateKey))
    expect([wrong.status, await wrong.text()]).toEqual([strange.status, await strange.text()])
    expect((await worker.send(await release(worker))).status).toBe(200)
  })

  it('says nothing of a key in its log, metrics or configuration', async () => {
    const worker = await lockedWorker()
    await worker.send(await release(worker, { key: WRONG }))
    await worker.send(await release(worker))
    worker.clock.at = new Date(NOW.getTime() + 120_000)
    const metrics = await (await worker.worker.fetch(new Request('http://worker.example/metrics'))).text()
    const seen = [...worker.lines, metrics].join('\n')
    expect(seen).toMatch(/model\.refused[\s\S]*model\.opened/)
    for (const secret of [KEY, WRONG, 'AGE-']) expect(seen).not.toContain(secret)
  })

  it('refuses an engine that is not the one announced', async () => {
    const other = stubEngine()
    const locked = createLockedEngine({ ...other.info, version: '2.0.0' }, async () => other)
    await expect(locked.unlock(KEY)).rejects.toMatchObject({ code: 'package.unusable' })
    expect([locked.locked(), other.closed]).toEqual([true, true])
  })

  it('forgets a model that opens while it is closing', async () => {
    const inside = stubEngine()
    let finish = (): void => undefined
    const opening = new Promise<void>((resolve) => {
      finish = resolve
    })
    const locked = createLockedEngine(inside.info, async () => {
      await opening
      return inside
    })
    const attempt = locked.unlock(KEY)
    await new Promise((resolve) => setImmediate(resolve))
    const closing = locked.engine.close()
    finish()
    await expect(attempt).rejects.toMatchObject({ code: 'closed' })
    await closing
    expect(inside.closed).toBe(true)
    await expect(locked.unlock(KEY)).rejects.toMatchObject({ code: 'closed' })
  })
})

it('a worker with weights in the clear has no such door', async () => {
  const { transport } = await testWorker()
  const request = new Request(`https://worker.example${PATH_MODEL_KEY}`, { method: 'POST', body: 'x' })
  expect((await transport(request)).response.status).toBe(404)
})

it('encrypted weights and the key of their owner come together or not at all', async () => {
  const engine = stubEngine()
  const locked = createLockedEngine(engine.info, async () => engine)
  await expect(testWorker({ worker: { locked } })).rejects.toMatchObject({ code: 'worker.option' })
  await expect(testWorker({ worker: { modelOwnerKey: ownerKey } })).rejects.toMatchObject({ code: 'worker.option' })
})
