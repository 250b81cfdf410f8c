/** What a client finds inside the encryption: OpenAI's paths, shapes and errors, through the whole channel. */
import { describe, expect, it } from 'vitest'
import type { Engine } from '../../enclave/inference/engine.js'
import { ContextOverflowError, OverloadedError } from '../../enclave/inference/errors.js'
import { toBase64Url } from '../../verifier/protocol/bytes.js'
import { MAX_REQUEST_CONTENT_BYTES, MAX_SEALED_REQUEST_BYTES } from '../../verifier/protocol/constants.js'
import { sha256 } from '../../verifier/protocol/hash.js'
import { verifyReceipt } from '../../verifier/receipt.js'
import { chatRequest, eventsOf, fetchBundle, HELLO, MODEL, stubEngine, testWorker } from './stub.js'

const STREAM = { ...HELLO, stream: true } as const

const tool = (name: string, parameters?: object) => ({ type: 'function', function: { name, parameters } })
const jsonFormat = (schema: object) => ({ type: 'json_schema', json_schema: { name: 'answer', schema, strict: true } })

/** JSON with so many lists inside each other where it says DEEP; the library that writes JSON would overflow. */
const nested = (depth: number, body: object): string =>
  JSON.stringify(body).replace('"DEEP"', '['.repeat(depth) + ']'.repeat(depth))

/** JSON with that number where it says NUMBER: no value of this language would be written so. */
const roundedIn = (body: object, number = ''): string => JSON.stringify(body).replace('"NUMBER"', number)

/** An engine that says a text and makes calls, in pieces. */
function callingEngine() {
  const engine = stubEngine()
  const pieces = [
    { text: 'Well', calls: undefined },
    { text: '', calls: [{ index: 0, name: 'clock', arguments: '' }] },
    { text: '', calls: [{ index: 0, arguments: '{"zone":' }] },
    {
      text: '',
      calls: [
        { index: 0, arguments: '"UTC"}' },
        { index: 1, name: 'weather', arguments: '{' },
      ],
    },
    { text: '', calls: [{ index: 1, arguments: '}' }] },
  ]
  engine.generate = async function* generate(promptTokens, options) {
    engine.calls.push({ promptTokens, options, emitted: 0 })
    for (const { text, calls } of pieces) yield { type: 'token', text, tokenId: 1, ...(calls && { calls }) }
    yield { type: 'done', finishReason: 'tool_calls', usage: { promptTokens: 1, completionTokens: 5 } }
  }
  return engine
}

describe('numbers of schemas', () => {
  it.each([
    ['const', '12345678901234567890'],
    ['enum', '[1, 9007199254740993]'],
    ['const', '{"a": [1e400]}'],
    ['maximum', '1e400'],
    ['exclusiveMinimum', '0.1000000000000000000000001'],
    ['multipleOf', '9007199254740993'],
  ])('are refused where they would be rounded: %s %s (P-8.8)', async (keyword, number) => {
    const { chat, engine } = await testWorker()
    const ofAnswer = roundedIn({ ...HELLO, response_format: jsonFormat({ [keyword]: 'NUMBER' }) }, number)
    const parameters = { type: 'object', properties: { x: { [keyword]: 'NUMBER' } } }
    const ofTool = roundedIn({ ...HELLO, tools: [tool('a'), tool('b', parameters)] }, number)
    for (const [body, param] of [
      [ofAnswer, 'response_format.json_schema.schema'],
      [ofTool, 'tools[1].function.parameters'],
    ] as const) {
      const response = await chat(body)
      expect(response.status).toBe(400)
      const expected = { type: 'invalid_request_error', code: 'invalid_json_schema', param }
      expect(await response.json()).toMatchObject({ error: expected })
    }
    expect(engine.calls).toEqual([])
  })

  it('are named by their order where they would be rounded, with what to do', async () => {
    const { chat } = await testWorker()
    const schema = { type: 'object', properties: { canary: { enum: [1, 'NUMBER', 2] } }, default: { a: 3 } }
    const body = roundedIn({ ...HELLO, response_format: jsonFormat(schema) }, '9007199254740993')
    const response = await chat(body)
    expect(response.status).toBe(400)
    const { error } = await response.json()
    expect(error.message).toMatch(
      /^response_format\.json_schema\.schema: enum: number 2 of the schema.*expected one.*as a string$/,
    )
    expect(error.message).not.toMatch(/canary|9007/)
  })

  it('are followed where they are not, and elsewhere in a request nobody asks', async () => {
    const { chat } = await testWorker()
    const schema = { enum: [9007199254740992, 0.1, 1e22, 'NUMBER'] }
    const body = { ...HELLO, user: 'x', metadata: { n: 'NUMBER' }, response_format: jsonFormat(schema) }
    const text = roundedIn(body, '12345678901234567890').replace('"NUMBER"', '1.50e2')
    expect((await chat(text)).status).toBe(200)
  })
})

