/**
 * A real model in two weight formats against llama.cpp on the file it was imported from. Runs where both are in the cache:
 * `npm run bench:quality -- --only quality.tokens` brings them. How good each format is over a long text: `npm run bench:quality`.
 */
import { describe, expect, it } from 'vitest'
import { callGrammar, formatGrammar } from '../../enclave/inference/grammar/answers.js'
import { createOrtEngine } from '../../enclave/inference/ort/engine.js'
import { brownText, untagged } from '../../scripts/bench/brown.js'
import { findExtra } from '../../scripts/bench/extras.js'
import { judgeAnswers, ourLoss, theirLoss, tokensOf, windowsOf, withImported } from '../../scripts/bench/quality.js'
import { findSmolLm2 } from '../../scripts/model/fetch.js'
import { ask, textOf } from './model.js'

const gguf = await findSmolLm2()
const atHand = gguf !== undefined && findExtra('llama.cpp') !== undefined && findExtra('the Brown corpus') !== undefined

describe.skipIf(!atHand)('SmolLM2 as llama.cpp has it (skipped where they are not in the cache)', () => {
  it.each([{ format: 'int8', percent: 1, share: 0.9 }] as const)(
    '$format: perplexity within $percent %, and answers it would give too',
    async ({ format, percent, share }) => {
      const path = gguf ?? ''
      const text = await brownText(7_000)
      await withImported(path, format, async (modelPackage) => {
        const windows = windowsOf(await tokensOf(modelPackage, text), 2)
        const [ours, theirs] = [await ourLoss(modelPackage, windows), await theirLoss(path, windows)]
        expect(Math.abs(Math.exp(ours - theirs) - 1) * 100).toBeLessThan(percent)
        const engine = await createOrtEngine(modelPackage, { slots: 1 })
        const judged = await judgeAnswers(engine, path, ['Why is the sky blue?'])
        await engine.close()
        const tokens = judged.flat()
        expect(tokens.length).toBeGreaterThan(8)
        expect(tokens.filter(({ behind }) => behind === 0).length / tokens.length).toBeGreaterThan(share)
      })
    },
    600_000,
  )
})

describe.skipIf(gguf === undefined)(
  'SmolLM2, whose tokenizer lacks bytes (skipped where it is not in the cache)',
  () => {
    const parameters = {
      type: 'object',
      properties: { city: { type: 'string', maxLength: 20 }, unit: { enum: ['celsius', 'fahrenheit'] } },
      required: ['city', 'unit'],
      additionalProperties: false,
    }
    it('answers with an object, by a schema, and with a call of a tool', async () => {
      await withImported(gguf ?? '', 'int8', async (modelPackage) => {
        const engine = await createOrtEngine(modelPackage, { slots: 1 })
        try {
          const object = await ask(engine, 'Give the colour of the sky as JSON, as in {"colour": "red"}.', {
            grammar: formatGrammar({ type: 'json_object' }),
          })
          expect(object.at(-1)).toMatchObject({ type: 'done', finishReason: 'stop' })
          expect(JSON.parse(textOf(object))).toBeTypeOf('object')

          const schema = await ask(engine, 'What is the weather like in Oslo?', {
            grammar: formatGrammar({ type: 'json_schema', schema: parameters }),
          })
          expect(schema.at(-1)).toMatchObject({ type: 'done', finishReason: 'stop' })
          expect(Object.keys(JSON.parse(textOf(schema)))).toEqual(['city', 'unit'])

          const tools = [{ name: 'weather', parameters }]
          const called = await ask(engine, 'What is the weather like in Oslo?', {
            grammar: callGrammar({ tools, required: true, parallel: false }, undefined),
            calls: true,
          })
          expect(called.at(-1)).toMatchObject({ type: 'done', finishReason: 'tool_calls' })
          const pieces = called.flatMap((event) => (event.type === 'token' ? (event.calls ?? []) : []))
          expect(pieces[0]?.name).toBe('weather')
          const text = pieces.map((piece) => piece.arguments).join('')
          expect(['celsius', 'fahrenheit']).toContain(JSON.parse(text).unit)
        } finally {
          await engine.close()
        }
      })
    }, 600_000)
  },
)

describe('the text to measure on', () => {
  it('has no tags left, and punctuation where it belongs', () => {
    const tagged = "\n\tHe/pps said/vbd ,/, ``/`` no/at (/( or/cc yes/uh )/)-hl ''/'' ./.\n\n"
    expect(untagged(tagged)).toBe('He said, "no (or yes)".')
  })

  it('is refused when there is too little of it', () => {
    expect(() => windowsOf([1, 2, 3], 1)).toThrow(RangeError)
    const { windows, context } = windowsOf(
      Array.from({ length: 1030 }, (_, i) => i),
      2,
    )
    expect(windows.map((window) => [window[0], window.at(-1)])).toEqual([
      [0, 511],
      [512, 1023],
    ])
    expect(context).toBeGreaterThan(0)
  })
})
