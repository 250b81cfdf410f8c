/** Text that comes out in pieces is the text that would come out whole, up to the first stop string. */
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createDetokenizer } from '../../enclave/inference/detokenizer.js'
import { loadModelPackage } from '../../enclave/inference/package.js'
import { createStopFilter } from '../../enclave/inference/stop-strings.js'
import { createTokenizer, type TextTokenizer } from '../../enclave/inference/tokenizer.js'
import { PACKAGE_DIRECTORY } from './model.js'

let tokenizer: TextTokenizer

beforeAll(async () => {
  tokenizer = await createTokenizer(await loadModelPackage(PACKAGE_DIRECTORY))
})

afterAll(() => tokenizer.close())

function stream(tokenIds: readonly number[]): string[] {
  const detokenizer = createDetokenizer(tokenizer.decode)
  return [...tokenIds.map((tokenId) => detokenizer.push(tokenId)), detokenizer.flush()]
}

describe('detokenizer', () => {
  it('never emits a part of a character', async () => {
    const text = 'naïve 日本語 👩‍👩‍👧 🏳️‍🌈 Ω'
    const pieces = stream(await tokenizer.encode([text]))
    expect(pieces.join('')).toBe(text)
    for (const piece of pieces) expect(piece).not.toMatch(/\uFFFD|^[\uDC00-\uDFFF]|[\uD800-\uDBFF]$/)
  })

  it('gives the full decode for any text', async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: 'binary', maxLength: 40 }), async (text) => {
        const ids = await tokenizer.encode([text])
        expect(stream(ids).join('')).toBe(tokenizer.decode(ids))
      }),
    )
  })

  it('gives the full decode for any tokens, broken characters included', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 1023 }), { maxLength: 40 }), (ids) => {
        expect(stream(ids).join('')).toBe(tokenizer.decode(ids))
      }),
      { numRuns: 1000 },
    )
  })

  it('shows an unfinished character as U+FFFD only at the end', async () => {
    const ids = await tokenizer.encode(['ok 日'])
    const pieces = stream(ids.slice(0, -1))
    expect(pieces.at(-1)).toBe('\uFFFD')
    expect(pieces.slice(0, -1).join('')).toBe('ok ')
  })
})

describe('stop strings', () => {
  const run = (pieces: readonly string[], stop: readonly string[]): string => {
    const filter = createStopFilter(stop)
    let out = ''
    for (const piece of pieces) {
      const { text, stopped } = filter.push(piece)
      out += text
      if (stopped) return out
    }
    return out + filter.flush()
  }

  it('are found across pieces and never emitted', () => {
    expect(run(['Hello ST', 'OP wor', 'ld'], ['STOP'])).toBe('Hello ')
    expect(run(['aab', 'aac'], ['aaac', 'baac'])).toBe('aa')
    expect(run(['S', 'T', 'O', 'X'], ['STOP'])).toBe('STOX')
  })

  it('end the text at the earliest of them', () => {
    expect(run(['one two three'], ['three', 'two'])).toBe('one ')
  })

  it('give the same text however it is cut', () => {
    const letters = fc.string({ unit: fc.constantFrom('a', 'b', 'c'), maxLength: 30 })
    const stops = fc.array(fc.string({ unit: fc.constantFrom('a', 'b', 'c'), minLength: 1, maxLength: 4 }), {
      maxLength: 3,
    })
    fc.assert(
      fc.property(letters, stops, fc.integer({ min: 1, max: 5 }), (text, stop, size) => {
        const pieces = text.match(new RegExp(`.{1,${size}}`, 'g')) ?? []
        // A model stops at the stop string that is complete first; of two that end together, at the longer.
        const ended = Array.from(text, (_, i) => text.slice(0, i + 1)).find((prefix) =>
          stop.some((s) => prefix.endsWith(s)),
        )
        const longest = Math.max(0, ...stop.filter((s) => ended?.endsWith(s)).map((s) => s.length))
        expect(run(pieces, stop)).toBe(ended === undefined ? text : ended.slice(0, ended.length - longest))
      }),
    )
  })
})
