/**
 * A real model in two weight formats against llama.cpp on the file it was imported from. Runs where both are in the cache:
 * `npm run bench:quality -- --only quality.tokens` brings them. How good each format is over a long text: `npm run bench:quality`.
 */
import { describe, expect, it } from 'vitest'
import { createOrtEngine } from '../../enclave/inference/ort/engine.js'
import { createTokenizer } from '../../enclave/inference/tokenizer.js'
import { brownText, untagged } from '../../scripts/bench/brown.js'
import { findExtra } from '../../scripts/bench/extras.js'
import { judgeAnswers, ourLoss, theirLoss, windowsOf, withImported } from '../../scripts/bench/quality.js'
import { findSmolLm2 } from '../../scripts/model/fetch.js'

const gguf = await findSmolLm2()
const atHand = gguf !== undefined && findExtra('llama.cpp') !== undefined && findExtra('the Brown corpus') !== undefined

describe.skipIf(!atHand)('SmolLM2 as llama.cpp has it (skipped where they are not in the cache)', () => {
  it.each([{ format: 'int8', percent: 1, share: 0.9 }] as const)(
    '$format: perplexity within $percent %, and answers it would give too',
    async ({ format, percent, share }) => {
      const path = gguf ?? ''
      const text = await brownText(7_000)
      await withImported(path, format, async (modelPackage) => {
        const windows = windowsOf(createTokenizer(modelPackage).encode(text), 2)
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
