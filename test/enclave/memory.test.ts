/**
 * What stays in memory when a request is over and its key has ended: no key object, and no string of prompt or answer. A
 * heap snapshot shows strings and objects, not the bytes of buffers; SECURITY.md says what that leaves open.
 */
import { createReadStream, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { writeHeapSnapshot } from 'node:v8'
import { describe, expect, it } from 'vitest'
import { fetchLine } from '../../client/lines.js'
import { signRelease } from '../../client/model-release.js'
import { createTransport } from '../../client/transport.js'
import { EngineError } from '../../enclave/inference/errors.js'
import { createLockedEngine } from '../../enclave/inference/locked.js'
import { createKeyLadder } from '../../enclave/keys.js'
import { createModelLock, type ModelLock } from '../../enclave/model-key.js'
import type { Worker } from '../../enclave/worker.js'
import { createBenchWorker } from '../../scripts/bench/channel-worker.js'
import { collectGarbage } from '../../scripts/bench/measure.js'
import { createEchoModel } from '../../scripts/soak/echo-engine.js'
import { STATEMENT } from '../support/samples.js'
import { MODEL, NOW } from './stub.js'

async function settled(): Promise<void> {
  for (let i = 0; i < 10; i++) {
    await new Promise((resolve) => setTimeout(resolve, 20))
    collectGarbage()
  }
}

describe('what is forgotten', () => {
  it('is every HPKE key, once it has expired (P-5.3)', async () => {
    let at = NOW.getTime() / 1000
    const ladder = await createKeyLadder({
      now: () => at,
      statement: {
        model: MODEL,
        runtime: { name: 'x', version: '1.0.0', engine: 'x' },
        serving: { padding: 'tick', retention: 'none', logging: 'metadata', isolation: 'request', keyLifetimeS: 600 },
        configDigest: new Uint8Array(32),
      },
    })
    const firstKey = (): object => {
      for (let id = 0; id < 256; id++) {
        const found = ladder.ring.find(id)
        if (found !== undefined) return found.privateKey
      }
      throw new Error('no key')
    }
    const key = new WeakRef(firstKey())
    await settled()
    expect(key.deref()).toBeDefined()
    at += 400
    await ladder.refresh()
    at += 200
    await ladder.refresh()
    await settled()
    expect(key.deref()).toBeUndefined()
  })

  it('is the key to encrypted weights, once they are open or were refused', async () => {
    const secret = crypto.getRandomValues(new Uint8Array(32))
    const masked = secret.map((byte) => byte ^ 0x5a)
    const letters = (bytes: Uint8Array) => [...bytes].map((byte) => 'ABCDEFGHIJKLMNOP'.repeat(16)[byte]).join('')
    const kept = await released((good) => `AGE-SECRET-KEY-1${letters(secret)}${'Q'.repeat(26)}${good ? 'A' : 'B'}`)
    const control = `control-${Buffer.from(crypto.getRandomValues(new Uint8Array(16))).toString('hex')}`
    secret.fill(0)
    await settled()
    const canary = () => letters(masked.map((byte) => byte ^ 0x5a))
    expect(await inHeap(() => [control.slice(8), canary()])).toEqual([true, false])
    expect([control.length, kept.locked()]).toEqual([40, false])
  })

  it('is every string of prompt and answer, once both ends are done', async () => {
    const secret = crypto.getRandomValues(new Uint8Array(16))
    const masked = secret.map((byte) => byte ^ 0x5a)
    const worker = await exchange(`canary-${Buffer.from(secret).toString('hex')}`)
    // A string like it that is still in use is found, so that the search itself is known to work.
    const control = `control-${Buffer.from(crypto.getRandomValues(new Uint8Array(16))).toString('hex')}`
    secret.fill(0)
    await settled()
    const canary = () => Buffer.from(masked.map((byte) => byte ^ 0x5a)).toString('hex')
    expect(await inHeap(() => [control.slice(8), canary()])).toEqual([true, false])
    expect(control).toHaveLength(40)
    expect((await worker.fetch(new Request('http://worker.example/readyz'))).status).toBe(200)
  })
})

/** An owner's releases, a wrong one and the right one; returns the lock, so that what it keeps is still there to be found. */
async function released(keyOf: (good: boolean) => string): Promise<ModelLock> {
  const { engine } = createEchoModel(1)
  const owner = (await crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify'])) as CryptoKeyPair
  const lock = createModelLock({
    engine: createLockedEngine(engine.info, async (key) => {
      if (key.endsWith('A')) return engine
      throw new EngineError('package.sealed', 'that key does not open it')
    }),
    ownerKey: new Uint8Array(await crypto.subtle.exportKey('raw', owner.publicKey)),
    now: () => NOW.getTime() / 1000,
  })
  const boot = { statement: { ...STATEMENT, model: MODEL }, statementDigest: new Uint8Array(32) }
  for (const good of [false, true]) {
    const jws = await signRelease(boot, keyOf(good), owner.privateKey, NOW.getTime())
    await lock.unlock(jws, boot).catch(() => undefined)
  }
  return lock
}

/** Returns the worker, so that what it keeps is still there to be found. */
async function exchange(prompt: string): Promise<Worker> {
  const { worker, configuration } = await createBenchWorker(createEchoModel(1), 'tick')
  const transport = createTransport({
    endpoint: new URL('http://worker.example/ohttp'),
    line: fetchLine((input, init) => worker.fetch(new Request(input, init))),
    keyConfiguration: () => configuration.encoded,
    now: () => new Date(),
  })
  for (const stream of [true, false]) {
    const body = JSON.stringify({ model: 'echo-1', messages: [{ role: 'user', content: prompt }], stream })
    const request = new Request('https://worker.example/v1/chat/completions', { method: 'POST', body })
    const { response, trailers } = await transport(request)
    const text = await response.text()
    await trailers
    if (!stream && !text.includes(prompt)) throw new Error('the echo is missing')
  }
  return worker
}

/** Whether each text is in a snapshot of this heap; `texts` makes them once it is taken, or it would hold them. */
async function inHeap(texts: () => readonly string[]): Promise<boolean[]> {
  const folder = mkdtempSync(join(tmpdir(), 'subrosa-heap-'))
  try {
    const snapshot = writeHeapSnapshot(join(folder, 'a.heapsnapshot'))
    return await occurrences(snapshot, texts())
  } finally {
    rmSync(folder, { recursive: true })
  }
}

/** Whether each text is in a file that is too large to hold. */
async function occurrences(path: string, texts: readonly string[]): Promise<boolean[]> {
  const found = texts.map(() => false)
  let tail = ''
  for await (const piece of createReadStream(path, { encoding: 'latin1', highWaterMark: 1 << 20 })) {
    const text = tail + piece
    for (const [i, wanted] of texts.entries()) found[i] ||= text.includes(wanted)
    tail = text.slice(-100)
  }
  return found
}
