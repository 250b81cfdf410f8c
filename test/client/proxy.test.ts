/** The proxy as programs meet it: curl-like requests, the unmodified `openai` package, web pages that should not be let in. */
import { once } from 'node:events'
import { type IncomingHttpHeaders, request } from 'node:http'
import { type AddressInfo, connect as connectSocket, createServer } from 'node:net'
import OpenAI from 'openai'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { PolicyDocument } from '../../client/index.js'
import { type RunningProxy, startProxy } from '../../client/proxy.js'
import { forwardedHeaders } from '../../client/proxy-forward.js'
import { toHex } from '../../verifier/protocol/bytes.js'
import { MAX_REQUEST_CONTENT_BYTES } from '../../verifier/protocol/constants.js'
import { MODEL, stubEngine } from '../enclave/stub.js'
import { policyFor, type RunningWorker, startWorker, tapWire } from '../support/worker.js'

const CANARY = 'kookaburra-7193'
const endless = stubEngine({
  answer: {
    *[Symbol.iterator]() {
      for (;;) yield 'word '
    },
  },
  step: () => new Promise((resolve) => setTimeout(resolve, 5)),
})

let worker: RunningWorker
let endlessWorker: RunningWorker
let impostor: RunningWorker
let policy: PolicyDocument
const running: { close(): Promise<void> }[] = []

beforeAll(async () => {
  worker = await startWorker()
  endlessWorker = await startWorker({ engine: { engine: endless, model: MODEL } })
  impostor = await startWorker({ simulatedLaunchDigest: new Uint8Array(48).fill(0x99) })
  const known = await policyFor(worker, endlessWorker, impostor)
  const demo = typeof known.model === 'object' ? known.model.digests : []
  policy = { ...known, model: { digests: [...demo, toHex(MODEL.weightsRoot)] } }
})

afterEach(async () => {
  for (const one of running.splice(0).reverse()) await one.close()
})

afterAll(async () => {
  for (const one of [worker, endlessWorker, impostor]) await one.close()
})

async function proxyTo(...workers: string[]): Promise<RunningProxy> {
  const proxy = await startProxy({ workers, port: 0, connect: { policy }, intervalMs: 50 })
  running.push(proxy)
  return proxy
}

async function tapTo(url: string) {
  const tap = await tapWire(url)
  running.push(tap)
  return tap
}

interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
}

/** A request with any header at all, which `fetch` would not send. */
function ask(proxy: RunningProxy, path: string, headers: Record<string, string> = {}, body?: string): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const { port } = new URL(proxy.origin)
    const method = body === undefined ? 'GET' : 'POST'
    const outgoing = request({ host: '127.0.0.1', port, path, method, headers }, (incoming) => {
      let text = ''
      incoming.setEncoding('utf8').on('data', (piece: string) => {
        text += piece
      })
      incoming.on('end', () => resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, text }))
      incoming.on('error', reject)
    })
    outgoing.on('error', reject).end(body)
  })
}

const bearer = (proxy: RunningProxy) => ({ authorization: `Bearer ${proxy.token}` })
const json = { 'content-type': 'application/json' }
const question = JSON.stringify({
  model: 'subrosa-demo',
  messages: [{ role: 'user', content: `Repeat: ${CANARY}` }],
  max_tokens: 8,
})
const asked = (proxy: RunningProxy) => ask(proxy, '/v1/chat/completions', { ...bearer(proxy), ...json }, question)
const openaiFor = (proxy: RunningProxy) => new OpenAI({ baseURL: proxy.baseURL, apiKey: proxy.token, maxRetries: 0 })
const errorOf = (answer: Answer) => (JSON.parse(answer.text) as { error: Record<string, unknown> }).error