describe('tools', () => {
  const ASK = { ...HELLO, tools: [tool('clock'), tool('weather', { type: 'object', properties: {} })] }

  it('are called in the shape OpenAI has', async () => {
    const { chat, engine } = await testWorker({ engine: callingEngine() })
    const { choices } = await (await chat(ASK)).json()
    expect(choices[0]).toEqual({
      index: 0,
      message: {
        role: 'assistant',
        content: 'Well',
        refusal: null,
        tool_calls: [
          {
            id: expect.stringMatching(/^call_[\w-]{24}$/),
            type: 'function',
            function: { name: 'clock', arguments: '{"zone":"UTC"}' },
          },
          {
            id: expect.stringMatching(/^call_[\w-]{24}$/),
            type: 'function',
            function: { name: 'weather', arguments: '{}' },
          },
        ],
      },
      logprobs: null,
      finish_reason: 'tool_calls',
    })
    expect(engine.calls[0]?.options).toMatchObject({ calls: true, grammar: expect.anything() })
  })

  it('are called in a stream in the shape OpenAI has', async () => {
    const { chat } = await testWorker({ engine: callingEngine() })
    const events = eventsOf(await (await chat({ ...ASK, stream: true })).text()).slice(0, -1)
    const choices = events.map((data) => JSON.parse(data).choices[0])
    expect(choices.map(({ delta }) => delta)).toEqual([
      { role: 'assistant', content: '' },
      { content: 'Well' },
      {
        tool_calls: [
          { index: 0, id: expect.any(String), type: 'function', function: { name: 'clock', arguments: '' } },
        ],
      },
      { tool_calls: [{ index: 0, function: { arguments: '{"zone":' } }] },
      {
        tool_calls: [
          { index: 0, function: { arguments: '"UTC"}' } },
          { index: 1, id: expect.any(String), type: 'function', function: { name: 'weather', arguments: '{' } },
        ],
      },
      { tool_calls: [{ index: 1, function: { arguments: '}' } }] },
      {},
    ])
    expect(choices.at(-1).finish_reason).toBe('tool_calls')
  })

  it('are not spoken of where none may be called', async () => {
    const { chat, engine } = await testWorker()
    const told: unknown[] = []
    const tokenize = engine.tokenizeChat
    engine.tokenizeChat = (messages, tools) => {
      told.push(tools)
      return tokenize(messages, tools)
    }
    await chat({ ...ASK, tool_choice: 'none' })
    await chat({ ...ASK, tool_choice: { type: 'function', function: { name: 'clock' } } })
    expect(told).toEqual([[], [{ name: 'clock' }, { name: 'weather', parameters: { type: 'object', properties: {} } }]])
    expect(engine.calls[0]?.options.grammar).toBeUndefined()
    expect(engine.calls[1]?.options.grammar).toBeDefined()
  })

  it('come back into the chat with what was called', async () => {
    const { chat, engine } = await testWorker()
    const seen: unknown[] = []
    engine.tokenizeChat = async (messages) => {
      seen.push(...messages)
      return [1]
    }
    const called = { id: 'call_1', type: 'function', function: { name: 'clock', arguments: '{}' } }
    const messages = [
      { role: 'user', content: 'x' },
      { role: 'assistant', content: null, tool_calls: [called] },
      { role: 'tool', tool_call_id: 'call_1', content: 'noon' },
    ]
    expect((await chat({ ...HELLO, messages })).status).toBe(200)
    expect(seen).toEqual([
      { role: 'user', content: 'x' },
      { role: 'assistant', content: '', toolCalls: [{ id: 'call_1', name: 'clock', arguments: '{}' }] },
      { role: 'tool', content: 'noon', toolCallId: 'call_1' },
    ])
  })
})

