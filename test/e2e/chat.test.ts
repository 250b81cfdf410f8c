/** The whole way, as a user goes it: a worker on a socket, `connect`, and the unmodified `openai` package through the seal. */
import OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { connect, NotTrustedError, type PolicyDocument, SessionError, type WorkerSession } from '../../client/node.js'
import { encodeBundle, parseBundle } from '../../verifier/protocol/bundle.js'
import { fromUtf8 } from '../../verifier/protocol/bytes.js'
import { policyFor, type RunningWorker, startWorker, tapWire } from '../support/worker.js'

const CANARY = 'kookaburra-7193'

let worker: RunningWorker
let other: RunningWorker
let policy: PolicyDocument

beforeAll(async () => {
  worker = await startWorker()
  other = await startWorker({ simulatedLaunchDigest: new Uint8Array(48).fill(0x99) })
  policy = await policyFor(worker)
})

afterAll(async () => {
  await worker.close()
  await other.close()
})

const openaiFor = (session: WorkerSession): OpenAI =>
  new OpenAI({ baseURL: session.baseURL, fetch: session.fetch, apiKey: 'unused', maxRetries: 0 })

describe('the openai package through the sealed channel', () => {
  it('chats', async () => {
    const session = await connect(worker.url, { policy })
    const completion = await openaiFor(session).chat.completions.create({
      model: worker.model.id,
      messages: [{ role: 'user', content: 'What is the capital of France?' }],
      temperature: 0,
    })
    expect(completion.choices[0]?.message.content).toContain('Paris')
    expect(completion.choices[0]?.finish_reason).toBe('stop')
    expect(completion.usage?.total_tokens).toBeGreaterThan(0)
    session.close()
  })

  it('streams, says the same, and the receipt holds', async () => {
    const session = await connect(worker.url, { policy })
    const request = {
      model: worker.model.id,
      messages: [{ role: 'user' as const, content: 'What is a nonce for?' }],
      temperature: 0,
    }
    const whole = await openaiFor(session).chat.completions.create(request)
    const { data, response } = await openaiFor(session)
      .chat.completions.create({ ...request, stream: true, stream_options: { include_usage: true } })
      .withResponse()
    let text = ''
    let usage: number | undefined
    for await (const chunk of data) {
      text += chunk.choices[0]?.delta.content ?? ''
      usage = chunk.usage?.completion_tokens ?? usage
    }
    expect(text).toBe(whole.choices[0]?.message.content)
    expect(usage).toBe(whole.usage?.completion_tokens)
    // The receipt settles once the body has been read to its end.
    const receipt = await session.receipt(response)
    expect(receipt.checks.filter((check) => check.status !== 'pass')).toEqual([])
    expect(receipt.payload?.usage.completion_tokens).toBe(usage)
  })

  it('lists the model and reports errors in the shape the package expects', async () => {
    const openai = openaiFor(await connect(worker.url, { policy }))
    expect((await openai.models.list()).data.map((model) => model.id)).toEqual([worker.model.id])
    const refused = openai.chat.completions.create({
      model: 'no-such-model',
      messages: [{ role: 'user', content: 'x' }],
    })
    await expect(refused).rejects.toMatchObject({ status: 404 })
  })

  it('aborts in mid-stream', async () => {
    const openai = openaiFor(await connect(worker.url, { policy }))
    const stream = await openai.chat.completions.create({
      model: worker.model.id,
      messages: [{ role: 'user', content: 'Count to 12.' }],
      stream: true,
    })
    for await (const _ of stream) {
      stream.controller.abort()
      break
    }
    // The worker goes on serving others.
    await expect(openai.models.list()).resolves.toBeDefined()
  })
})

describe('what the network sees', () => {
  it('is no word of prompt or answer, streamed or not', async () => {
    const tap = await tapWire(worker.url)
    const session = await connect(tap.url, { policy })
    const openai = openaiFor(session)
    const messages = [{ role: 'user' as const, content: `Repeat after me: ${CANARY} river stone` }]
    const completion = await openai.chat.completions.create({ model: worker.model.id, messages, temperature: 0 })
    const stream = await openai.chat.completions.create({
      model: worker.model.id,
      messages,
      temperature: 0,
      stream: true,
    })
    let answer = ''
    for await (const chunk of stream) answer += chunk.choices[0]?.delta.content ?? ''
    expect(answer.length).toBeGreaterThan(0)

    const wire = tap.bytes().toString('latin1')
    expect(wire).toContain('/.well-known/attestation')
    expect(wire).toContain('message/ohttp-chunked-req')
    const words = [CANARY, 'Repeat after me', 'chat/completions', 'temperature', 'choices', completion.id]
    for (const word of [...words, ...answer.split(/\s+/).filter((part) => part.length > 4)]) {
      expect(wire).not.toContain(word)
    }
    await tap.close()
  })

  it('is nothing at all when the call names another address', async () => {
    const session = await connect(worker.url, { policy })
    const elsewhere = session.fetch(`${other.url}/v1/models`)
    await expect(elsewhere).rejects.toBeInstanceOf(SessionError)
    await expect(session.fetch('https://example.com/v1/models')).rejects.toMatchObject({ code: 'client.foreign-url' })
    session.close()
    await expect(session.fetch(`${session.baseURL}/models`)).rejects.toMatchObject({ code: 'client.closed' })
  })
})

