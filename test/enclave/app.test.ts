/** What anyone can reach outside the encryption. */
import { describe, expect, it } from 'vitest'
import { WorkerError } from '../../enclave/errors.js'
import { createMetrics } from '../../enclave/metrics.js'
import { parseBundle } from '../../verifier/protocol/bundle.js'
import { toBase64Url } from '../../verifier/protocol/bytes.js'
import { parseSignedKeyConfigurations } from '../../verifier/protocol/key-configuration.js'
import { parseKeyConfigurations } from '../../verifier/protocol/ohttp-keys.js'
import { fetchBundle, HELLO, MODEL, stubEngine, testWorker } from './stub.js'

const BASE = 'http://worker.example'
const nonce = toBase64Url(new Uint8Array(32).fill(1))

describe('/.well-known/attestation', () => {
  it('answers a nonce with a bundle that names model, serving and keys', async () => {
    const { worker, platform } = await testWorker()
    const { bundle, claims } = await fetchBundle(worker)
    expect(claims.statement.model).toEqual(MODEL)
    expect(claims.statement.serving).toEqual({
      padding: 'tick',
      retention: 'none',
      logging: 'metadata',
      isolation: 'request',
      keyLifetimeS: 600,
    })
    expect(claims.statement.configDigest).toEqual(platform.hostData)
    expect(bundle.cpu.type).toBe('application/vnd.amd.sev-snp.report')
  })

  it('answers without a nonce too', async () => {
    const { worker } = await testWorker()
    const response = await worker.fetch(new Request(`${BASE}/.well-known/attestation`))
    expect(response.headers.get('content-type')).toBe('application/vnd.subrosa.bundle+cbor')
    expect(response.headers.get('cache-control')).toBe('no-store')
    expect(parseBundle(new Uint8Array(await response.arrayBuffer())).nonceProof?.nonce).toHaveLength(32)
  })

  it.each([
    ['too short', nonce.slice(1)],
    ['too long', `${nonce}AA`],
    ['padded', `${nonce}=`],
    ['empty', ''],
    ['not base64url', `${nonce.slice(0, -1)}+`],
    ['given twice', `${nonce}&nonce=${nonce}`],
    ['enormous', 'A'.repeat(10_000)],
  ])('refuses a nonce that is %s', async (_, value) => {
    const { worker, platform } = await testWorker()
    const before = platform.reports.length
    const response = await worker.fetch(new Request(`${BASE}/.well-known/attestation?nonce=${value}`))
    expect(response.status).toBe(400)
    expect(response.headers.get('content-type')).toBe('application/problem+json')
    expect(await response.json()).toMatchObject({ status: 400, detail: expect.stringContaining('32 bytes') })
    expect(platform.reports).toHaveLength(before)
  })

  it('says that the machine failed, and nothing of why', async () => {
    let fail = false
    const { worker, lines } = await testWorker({
      attest: async () => {
        if (fail) throw new Error('secret detail')
      },
    })
    fail = true
    const response = await worker.fetch(new Request(`${BASE}/.well-known/attestation`))
    expect(response.status).toBe(500)
    expect(`${await response.text()}${lines.join('')}`).not.toContain('secret')
  })

  it.each(['worker.platform', 'worker.gpu'] as const)('says that %s may pass, and when to come back', async (code) => {
    let fail = false
    const { worker } = await testWorker({
      attest: async () => {
        if (fail) throw new WorkerError(code, 'secret detail')
      },
    })
    fail = true
    const response = await worker.fetch(new Request(`${BASE}/.well-known/attestation`))
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '5'])
    expect(await response.text()).not.toContain('secret')
  })
})

describe('/.well-known/ohttp-keys', () => {
  it('gives the signed list to those who ask for it and the plain one to all others', async () => {
    const { worker } = await testWorker()
    const get = async (accept?: string) =>
      worker.fetch(new Request(`${BASE}/.well-known/ohttp-keys`, accept === undefined ? {} : { headers: { accept } }))
    const signed = await get('application/json, Application/Vnd.Subrosa.Key-Configurations+CBOR; q=0.9')
    expect(signed.headers.get('content-type')).toBe('application/vnd.subrosa.key-configurations+cbor')
    const [item] = parseSignedKeyConfigurations(new Uint8Array(await signed.arrayBuffer()))
    for (const accept of [undefined, '*/*', 'application/ohttp-keys']) {
      const plain = await get(accept)
      expect(plain.headers.get('content-type')).toBe('application/ohttp-keys')
      expect(plain.headers.get('vary')).toContain('accept')
      const [configuration] = parseKeyConfigurations(new Uint8Array(await plain.arrayBuffer()))
      expect(configuration?.encoded).toEqual(item?.configuration)
    }
  })
})

