/**
 * Vocabularies that lack bytes, as those of real models do: constrained answers do without the characters nobody can write,
 * never stop where nothing goes on, and are refused only where JSON itself could not be written.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { formatGrammar } from '../../../enclave/inference/grammar/answers.js'
import { followsSchema } from '../../../enclave/inference/grammar/check.js'
import { createMatcherFactory, type MatcherFactory } from '../../../enclave/inference/grammar/matcher.js'
import { createVocabulary, type Vocabulary } from '../../../enclave/inference/grammar/vocabulary.js'
import { createRandom } from '../../../enclave/inference/sampler.js'

/** In planes that Unicode has assigned nothing in: what corpora, and so tokenizers trained on them, lack. */
const RARE = '\u{40000}'
/** Tokens of several bytes, some of which begin or hold the rare character. */
const PIECES = [
  [0xf1, 0x80],
  [0x22, 0xf1],
  [0x61, 0xf1, 0x80, 0x80, 0x80, 0x22],
  [0xc3, 0xa9],
  [0x22, 0x2c],
  [0x22, 0x7d],
]

function tokensWithout(missing: readonly number[]): readonly (Uint8Array | undefined)[] {
  return [
    ...Array.from({ length: 256 }, (_, byte) => (missing.includes(byte) ? undefined : Uint8Array.of(byte))),
    ...PIECES.map((piece) => Uint8Array.from(piece)),
  ]
}

function vocabularyWithout(missing: readonly number[]): Vocabulary {
  const tokens = tokensWithout(missing)
  const vocabulary = createVocabulary(tokens.length, tokens)
  if (vocabulary === undefined) throw new Error('no vocabulary')
  return vocabulary
}

const formatOf = (schema: unknown) => formatGrammar({ type: 'json_schema', schema })

/** A whole text by random choices; throws where a mask is empty and the text may not end. */
function write(matchers: MatcherFactory, vocabulary: Vocabulary, schema: unknown, seed: number): string {
  const matcher = matchers.create(formatOf(schema))
  const random = createRandom(seed)
  const written: Uint8Array[] = []
  while (!matcher.mustEnd() && !(matcher.mayEnd() && random() < 0.3)) {
    const mask = matcher.mask()
    const allowed = vocabulary.bytesOf.flatMap((bytes, token) =>
      bytes !== undefined && ((mask[token >>> 5] ?? 0) >>> (token & 31)) & 1 ? [{ bytes, token }] : [],
    )
    // Long texts prefer what closes them.
    const closing = allowed.filter(({ bytes }) => written.length > 30 && bytes.includes(0x22))
    const from = closing.length > 0 ? closing : allowed
    const choice = from[Math.floor(random() * from.length)]
    if (choice === undefined) throw new Error(`a dead end behind ${Buffer.concat(written).toString('hex')}`)
    matcher.accept(choice.token)
    written.push(choice.bytes)
  }
  return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(written))
}

describe('a vocabulary that lacks bytes', () => {
  it('says which characters cannot be written: all beyond ASCII where one cannot be finished', () => {
    expect(vocabularyWithout([]).unwritable).toEqual(new Set())
    expect(vocabularyWithout([0x04, 0xc0, 0xc1, 0xf1, 0xf2, 0xff]).unwritable).toEqual(new Set([0xf1, 0xf2]))
    expect(vocabularyWithout([0x7f]).unwritable).toEqual(new Set([0x7f]))
    const ascii = vocabularyWithout([0x80]).unwritable
    expect([ascii.size, ascii.has(0xc2), ascii.has(0xf4), ascii.has(0x7f)]).toEqual([51, true, true, false])
  })

  it.each([0x0a, 0x20, 0x22, 0x30, 0x5c, 0x7d, 0x7e])('is none for constrained answers without the byte %i', (byte) => {
    const tokens = tokensWithout([byte])
    expect(createVocabulary(tokens.length, tokens)).toBeUndefined()
  })

  it.each<readonly [string, unknown]>([
    ['a text that may have anything', { type: 'string', minLength: 3, maxLength: 40 }],
    ['a choice of which one cannot be written', { enum: ['a', RARE, `b${RARE}`] }],
    ['a pattern with a way around', { type: 'string', pattern: `^(a|${RARE})+$` }],
    ['a pattern whose text may come to need it', { type: 'string', pattern: `^[^${RARE}]?(é[${RARE}x]|.${RARE})$` }],
    ['a pattern that begins with it or something else', { type: 'string', pattern: '^[\\u{3ffff}-\\u{c0000}]{2}$' }],
    ['a name that need not be there', { type: 'object', properties: { [RARE]: {}, b: {} }, required: ['b'] }],
    ['other names than those', { type: 'object', properties: { b: {} }, additionalProperties: { type: 'null' } }],
    ['anything', {}],
  ])('goes around what cannot be written: %s', async (_, schema) => {
    const vocabulary = vocabularyWithout([0x7f, 0xf1, 0xf2])
    const matchers = createMatcherFactory(vocabulary)
    for (let seed = 0; seed < 40; seed++) {
      const text = write(matchers, vocabulary, schema, seed)
      expect(text).not.toMatch(/[\u{40000}-\u{bffff}\u007f]/u)
      expect(await followsSchema(schema, JSON.parse(text)), text).toBe(true)
    }
  })

  it.each<readonly [string, unknown]>([
    ['a value', { const: RARE }],
    ['every choice', { enum: [RARE, `x${RARE}`] }],
    ['a pattern', { type: 'string', pattern: `${RARE}` }],
    ['a required name', { type: 'object', properties: { [RARE]: {} }, required: [RARE] }],
    ['items there must be', { type: 'array', items: { const: RARE }, minItems: 1 }],
    ['the delete character', { type: 'string', pattern: '^\\x7f$' }],
  ])('is refused a schema that needs what cannot be written: %s', (_, schema) => {
    const create = (missing: readonly number[]) =>
      createMatcherFactory(vocabularyWithout(missing)).create(formatOf(schema))
    expect(() => create([0x7f, 0xf1, 0xf2])).toThrowError(expect.objectContaining({ code: 'schema.unsupported' }))
    expect(
      create([])
        .mask()
        .some((word) => word !== 0),
    ).toBe(true)
  })

  it('has no dead ends, whatever bytes it lacks', async () => {
    const lead = fc.oneof(fc.constant(0x7f), fc.integer({ min: 0x80, max: 0xf4 }))
    const piece = fc.constantFrom(
      'a',
      'é',
      '日',
      '😀',
      RARE,
      '.',
      '\\x7f',
      '[^a]',
      '[^\\x00-\\x7f]',
      '[\\u{10000}-\\u{10ffff}]',
    )
    const part = fc.tuple(piece, fc.constantFrom('', '?', '{1,3}')).map((both) => both.join(''))
    const pattern = fc
      .array(part, { minLength: 1, maxLength: 3 })
      .map((parts) => `^(${parts.join('|')}|${parts.join('')})$`)
    await fc.assert(
      fc.asyncProperty(fc.array(lead, { maxLength: 20 }), pattern, fc.nat(), async (missing, source, seed) => {
        const vocabulary = vocabularyWithout(missing)
        const schema = { type: 'string', pattern: source }
        const matchers = createMatcherFactory(vocabulary)
        try {
          matchers.create(formatOf(schema))
        } catch (error) {
          expect(error).toMatchObject({ code: 'schema.unsupported' })
          return
        }
        expect(await followsSchema(schema, JSON.parse(write(matchers, vocabulary, schema, seed)))).toBe(true)
      }),
      { numRuns: 300 },
    )
  })
})
