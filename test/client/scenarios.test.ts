/**
 * One list of scenarios, three ways in: OpenAI's own package, the Vercel AI SDK, and curl, all through the local proxy to a
 * real worker. Whatever the caller's program is, it must get the same words, the same errors, and nothing from an impostor.
 */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { APICallError, embed, generateObject, generateText, jsonSchema, streamText, tool } from 'ai'
import OpenAI, { APIError } from 'openai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { PolicyDocument } from '../../client/index.js'
import { POSSESSION_WINDOW_MS } from '../../client/possession.js'
import { type ProxyOptions, type RunningProxy, startProxy } from '../../client/proxy.js'
import { EngineError, OverloadedError } from '../../enclave/inference/errors.js'
import { toHex } from '../../verifier/protocol/bytes.js'
import { MODEL, stubEngine } from '../enclave/stub.js'
import { type Impostor, NOBODY, otherSoftware, replaying, webServer } from '../support/impostors.js'
import { policyFor, type RunningWorker, startWorker, tapWire, type WireTap } from '../support/worker.js'

const DEMO = 'subrosa-demo'
const CANARY = 'kookaburra-7193'
const CAPITAL = 'What is the capital of Japan?'

/** What every way in can do. Failures are told by status and the error's own code. */
interface Way {
  chat(proxy: RunningProxy, model: string, question: string): Promise<Outcome>
  stream(proxy: RunningProxy, model: string, question: string): Promise<Outcome>
  /** Has the model call the tool `clock`; the name and the arguments. */
  call(proxy: RunningProxy, model: string): Promise<{ readonly name: string; readonly zone: unknown }>
  /** An answer that follows CITY. */
  json(proxy: RunningProxy, model: string): Promise<unknown>
  embed(proxy: RunningProxy, model: string, text: string): Promise<readonly number[]>
  /** Leaves after the first piece; resolves when it has left. */
  leave(proxy: RunningProxy, model: string): Promise<void>
}

const CITY = {
  type: 'object' as const,
  properties: { city: { enum: ['Tokyo', 'Paris'] }, size: { type: 'integer' as const, minimum: 1, maximum: 9 } },
  required: ['city', 'size'],
  additionalProperties: false,
}
const CLOCK = {
  type: 'object' as const,
  properties: { zone: { enum: ['UTC', 'JST'] } },
  required: ['zone'],
  additionalProperties: false,
}
const CALL_BODY = {
  messages: [{ role: 'user' as const, content: 'What time is it?' }],
  tools: [{ type: 'function' as const, function: { name: 'clock', description: 'Tells the time', parameters: CLOCK } }],
  tool_choice: 'required' as const,
  parallel_tool_calls: false,
  temperature: 0,
}
const JSON_BODY = {
  messages: [{ role: 'user' as const, content: CAPITAL }],
  response_format: { type: 'json_schema' as const, json_schema: { name: 'city', schema: CITY, strict: true } },
  temperature: 0,
}

type Outcome = { readonly text: string } | { readonly status: number; readonly code: string }

