import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fromHex, toHex } from '../../verifier/protocol/bytes.js'
import { type CborValue, decodeCbor, encodeCbor } from '../../verifier/protocol/cbor.js'
import { FormatError } from '../../verifier/protocol/errors.js'

const code = (hex: string): string => {
  try {
    decodeCbor(fromHex(hex))
  } catch (error) {
    if (error instanceof FormatError) return error.code
    throw error
  }
  return 'accepted'
}

describe('deterministic CBOR (P-1.1)', () => {
  it.each<[CborValue, string]>([
    [0, '00'],
    [23, '17'],
    [24, '1818'],
    [65_536, '1a00010000'],
    [4_294_967_296, '1b0000000100000000'],
    [Number.MAX_SAFE_INTEGER, '1b001fffffffffffff'],
    [18_446_744_073_709_551_615n, '1bffffffffffffffff'],
    [-1, '20'],
    [-4_294_967_297, '3b0000000100000000'],
    ['é', '62c3a9'],
    [new Uint8Array([1, 2]), '420102'],
    [[1, [true, false, null]], '820183f5f4f6'],
    [
      new Map<number | string, CborValue>([
        ['b', 1],
        [10, 2],
        ['a', 3],
        [-1, 4],
      ]),
      'a40a022004616103616201',
    ],
  ])('encodes %o as RFC 8949 §4.2.1 says', (value, hex) => {
    expect(toHex(encodeCbor(value))).toBe(hex)
    expect(toHex(encodeCbor(decodeCbor(fromHex(hex))))).toBe(hex)
  })

  it.each([
    ['1800', 'cbor.not-deterministic', 'a one-byte argument that fits in the head'],
    ['190001', 'cbor.not-deterministic', 'a two-byte argument that fits in one'],
    ['a2616201616102', 'cbor.not-deterministic', 'unsorted keys'],
    ['a2616101616102', 'cbor.not-deterministic', 'a repeated key'],
    ['9fff', 'cbor.unsupported', 'an indefinite array'],
    ['5f4101ff', 'cbor.unsupported', 'an indefinite byte string'],
    ['c074323031332d30332d32315432303a30343a30305a', 'cbor.unsupported', 'a tag'],
    ['f93c00', 'cbor.unsupported', 'a half float'],
    ['fb3ff8000000000000', 'cbor.unsupported', 'a double'],
    ['f7', 'cbor.unsupported', 'undefined'],
    ['e0', 'cbor.unsupported', 'a simple value'],
    ['0000', 'cbor.trailing', 'a second item'],
    ['', 'cbor.truncated', 'nothing'],
    ['4201', 'cbor.truncated', 'a short string'],
    ['9bffffffffffffffff', 'cbor.truncated', 'an array of 2^64 − 1 items'],
    ['bb7fffffffffffffff', 'cbor.truncated', 'a map of 2^63 − 1 pairs'],
    ['61ff', 'utf8.invalid', 'text that is not UTF-8'],
    ['a1a00100'.slice(0, 6), 'cbor.unsupported', 'a map as a key'],
    [`${'81'.repeat(40)}00`, 'cbor.too-deep', '40 levels'],
  ])('refuses %s: %s (%s)', (hex, expected) => {
    expect(code(hex)).toBe(expected)
  })

  it('survives nesting that overflows the library’s own stack', () => {
    expect(code(`${'81'.repeat(200_000)}00`)).toBe('cbor.too-deep')
  })

  it.each([
    ['values', '80'],
    ['empty maps, which take the most memory', 'a0'],
    ['texts', '60'],
  ])('counts %s before it makes any', (_, item) => {
    // With the array around them, one item more than the bound, and exactly as many.
    expect(code(`994000${item.repeat(16_384)}`)).toBe('cbor.too-many')
    expect(code(`993fff${item.repeat(16_383)}`)).toBe('accepted')
    expect(code(`9a00100000${item.repeat(2 ** 20)}`)).toBe('cbor.too-many')
  })

  it('counts keys and values, at every depth', () => {
    const pairs = (count: number) => encodeCbor([new Map(Array.from({ length: count }, (_, i) => [i, [i]]))])
    // The array and the map around them, and three for each pair.
    expect(code(toHex(pairs(5460)))).toBe('accepted')
    expect(code(toHex(pairs(5461)))).toBe('cbor.too-many')
  })

  it('refuses more bytes than it is allowed', () => {
    expect(() => decodeCbor(encodeCbor(new Uint8Array(100)), 50)).toThrow(/at most 50 bytes/)
  })

  const value: fc.Arbitrary<CborValue> = fc.letrec<{ value: CborValue }>((tie) => ({
    value: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      fc.maxSafeInteger(),
      fc.bigInt({ min: 2n ** 53n, max: 2n ** 64n - 1n }),
      fc.string({ unit: 'grapheme' }),
      fc.uint8Array(),
      fc.boolean(),
      fc.constant(null),
      fc.array(tie('value'), { maxLength: 5 }),
      fc
        .array(fc.tuple(fc.oneof(fc.string(), fc.integer()), tie('value')), { maxLength: 5 })
        .map((entries) => new Map(entries)),
    ),
  })).value

  it('decodes what it encodes', () => {
    fc.assert(
      fc.property(value, (input) => {
        const bytes = encodeCbor(input)
        expect(toHex(encodeCbor(decodeCbor(bytes)))).toBe(toHex(bytes))
      }),
    )
  })

  it('gives a value or a FormatError for any bytes, and accepts only what it would write (P-1.1)', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          expect(toHex(encodeCbor(decodeCbor(bytes)))).toBe(toHex(bytes))
        } catch (error) {
          expect(error).toBeInstanceOf(FormatError)
        }
      }),
      { numRuns: 2000 },
    )
  })
})