describe('programs with the token', () => {
  it('chat as with curl, and the network sees no word of it, nor of the token', async () => {
    const tap = await tapTo(worker.url)
    const proxy = await proxyTo(tap.url)
    const answer = await asked(proxy)
    expect(answer.status).toBe(200)
    expect(answer.headers['content-type']).toContain('application/json')
    expect(Object.keys(answer.headers).filter((name) => name.startsWith('access-control'))).toEqual([])
    expect(answer.text).toContain('"chat.completion"')
    const wire = tap.bytes().toString('latin1')
    expect(wire).toContain('message/ohttp-chunked-req')
    for (const secret of [CANARY, proxy.token, 'Repeat', 'chat/completions']) expect(wire).not.toContain(secret)
  })

  it('chat and stream with the openai package, which gets the same words both ways', async () => {
    const openai = openaiFor(await proxyTo(worker.url))
    const body = {
      model: worker.model.id,
      messages: [{ role: 'user' as const, content: 'What is the capital of France?' }],
      temperature: 0,
    }
    const whole = await openai.chat.completions.create(body)
    expect(whole.choices[0]?.message.content).toContain('Paris')
    let [text, pieces] = ['', 0]
    for await (const chunk of await openai.chat.completions.create({ ...body, stream: true })) {
      text += chunk.choices[0]?.delta.content ?? ''
      pieces++
    }
    expect(text).toBe(whole.choices[0]?.message.content)
    expect(pieces).toBeGreaterThan(3)
    expect((await openai.models.list()).data.map((model) => model.id)).toEqual([worker.model.id])
    const unknown = openai.chat.completions.create({ ...body, model: 'no-such-model' })
    await expect(unknown).rejects.toMatchObject({ status: 404, code: 'model_not_found' })
  })

  it('abort in mid-stream, and the worker stops working for them', async () => {
    const openai = openaiFor(await proxyTo(endlessWorker.url))
    const stream = await openai.chat.completions.create({
      model: MODEL.id,
      messages: [{ role: 'user', content: 'go on' }],
      stream: true,
    })
    for await (const _ of stream) break
    const call = endless.calls.at(-1)!
    await expect
      .poll(async () => {
        const before = call.emitted
        await new Promise((resolve) => setTimeout(resolve, 200))
        return call.emitted - before
      })
      .toBe(0)
  })

  it('may leave while they send or wait, and the proxy goes on for others', async () => {
    const proxy = await proxyTo(endlessWorker.url)
    const headers = { ...bearer(proxy), ...json, 'content-length': '1000' }
    const { port } = new URL(proxy.origin)
    const half = request({ host: '127.0.0.1', port, path: '/v1/chat/completions', method: 'POST', headers })
    half.on('error', () => undefined).write('{"model":')
    await new Promise((resolve) => setTimeout(resolve, 100))
    half.destroy()
    const calls = endless.calls.length
    const waiting = fetch(`${proxy.baseURL}/chat/completions`, {
      method: 'POST',
      headers: { ...bearer(proxy), ...json },
      body: JSON.stringify({ model: MODEL.id, messages: [{ role: 'user', content: 'go on' }] }),
      signal: AbortSignal.timeout(500),
    })
    await expect(waiting).rejects.toThrow()
    expect(endless.calls.length).toBe(calls + 1)
    await expect
      .poll(async () => {
        const before = endless.calls.at(-1)!.emitted
        await new Promise((resolve) => setTimeout(resolve, 200))
        return endless.calls.at(-1)!.emitted - before
      })
      .toBe(0)
    expect((await ask(proxy, '/v1/models', bearer(proxy))).status).toBe(200)
  })

  it('keep what concerns this machine to themselves', () => {
    const incoming = {
      accept: 'text/event-stream',
      'x-request-id': 'r1',
      ...{ authorization: 'Bearer t', cookie: 'c=1', origin: 'http://127.0.0.1:1', referer: 'http://127.0.0.1:1/' },
      ...{ host: '127.0.0.1:1', 'sec-fetch-mode': 'cors', 'content-length': '3', 'transfer-encoding': 'chunked' },
      ...{ connection: 'keep-alive, X-Private', 'x-private': CANARY, 'x-forwarded-for': '10.0.0.1' },
    }
    expect([...forwardedHeaders(incoming)]).toEqual([
      ['accept', 'text/event-stream'],
      ['x-request-id', 'r1'],
    ])
  })

  it('see a broken stream as broken', async () => {
    const tap = await tapTo(endlessWorker.url)
    const proxy = await proxyTo(tap.url)
    const response = await fetch(`${proxy.baseURL}/chat/completions`, {
      method: 'POST',
      headers: { ...bearer(proxy), ...json },
      body: JSON.stringify({ model: MODEL.id, messages: [{ role: 'user', content: 'go on' }], stream: true }),
    })
    const reader = response.body!.getReader()
    await reader.read()
    tap.lead('http://127.0.0.1:1')
    const rest = (async () => {
      while (!(await reader.read()).done);
    })()
    await expect(rest).rejects.toThrow()
  })
})