const ways: Readonly<Record<string, Way>> = {
  'the openai package': {
    async chat(proxy, model, question) {
      const body = { model, messages: [{ role: 'user' as const, content: question }], temperature: 0 }
      return openaiOutcome(async () => (await openai(proxy).chat.completions.create(body)).choices[0]?.message.content)
    },
    async stream(proxy, model, question) {
      const body = { model, messages: [{ role: 'user' as const, content: question }], temperature: 0 }
      return openaiOutcome(async () => {
        let text = ''
        for await (const chunk of await openai(proxy).chat.completions.create({ ...body, stream: true })) {
          text += chunk.choices[0]?.delta.content ?? ''
        }
        return text
      })
    },
    async call(proxy, model) {
      const { choices } = await openai(proxy).chat.completions.create({ model, ...CALL_BODY })
      const [called] = choices[0]?.message.tool_calls ?? []
      if (called?.type !== 'function') throw new Error('no call')
      return { name: called.function.name, zone: JSON.parse(called.function.arguments).zone }
    },
    async json(proxy, model) {
      return (await openai(proxy).chat.completions.parse({ model, ...JSON_BODY })).choices[0]?.message.parsed
    },
    async embed(proxy, model, text) {
      return (await openai(proxy).embeddings.create({ model, input: text })).data[0]?.embedding ?? []
    },
    async leave(proxy, model) {
      const body = { model, messages: [{ role: 'user' as const, content: 'go on' }], stream: true as const }
      for await (const _ of await openai(proxy).chat.completions.create(body)) break
    },
  },
  'the AI SDK': {
    async chat(proxy, model, question) {
      return aiOutcome(async () => (await generateText(aiCall(proxy, model, question))).text)
    },
    async stream(proxy, model, question) {
      return aiOutcome(async () => {
        let failure: unknown
        const onError = ({ error }: { readonly error: unknown }): void => {
          failure = error
        }
        const { textStream } = streamText({ ...aiCall(proxy, model, question), onError })
        let text = ''
        for await (const piece of textStream) text += piece
        if (failure !== undefined) throw failure
        return text
      })
    },
    async call(proxy, model) {
      const { toolCalls } = await generateText({
        ...aiCall(proxy, model, 'What time is it?'),
        tools: { clock: tool({ description: 'Tells the time', inputSchema: jsonSchema<{ zone: string }>(CLOCK) }) },
        toolChoice: 'required',
        providerOptions: { subrosa: { parallel_tool_calls: false } },
      })
      const [called] = toolCalls
      if (called === undefined || called.dynamic === true) throw new Error('no call')
      return { name: called.toolName, zone: called.input.zone }
    },
    async json(proxy, model) {
      return (await generateObject({ ...aiCall(proxy, model, CAPITAL), schema: jsonSchema(CITY) })).object
    },
    async embed(proxy, model, text) {
      return (await embed({ model: aiProvider(proxy).textEmbeddingModel(model), value: text, maxRetries: 0 })).embedding
    },
    async leave(proxy, model) {
      const controller = new AbortController()
      const { textStream } = streamText({
        ...aiCall(proxy, model, 'go on'),
        abortSignal: controller.signal,
        onError: () => undefined,
      })
      for await (const _ of textStream) break
      controller.abort()
    },
  },
  curl: {
    async chat(proxy, model, question) {
      const { status, text } = await curl(proxy, {
        model,
        messages: [{ role: 'user', content: question }],
        temperature: 0,
      })
      const answer = JSON.parse(text)
      return status === 200 ? { text: answer.choices[0].message.content } : { status, code: answer.error.code }
    },
    async stream(proxy, model, question) {
      const body = { model, messages: [{ role: 'user', content: question }], temperature: 0, stream: true }
      const { status, text } = await curl(proxy, body)
      if (status !== 200) return { status, code: JSON.parse(text).error.code }
      const data = text.split('\n').filter((line) => line.startsWith('data: ') && line !== 'data: [DONE]')
      const pieces = data.map((line) => JSON.parse(line.slice(6)))
      const failed = pieces.find((piece) => piece.error !== undefined)
      if (failed !== undefined) return { status: 200, code: failed.error.code }
      return { text: pieces.map((piece) => piece.choices[0]?.delta.content ?? '').join('') }
    },
    async call(proxy, model) {
      const { text } = await curl(proxy, { model, ...CALL_BODY })
      const [called] = JSON.parse(text).choices[0].message.tool_calls
      return { name: called.function.name, zone: JSON.parse(called.function.arguments).zone }
    },
    async json(proxy, model) {
      return JSON.parse(JSON.parse((await curl(proxy, { model, ...JSON_BODY })).text).choices[0].message.content)
    },
    async embed(proxy, model, input) {
      return JSON.parse((await curl(proxy, { model, input }, 'embeddings')).text).data[0].embedding
    },
    async leave(proxy, model) {
      const child = spawnCurl(proxy, { model, messages: [{ role: 'user', content: 'x' }], stream: true })
      await once(child.stdout, 'data')
      child.kill('SIGKILL')
      await once(child, 'close')
    },
  },
}

function openai(proxy: RunningProxy): OpenAI {
  return new OpenAI({ baseURL: proxy.baseURL, apiKey: proxy.token, maxRetries: 0 })
}

async function openaiOutcome(run: () => Promise<string | null | undefined>): Promise<Outcome> {
  try {
    return { text: (await run()) ?? '' }
  } catch (error) {
    if (error instanceof APIError) return { status: error.status ?? 200, code: String(error.code) }
    throw error
  }
}

