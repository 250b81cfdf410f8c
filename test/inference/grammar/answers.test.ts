/**
 * Constrained answers of the whole engine: what the model says follows the schema or is a call of a tool, whatever it would
 * have said by itself; and no row notices that its neighbour is constrained.
 */
import { Ajv2020 } from 'ajv/dist/2020.js'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createCallReader } from '../../../enclave/inference/call-reader.js'
import type { CallPiece, Engine, EngineEvent, GenerateOptions } from '../../../enclave/inference/engine.js'
import { callGrammar, formatGrammar, type Tool } from '../../../enclave/inference/grammar/answers.js'
import { createMatcherFactory } from '../../../enclave/inference/grammar/matcher.js'
import { createOrtEngine } from '../../../enclave/inference/ort/engine.js'
import { loadModelPackage, type ModelPackage } from '../../../enclave/inference/package.js'
import { createTokenizer } from '../../../enclave/inference/tokenizer.js'
import { utf8 } from '../../../verifier/protocol/bytes.js'
import { BINDINGS, collect, GREEDY, PACKAGE_DIRECTORY, textOf } from '../model.js'

const PERSON = {
  type: 'object',
  properties: {
    name: { type: 'string', maxLength: 12 },
    age: { type: 'integer', minimum: 0, maximum: 150 },
    tags: { type: 'array', items: { enum: ['red', 'green', 'blue'] }, maxItems: 3 },
  },
  required: ['name', 'age'],
  additionalProperties: false,
}
const TOOLS: readonly Tool[] = [
  { name: 'weather', description: 'Tells the weather', parameters: PERSON },
  {
    name: 'clock',
    parameters: { type: 'object', properties: { zone: { enum: ['UTC', 'CET'] } }, additionalProperties: false },
  },
]
const WILD: Partial<GenerateOptions> = { temperature: 2, maxTokens: 200 }
const valid = new Ajv2020().compile(PERSON)

function done(events: readonly EngineEvent[]) {
  const last = events.at(-1)
  if (last?.type !== 'done') throw new Error('no end')
  return last
}

function callsOf(events: readonly EngineEvent[]): { name: string; arguments: string }[] {
  const calls: { name: string; arguments: string }[] = []
  for (const { index, name = '', arguments: text } of events.flatMap((e): readonly CallPiece[] =>
    e.type === 'token' ? (e.calls ?? []) : [],
  )) {
    const known = calls[index]
    if (known === undefined) calls[index] = { name, arguments: text }
    else known.arguments += text
  }
  return calls
}

describe('calls as text', () => {
  const one = '<tool_call>\n{"name": "clock", "arguments": {"zone": "UTC"}}\n</tool_call>'
  const tricky = '<tool_call>\n{"name": "weather", "arguments": {"name":"a}\\"{]","age":1}}\n</tool_call>'
  const follows = async (required: boolean, parallel: boolean, text: string): Promise<boolean> => {
    const { vocabulary } = await createTokenizer(await loadModelPackage(PACKAGE_DIRECTORY))
    if (vocabulary === undefined) throw new Error('no vocabulary')
    const matcher = createMatcherFactory(vocabulary).create(
      callGrammar({ tools: TOOLS, required, parallel }, undefined),
    )
    return matcher.follow(utf8(text)) && matcher.mayEnd()
  }
  it.each<[string, boolean, boolean, string, boolean]>([
    ['one', true, false, one, true],
    ['several where there may be', true, true, `${one}\n${tricky}\n${one}`, true],
    ['several where there may not', true, false, `${one}\n${tricky}`, false],
    ['text where there must be a call', true, true, 'well', false],
    ['text where there need not', false, true, 'well <tool_ <<tool_call', true],
    ['text, then a call', false, true, `well <<${one}`, true],
    ['text behind a call', false, true, `${one}\nwell`, false],
    ['a call cut off', false, true, one.slice(0, -3), false],
    ['a tool there is not', false, true, one.replace('clock', 'clocks'), false],
    ['arguments there are not', false, true, one.replace('UTC', 'EST'), false],
  ])('%s', async (_, required, parallel, text, allowed) => {
    expect(await follows(required, parallel, text)).toBe(allowed)
  })

  it('are read alike however the text is cut', () => {
    const text = `well < <tool ${tricky}\n${one}`
    const read = (pieces: readonly string[]) => {
      const reader = createCallReader()
      let rest = ''
      const calls: { name: string; arguments: string }[] = []
      for (const piece of pieces) {
        const found = reader.push(piece)
        rest += found.text
        for (const { index, name, arguments: more } of found.calls) {
          if (name !== undefined) calls[index] = { name, arguments: more }
          else if (calls[index] !== undefined) calls[index].arguments += more
        }
      }
      return { text: rest + reader.flush(), calls }
    }
    const expected = {
      text: 'well < <tool ',
      calls: [
        { name: 'weather', arguments: '{"name":"a}\\"{]","age":1}' },
        { name: 'clock', arguments: '{"zone": "UTC"}' },
      ],
    }
    expect(read([text])).toEqual(expected)
    expect(read([...text])).toEqual(expected)
    fc.assert(
      fc.property(fc.array(fc.nat(text.length), { maxLength: 12 }), (cuts) => {
        const at = [0, ...cuts.sort((a, b) => a - b), text.length]
        expect(read(at.slice(1).map((end, i) => text.slice(at[i], end)))).toEqual(expected)
      }),
    )
    // What only began like a call is text after all.
    expect(read(['a <tool_ca', 'b <tool'])).toEqual({ text: 'a <tool_cab <tool', calls: [] })
  })
})