describe('everyone else', () => {
  it.each<[string, number, string, string, Record<string, string> | undefined, string | undefined]>([
    ['a page that rebinds its own name', 421, 'wrong_host', '/v1/models', { host: 'attacker.example:80' }, undefined],
    ['the right name with another port', 421, 'wrong_host', '/readyz', { host: '127.0.0.1:1' }, undefined],
    ['a page of another origin', 403, 'wrong_origin', '/v1/models', { origin: 'https://attacker.example' }, undefined],
    ['a sandboxed page', 403, 'wrong_origin', '/', { origin: 'null' }, undefined],
    ['a link from another site', 403, 'wrong_origin', '/', { 'sec-fetch-site': 'cross-site' }, undefined],
    ['a form', 415, 'unsupported_media_type', '/v1/chat/completions', { 'content-type': 'text/plain' }, question],
    ['no path', 400, 'invalid_url', 'http://attacker.example/v1/models', {}, undefined],
    ['an unknown path', 404, 'unknown_url', '/v2/models', {}, undefined],
    ['a path that leaves /v1', 404, 'unknown_url', '/v1/%2e%2e/ohttp', {}, undefined],
  ])('%s is refused with %i', async (_, status, code, path, headers, body) => {
    const tap = await tapTo(worker.url)
    const proxy = await proxyTo(tap.url)
    const before = tap.bytes().length
    const answer = await ask(proxy, path, { ...bearer(proxy), ...headers }, body)
    expect(answer.status).toBe(status)
    expect(errorOf(answer)).toMatchObject({ code, type: 'invalid_request_error', message: expect.any(String) })
    expect(tap.bytes().length).toBe(before)
  })

  it('is refused without the token, or with another', async () => {
    const proxy = await proxyTo(worker.url)
    const { port } = new URL(proxy.origin)
    for (const headers of [{}, { authorization: 'Bearer x' }, { authorization: `Bearer ${proxy.token}x` }]) {
      for (const path of ['/v1/models', '/', '/nowhere']) {
        const answer = await ask(proxy, path, { host: `localhost:${port}`, ...headers })
        expect(answer.status).toBe(401)
        expect(errorOf(answer)['code']).toBe('invalid_api_key')
        expect(answer.text).not.toContain(proxy.token)
      }
    }
    const basic = { authorization: `Basic ${Buffer.from(`x:${proxy.token}`).toString('base64')}` }
    expect((await ask(proxy, '/v1/models', basic)).status).toBe(401)
    expect((await ask(proxy, '/', basic)).status).toBe(200)
    await expect(openaiFor({ ...proxy, token: 'sk-guess' }).models.list()).rejects.toMatchObject({ status: 401 })
  })

  it('gets no preflight, and no other method', async () => {
    const proxy = await proxyTo(worker.url)
    const options = await fetch(`${proxy.baseURL}/models`, { method: 'OPTIONS', headers: bearer(proxy) })
    expect(options.status).toBe(405)
    expect(options.headers.get('access-control-allow-origin')).toBeNull()
  })

  it('is told with 413, in OpenAI’s shape, that a request is larger than any worker takes, and nothing is sent (P-7.9)', async () => {
    const tap = await tapTo(worker.url)
    const proxy = await proxyTo(tap.url)
    const before = tap.bytes().length
    const large = question.replace('Repeat', 'x'.repeat(4_000_000))
    for (const length of [4_000_000, MAX_REQUEST_CONTENT_BYTES + 1]) {
      const answer = await ask(proxy, '/v1/chat/completions', { ...bearer(proxy), ...json }, large.slice(0, length))
      expect(answer.status).toBe(413)
      expect(errorOf(answer)).toMatchObject({ code: 'request_too_large', type: 'invalid_request_error', param: null })
    }
    const body = { model: worker.model.id, messages: [{ role: 'user' as const, content: 'x'.repeat(4_000_000) }] }
    const refused = openaiFor(proxy).chat.completions.create(body)
    await expect(refused).rejects.toMatchObject({ status: 413, code: 'request_too_large' })
    expect(tap.bytes().length).toBe(before)
  })

  it('cannot fill the memory', async () => {
    const proxy = await proxyTo(worker.url)
    const chunk = 'x'.repeat(1024 * 1024)
    const { port } = new URL(proxy.origin)
    const headers = { ...bearer(proxy), ...json }
    const outgoing = request({ host: '127.0.0.1', port, path: '/v1/chat/completions', method: 'POST', headers })
    // It is cut at some point, or answered before it has sent everything.
    const outcome = new Promise<number>((resolve) => {
      outgoing.on('error', () => resolve(413)).on('response', ({ statusCode }) => resolve(statusCode ?? 0))
    })
    let sent = 0
    const send = (): void => {
      if (outgoing.destroyed || sent++ > 200) return
      outgoing.write(chunk, send)
    }
    send()
    expect(await outcome).toBe(413)
    outgoing.destroy()
    expect(sent).toBeLessThan(200)
  })

  it('sees why a request is refused while it still sends', async () => {
    const proxy = await proxyTo(worker.url)
    const body = `"${'x'.repeat(8 * 1024 * 1024)}"`
    const answer = await ask(proxy, '/v1/chat/completions', { ...bearer(proxy), ...json }, body)
    expect([answer.status, errorOf(answer)['code']]).toEqual([413, 'request_too_large'])
  })
})