function aiProvider(proxy: RunningProxy) {
  return createOpenAICompatible({
    name: 'subrosa',
    baseURL: proxy.baseURL,
    apiKey: proxy.token,
    supportsStructuredOutputs: true,
  })
}

function aiCall(proxy: RunningProxy, model: string, prompt: string) {
  return { model: aiProvider(proxy)(model), prompt, temperature: 0, maxRetries: 0 }
}

async function aiOutcome(run: () => Promise<string>): Promise<Outcome> {
  try {
    return { text: await run() }
  } catch (error) {
    if (APICallError.isInstance(error)) {
      return { status: error.statusCode ?? 0, code: JSON.parse(error.responseBody ?? '{}').error?.code }
    }
    // An error event in a stream that had begun.
    const code = (error as { code?: unknown }).code ?? String(error)
    return { status: 200, code: String(code) }
  }
}

/** The body comes from standard input: an argument has not the room for a long one. */
function spawnCurl(proxy: RunningProxy, body: object, path = 'chat/completions') {
  const headers = ['content-type: application/json', `authorization: Bearer ${proxy.token}`]
  const data = ['--data-binary', '@-', `${proxy.baseURL}/${path}`]
  const child = spawn('curl', [
    '--silent',
    '--no-buffer',
    '--write-out',
    '\n%{http_code}',
    ...headers.flatMap((h) => ['--header', h]),
    ...data,
  ])
  child.stdin.on('error', () => undefined) // one that leaves early need not have read it all
  child.stdin.end(JSON.stringify(body))
  return child
}

async function curl(proxy: RunningProxy, body: object, path?: string): Promise<{ status: number; text: string }> {
  const child = spawnCurl(proxy, body, path)
  let out = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text
  })
  await once(child, 'close')
  const at = out.lastIndexOf('\n')
  return { status: Number(out.slice(at + 1)), text: out.slice(0, at) }
}

