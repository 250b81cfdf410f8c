/**
 * Constrained answers: whatever the logits are, what comes out parses and follows the schema, as ajv judges it, which knows
 * nothing of this code. And whatever is not followed is refused by name.
 */
import { Ajv2020 } from 'ajv/dist/2020.js'
import addFormats from 'ajv-formats'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { formatGrammar } from '../../../enclave/inference/grammar/answers.js'
import { followsSchema } from '../../../enclave/inference/grammar/check.js'
import { FORMATS } from '../../../enclave/inference/grammar/formats.js'
import { createMatcherFactory } from '../../../enclave/inference/grammar/matcher.js'
import type { Grammar } from '../../../enclave/inference/grammar/network.js'
import { SchemaError } from '../../../enclave/inference/grammar/schema.js'
import type { Terminal } from '../../../enclave/inference/grammar/terminal.js'
import { createVocabulary, type Vocabulary } from '../../../enclave/inference/grammar/vocabulary.js'
import { createRandom } from '../../../enclave/inference/sampler.js'

/** Every byte, then pieces that cross the borders between the parts of JSON. */
const PIECES =
  '{" "} "} "}] ", ", " ": ": " ":" :{ },{ [{ }] }} ]] [] {} "" \\n \\" "\\ 12 3.5 -1 e+ 00 true false null tru als :true, ,1 1, 1} 0.25, 日本 é a "a b": "x": id name ab -01 T10: ../ @a.'.split(
    ' ',
  )
const BYTES = [
  ...Array.from({ length: 256 }, (_, byte) => Uint8Array.of(byte)),
  ...PIECES.map((piece) => new TextEncoder().encode(piece)),
  Uint8Array.of(0x22, 0xe6, 0x97),
  Uint8Array.of(0xa5, 0x22, 0x2c),
  undefined,
]
const VOCABULARY = createVocabulary(BYTES.length, BYTES) as Vocabulary
const matchers = createMatcherFactory(VOCABULARY)

function oracle(schema: object) {
  const ajv = new Ajv2020({ strict: false, allErrors: true })
  ;(addFormats as unknown as { default: (ajv: Ajv2020) => void }).default(ajv)
  return ajv.compile(schema)
}

/**
 * A text by random choices among the allowed tokens. The longer it gets, the more it prefers what closes: random logits by
 * themselves would nest without end.
 */
