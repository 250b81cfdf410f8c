/**
 * OpenAI's interface as OpenAI's own package speaks it, unmodified, through the sealed channel, on both engines: the one
 * on ONNX Runtime, and one on an OpenAI-compatible server over a unix socket; that is this project's own engine behind such a
 * server, and llama.cpp's with a real model where one is named (support/llama-server.ts).
 */
import { Ajv2020 } from 'ajv/dist/2020.js'
import OpenAI, { APIError } from 'openai'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { connect, type WorkerSession } from '../../client/node.js'
import { servedEngine } from '../support/inference-server.js'
import { LLAMA_SERVER, llamaServer } from '../support/llama-server.js'
import { policyFor, type RunningWorker, startWorker } from '../support/worker.js'

let MODEL = 'subrosa-demo'
const PERSON = {
  type: 'object',
  properties: { name: { type: 'string', maxLength: 10 }, age: { type: 'integer', minimum: 0, maximum: 150 } },
  required: ['name', 'age'],
  additionalProperties: false,
}
const valid = new Ajv2020().compile(PERSON)
const TOOLS = [
  { type: 'function' as const, function: { name: 'person', description: 'Remembers a person', parameters: PERSON } },
  { type: 'function' as const, function: { name: 'clock' } },
]
const ask = (question: string) => ({
  model: MODEL,
  messages: [{ role: 'user' as const, content: question }],
  temperature: 0,
})

const KINDS = ['ONNX Runtime', 'a server', ...(LLAMA_SERVER === undefined ? [] : ['llama.cpp'])]
if (LLAMA_SERVER === undefined)
  process.stdout.write('conformance: SUBROSA_LLAMA_SERVER names no llama-server, skipped\n')