describe.each(Object.entries(ways))('%s', (name, way) => {
  const absent = name === 'curl' && spawnSync('curl', ['--version']).status !== 0
  const endless = stubEngine({
    answer: {
      *[Symbol.iterator]() {
        for (;;) yield 'word '
      },
    },
    step: () => new Promise((resolve) => setTimeout(resolve, 5)),
  })
  let demo: RunningWorker
  let policy: PolicyDocument
  const running: { close(): Promise<void> }[] = []

  const stub = async (engine: ReturnType<typeof stubEngine>): Promise<RunningWorker> => {
    const worker = await startWorker({ engine: { engine, model: MODEL } })
    running.push(worker)
    policy = { ...policy, trustAnchors: [...(policy.trustAnchors ?? []), worker.rootsPem ?? ''] }
    return worker
  }
  const proxyTo = async (url: string, options: ProxyOptions['connect'] = {}): Promise<RunningProxy> => {
    const connect = { policy, ...options }
    const proxy = await startProxy({ workers: [url], port: 0, connect, intervalMs: 600_000 })
    running.push(proxy)
    return proxy
  }
  const tapTo = async (url: string): Promise<WireTap> => {
    const tap = await tapWire(url)
    running.push(tap)
    return tap
  }

  beforeAll(async () => {
    demo = await startWorker()
    running.push(demo)
    const known = await policyFor(demo)
    const digests = typeof known.model === 'object' ? known.model.digests : []
    policy = { ...known, model: { digests: [...digests, toHex(MODEL.weightsRoot)] } }
  })
  afterAll(async () => {
    for (const one of running.reverse()) await one.close()
  })

  it.skipIf(absent)('chats and streams, with the same words', async () => {
    const proxy = await proxyTo(demo.url)
    const whole = await way.chat(proxy, DEMO, CAPITAL)
    expect(whole).toEqual({ text: expect.stringContaining('Tokyo') })
    expect(await way.stream(proxy, DEMO, CAPITAL)).toEqual(whole)
  })

  it.skipIf(absent)('calls a tool, with arguments that follow its schema', async () => {
    const { name: called, zone } = await way.call(await proxyTo(demo.url), DEMO)
    expect(called).toBe('clock')
    expect(['UTC', 'JST']).toContain(zone)
  })

  it.skipIf(absent)('gets JSON that follows a schema', async () => {
    const answer = (await way.json(await proxyTo(demo.url), DEMO)) as { city: string; size: number }
    expect(Object.keys(answer)).toEqual(['city', 'size'])
    expect(['Tokyo', 'Paris']).toContain(answer.city)
    expect([1, 2, 3, 4, 5, 6, 7, 8, 9]).toContain(answer.size)
  })

  it.skipIf(absent)('embeds a text, alike each time', async () => {
    const proxy = await proxyTo(demo.url)
    const first = await way.embed(proxy, DEMO, 'What a receipt is')
    expect(first).toHaveLength(128)
    expect(Math.hypot(...first)).toBeCloseTo(1, 4)
    expect(await way.embed(proxy, DEMO, 'What a receipt is')).toEqual(first)
  })

  it.skipIf(absent)('carries any script there and back', async () => {
    const said: string[] = []
    const echo = stubEngine({ answer: ['Größe ', '日本', '語 🦘', ' עברית'] })
    const worker = await stub({
      ...echo,
      tokenizeChat: async (messages) => {
        said.push(messages.map(({ content }) => content).join())
        return [1]
      },
    })
    const question = 'naïve — ½ 🧪 中文 \u202eabc\u202c'
    const proxy = await proxyTo(worker.url)
    for (const ask of [way.chat, way.stream]) {
      expect(await ask(proxy, MODEL.id, question)).toEqual({ text: 'Größe 日本語 🦘 עברית' })
    }
    expect(said).toEqual([question, question])
  })

  it.skipIf(absent)('is told what is wrong with a request, with OpenAI’s codes', async () => {
    const proxy = await proxyTo(demo.url)
    for (const ask of [way.chat, way.stream]) {
      expect(await ask(proxy, 'another', CAPITAL)).toEqual({ status: 404, code: 'model_not_found' })
      expect(await ask(proxy, DEMO, 'word '.repeat(3000))).toEqual({ status: 400, code: 'context_length_exceeded' })
    }
  })

  it.skipIf(absent)('is told to come back when the worker has no room, and that it failed when it failed', async () => {
    const refusing = (error: Error) => ({
      ...stubEngine(),
      generate: () => {
        throw error
      },
    })
    const full = await proxyTo((await stub(refusing(new OverloadedError(7)))).url)
    expect(await way.chat(full, MODEL.id, 'x')).toMatchObject({ status: 429 })
    expect(await way.stream(full, MODEL.id, 'x')).toMatchObject({ status: 429 })
    const broken = await proxyTo((await stub(refusing(new EngineError('engine.failed', CANARY)))).url)
    const failed = await way.chat(broken, MODEL.id, 'x')
    expect(failed).toEqual({ status: 500, code: 'internal_error' })
  })

  it.skipIf(absent)('may leave in mid-stream, and the worker stops working for it', async () => {
    const worker = await stub(endless)
    const proxy = await proxyTo(worker.url)
    await way.leave(proxy, MODEL.id)
    const count = async (): Promise<number> => {
      const before = endless.calls.at(-1)?.emitted ?? 0
      await new Promise((resolve) => setTimeout(resolve, 100))
      return (endless.calls.at(-1)?.emitted ?? 0) - before
    }
    await expect.poll(count, { timeout: 60_000 }).toBe(0)
    expect(endless.calls.at(-1)?.emitted).toBeGreaterThan(0)
  })

  it.skipIf(absent)('goes on when the worker comes back with new keys', async () => {
    const successor = await startWorker()
    running.push(successor)
    policy = { ...policy, trustAnchors: [...(policy.trustAnchors ?? []), successor.rootsPem ?? ''] }
    const tap = await tapTo(demo.url)
    const proxy = await proxyTo(tap.url)
    expect(await way.chat(proxy, DEMO, CAPITAL)).toEqual({ text: expect.stringContaining('Tokyo') })
    tap.lead(successor.url)
    expect(await way.chat(proxy, DEMO, CAPITAL)).toEqual({ text: expect.stringContaining('Tokyo') })
  })

  it.skipIf(absent)('has a long prompt read whole, and is told which is too long to send', async () => {
    const lengths: number[] = []
    const reader = stubEngine({ contextLength: 1_000_000 })
    const worker = await stub({
      ...reader,
      tokenizeChat: async (messages) => {
        lengths.push(...messages.map(({ content }) => content.length))
        return reader.tokenizeChat(messages)
      },
    })
    const tap = await tapTo(worker.url)
    const proxy = await proxyTo(tap.url)
    const long = 'word '.repeat(190_000)
    for (const ask of [way.chat, way.stream]) {
      expect(await ask(proxy, MODEL.id, long)).toEqual({ text: 'Hello there.' })
    }
    expect(lengths).toEqual([long.length, long.length])
    const before = tap.bytes().length
    for (const ask of [way.chat, way.stream]) {
      expect(await ask(proxy, MODEL.id, long.repeat(2))).toEqual({ status: 413, code: 'request_too_large' })
    }
    expect(tap.bytes().length).toBe(before)
  })

  describe.each<[string, string, string, (genuine: string) => Promise<Impostor>]>([
    ['of other software', 'worker_not_trusted', 'reference.measurement', () => otherSoftware()],
    ['that is not there', 'worker_unavailable', 'cannot reach', async () => NOBODY],
    ['without a TEE, which knows no evidence', 'worker_unavailable', 'answered 404', () => webServer(404)],
    ['without a TEE, with a page for everything', 'worker_unavailable', 'is not a worker', () => webServer(200)],
    ['that plays back recorded evidence', 'worker_not_trusted', 'binding.nonce', (genuine) => replaying(genuine)],
  ])('an impostor %s', (_, code, reason, start) => {
    it.skipIf(absent)('gets nothing but requests for evidence, not a byte of ciphertext', async () => {
      const impostor = await start(demo.url)
      running.push(impostor)
      policy = { ...policy, trustAnchors: [...(policy.trustAnchors ?? []), ...(impostor.rootsPem ?? [])] }
      const tap = await tapTo(impostor.url)
      const proxy = await proxyTo(tap.url)
      for (const ask of [way.chat, way.stream]) expect(await ask(proxy, DEMO, CANARY)).toEqual({ status: 503, code })
      expect(proxy.describe()).toMatchObject({ ready: false, text: expect.stringContaining(reason) })
      const wire = tap.bytes().toString('latin1')
      expect(wire).not.toMatch(/POST |ohttp-chunked|kookaburra/)
      // Whatever it was sent at all was the question for evidence, with nothing behind it.
      const sent = wire.match(/^[A-Z]+ \S+ HTTP\/1\.1\r$/gm) ?? []
      for (const line of sent) expect(line).toMatch(/^GET \/\.well-known\/attestation\?nonce=[\w-]{43} HTTP/)
      if (impostor !== NOBODY) expect(sent.length).toBeGreaterThan(0)
    })

    it.skipIf(absent)(
      'in the place of a verified worker gets one question without content, and no more (P-7.11)',
      async () => {
        const impostor = await start(demo.url)
        running.push(impostor)
        policy = { ...policy, trustAnchors: [...(policy.trustAnchors ?? []), ...(impostor.rootsPem ?? [])] }
        for (const prove of ['recent', 'always'] as const) {
          let aheadMs = 0
          const now = (): Date => new Date(Date.now() + aheadMs)
          const tap = await tapTo(demo.url)
          const proxy = await proxyTo(tap.url, { now, prove })
          expect(await way.chat(proxy, DEMO, CAPITAL)).toEqual({ text: expect.stringContaining('Tokyo') })
          const before = tap.sealed()
          const question = before[0] ?? 0
          tap.lead(impostor.url)
          if (prove === 'recent') aheadMs = POSSESSION_WINDOW_MS
          for (const ask of [way.chat, way.stream]) {
            expect(await ask(proxy, DEMO, `${CANARY} `.repeat(100))).toEqual({ status: 503, code })
          }
          expect(proxy.describe()).toMatchObject({ ready: false, text: expect.stringContaining(reason) })
          const sealed = tap.sealed().slice(before.length)
          expect(sealed).toEqual(sealed.slice(0, 1).map(() => question))
          // Where somebody is there at all, it came to that question.
          if (impostor !== NOBODY) expect(sealed).toHaveLength(1)
        }
      },
    )
  })
})