describe('callers of HTTP/1.0', () => {
  /** Everything that comes until the connection ends. */
  function askOld(proxy: RunningProxy, body: object): Promise<string> {
    const text = JSON.stringify(body)
    const { port } = new URL(proxy.origin)
    const socket = connectSocket(Number(port), '127.0.0.1')
    const head = [
      'POST /v1/chat/completions HTTP/1.0',
      `Host: 127.0.0.1:${port}`,
      `Authorization: Bearer ${proxy.token}`,
      'Content-Type: application/json',
      `Content-Length: ${Buffer.byteLength(text)}`,
    ]
    socket.write(`${head.join('\r\n')}\r\n\r\n${text}`)
    return new Promise((resolve, reject) => {
      let all = ''
      socket.setEncoding('utf8').on('data', (piece: string) => {
        all += piece
      })
      socket.on('end', () => resolve(all)).on('error', reject)
    })
  }

  it('get an answer whole, with its length', async () => {
    const proxy = await proxyTo(worker.url)
    const messages = [{ role: 'user', content: 'What is the capital of Japan?' }]
    const answer = await askOld(proxy, { model: worker.model.id, messages, stream: true })
    const [head = '', body = ''] = answer.split('\r\n\r\n')
    expect(head).toMatch(/^HTTP\/1\.1 200 /)
    expect(head).not.toMatch(/transfer-encoding/i)
    expect(/content-length: (\d+)/i.exec(head)?.[1]).toBe(String(Buffer.byteLength(body)))
    expect(body).toContain('[DONE]')
  })

  it('never see a broken one as whole', async () => {
    const tap = await tapTo(endlessWorker.url)
    const proxy = await proxyTo(tap.url)
    const before = endless.calls.length
    const messages = [{ role: 'user', content: 'go on' }]
    const answer = askOld(proxy, { model: MODEL.id, messages, stream: true })
    await expect.poll(() => endless.calls[before]?.emitted ?? 0).toBeGreaterThan(3)
    tap.lead('http://127.0.0.1:1')
    expect(await answer).toMatch(/^HTTP\/1\.1 502 /)
  })
})