describe('refusals before any prompt byte leaves', () => {
  /** Connects through a tap; expects exactly that check first, and no sealed request on the wire. */
  async function refusal(
    url: string,
    document: PolicyDocument,
    change?: (bundle: Uint8Array) => Uint8Array | Response,
  ) {
    const tap = await tapWire(url)
    const meddling: typeof fetch = async (input, init) => {
      const response = await fetch(input, init)
      if (change === undefined) return response
      const changed = change(new Uint8Array(await response.arrayBuffer()))
      if (changed instanceof Response) return changed
      return new Response(new Uint8Array(changed), { headers: response.headers })
    }
    try {
      await connect(tap.url, { policy: document, fetch: meddling })
    } catch (error) {
      const wire = tap.bytes().toString('latin1')
      await tap.close()
      expect(wire).not.toContain('POST ')
      if (error instanceof NotTrustedError) return error.checks[0]
      throw error
    }
    throw new Error('it was trusted')
  }

  it('another measurement: reference.measurement', async () => {
    expect(await refusal(other.url, await policyFor(worker, other))).toBe('reference.measurement')
  })

  it('an unlisted simulated root: snp.chain.root (P-6.2)', async () => {
    expect(await refusal(other.url, policy)).toBe('snp.chain.root')
  })

  it('no anchor at all: snp.chain.root', async () => {
    const { trustAnchors: _, allowNonVendorRoot: __, ...vendorOnly } = policy
    expect(await refusal(worker.url, vendorOnly)).toBe('snp.chain.root')
  })

  it('a replayed nonce: binding.nonce', async () => {
    const recorded = new Uint8Array(await (await fetch(`${worker.url}/.well-known/attestation`)).arrayBuffer())
    expect(await refusal(worker.url, policy, () => recorded)).toBe('binding.nonce')
  })

  it('a flipped bit in the report: bundle.parse, or the report’s own checks once the digest is mended', async () => {
    const flip = (bytes: Uint8Array) => {
      const out = new Uint8Array(bytes)
      out[out.length >> 1] = out[out.length >> 1]! ^ 1
      return out
    }
    expect(await refusal(worker.url, policy, flip)).toBe('bundle.parse')
    const mended = (bytes: Uint8Array) => {
      const bundle = parseBundle(bytes)
      const evidence = new Uint8Array(bundle.cpu.evidence)
      evidence[0x50] = evidence[0x50]! ^ 1
      return encodeBundle({ ...bundle, cpu: { ...bundle.cpu, evidence } })
    }
    expect(await refusal(worker.url, policy, mended)).toBe('snp.report.signature')
  })

  it('claims of another worker beside this one’s report: binding.report-data', async () => {
    const theirs = parseBundle(
      new Uint8Array(await (await fetch(`${other.url}/.well-known/attestation`)).arrayBuffer()),
    )
    const swapped = (bytes: Uint8Array) =>
      encodeBundle({ ...parseBundle(bytes), claims: theirs.claims, keys: theirs.keys })
    expect(await refusal(worker.url, policy, swapped)).toBe('binding.report-data')
  })

  it('a key the report does not name: keys.bound', async () => {
    const theirs = parseBundle(
      new Uint8Array(await (await fetch(`${other.url}/.well-known/attestation`)).arrayBuffer()),
    )
    const swapped = (bytes: Uint8Array) => encodeBundle({ ...parseBundle(bytes), keys: theirs.keys })
    expect(await refusal(worker.url, policy, swapped)).toBe('keys.bound')
  })

  it('another model: model.digest', async () => {
    expect(await refusal(worker.url, { ...policy, model: { digests: ['ab'.repeat(32)] } })).toBe('model.digest')
  })

  it('no GPU where one is required: gpu.present', async () => {
    const bare = await startWorker({ simulatedGpus: 0 })
    expect(await refusal(bare.url, await policyFor(bare))).toBe('gpu.present')
    await connect(bare.url, { policy: { ...(await policyFor(bare)), gpu: 'none' } })
    await bare.close()
  })

  it('a redirect to another place is unavailable, not followed', async () => {
    const elsewhere = refusal(worker.url, policy, () => Response.redirect('http://127.0.0.1:9/', 302))
    await expect(elsewhere).rejects.toMatchObject({ code: 'worker.status' })
  })

  it('policies that cannot protect a prompt throw before any network', async () => {
    const never: typeof fetch = () => {
      throw new Error('the network was touched')
    }
    const attempt = (document: PolicyDocument) => connect('http://127.0.0.1:9', { policy: document, fetch: never })
    await expect(attempt({ ...policy, revocation: 'off' })).rejects.toMatchObject({ code: 'client.revocation-off' })
    const { trustAnchors: _, allowNonVendorRoot: __, ...vendorOnly } = policy
    await expect(attempt({ ...vendorOnly, measurements: 'any' })).rejects.toMatchObject({
      code: 'client.any-measurement',
    })
    await expect(attempt({ ...policy, mesurements: 'any' } as PolicyDocument)).rejects.toMatchObject({
      code: 'policy.invalid',
    })
  })
})

describe('plaintext', () => {
  it('is refused, and the refusal repeats nothing of it', async () => {
    const response = await fetch(`${worker.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: worker.model.id, messages: [{ role: 'user', content: CANARY }] }),
    })
    expect(response.status).toBeGreaterThanOrEqual(400)
    expect(fromUtf8(new Uint8Array(await response.arrayBuffer()))).not.toContain(CANARY)
  })
})