describe('completions', () => {
  const ask = (worker: Awaited<ReturnType<typeof testWorker>>, body: object) =>
    worker.transport(
      new Request('https://worker.example/v1/completions', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ model: MODEL.id, ...body }),
      }),
    )

  it('go on from a text or its tokens, several at once', async () => {
    const worker = await testWorker()
    const { response } = await ask(worker, { prompt: ['ab', [99, 100]], n: 2, seed: 1, logprobs: 1 })
    const body = await response.json()
    expect(body).toMatchObject({ object: 'text_completion', usage: { prompt_tokens: 4, completion_tokens: 20 } })
    expect(body.id).toMatch(/^cmpl-/)
    expect(worker.engine.calls.map(({ promptTokens }) => promptTokens)).toEqual([
      [97, 98],
      [97, 98],
      [99, 100],
      [99, 100],
    ])
    expect(worker.engine.calls[0]?.options.maxTokens).toBe(16)
    expect(body.choices[3]).toEqual({
      index: 3,
      text: 'Hello there.',
      finish_reason: 'stop',
      logprobs: {
        tokens: ['Hel', 'lo', ' there', '', '.'],
        token_logprobs: [-0.5, -0.5, -0.5, -0.5, -0.5],
        top_logprobs: [{ Hel: -0.5 }, { lo: -0.5 }, { ' there': -0.5 }, { '': -0.5 }, { '.': -0.5 }],
        text_offset: [0, 3, 5, 11, 11],
      },
    })
  })

  it('stream', async () => {
    const { response } = await ask(await testWorker(), { prompt: 'ab', stream: true, logprobs: 0 })
    const events = eventsOf(await response.text())
    expect(events.at(-1)).toBe('[DONE]')
    const choices = events.slice(0, -1).map((data) => JSON.parse(data).choices[0])
    expect(choices.map(({ text }) => text).join('')).toBe('Hello there.')
    expect(choices.flatMap(({ logprobs }) => logprobs?.text_offset ?? [])).toEqual([0, 3, 5, 11, 11])
    expect(choices.at(-1)).toEqual({ index: 0, text: '', logprobs: null, finish_reason: 'stop' })
  })

  it.each([
    ['no prompt', {}, 'invalid_value', 'prompt'],
    ['an empty prompt', { prompt: '' }, 'invalid_value', 'prompt'],
    ['tokens the model does not have', { prompt: [[1], [256]] }, 'invalid_value', 'prompt'],
    ['a negative token', { prompt: [-1] }, 'invalid_value', 'prompt[0]'],
    ['too many answers', { prompt: ['a', 'b', 'c'], n: 4 }, 'invalid_value', 'prompt'],
    ['echo', { prompt: 'a', echo: true }, 'unsupported_parameter', 'echo'],
    ['a suffix', { prompt: 'a', suffix: 'canary' }, 'unsupported_parameter', 'suffix'],
    ['the best of several', { prompt: 'a', best_of: 3 }, 'unsupported_parameter', 'best_of'],
    ['probabilities of six', { prompt: 'a', logprobs: 6 }, 'invalid_value', 'logprobs'],
  ])('refuse %s', async (_, body, code, param) => {
    const worker = await testWorker()
    const { response } = await ask(worker, body)
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ error: { code, param } })
    expect(worker.engine.calls).toHaveLength(0)
  })
})

describe('embeddings', () => {
  const ask = async (worker: Awaited<ReturnType<typeof testWorker>>, body: object) => {
    const request = new Request('https://worker.example/v1/embeddings', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: MODEL.id, ...body }),
    })
    return (await worker.transport(request)).response
  }
  const embedding = (embed: Engine['embed'] = async (tokens) => Float32Array.of(tokens[0] ?? 0, 0.5)) => {
    const engine = stubEngine()
    const info = { ...engine.info, manifest: { ...engine.info.manifest } }
    Object.assign(info.manifest, { architecture: { ...info.manifest.architecture, hiddenSize: 2 } })
    return testWorker({ engine: Object.assign(engine, { info, embed }) })
  }

  it('come in the shape OpenAI has', async () => {
    const worker = await embedding()
    const response = await ask(worker, { input: ['a', [98, 99]] })
    expect(response.headers.get('subrosa-receipt-id')).toMatch(/^[\w-]{22}$/)
    expect(await response.json()).toEqual({
      object: 'list',
      model: MODEL.id,
      data: [
        { object: 'embedding', index: 0, embedding: [97, 0.5] },
        { object: 'embedding', index: 1, embedding: [98, 0.5] },
      ],
      usage: { prompt_tokens: 3, total_tokens: 3 },
    })
  })

  it('come as bytes where that is asked for, and take the dimensions there are', async () => {
    const body = await (await ask(await embedding(), { input: 'a', encoding_format: 'base64', dimensions: 2 })).json()
    const bytes = Buffer.from(body.data[0].embedding, 'base64')
    expect([bytes.readFloatLE(0), bytes.readFloatLE(4)]).toEqual([97, 0.5])
  })

  it.each([
    ['no input', {}, 'invalid_value', 'input'],
    ['an empty input', { input: '' }, 'invalid_value', 'input'],
    ['no inputs', { input: [] }, 'invalid_value', 'input'],
    ['other dimensions', { input: 'a', dimensions: 1 }, 'invalid_value', 'dimensions'],
    ['another format', { input: 'a', encoding_format: 'canary' }, 'invalid_value', 'encoding_format'],
    ['tokens there are not', { input: [256] }, 'invalid_value', 'input'],
    ['too many', { input: new Array(257).fill('a') }, 'invalid_value', 'input'],
    ['what does not fit', { input: 'a'.repeat(1001) }, 'context_length_exceeded', 'input'],
  ])('refuse %s', async (_, body, code, param) => {
    const response = await ask(await embedding(), body)
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ error: { code, param } })
  })

  it('are refused for a model that gives none, and fail as answers do', async () => {
    expect(await (await ask(await testWorker(), { input: 'a' })).json()).toMatchObject({
      error: { code: 'unsupported_model', param: 'model', type: 'invalid_request_error' },
    })
    const failing = await embedding(async () => {
      throw new OverloadedError(3)
    })
    const response = await ask(failing, { input: 'a' })
    expect([response.status, response.headers.get('retry-after')]).toEqual([429, '3'])
  })
})