describe.each(KINDS)('the openai package, on %s', (kind) => {
  let worker: RunningWorker
  let session: WorkerSession
  let openai: OpenAI

  beforeAll(async () => {
    const llama = kind === 'llama.cpp' ? await llamaServer() : undefined
    worker = await startWorker(llama?.options ?? (kind === 'a server' ? { engine: await servedEngine() } : {}))
    MODEL = worker.model.id
    const known = await policyFor(worker)
    session = await connect(worker.url, { policy: llama === undefined ? known : { ...known, model: llama.model } })
    openai = new OpenAI({ baseURL: session.baseURL, fetch: session.fetch, apiKey: 'unused', maxRetries: 0 })
  })
  afterAll(async () => {
    session.close()
    await worker.close()
  })

  it('chats, whole and streamed, with usage', async () => {
    const whole = await openai.chat.completions.create(ask('What is the capital of Japan?'))
    expect(whole.choices[0]).toMatchObject({ finish_reason: 'stop', message: { role: 'assistant' } })
    expect(whole.choices[0]?.message.content).toContain('Tokyo')
    const stream = openai.chat.completions.stream({
      ...ask('What is the capital of Japan?'),
      stream_options: { include_usage: true },
    })
    const final = await stream.finalChatCompletion()
    expect(final.choices[0]?.message.content).toBe(whole.choices[0]?.message.content)
    expect(final.usage).toEqual(whole.usage)
  })

  it('gives several answers, stops, and is cut where it must be', async () => {
    const several = await openai.chat.completions.create({ ...ask('Say hello'), n: 3, temperature: 1, seed: 7 })
    expect(several.choices.map(({ index }) => index)).toEqual([0, 1, 2])
    const again = await openai.chat.completions.create({ ...ask('Say hello'), n: 3, temperature: 1, seed: 7 })
    expect(again.choices).toEqual(several.choices)
    const stopped = await openai.chat.completions.create({ ...ask('What is the capital of Japan?'), stop: 'Tok' })
    expect(stopped.choices[0]?.message.content).not.toContain('Tok')
    expect(stopped.choices[0]?.finish_reason).toBe('stop')
    const cut = await openai.chat.completions.create({
      ...ask('What is the capital of Japan?'),
      max_completion_tokens: 2,
    })
    expect(cut.choices[0]?.finish_reason).toBe('length')
    expect(cut.usage?.completion_tokens).toBe(2)
  })

  it('tells log-probabilities', async () => {
    const { choices } = await openai.chat.completions.create({
      ...ask('What is the capital of Japan?'),
      logprobs: true,
      top_logprobs: 2,
    })
    const content = choices[0]?.logprobs?.content ?? []
    expect(content.map(({ token }) => token).join('')).toBe(choices[0]?.message.content)
    for (const { logprob, top_logprobs: top } of content) {
      expect(top).toHaveLength(2)
      expect(logprob).toBeCloseTo(Math.max(...top.map((other) => other.logprob)), 6)
    }
  })

  it('answers with JSON that follows a schema, whole and streamed', async () => {
    const format = { type: 'json_schema' as const, json_schema: { name: 'person', schema: PERSON, strict: true } }
    for (const temperature of [0, 2]) {
      const request = {
        ...ask('Who is it?'),
        temperature,
        seed: 3,
        max_completion_tokens: 200,
        response_format: format,
      }
      const parsed = await openai.chat.completions.parse(request)
      expect(valid(parsed.choices[0]?.message.parsed)).toBe(true)
      const final = await openai.chat.completions.stream(request).finalChatCompletion()
      expect(valid(JSON.parse(final.choices[0]?.message.content ?? ''))).toBe(true)
    }
  })

  it('answers with a JSON object', async () => {
    const request = { ...ask('Who is it?'), seed: 1, response_format: { type: 'json_object' as const } }
    const { choices } = await openai.chat.completions.create(request)
    if (choices[0]?.finish_reason === 'stop') expect(JSON.parse(choices[0].message.content ?? '')).toBeTypeOf('object')
    else expect(choices[0]?.finish_reason).toBe('length')
  })

  // The real model's template has no tools; what llama.cpp then answers is refused, because no call was made.
  it.skipIf(kind === 'llama.cpp')(
    'calls tools where it must, whole and streamed, and goes on with what they say',
    async () => {
      const request = {
        ...ask('Remember Ada'),
        tools: TOOLS,
        tool_choice: { type: 'function' as const, function: { name: 'person' } },
        max_completion_tokens: 200,
      }
      const { choices } = await openai.chat.completions.create(request)
      expect(choices[0]).toMatchObject({ finish_reason: 'tool_calls', message: { content: null } })
      const call = choices[0]?.message.tool_calls?.[0]
      if (call?.type !== 'function') throw new Error('no call')
      expect(call.function.name).toBe('person')
      expect(valid(JSON.parse(call.function.arguments))).toBe(true)

      const final = await openai.chat.completions.stream(request).finalChatCompletion()
      const [streamed] = final.choices[0]?.message.tool_calls ?? []
      expect(streamed).toMatchObject({ type: 'function', function: call.function })

      const required = await openai.chat.completions.create({
        ...request,
        tool_choice: 'required',
        parallel_tool_calls: false,
      })
      expect(required.choices[0]?.message.tool_calls).toHaveLength(1)
      const free = await openai.chat.completions.create({ ...request, tool_choice: 'none' })
      expect(free.choices[0]?.message.tool_calls).toBeUndefined()

      const [question] = request.messages
      if (question === undefined) throw new Error('no question')
      const after = await openai.chat.completions.create({
        model: MODEL,
        temperature: 0,
        tools: TOOLS,
        messages: [
          question,
          { role: 'assistant', content: null, tool_calls: [call] },
          { role: 'tool', tool_call_id: call.id, content: 'remembered' },
        ],
        max_completion_tokens: 40,
      })
      expect(after.choices).toHaveLength(1)
    },
  )

  it('embeds texts', async () => {
    const input = ['A receipt', 'Another receipt', 'rose']
    const { data, usage } = await openai.embeddings.create({ model: MODEL, input })
    expect(data.map(({ index }) => index)).toEqual([0, 1, 2])
    for (const { embedding } of data) expect(Math.hypot(...embedding)).toBeCloseTo(1, 4)
    expect(usage.total_tokens).toBe(usage.prompt_tokens)
    const floats = await openai.embeddings.create({ model: MODEL, input, encoding_format: 'float' })
    floats.data.forEach(({ embedding }, i) => {
      embedding.forEach((value, at) => {
        expect(value).toBeCloseTo(data[i]?.embedding[at] ?? Number.NaN, 6)
      })
    })
  })

  it('completes a text', async () => {
    const request = { model: MODEL, prompt: 'What is', temperature: 0, max_tokens: 8, logprobs: 1 }
    const whole = await openai.completions.create(request)
    expect(whole.object).toBe('text_completion')
    expect(whole.choices[0]?.logprobs?.tokens?.join('')).toBe(whole.choices[0]?.text)
    let text = ''
    for await (const chunk of await openai.completions.create({ ...request, stream: true }))
      text += chunk.choices[0]?.text ?? ''
    expect(text).toBe(whole.choices[0]?.text)
  })

  it('leaves receipts that hold, for every kind of answer (P-8.7)', async () => {
    const answers = [
      await openai.embeddings.create({ model: MODEL, input: 'a' }).withResponse(),
      await openai.completions.create({ model: MODEL, prompt: 'a', max_tokens: 2 }).withResponse(),
      await openai.chat.completions.create({ ...ask('a'), tools: TOOLS, max_completion_tokens: 2 }).withResponse(),
    ]
    for (const { response } of answers) {
      const { checks, payload } = await session.receipt(response)
      expect(checks.filter(({ status }) => status !== 'pass')).toEqual([])
      expect(payload?.determinism).toBe(kind === 'ONNX Runtime' ? 'batch-invariant' : 'none')
    }
  })

  it.each<[string, () => Promise<unknown>, number, string]>([
    ['another model', () => openai.chat.completions.create({ ...ask('x'), model: 'another' }), 404, 'model_not_found'],
    ['no messages', () => openai.chat.completions.create({ ...ask('x'), messages: [] }), 400, 'invalid_value'],
    [
      'a prompt that does not fit',
      () => openai.chat.completions.create(ask('word '.repeat(3000))),
      400,
      'context_length_exceeded',
    ],
    [
      'a text that does not fit',
      () => openai.embeddings.create({ model: MODEL, input: 'word '.repeat(3000) }),
      400,
      'context_length_exceeded',
    ],
    [
      'other dimensions',
      () => openai.embeddings.create({ model: MODEL, input: 'x', dimensions: 7 }),
      400,
      'invalid_value',
    ],
    [
      'a temperature of 9',
      () => openai.completions.create({ model: MODEL, prompt: 'x', temperature: 9 }),
      400,
      'invalid_value',
    ],
    [
      'a schema that cannot be followed',
      () =>
        openai.chat.completions.create({
          ...ask('x'),
          response_format: {
            type: 'json_schema',
            json_schema: { name: 'x', schema: { type: 'object', minProperties: 1 } },
          },
        }),
      400,
      'invalid_json_schema',
    ],
    ['no such path', () => openai.images.generate({ prompt: 'x' }), 404, 'unknown_url'],
  ])('is told what is wrong with %s', async (_, run, status, code) => {
    const error = await run().catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(APIError)
    expect(error).toMatchObject({ status, code, type: 'invalid_request_error' })
  })
})
