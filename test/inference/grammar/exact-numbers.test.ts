/** Numbers of JSON that reading would change are found, and told from those it keeps. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { isExact, numbersIn } from '../../../enclave/inference/grammar/exact-numbers.js'

describe('a number', () => {
  it.each([
    '0',
    '-0',
    '0.0',
    '0e999',
    '7',
    '-12.50',
    '0.1',
    '1e2',
    '1E+22',
    '100e-2',
    '5e-324',
    '1.7976931348623157e308',
  ])('is what it says: %s', (text) => expect(isExact(text)).toBe(true))
  it.each(['9007199254740992', '123456789012345', '0.30000000000000004'])('is what it says: %s', (text) =>
    expect(isExact(text)).toBe(true),
  )
  it.each([
    '9007199254740993',
    '-12345678901234567890',
    '1e400',
    '-1e400',
    '1e-400',
    '3e-324',
    '0.1000000000000000000000001',
    '1.00000000000000000001',
    `0.${'0'.repeat(100_000)}1${'0'.repeat(100_000)}`,
  ])('would be another one: %s', (text) => expect(isExact(text)).toBe(false))

  it('is what it says whenever a double was written', () => {
    fc.assert(fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (x) => isExact(JSON.stringify(x))))
  })

  it('of up to 15 digits is what it says, and an odd integer beyond 2^53 is not', () => {
    const digits = fc.integer({ min: 0, max: 10 ** 15 - 1 })
    fc.assert(fc.property(digits, fc.integer({ min: -30, max: 30 }), (n, power) => isExact(`${n}e${power}`)))
    fc.assert(fc.property(fc.bigInt({ min: 2n ** 52n, max: 2n ** 80n }), (n) => !isExact(String(2n * n + 1n))))
  })
})

describe('the numbers of a text', () => {
  it('come with the way to them', () => {
    const text =
      '{"a":[1,{"b":-2.5e1,"c":"3,\\"4"},[5]],"d\\u0065":{"":6},"n":null,"t":true,"e":{},"l":[],"s":"7","f": [ "8" , 9 ] }'
    expect([...numbersIn(text)]).toEqual([
      { path: ['a', 0], text: '1' },
      { path: ['a', 1, 'b'], text: '-2.5e1' },
      { path: ['a', 2, 0], text: '5' },
      { path: ['de', ''], text: '6' },
      { path: ['f', 1], text: '9' },
    ])
    expect([...numbersIn('12')]).toEqual([{ path: [], text: '12' }])
  })

  it('are those that a reader finds, where it finds them', () => {
    const found = (value: unknown, path: (string | number)[]): unknown[] => {
      if (typeof value === 'number') return [{ path, value }]
      if (Array.isArray(value)) return value.flatMap((item, i) => found(item, [...path, i]))
      if (typeof value !== 'object' || value === null) return []
      return Object.entries(value).flatMap(([name, item]) => found(item, [...path, name]))
    }
    fc.assert(
      fc.property(fc.json(), fc.constantFrom(undefined, 1), (json, space) => {
        const text = JSON.stringify(JSON.parse(json), undefined, space)
        const numbers = [...numbersIn(text)].map(({ path, text: own }) => ({ path, value: Number(own) }))
        expect(numbers).toEqual(found(JSON.parse(text), []))
      }),
    )
  })
})