describe('chat completions', () => {
  it('answers in the shape OpenAI has', async () => {
    const { chat } = await testWorker()
    const response = await chat(HELLO)
    expect(response.status).toBe(200)
    expect(response.headers.get('content-type')).toBe('application/json')
    expect(await response.json()).toEqual({
      id: expect.stringMatching(/^chatcmpl-[\w-]{22}$/),
      object: 'chat.completion',
      created: 1_772_366_400,
      model: MODEL.id,
      system_fingerprint: expect.stringMatching(/^fp_[0-9a-f]{16}$/),
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: 'Hello there.', refusal: null },
          logprobs: null,
          finish_reason: 'stop',
        },
      ],
      usage: { prompt_tokens: 5, completion_tokens: 5, total_tokens: 10, prompt_tokens_details: { cached_tokens: 0 } },
    })
  })

  it('streams in the shape OpenAI has', async () => {
    const { chat } = await testWorker()
    const response = await chat({ ...STREAM, stream_options: { include_usage: true } })
    expect(response.headers.get('content-type')).toContain('text/event-stream')
    const events = eventsOf(await response.text())
    expect(events.at(-1)).toBe('[DONE]')
    const chunks = events.slice(0, -1).map((data) => JSON.parse(data))
    expect(chunks[0].choices[0]).toEqual({
      index: 0,
      delta: { role: 'assistant', content: '' },
      logprobs: null,
      finish_reason: null,
    })
    expect(chunks.map(({ choices }) => choices[0]?.delta.content ?? '').join('')).toBe('Hello there.')
    expect(chunks.at(-2).choices[0]).toMatchObject({ delta: {}, finish_reason: 'stop' })
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { total_tokens: 10 } })
    expect(chunks.slice(0, -1).every(({ usage }) => usage === null)).toBe(true)
    expect(new Set(chunks.map(({ id }) => id)).size).toBe(1)
  })

  it.each(['tick', 'off'] as const)('pads what it says it pads: %s (P-7.7)', async (padding) => {
    const { chat } = await testWorker({ padding })
    const lengths: number[] = []
    lengths.push((await (await chat(HELLO)).arrayBuffer()).byteLength)
    lengths.push((await (await chat({ model: 'other' })).arrayBuffer()).byteLength)
    lengths.push((await (await chat(STREAM)).arrayBuffer()).byteLength)
    expect(lengths.every((length) => length % 512 === 0)).toBe(padding === 'tick')
  })

  it('hands every parameter to the engine and caps the answer at what fits', async () => {
    const { chat, engine } = await testWorker({ engine: stubEngine({ contextLength: 20 }) })
    await chat({
      ...HELLO,
      messages: [
        { role: 'developer', content: 'ab' },
        {
          role: 'user',
          content: [
            { type: 'text', text: 'c' },
            { type: 'text', text: 'd' },
          ],
        },
        { role: 'assistant', content: null },
        { role: 'user', content: 'e', name: 'ignored' },
      ],
      max_completion_tokens: 100,
      temperature: 0.5,
      top_p: 0.25,
      presence_penalty: -1,
      frequency_penalty: 1.5,
      stop: ['x', 'y'],
      seed: -7,
      user: 'ignored',
      unknown_field: { is: 'ignored' },
      logit_bias: {},
      tools: [],
      n: 1,
    })
    expect(engine.calls[0]).toMatchObject({
      promptTokens: [...'abcde'].map((letter) => letter.charCodeAt(0)),
      options: {
        maxTokens: 15,
        temperature: 0.5,
        topP: 0.25,
        topK: 0,
        minP: 0,
        presencePenalty: -1,
        frequencyPenalty: 1.5,
        stop: ['x', 'y'],
        seed: -7,
      },
    })
  })

  it('gives several answers, each with its own seed, and counts them all', async () => {
    const { chat, engine } = await testWorker()
    const body = await (await chat({ ...HELLO, n: 3, seed: 40 })).json()
    expect(body.choices.map(({ index, message }: { index: number; message: object }) => [index, message])).toEqual(
      [0, 1, 2].map((index) => [index, { role: 'assistant', content: 'Hello there.', refusal: null }]),
    )
    expect(body.usage).toMatchObject({ prompt_tokens: 5, completion_tokens: 15, total_tokens: 20 })
    expect(engine.calls.map(({ options }) => options.seed)).toEqual([40, 41, 42])

    const events = eventsOf(await (await chat({ ...STREAM, n: 2 })).text()).slice(0, -1)
    const chunks = events.map((data) => JSON.parse(data).choices[0])
    for (const index of [0, 1]) {
      const own = chunks.filter((choice) => choice.index === index)
      expect(own[0].delta.role).toBe('assistant')
      expect(own.map(({ delta }) => delta.content ?? '').join('')).toBe('Hello there.')
      expect(own.at(-1).finish_reason).toBe('stop')
    }
  })

  it('gives log-probabilities where asked for', async () => {
    const { chat } = await testWorker()
    const body = await (await chat({ ...HELLO, logprobs: true, top_logprobs: 2 })).json()
    const [first] = body.choices[0].logprobs.content
    expect(body.choices[0].logprobs.content).toHaveLength(5)
    expect(first).toMatchObject({ token: 'Hel', logprob: -0.5, bytes: [72, 101, 108] })
    expect(first.top_logprobs).toHaveLength(2)

    const events = eventsOf(await (await chat({ ...STREAM, logprobs: true })).text()).slice(0, -1)
    const entries = events.flatMap((data) => JSON.parse(data).choices[0].logprobs?.content ?? [])
    expect(entries.map(({ token }) => token)).toEqual(['Hel', 'lo', ' there', '', '.'])
  })

  it('says when to come back when too many wait', async () => {
    const engine = stubEngine()
    const worker = await testWorker({ engine })
    engine.generate = () => {
      throw new OverloadedError(7)
    }
    const response = await worker.chat(HELLO)
    expect(response.status).toBe(429)
    expect(response.headers.get('retry-after')).toBe('7')
    expect(await response.json()).toMatchObject({ error: { type: 'rate_limit_error', code: 'rate_limit_exceeded' } })
  })

  it('draws another seed for each request that names none', async () => {
    const { chat, engine } = await testWorker()
    await chat(HELLO)
    await chat(HELLO)
    expect(engine.calls[0]?.options.seed).not.toBe(engine.calls[1]?.options.seed)
  })

  it.each([
    ['no JSON', '{"model": canary', 'invalid_json', null],
    ['no object', '["canary"]', 'invalid_json', null],
    ['no model', { messages: HELLO.messages }, 'invalid_value', 'model'],
    ['no messages', { model: MODEL.id }, 'invalid_value', 'messages'],
    ['empty messages', { ...HELLO, messages: [] }, 'invalid_value', 'messages'],
    [
      'an unknown role',
      { ...HELLO, messages: [{ role: 'canary', content: 'x' }] },
      'invalid_value',
      'messages[0].role',
    ],
    [
      'content of another kind',
      { ...HELLO, messages: [{ role: 'user', content: 1 }] },
      'invalid_value',
      'messages[0].content',
    ],
    [
      'an image',
      { ...HELLO, messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'canary' } }] }] },
      'invalid_value',
      'messages[0].content[0].type',
    ],
    ['a temperature out of range', { ...HELLO, temperature: 3 }, 'invalid_value', 'temperature'],
    ['a temperature in words', { ...HELLO, temperature: 'canary' }, 'invalid_value', 'temperature'],
    ['no tokens', { ...HELLO, max_tokens: 0 }, 'invalid_value', 'max_tokens'],
    ['a fractional seed', { ...HELLO, seed: 1.5 }, 'invalid_value', 'seed'],
    ['an empty stop string', { ...HELLO, stop: [''] }, 'invalid_value', 'stop[0]'],
    ['five stop strings', { ...HELLO, stop: [...'abcde'] }, 'invalid_value', 'stop'],
    ['nine answers', { ...HELLO, n: 9 }, 'invalid_value', 'n'],
    ['probabilities of 21 tokens', { ...HELLO, logprobs: true, top_logprobs: 21 }, 'invalid_value', 'top_logprobs'],
    ['likely tokens without probabilities', { ...HELLO, top_logprobs: 2 }, 'invalid_value', 'top_logprobs'],
    ['a tool of another kind', { ...HELLO, tools: [{ type: 'canary' }] }, 'invalid_value', 'tools[0].type'],
    ['a tool with another name', { ...HELLO, tools: [tool('canary!')] }, 'invalid_value', 'tools[0].function.name'],
    ['a tool twice', { ...HELLO, tools: [tool('a'), tool('a')] }, 'invalid_value', 'tools'],
    ['a choice without tools', { ...HELLO, tool_choice: 'required' }, 'invalid_value', 'tool_choice'],
    [
      'a choice of no tool there is',
      { ...HELLO, tools: [tool('a')], tool_choice: { type: 'function', function: { name: 'canary' } } },
      'invalid_value',
      'tool_choice',
    ],
    [
      'a tool whose schema it cannot follow',
      { ...HELLO, tools: [tool('a'), tool('canary', { type: 'object', not: {} })] },
      'invalid_json_schema',
      'tools[1].function.parameters',
    ],
    [
      'a tool whose arguments are no object',
      { ...HELLO, tools: [tool('a', { type: 'string' })] },
      'invalid_json_schema',
      'tools[0].function.parameters',
    ],
    [
      'a format without a schema',
      { ...HELLO, response_format: { type: 'json_schema' } },
      'invalid_value',
      'response_format.json_schema',
    ],
    [
      'a schema it cannot follow',
      { ...HELLO, response_format: jsonFormat({ type: 'string', canary: 1 }) },
      'invalid_json_schema',
      'response_format.json_schema.schema',
    ],
    [
      'a list for a schema',
      { ...HELLO, response_format: { type: 'json_schema', json_schema: { name: 'answer', schema: [] } } },
      'invalid_value',
      'response_format.json_schema.schema',
    ],
    [
      'a list for a tool’s schema',
      { ...HELLO, tools: [tool('a', [])] },
      'invalid_value',
      'tools[0].function.parameters',
    ],
    ['a list for options', { ...HELLO, stream_options: [] }, 'invalid_value', 'stream_options'],
    [
      'a deep constant',
      nested(6000, { ...HELLO, response_format: jsonFormat({ const: 'DEEP' }) }),
      'invalid_json',
      null,
    ],
    [
      'a deep note to a tool’s schema',
      nested(6000, { ...HELLO, tools: [tool('a', { type: 'object', default: 'DEEP' })] }),
      'invalid_json',
      null,
    ],
    ['a body that is one deep list', '['.repeat(500_000), 'invalid_json', null],
    [
      'deep arguments of an earlier call',
      {
        ...HELLO,
        messages: [
          ...HELLO.messages,
          {
            role: 'assistant',
            tool_calls: [
              { id: 'a', type: 'function', function: { name: 'a', arguments: nested(6000, { a: 'DEEP' }) } },
            ],
          },
        ],
      },
      'invalid_value',
      'messages[1].tool_calls[0].function.arguments',
    ],
    [
      'a format of another kind',
      { ...HELLO, response_format: { type: 'canary' } },
      'invalid_value',
      'response_format.type',
    ],
    [
      'functions of the older kind',
      { ...HELLO, functions: [{ name: 'canary' }] },
      'unsupported_parameter',
      'functions',
    ],
    ['storage', { ...HELLO, store: true }, 'unsupported_parameter', 'store'],
    [
      'a chat template of its own (P-8.2)',
      { ...HELLO, chat_template: 'canary {{ messages }}' },
      'unsupported_parameter',
      'chat_template',
    ],
    [
      'arguments for the chat template (P-8.2)',
      { ...HELLO, chat_template_kwargs: { canary: true } },
      'unsupported_parameter',
      'chat_template_kwargs',
    ],
    [
      'a chat the template refuses',
      { ...HELLO, messages: [{ role: 'user', content: 'canary <invalid>' }] },
      'invalid_value',
      'messages',
    ],
  ])('refuses %s and quotes nothing', async (_, body, code, param) => {
    const { chat, engine } = await testWorker()
    const response = await chat(body)
    expect(response.status).toBe(400)
    const text = await response.text()
    expect(JSON.parse(text)).toEqual({
      error: { message: expect.any(String), type: 'invalid_request_error', param, code },
    })
    expect(text).not.toContain('canary')
    expect(engine.calls).toHaveLength(0)
  })

  it.each([
    [{ stop: '' }, 'stop: expected at least 1 character'],
    [{ stop: [] as string[], messages: [] }, 'messages: expected at least 1 entry'],
    [{ stop: [...'abcde'] }, 'stop: expected at most 4 entries'],
    [{ seed: 1.5 }, 'seed: expected an integer'],
    [{ n: 9 }, 'n: expected a number of at most 8'],
    [{ max_tokens: 0 }, 'max_tokens: expected a number of at least 1'],
    [{ top_p: 0 }, 'top_p: expected a number above 0'],
    [{ stream_options: [] }, 'stream_options: expected an object'],
  ])('says in words what it expected: %j', async (fields, message) => {
    const { chat } = await testWorker()
    expect(await (await chat({ ...HELLO, ...fields })).json()).toMatchObject({ error: { message } })
  })

  it.each([
    ['/v1/chat/completions', 'messages', HELLO],
    ['/v1/completions', 'prompt', { model: MODEL.id, prompt: ['a', 'b'] }],
    ['/v1/embeddings', 'input', { model: MODEL.id, input: 'a' }],
  ])('%s names the field that its engine cannot take, being too long', async (path, field, body) => {
    const engine = stubEngine()
    const refuse = async (): Promise<never> => {
      throw new ContextOverflowError(9, 0, 8)
    }
    Object.assign(engine, { tokenizeChat: refuse, tokenizeText: refuse, embed: async () => new Float32Array(8) })
    const { transport } = await testWorker({ engine })
    const { response } = await transport(
      new Request(`https://worker.example${path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(body),
      }),
    )
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({ error: { code: 'context_length_exceeded', param: field } })
  })

  it('takes JSON as deep as it may be, and does not count brackets in texts', async () => {
    const { chat } = await testWorker({ engine: stubEngine({ contextLength: 4096 }) })
    const body = { ...HELLO, response_format: jsonFormat({ const: 'DEEP' }) }
    expect((await chat(nested(252, body))).status).toBe(200)
    expect((await chat(nested(253, body))).status).toBe(400)
    const messages = [{ role: 'user', content: `\\" ${'[{'.repeat(1000)} \\` }]
    expect((await chat({ ...HELLO, messages })).status).toBe(200)
  })

  it('refuses another model, and a prompt that fills the context', async () => {
    const { chat } = await testWorker({ engine: stubEngine({ contextLength: 5 }) })
    const other = await chat({ ...HELLO, model: 'canary' })
    expect(other.status).toBe(404)
    expect(await other.json()).toMatchObject({ error: { code: 'model_not_found', param: 'model' } })
    expect(await (await chat(HELLO)).json()).toMatchObject({ error: { code: 'context_length_exceeded' } })
  })

  it('takes a body of the largest size with as many fields as it may have, and refuses a byte more (P-7.9)', async () => {
    const { chat, transport } = await testWorker()
    // White space counts, and is all that differs.
    const body = (length: number) => JSON.stringify(HELLO).padEnd(length, ' ')
    const filler = Object.fromEntries(Array.from({ length: 15 }, (_, i) => [`x-filler-${i}`, 'x'.repeat(2000)]))
    const headers = { 'content-type': 'application/json', ...filler }
    expect((await chat(body(MAX_REQUEST_CONTENT_BYTES), { headers })).status).toBe(200)
    const larger = await chat(body(MAX_REQUEST_CONTENT_BYTES + 1))
    expect(larger.status).toBe(400)
    expect(await larger.json()).toMatchObject({
      error: { code: 'invalid_value', message: expect.stringContaining(`${MAX_REQUEST_CONTENT_BYTES}`) },
    })
    const sealedTooLarge = transport(chatRequest(body(MAX_SEALED_REQUEST_BYTES)))
    await expect(sealedTooLarge).rejects.toMatchObject({ code: 'transport.refused', status: 413 })
  })

  it('says so in the stream when the engine fails half way, without a word of the prompt', async () => {
    const { chat, lines } = await testWorker({ engine: stubEngine({ failAfter: 2 }) })
    const events = eventsOf(await (await chat(STREAM)).text())
    expect(JSON.parse(events.at(-1) ?? '')).toEqual({
      error: { message: 'internal error', type: 'server_error', param: null, code: 'internal_error' },
    })
    expect(events).not.toContain('[DONE]')
    expect(lines.join('')).not.toContain('choked')
    expect(lines.join('')).toContain('inference.failed')
  })

  it('stops the engine within one step when the client leaves', async () => {
    const { transport, engine } = await testWorker({
      padding: 'off',
      engine: stubEngine({ answer: endless(), step: () => new Promise((resolve) => setTimeout(resolve, 5)) }),
    })
    const { response } = await transport(chatRequest(JSON.stringify(STREAM)))
    const reader = response.body!.getReader()
    await reader.read()
    await reader.cancel()
    await new Promise((resolve) => setTimeout(resolve, 20))
    const emitted = engine.calls[0]!.emitted
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(engine.calls[0]!.options.signal?.aborted).toBe(true)
    expect(engine.calls[0]!.emitted).toBe(emitted)
  })

  it('ends an answer that takes too long, and says that it did', async () => {
    const { chat } = await testWorker({
      engine: stubEngine({ answer: endless(), step: () => new Promise((resolve) => setTimeout(resolve, 5)) }),
      worker: { answerTimeoutMs: 100 },
    })
    const whole = await chat(HELLO)
    expect(whole.status).toBe(504)
    expect(await whole.json()).toMatchObject({ error: { code: 'timeout' } })
    expect(eventsOf(await (await chat(STREAM)).text()).at(-1)).toContain('"timeout"')
  })
})