function write(schema: unknown, seed: number, patience = 40): { text: string; whole: boolean } {
  const matcher = matchers.create(formatGrammar({ type: 'json_schema', schema }))
  const random = createRandom(seed)
  const written: Uint8Array[] = []
  for (let count = 0; count < 4000; count++) {
    if (matcher.mustEnd() || (matcher.mayEnd() && random() < 0.3)) return { text: text(written), whole: true }
    const mask = matcher.mask()
    const allowed = BYTES.flatMap((bytes, token) =>
      ((mask[token >>> 5] ?? 0) >>> (token & 31)) & 1 ? [{ bytes, token }] : [],
    )
    if (allowed.length === 0) {
      expect(matcher.mayEnd(), `dead end behind ${text(written)}`).toBe(true)
      return { text: text(written), whole: true }
    }
    const closing = allowed.filter(({ bytes }) => /^["}\]0-9]/.test(text([bytes ?? new Uint8Array()])))
    const from = count > patience && closing.length > 0 ? closing : allowed
    const shortest = from.filter(({ bytes }) => '"}]'.includes(text([bytes ?? new Uint8Array()])[0] ?? ' '))
    const set = count > 2 * patience && shortest.length > 0 ? shortest : from
    const choice = set[Math.floor(random() * set.length)]
    if (choice?.bytes === undefined) throw new Error('a token without bytes was allowed')
    matcher.accept(choice.token)
    written.push(choice.bytes)
  }
  return { text: text(written), whole: false }
}

function text(parts: readonly Uint8Array[]): string {
  return Buffer.concat(parts).toString('utf8')
}

function expectValid(schema: object, seeds: readonly number[]): number {
  const valid = oracle(schema)
  let whole = 0
  for (const seed of seeds) {
    const answer = write(schema, seed)
    if (!answer.whole) continue
    whole += 1
    expect(valid(JSON.parse(answer.text)), `${JSON.stringify(schema)} allowed ${answer.text}`).toBe(true)
  }
  return whole
}

const name = fc.oneof(
  fc.constantFrom('a', 'b', 'id', 'name', 'x"y', 'é', '日'),
  fc.string({ maxLength: 4, unit: 'grapheme' }),
)
const bounds = fc
  .tuple(fc.integer({ min: -1000, max: 1000 }), fc.integer({ min: 0, max: 500 }))
  .map(([low, span]) => ({ low, high: low + span }))

/** JSON that ajv can compare: its equality calls members of these names, as if every object had JavaScript's own. */
const json = (maxDepth: number) =>
  fc.jsonValue({ maxDepth }).filter((value) => !/"(constructor|valueOf|toString)":/.test(JSON.stringify(value)))

const { schema: schemas } = fc.letrec<{ schema: object; leaf: object; branch: object }>((tie) => ({
  leaf: fc.oneof(
    fc.constantFrom(
      {},
      { type: 'boolean' },
      { type: 'null' },
      { type: 'integer' },
      { type: 'number' },
      { type: 'string' },
    ),
    fc.constantFrom(...FORMATS.map((format) => ({ type: 'string', format }))),
    fc.constantFrom('^[a-c]{2,5}$', 'x', '^(a|bc)*$', '\\d', '^.{3}$', 'é+$', '^[^"]*"').map((pattern) => ({
      type: 'string',
      pattern,
    })),
    fc.tuple(fc.nat(4), fc.nat(6)).map(([min, more]) => ({ type: 'string', minLength: min, maxLength: min + more })),
    bounds.map(({ low, high }) => ({ type: 'integer', minimum: low, maximum: high })),
    bounds.map(({ low, high }) => ({ type: 'number', minimum: low / 8, maximum: high / 8 + 0.1 })),
    bounds.map(({ low, high }) => ({ type: 'number', exclusiveMinimum: low, exclusiveMaximum: high + 0.3 })),
    fc.integer({ min: 1, max: 50 }).map((multipleOf) => ({ type: 'integer', multipleOf, minimum: -500, maximum: 700 })),
    fc.array(json(2), { minLength: 1, maxLength: 4 }).map((values) => ({ enum: values })),
    json(1).map((value) => ({ const: value })),
    fc.constant({ type: ['string', 'null', 'integer'], maxLength: 5, maximum: 9 }),
  ),
  branch: fc.oneof(
    fc
      .record({
        properties: fc.dictionary(name, tie('schema'), { maxKeys: 4 }),
        additional: fc.oneof(fc.constantFrom(undefined, true, false), tie('leaf')),
        pick: fc.nat(15),
      })
      .map(({ properties, additional, pick }) => ({
        type: 'object',
        properties,
        required: Object.keys(properties).filter((_, i) => (pick >> i) & 1),
        ...(additional === undefined ? {} : { additionalProperties: additional }),
      })),
    fc.tuple(tie('schema'), fc.nat(3), fc.nat(3)).map(([items, min, more]) => ({
      type: 'array',
      items,
      minItems: min,
      maxItems: min + more,
    })),
    tie('schema').map((items) => ({ type: 'array', items })),
    fc.array(tie('schema'), { minLength: 1, maxLength: 3 }).map((prefixItems) => ({
      type: 'array',
      prefixItems,
      items: false,
      minItems: prefixItems.length,
    })),
    fc.array(tie('schema'), { minLength: 1, maxLength: 3 }).map((anyOf) => ({ anyOf })),
  ),
  schema: fc.oneof({ depthSize: 'small', withCrossShrink: true }, tie('leaf'), tie('branch')),
}))

describe('JSON schemas', () => {
  it('lets nothing out that breaks them, whatever the logits', () => {
    let whole = 0
    let tried = 0
    fc.assert(
      fc.property(schemas, fc.integer(), (schema, seed) => {
        tried += 2
        whole += expectValid(schema, [seed, seed + 1])
      }),
      { numRuns: 150 },
    )
    // Few are so deep that random choices do not finish them.
    expect(whole).toBeGreaterThan(tried * 0.85)
  })

  it('judges values as ajv does', async () => {
    let followed = 0
    let refused = 0
    await fc.assert(
      fc.asyncProperty(schemas, fc.integer(), json(2), async (schema, seed, other) => {
        const valid = oracle(schema)
        const { text: own, whole } = write(schema, seed)
        for (const value of whole ? [JSON.parse(own), other] : [other]) {
          const follows = await followsSchema(schema, value)
          if (follows) followed += 1
          else refused += 1
          // Formats are a note to the one, and more than that to the other.
          if (JSON.stringify(schema).includes('"format"')) continue
          expect(follows, `${JSON.stringify(schema)} ${JSON.stringify(value)}`).toBe(valid(value))
        }
      }),
      { numRuns: 150 },
    )
    expect(Math.min(followed, refused)).toBeGreaterThan(20)
  })

  it('judges a value by each schema once, however many ways lead there', async () => {
    const ways = (depth: number): object =>
      Object.fromEntries(
        Array.from({ length: depth + 1 }, (_, i) => [
          `d${i}`,
          i === depth ? { const: 'a' } : { anyOf: Array.from({ length: 8 }, () => ({ $ref: `#/$defs/d${i + 1}` })) },
        ]),
      )
    const schema = { anyOf: [{ $ref: '#/$defs/d0' }, { const: 'b' }], $defs: ways(30) }
    expect(formatGrammar({ type: 'json_schema', schema }).networks.length).toBeGreaterThan(0)
    expect(await Promise.all(['a', 'b', 'c'].map((value) => followsSchema(schema, value)))).toEqual([true, true, false])

    // The same through values inside each other: 2^60 ways to the innermost.
    const list = (item: object): object => ({ type: 'array', items: item })
    const deep = { ...list({ anyOf: [{ $ref: '#' }, { $ref: '#/$defs/same' }, { const: 1 }] }), $defs: {} }
    Object.assign(deep.$defs, { same: list({ anyOf: [{ $ref: '#/$defs/same' }, { $ref: '#' }, { const: 1 }] }) })
    const value = (inner: unknown): unknown => Array.from({ length: 60 }).reduce((item) => [item], inner)
    expect(await followsSchema(deep, value(1))).toBe(true)
    expect(await followsSchema(deep, value(2))).toBe(false)
  })

  it('takes a reference that leads back to itself for one that nothing follows', async () => {
    expect(await followsSchema({ anyOf: [{ $ref: '#' }, { const: 1 }] }, 1)).toBe(true)
    expect(await followsSchema({ anyOf: [{ $ref: '#' }, { const: 1 }] }, 2)).toBe(false)
    expect(await followsSchema({ $ref: '#' }, 1)).toBe(false)
    // What is found out on the way round must not be kept for where it does not hold.
    const $defs = { x: { anyOf: [{ $ref: '#/$defs/y' }, { const: 1 }] }, y: { $ref: '#/$defs/x' } }
    const pair = { type: 'array', prefixItems: [{ $ref: '#/$defs/x' }, { $ref: '#/$defs/y' }], $defs }
    expect(await followsSchema(pair, [1, 1])).toBe(true)
    expect(await followsSchema(pair, [1, 2])).toBe(false)
  })

  it('finds equal constants whatever the order of their members', async () => {
    const schema = { enum: [{ a: 1, b: [{ c: null, d: 'x' }] }, [], ''] }
    expect(await followsSchema(schema, { b: [{ d: 'x', c: null }], a: 1 })).toBe(true)
    expect(await followsSchema(schema, { b: [{ d: 'x' }], a: 1 })).toBe(false)
    expect(await followsSchema(schema, {})).toBe(false)
  })

  it('takes members named like those of every object for what they are', async () => {
    for (const name of ['constructor', 'valueOf', 'toString', '__proto__', 'hasOwnProperty']) {
      const value = (item: number): unknown => JSON.parse(`{"${name}":${item}}`)
      const schema = { const: value(0) }
      expect(await followsSchema(schema, value(0)), name).toBe(true)
      for (const other of [value(1), {}, { a: 0 }]) expect(await followsSchema(schema, other), name).toBe(false)
      const { text: written, whole } = write(schema, 1)
      expect(whole ? JSON.parse(written) : undefined, name).toEqual(value(0))
    }
  })

  it('lets others have their turn meanwhile, and gives up what is too much', async () => {
    // Only the last of the alternatives holds for numbers below zero.
    const alternatives = [...Array.from({ length: 999 }, (_, minimum) => ({ type: 'integer', minimum })), true]
    const schema = { type: 'array', items: { anyOf: alternatives } }
    const numbers = (count: number): number[] => Array.from({ length: count }, (_, i) => -1 - i)
    let turns = 0
    let next = setImmediate(function again() {
      turns += 1
      next = setImmediate(again)
    })
    expect(await followsSchema(schema, numbers(500))).toBe(true)
    expect(turns).toBeGreaterThan(40)
    await expect(followsSchema(schema, numbers(2500))).rejects.toMatchObject({ code: 'engine.failed' })
    clearImmediate(next)
  })

  it('takes no value that is too deep, and no stack overflows', async () => {
    const schema = { type: 'array', items: { $ref: '#' } }
    const value = (depth: number): unknown => JSON.parse('['.repeat(depth) + ']'.repeat(depth))
    expect(await followsSchema(schema, value(200))).toBe(true)
    expect(await followsSchema(schema, value(100_000))).toBe(false)
    expect(await followsSchema({ const: [] }, value(100_000))).toBe(false)
  })

  it.each(FORMATS)('writes the format %s so that others read it', (format) => {
    expect(
      expectValid(
        { type: 'string', format },
        Array.from({ length: 60 }, (_, seed) => seed),
      ),
    ).toBe(60)
  })

  it('follows references, also to themselves', () => {
    const schema = {
      $ref: '#/$defs/node',
      $defs: {
        node: {
          type: 'object',
          properties: { value: { type: 'integer' }, children: { type: 'array', items: { $ref: '#/$defs/node' } } },
          required: ['value', 'children'],
          additionalProperties: false,
        },
      },
    }
    expect(
      expectValid(
        schema,
        Array.from({ length: 50 }, (_, seed) => seed),
      ),
    ).toBeGreaterThan(40)
  })
})

describe('a schema of which any text follows many alternatives', () => {
  const refs = Object.fromEntries(
    Array.from({ length: 12 }, (_, i) => [
      `d${i}`,
      {
        anyOf: [
          { type: 'string', maxLength: i + 1 },
          ...Array.from({ length: 12 }, (_, j) => ({
            type: 'array',
            items: { $ref: `#/$defs/d${(i + j) % 12}` },
            minItems: j % 3,
          })),
        ],
      },
    ]),
  )
  it('is still followed, and never into a dead end', () => {
    const schema = { $ref: '#/$defs/d0', $defs: refs }
    expect(expectValid(schema, [1, 2, 3, 4, 5, 6])).toBeGreaterThan(0)
  })
})

describe('a mask of many alternatives', () => {
  /** The same grammar, counting steps of terminals. */
  function counted(schema: object): { readonly grammar: Grammar; steps: number } {
    const made = formatGrammar({ type: 'json_schema', schema })
    const known = new Map<Terminal, Terminal>()
    const result = { grammar: made, steps: 0 }
    const counting = (terminal: Terminal): Terminal => {
      const own: Terminal = known.get(terminal) ?? {
        ...terminal,
        shared: false,
        step(state, byte) {
          result.steps += 1
          return terminal.step(state, byte)
        },
      }
      known.set(terminal, own)
      return own
    }
    const networks = made.networks.map((network) =>
      network.map(({ arcs, final }) => ({
        final,
        arcs: arcs.map(({ via, to }) => ({ to, via: typeof via === 'object' ? counting(via) : via })),
      })),
    )
    result.grammar = { ...made, networks }
    return result
  }

  it.each<[string, object]>([
    [
      'lists of a number and a text',
      {
        anyOf: Array.from({ length: 200 }, (_, i) => ({
          type: 'array',
          prefixItems: [
            { type: 'number', minimum: i },
            { type: 'string', maxLength: i + 1 },
          ],
        })),
      },
    ],
    [
      'ranges of numbers',
      {
        type: 'array',
        items: { anyOf: Array.from({ length: 200 }, (_, i) => ({ type: 'number', minimum: i, maximum: 1e9 + i })) },
      },
    ],
  ])('is worked out in slices: %s', (_, schema) => {
    const own = counted(schema)
    const sliced = matchers.create(own.grammar)
    const whole = matchers.create(formatGrammar({ type: 'json_schema', schema }))
    let most = 0
    let slices = 0
    for (const byte of new TextEncoder().encode('[20')) {
      for (let there = false; !there; ) {
        own.steps = 0
        there = sliced.prepare()
        most = Math.max(most, own.steps)
        slices += 1
      }
      expect(sliced.mask()).toEqual(whole.mask())
      for (const matcher of [sliced, whole]) matcher.accept(byte)
    }
    expect(slices).toBeGreaterThan(5)
    // One step of all threads, 320 at most, may come on top.
    expect(most).toBeLessThan(11_000)
  })

  it('is there at once where there are few', () => {
    const schema = { type: 'object', properties: { name: { type: 'string' }, age: { type: 'integer' } } }
    const matcher = matchers.create(formatGrammar({ type: 'json_schema', schema }))
    for (const byte of new TextEncoder().encode('{"name": "é')) {
      expect(matcher.prepare()).toBe(true)
      matcher.accept(byte)
    }
  })

  it('is given away, and worked out anew where it may have been changed', () => {
    const matcher = matchers.create(formatGrammar({ type: 'json_object' }))
    const mask = matcher.mask()
    const before = [...mask]
    mask.fill(0)
    expect([...matcher.mask()]).toEqual(before)
  })
})

describe('what is not followed is refused, by name', () => {
  const object = (property: object): object => ({ type: 'object', properties: { a: property } })
  it.each<[string, unknown, string | undefined]>([
    ['oneOf', { oneOf: [{ type: 'string' }] }, 'oneOf'],
    ['not, deep inside', object({ type: 'array', items: { not: { type: 'string' } } }), 'not'],
    ['allOf of two', { allOf: [{}, {}] }, 'allOf'],
    ['if', { type: 'object', if: {} }, 'if'],
    ['patternProperties', { type: 'object', patternProperties: {} }, 'patternProperties'],
    ['minProperties', { type: 'object', minProperties: 1 }, 'minProperties'],
    ['uniqueItems', { type: 'array', uniqueItems: true }, 'uniqueItems'],
    ['contains', { type: 'array', contains: {} }, 'contains'],
    ['nullable, which is OpenAPI’s', { type: 'string', nullable: true }, 'nullable'],
    ['a keyword of another type', { type: 'string', minimum: 1 }, 'minimum'],
    ['keywords beside anyOf', { anyOf: [{}], required: ['a'] }, 'required'],
    ['keywords beside enum', { enum: ['a'], maxLength: 1 }, 'maxLength'],
    ['keywords beside a reference', { $ref: '#/$defs/a', type: 'string', $defs: { a: {} } }, 'type'],
    ['what nobody has heard of', { type: 'string', canary: 1 }, undefined],
    ['an unknown type', { type: 'date' }, 'type'],
    ['an unknown format', { type: 'string', format: 'color' }, 'format'],
    ['lookahead', { type: 'string', pattern: '(?=a)b' }, 'pattern'],
    ['a backreference', { type: 'string', pattern: '^([ab]+)\\1$' }, 'pattern'],
    ['a broken pattern', { type: 'string', pattern: '(' }, 'pattern'],
    ['a pattern that explodes', { type: 'string', pattern: '(a|b)*a(a|b){20}$' }, 'pattern'],
    ['a pattern no such text matches', { type: 'string', pattern: '^a{5}$', maxLength: 3 }, 'pattern'],
    ['a fractional multipleOf', { type: 'number', multipleOf: 0.1 }, 'multipleOf'],
    ['bounds with nothing between', { type: 'integer', minimum: 5, maximum: 4 }, 'minimum'],
    ['bounds with no integer between', { type: 'integer', minimum: 1.2, maximum: 1.8 }, 'minimum'],
    ['lengths with nothing between', { type: 'string', minLength: 3, maxLength: 2 }, 'minLength'],
    ['counts with nothing between', { type: 'array', minItems: 3, maxItems: 2 }, 'minItems'],
    ['a negative count', { type: 'array', minItems: -1 }, 'minItems'],
    ['an enum of nothing', { enum: [] }, 'enum'],
    ['an enum without a value of the type', { enum: [1], type: 'string' }, 'enum'],
    ['a reference out of the schema', { $ref: 'https://example.com/schema' }, '$ref'],
    ['a reference to nothing', { $ref: '#/$defs/a' }, '$ref'],
    ['a reference with a broken escape', { $ref: '#/%' }, '$ref'],
    ['required without a property', { type: 'object', required: ['a'], additionalProperties: false }, 'required'],
    ['items as a list', { type: 'array', items: [{}] }, 'items'],
    ['false', object(false as never), undefined],
    ['a number for a schema', object(1 as never), undefined],
    ['endless recursion', { $ref: '#' }, undefined],
    ['recursion without a way out', { type: 'object', properties: { a: { $ref: '#' } }, required: ['a'] }, undefined],
    [
      'too many properties',
      { type: 'object', properties: Object.fromEntries(Array.from({ length: 257 }, (_, i) => [i, {}])) },
      'properties',
    ],
    ['too many choices', { enum: Array.from({ length: 501 }, (_, i) => i) }, 'enum'],
    [
      'too many schemas',
      { anyOf: Array.from({ length: 250 }, () => ({ anyOf: Array.from({ length: 9 }, () => ({})) })) },
      undefined,
    ],
    [
      'schemas too deep',
      Array.from({ length: 70 }).reduce<object>((inner) => ({ type: 'array', items: inner }), {}),
      undefined,
    ],
    [
      'too many patterns',
      { anyOf: Array.from({ length: 17 }, (_, i) => ({ type: 'string', pattern: `^a{${i + 1}}$` })) },
      'pattern',
    ],
    [
      'patterns that together take too long to read',
      { prefixItems: Array.from({ length: 8 }, (_, i) => ({ type: 'string', pattern: `^\\p{L}{1,50}${i}$` })) },
      'pattern',
    ],
    [
      'formats of too many lengths',
      { prefixItems: Array.from({ length: 17 }, (_, i) => ({ type: 'string', format: 'email', maxLength: 20 + i })) },
      'format',
    ],
  ])('%s', (_, schema, keyword) => {
    const error = (() => {
      try {
        return formatGrammar({ type: 'json_schema', schema })
      } catch (thrown) {
        return thrown
      }
    })()
    expect(error).toBeInstanceOf(SchemaError)
    expect(error).toMatchObject({ code: 'schema.unsupported', keyword })
    expect(String(error)).not.toContain('canary')
  })

  it('takes any JSON for a schema and answers with a grammar or that error, in bounded time', () => {
    const anyKeyword = fc.constantFrom(
      ...'type properties required items anyOf enum const pattern format minimum maxLength $ref $defs additionalProperties prefixItems allOf'.split(
        ' ',
      ),
    )
    const { any } = fc.letrec((tie) => ({
      any: fc.oneof(
        { maxDepth: 4 },
        json(1),
        fc.constantFrom('object', 'string', '#', '#/$defs/a', 'array', '^a*$'),
        fc.array(tie('any'), { maxLength: 3 }),
        fc.dictionary(anyKeyword, tie('any'), { maxKeys: 4 }),
      ),
    }))
    fc.assert(
      fc.property(any, (schema) => {
        try {
          const matcher = matchers.create(formatGrammar({ type: 'json_schema', schema }))
          expect(matcher.mask().some((word) => word !== 0)).toBe(true)
        } catch (error) {
          if (!(error instanceof SchemaError)) throw error
        }
      }),
      { numRuns: 500 },
    )
  })
})