describe('plaintext prompts (P-7.1)', () => {
  it.each([
    ['POST', '/v1/chat/completions'],
    ['POST', '/v1/completions'],
    ['POST', '/v1/embeddings'],
    ['GET', '/v1/models'],
    ['GET', '/v1/receipts/abc'],
    ['POST', '/chat/completions'],
    ['PUT', '/v1/anything/at/all'],
    ['POST', '/v1'],
  ])('are refused unread: %s %s', async (method, path) => {
    const { worker, engine } = await testWorker()
    let read = false
    const body = new ReadableStream(
      {
        pull(controller) {
          read = true
          controller.enqueue(new TextEncoder().encode(JSON.stringify(HELLO)))
          controller.close()
        },
      },
      { highWaterMark: 0 },
    )
    const request = new Request(`${BASE}${path}`, {
      method,
      ...(method === 'GET' ? {} : { body, duplex: 'half' }),
    } as RequestInit)
    const response = await worker.fetch(request)
    expect(response.status).toBe(403)
    expect(response.headers.get('content-type')).toBe('application/problem+json')
    expect(await response.json()).toMatchObject({
      detail: expect.stringContaining('only accepted inside the encryption'),
    })
    expect(read).toBe(false)
    expect(request.bodyUsed).toBe(false)
    expect(engine.calls).toHaveLength(0)
  })
})

describe('everything else', () => {
  it('has health, readiness and metrics', async () => {
    const { worker } = await testWorker()
    expect((await worker.fetch(new Request(`${BASE}/healthz`))).status).toBe(200)
    expect((await worker.fetch(new Request(`${BASE}/readyz`))).status).toBe(200)
    await worker.close()
    expect((await worker.fetch(new Request(`${BASE}/readyz`))).status).toBe(503)
  })

  it('is 404, or 405 on a path that exists', async () => {
    const { worker } = await testWorker()
    expect((await worker.fetch(new Request(`${BASE}/`))).status).toBe(404)
    expect((await worker.fetch(new Request(`${BASE}/explorer.html`))).status).toBe(404)
    const wrong = await worker.fetch(new Request(`${BASE}/ohttp`))
    expect([wrong.status, wrong.headers.get('allow')]).toEqual([405, 'POST'])
    const post = await worker.fetch(new Request(`${BASE}/.well-known/attestation`, { method: 'POST', body: 'x' }))
    expect([post.status, post.headers.get('allow')]).toEqual([405, 'GET'])
  })

  it('lets browsers in where they need to be, without credentials', async () => {
    const { worker } = await testWorker()
    const origin = 'https://page.example'
    for (const path of ['/.well-known/attestation', '/.well-known/ohttp-keys', '/ohttp']) {
      const preflight = await worker.fetch(
        new Request(`${BASE}${path}`, {
          method: 'OPTIONS',
          headers: { origin, 'access-control-request-method': 'POST', 'access-control-request-headers': 'subrosa-key' },
        }),
      )
      expect(preflight.status).toBe(204)
      expect(preflight.headers.get('access-control-allow-origin')).toBe('*')
      expect(preflight.headers.get('access-control-allow-headers')).toContain('subrosa-key')
      expect(preflight.headers.has('access-control-allow-credentials')).toBe(false)
    }
    const response = await worker.fetch(new Request(`${BASE}/.well-known/ohttp-keys`, { headers: { origin } }))
    expect(response.headers.get('access-control-allow-origin')).toBe('*')
    const health = await worker.fetch(new Request(`${BASE}/healthz`, { headers: { origin } }))
    expect(health.headers.has('access-control-allow-origin')).toBe(false)
  })

  it('refuses to start on a machine launched for another configuration (P-4.4)', async () => {
    const { platform } = await testWorker({ padding: 'off' })
    await expect(testWorker({ padding: 'tick', worker: { platform } })).rejects.toMatchObject({
      code: 'worker.host-data',
    })
  })
})

describe('/metrics', () => {
  it('is published once a minute, in coarse terms', async () => {
    const { worker, clock, chat } = await testWorker({ engine: stubEngine() })
    const text = async () => (await worker.fetch(new Request(`${BASE}/metrics`))).text()
    const before = await text()
    await (await chat(HELLO)).text()
    expect(await text()).toBe(before)
    clock.at = new Date(clock.at.getTime() + 60_000)
    const after = await text()
    expect(after).toContain('subrosa_requests_total{route="ohttp",status="2xx"} 1\n')
    expect(after).toContain('subrosa_reports_total 1\n')
    expect(after).not.toMatch(/tokens_total|bytes/)
    expect(after).not.toMatch(/^subrosa_answer_tokens_per_second/m)
    for (const line of after.trimEnd().split('\n')) {
      expect(line).toMatch(/^(# (HELP|TYPE) .+|[a-z_]+(\{[a-z]+="[^"]+"(,[a-z]+="[^"]+")*\})? \d+)$/)
    }
  })

  it('gives a speed only once it says nothing of one answer', () => {
    let at = 0
    const metrics = createMetrics(() => at)
    const speed = () => {
      at += 60_000
      return /^subrosa_answer_tokens_per_second (\d+)$/m.exec(metrics.text())?.[1]
    }
    for (let i = 0; i < 19; i++) metrics.answer(83, 1000)
    expect(speed()).toBeUndefined()
    metrics.answer(83, 1000)
    expect(speed()).toBe('85')
  })
})