describe('keys in use', () => {
  const later = (worker: Awaited<ReturnType<typeof testWorker>>, seconds: number): void => {
    worker.clock.at = new Date(worker.clock.at.getTime() + 1000 * seconds)
  }

  it('open requests and vouch for answers until their end, and not after it (P-5.2, P-5.3)', async () => {
    const worker = await testWorker()
    later(worker, 400)
    await worker.worker.refresh()
    expect((await worker.chat(HELLO)).status).toBe(200)
    later(worker, 200)
    await expect(worker.chat(HELLO)).rejects.toThrow()
    expect(worker.lines.join('')).toContain('key-unknown')
  })

  it('are all forgotten when the worker closes', async () => {
    const worker = await testWorker()
    await worker.worker.close()
    await expect(worker.chat(HELLO)).rejects.toThrow()
    expect(worker.engine.closed).toBe(true)
  })
})

describe('limits', () => {
  it('refuses what it has no room for, and has room again afterwards', async () => {
    let wake = (): void => undefined
    const held = new Promise<void>((resolve) => {
      wake = resolve
    })
    const { chat } = await testWorker({ engine: stubEngine({ step: () => held }), worker: { maxAnswers: 2 } })
    const first = [chat(HELLO), chat(HELLO)]
    await new Promise((resolve) => setTimeout(resolve, 20))
    const third = await chat(HELLO)
    expect(third.status).toBe(503)
    expect(await third.json()).toMatchObject({ error: { type: 'server_error', code: 'overloaded' } })
    wake()
    for (const response of await Promise.all(first)) expect(response.status).toBe(200)
    expect((await chat(HELLO)).status).toBe(200)
    expect((await chat({ ...HELLO, n: 9 })).status).toBe(400)
    expect((await chat(HELLO)).status).toBe(200)
  })
})