describe('readiness', () => {
  it('does not keep the door shut while a worker takes its time', async () => {
    const silent = createServer(() => undefined)
    silent.listen(0, '127.0.0.1')
    await once(silent, 'listening')
    const slow = `http://127.0.0.1:${(silent.address() as AddressInfo).port}`
    const proxy = await startProxy({ workers: [slow], port: 0, connect: { policy }, intervalMs: 50, firstLookMs: 50 })
    running.push(proxy)
    expect((await ask(proxy, '/healthz')).status).toBe(200)
    expect((await ask(proxy, '/readyz')).status).toBe(503)
    silent.close()
  })

  it('comes with a verified worker and not before', async () => {
    const tap = await tapTo('http://127.0.0.1:1')
    const proxy = await proxyTo(tap.url)
    expect((await ask(proxy, '/healthz')).status).toBe(200)
    expect((await ask(proxy, '/readyz')).status).toBe(503)
    const answer = await asked(proxy)
    expect(answer.status).toBe(503)
    expect(errorOf(answer)).toMatchObject({ code: 'worker_unavailable', type: 'server_error' })
    const page = await ask(proxy, '/', bearer(proxy))
    expect(page.text).toContain('<h1>Not ready</h1>')
    tap.lead(worker.url)
    await expect.poll(async () => (await ask(proxy, '/readyz')).status, { timeout: 10_000 }).toBe(200)
    expect((await asked(proxy)).status).toBe(200)
  })

  it('has a page that says who reads and until when, and runs nothing', async () => {
    const proxy = await proxyTo(worker.url)
    await asked(proxy)
    // The receipt is checked once the answer has gone out.
    const shown = async () => (await ask(proxy, '/', bearer(proxy))).text
    await expect.poll(shown).toContain('since start: 1')
    const page = await ask(proxy, '/', bearer(proxy))
    expect(page.text).toMatch(
      /SIMULATED OR PRIVATE hardware: whoever runs this worker can read you .* until \d\d:\d\d UTC/,
    )
    expect(page.text).not.toMatch(/<script|<style|src=|href=/)
    expect(page.text).not.toContain(proxy.token)
    const answer = await ask(proxy, '/v1/models', bearer(proxy))
    for (const { headers } of [page, answer]) {
      expect(headers['content-security-policy']).toContain("default-src 'none'")
      expect(headers).toMatchObject({ 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' })
    }
  })
})

describe('workers that cannot be trusted', () => {
  it('an impostor gets no byte of the prompt; the caller gets the check', async () => {
    const tap = await tapTo(impostor.url)
    const proxy = await proxyTo(tap.url)
    const answer = await asked(proxy)
    expect(answer.status).toBe(503)
    expect(errorOf(answer)).toMatchObject({ code: 'worker_not_trusted', checks: ['reference.measurement'] })
    expect(errorOf(answer)['message']).toContain('reference.measurement')
    expect(answer.headers['x-should-retry']).toBe('false')
    expect((await ask(proxy, '/readyz')).status).toBe(503)
    expect(tap.bytes().toString('latin1')).not.toContain('POST ')
  })

  it('an impostor that has just come into the place of a verified worker gets the question, and the caller is told why', async () => {
    const tap = await tapTo(worker.url)
    // All of this is within one instant, and so within the window in which a connection that answered is sent a prompt (P-7.12).
    const instant = new Date()
    const proxy = await startProxy({ workers: [tap.url], port: 0, connect: { policy, now: () => instant } })
    running.push(proxy)
    expect((await asked(proxy)).status).toBe(200)
    const [question] = tap.sealed()
    const before = tap.sealed().length
    tap.lead(impostor.url)
    for (let i = 0; i < 2; i++) {
      const answer = await asked(proxy)
      expect(answer.status).toBe(503)
      expect(errorOf(answer)).toMatchObject({
        checks: ['reference.measurement'],
        message: expect.stringMatching(/nothing was sent/),
      })
      expect((await ask(proxy, '/readyz')).status).toBe(503)
    }
    for (const length of tap.sealed().slice(before)) expect(length).toBe(question)
    expect(tap.bytes().toString('latin1')).not.toContain(CANARY)
  })

  it('a worker that comes back with new keys is verified anew, and the request goes through', async () => {
    const successor = await startWorker()
    running.push(successor)
    policy = { ...policy, trustAnchors: [...(policy.trustAnchors ?? []), successor.rootsPem ?? ''] }
    const tap = await tapTo(worker.url)
    const proxy = await proxyTo(tap.url)
    expect((await asked(proxy)).status).toBe(200)
    tap.lead(successor.url)
    expect((await asked(proxy)).status).toBe(200)
    expect((await ask(proxy, '/readyz')).status).toBe(200)
  })

  it('the next worker of the list serves instead', async () => {
    const first = await tapTo(impostor.url)
    const second = await tapTo(worker.url)
    const proxy = await proxyTo('http://127.0.0.1:1', first.url, second.url)
    expect((await asked(proxy)).status).toBe(200)
    expect(first.bytes().toString('latin1')).not.toContain('POST ')
    expect((await ask(proxy, '/', bearer(proxy))).text).toContain('reference.measurement')
  })

  it('and takes over when the first goes away, or is replaced and nothing was sealed to it since', async () => {
    const leaving = await startWorker({ engine: { engine: stubEngine(), model: MODEL } })
    policy = { ...policy, trustAnchors: [...(policy.trustAnchors ?? []), leaving.rootsPem ?? ''] }
    const proxy = await proxyTo(leaving.url, worker.url)
    expect(proxy.describe().text).toContain(MODEL.id)
    await leaving.close()
    expect((await asked(proxy)).status).toBe(200)
    expect(proxy.describe().text).toContain(worker.model.id)

    const tap = await tapTo(endlessWorker.url)
    const other = await proxyTo(tap.url, worker.url)
    tap.lead(impostor.url)
    const before = tap.sealed().length
    expect((await asked(other)).status).toBe(200)
    expect(other.describe().text).toContain(worker.model.id)
    expect(tap.sealed().length - before).toBeLessThanOrEqual(1) // the question whether it holds the key
  })
})

it('refuses policies that cannot protect a prompt before it listens', async () => {
  const attempt = startProxy({ workers: [worker.url], port: 0, connect: { policy: { ...policy, revocation: 'off' } } })
  await expect(attempt).rejects.toMatchObject({ code: 'client.revocation-off' })
  const misspelt = startProxy({ workers: ['ftp://x'], port: 0, connect: { policy } })
  await expect(misspelt).rejects.toMatchObject({ code: 'url.scheme' })
})
