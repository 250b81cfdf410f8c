/** `prediction` (P-8.10), as OpenAI's clients send it: what the engine is told of it, and what the usage says. */
import { describe, expect, it } from 'vitest'
import { ContextOverflowError } from '../../enclave/inference/errors.js'
import { eventsOf, HELLO, stubEngine, testWorker } from './stub.js'

const codes = (text: string): number[] => [...text].map((letter) => letter.charCodeAt(0))
const content = (value: unknown) => ({ ...HELLO, prediction: { type: 'content', content: value } })

describe('a predicted answer', () => {
  it.each<[unknown, string]>([
    ['Hello', 'Hello'],
    [
      [
        { type: 'text', text: 'He' },
        { type: 'text', text: 'llo' },
      ],
      'Hello',
    ],
    ['', ''],
  ])('reaches the engine as tokens: %j', async (value, text) => {
    const { chat, engine } = await testWorker()
    expect((await chat(content(value))).status).toBe(200)
    expect(engine.calls[0]?.options.prediction).toEqual(codes(text))
  })

  it('is cut where no answer could be longer, and absent where none was sent', async () => {
    const { chat, engine } = await testWorker({ engine: stubEngine({ contextLength: 20 }) })
    await chat(content('x'.repeat(500)))
    await chat({ ...HELLO, prediction: null })
    await chat(HELLO)
    expect(engine.calls.map(({ options }) => options.prediction?.length)).toEqual([20, undefined, undefined])
  })

  it('is nothing to go by where it could not even fit', async () => {
    const engine = stubEngine()
    engine.tokenizeText = async () => {
      throw new ContextOverflowError(9, 0, 8)
    }
    const { chat } = await testWorker({ engine })
    expect((await chat(content('x'))).status).toBe(200)
    expect(engine.calls[0]?.options.prediction).toEqual([])
  })

  it.each([
    { type: 'other', content: 'x' },
    { type: 'content' },
    { type: 'content', content: 5 },
    { type: 'content', content: [{ type: 'image_url', image_url: 'x' }] },
    'Hello',
  ])('is refused in another form: %j', async (prediction) => {
    const { chat, engine } = await testWorker()
    const response = await chat({ ...HELLO, prediction })
    expect(response.status).toBe(400)
    expect((await response.json()).error.param).toMatch(/^prediction/)
    expect(engine.calls).toHaveLength(0)
  })

  it('is told of in the usage, streamed or not, and only then', async () => {
    const { chat } = await testWorker({ engine: stubEngine({ predicted: { accepted: 3, rejected: 2 } }) })
    const details = { accepted_prediction_tokens: 6, rejected_prediction_tokens: 4 }
    const whole = await (await chat({ ...content('Hello'), n: 2 })).json()
    expect(whole.usage.completion_tokens_details).toEqual(details)
    const stream = { ...content('Hello'), n: 2, stream: true, stream_options: { include_usage: true } }
    const last = eventsOf(await (await chat(stream)).text()).at(-2) ?? '{}'
    expect(JSON.parse(last).usage.completion_tokens_details).toEqual(details)
    expect((await (await chat(HELLO)).json()).usage).not.toHaveProperty('completion_tokens_details')
  })
})