describe.each(BINDINGS)('%s binding', (binding) => {
  let engine: Engine
  let modelPackage: ModelPackage
  const ask = async (question: string, options: Partial<GenerateOptions>, tools: readonly Tool[] = []) =>
    collect(
      engine.generate(await engine.tokenizeChat([{ role: 'user', content: question }], tools), {
        ...GREEDY,
        ...options,
      }),
    )

  beforeAll(async () => {
    modelPackage = await loadModelPackage(PACKAGE_DIRECTORY)
    engine = await createOrtEngine(modelPackage, { binding })
  })
  afterAll(() => engine.close())

  it('answers with JSON that follows the schema, whatever the seed and the temperature (P-8.8)', async () => {
    const grammar = formatGrammar({ type: 'json_schema', schema: PERSON })
    const seeds = Array.from({ length: binding === 'native' ? 24 : 6 }, (_, seed) => seed)
    for (const temperature of [0, 1, 2]) {
      const answers = await Promise.all(
        seeds.map((seed) => ask('Who is it?', { grammar, temperature, seed, maxTokens: 200 })),
      )
      for (const events of answers) {
        expect(done(events).finishReason).toBe('stop')
        expect(valid(JSON.parse(textOf(events))), textOf(events)).toBe(true)
      }
    }
  })

  it('stops where it is cut, and says so', async () => {
    const grammar = formatGrammar({ type: 'json_schema', schema: PERSON })
    const events = await ask('Who is it?', { grammar, ...WILD, maxTokens: 4 })
    expect(done(events)).toMatchObject({ finishReason: 'length', usage: { completionTokens: 4 } })
    expect('{"name": "').toContain(textOf(events))
  })

  it('keeps to stop strings, and reports the model’s own probabilities', async () => {
    const grammar = formatGrammar({ type: 'json_schema', schema: PERSON })
    const events = await ask('Who is it?', { grammar, stop: ['"age"'], logprobs: 2 })
    expect(done(events).finishReason).toBe('stop')
    expect(textOf(events)).not.toContain('"age"')
    const free = await ask('Who is it?', { logprobs: 2, maxTokens: 1 })
    const [constrained, own] = [events, free].map(([first]) =>
      first?.type === 'token' ? first.logprobs?.top : undefined,
    )
    expect(constrained).toEqual(own)
  })

  it('calls a tool where it must, with arguments that follow its schema', async () => {
    for (let seed = 0; seed < 8; seed++) {
      const grammar = callGrammar({ tools: TOOLS, required: true, parallel: false }, undefined)
      const events = await ask('Do it', { grammar, calls: true, ...WILD, seed }, TOOLS)
      expect(done(events).finishReason).toBe('tool_calls')
      expect(textOf(events)).toBe('')
      const [call, ...others] = callsOf(events)
      expect(others).toEqual([])
      expect(['weather', 'clock']).toContain(call?.name)
      if (call?.name === 'weather') expect(valid(JSON.parse(call.arguments))).toBe(true)
      else expect(JSON.parse(call?.arguments ?? '')).toEqual(expect.objectContaining({}))
    }
  })

  it('says what it would have said where it need not call', async () => {
    const grammar = callGrammar({ tools: TOOLS, required: false, parallel: true }, undefined)
    const question = 'What is the capital of Japan?'
    const free = await ask(question, {})
    const events = await ask(question, { grammar, calls: true })
    expect(textOf(events)).toBe(textOf(free))
    expect(done(events)).toEqual(done(free))
  })

  it('tells a call from the text before it, and looks for stop strings in the text alone', async () => {
    const grammar = callGrammar({ tools: TOOLS.slice(1), required: true, parallel: false }, undefined)
    const events = await ask('Do it', { grammar, calls: true, stop: ['zone', 'clock', '{'] })
    expect(done(events).finishReason).toBe('tool_calls')
    expect(callsOf(events)).toHaveLength(1)
  })

  it('moves no neighbour: every answer is what it is alone', async () => {
    const grammar = formatGrammar({ type: 'json_schema', schema: PERSON })
    const calls = callGrammar({ tools: TOOLS, required: true, parallel: true }, undefined)
    const requests: [string, Partial<GenerateOptions>][] = [
      ['What is the capital of Japan?', { temperature: 1, seed: 5, logprobs: 3 }],
      ['Who is it?', { grammar, temperature: 1, seed: 6, logprobs: 3, maxTokens: 60 }],
      ['Do it', { grammar: calls, calls: true, temperature: 1, seed: 7, logprobs: 3, maxTokens: 60 }],
      ['What is 3 plus 4?', { temperature: 1, seed: 8, logprobs: 3 }],
    ]
    const alone: EngineEvent[][] = []
    for (const [question, options] of requests) alone.push(await ask(question, options))
    const together = await Promise.all(requests.map(([question, options]) => ask(question, options)))
    expect(together).toEqual(alone)
  })
})