describe('the other paths inside', () => {
  it('lists the one model', async () => {
    const { transport } = await testWorker()
    const get = async (path: string, method = 'GET') =>
      (await transport(new Request(`https://worker.example${path}`, { method }))).response
    expect(await (await get('/v1/models')).json()).toEqual({
      object: 'list',
      data: [{ id: MODEL.id, object: 'model', created: 1_772_366_400, owned_by: 'subrosa' }],
    })
    expect((await get(`/v1/models/${MODEL.id}`)).status).toBe(200)
    expect((await get('/v1/models/other')).status).toBe(404)
    expect((await get('/v1/chat/completions')).status).toBe(405)
    const missing = await get('/v1/images/generations', 'POST')
    expect(missing.status).toBe(404)
    expect(await missing.json()).toMatchObject({ error: { type: 'invalid_request_error', code: 'unknown_url' } })
  })
})

describe('receipts (§10)', () => {
  async function receiptOf(worker: Awaited<ReturnType<typeof testWorker>>, body: object) {
    const text = JSON.stringify(body)
    const { response, trailers, exportSecret, configuration } = await worker.transport(chatRequest(text))
    const answer = new Uint8Array(await response.arrayBuffer())
    const jws = (await trailers).get('subrosa-receipt') ?? ''
    const { claims } = await fetchBundle(worker.worker)
    const context = {
      receiptKey: claims.statement.keys.receipt,
      statementDigest: claims.statementDigest,
      weightsRoot: MODEL.weightsRoot,
      opening: {
        keyDigest: sha256(configuration),
        requestSalt: await exportSecret('subrosa receipt request', 32),
        requestBody: new TextEncoder().encode(text),
        responseSalt: await exportSecret('subrosa receipt response', 32),
        responseBody: answer,
      },
    }
    return { response, jws, context }
  }

  it.each([HELLO, STREAM])('commit to request and answer exactly as sent (P-10.2)', async (body) => {
    const worker = await testWorker()
    const { jws, context } = await receiptOf(worker, { ...body, seed: 5, temperature: 0.5 })
    const result = await verifyReceipt(jws, context)
    expect(result.checks.map(({ id, status }) => [id, status])).toEqual(
      ['parse', 'signature', 'statement', 'key', 'request', 'response'].map((id) => [`receipt.${id}`, 'pass']),
    )
    expect(result.payload).toMatchObject({
      seed: 5,
      sampling: { temperature: 0.5, top_p: 1, max_tokens: 995 },
      usage: { prompt_tokens: 5, completion_tokens: 5, total_tokens: 10 },
      determinism: 'single',
      res: { final: true },
      session: null,
    })
    const other = { ...context, opening: { ...context.opening, responseBody: new Uint8Array(1) } }
    expect((await verifyReceipt(jws, other)).verdict).toBe('rejected')
  })

  it('link to no fetch of evidence: they say nothing that a nonce could change (P-10.1)', async () => {
    const worker = await testWorker()
    const before = await receiptOf(worker, { ...HELLO, seed: 5 })
    const { claims } = await fetchBundle(worker.worker)
    const after = await receiptOf(worker, { ...HELLO, seed: 5 })
    const constant = async ({ jws, context }: typeof before) => {
      const { jti, req, res, ...rest } = (await verifyReceipt(jws, context)).payload ?? {}
      return { ...rest, chunks: res?.chunks }
    }
    expect(await constant(after)).toEqual(await constant(before))
    expect(Buffer.from(after.jws.split('.')[1] ?? '', 'base64url').toString()).not.toContain(
      toBase64Url(claims.fresh.nonceRoot),
    )
  })

  it('can be asked for by id, inside the encryption, while they are kept', async () => {
    const worker = await testWorker()
    const { response, jws } = await receiptOf(worker, STREAM)
    const id = response.headers.get('subrosa-receipt-id') ?? ''
    const get = async (path: string) =>
      (await worker.transport(new Request(`https://worker.example/v1/receipts/${path}`))).response
    expect(await (await get(id)).json()).toEqual({ id, object: 'receipt', receipt: jws })
    expect((await get('AAAAAAAAAAAAAAAAAAAAAA')).status).toBe(404)
    worker.clock.at = new Date(worker.clock.at.getTime() + 500_000)
    expect((await get(id)).status).toBe(200)
  })

  it('say when an answer is not whole', async () => {
    const worker = await testWorker({ engine: stubEngine({ failAfter: 2 }) })
    const { jws, context } = await receiptOf(worker, STREAM)
    const result = await verifyReceipt(jws, context)
    expect(result.payload?.res.final).toBe(false)
    expect(result.verdict).toBe('rejected')
  })
})

function endless(): Iterable<string> {
  return {
    *[Symbol.iterator]() {
      for (;;) yield 'x'
    },
  }
}
