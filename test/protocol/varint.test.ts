import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fromHex, toHex } from '../../verifier/protocol/bytes.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { StreamReader, streamOf, TruncatedError } from '../../verifier/protocol/streams.js'
import { decodeVarint, encodeVarint } from '../../verifier/protocol/varint.js'

describe('QUIC varints', () => {
  it.each([
    // RFC 9000 A.1
    ['c2197c5eff14e88c', undefined],
    ['9d7f3e7d', 494_878_333],
    ['7bbd', 15_293],
    ['25', 37],
    ['4025', 37],
  ] as const)('reads %s as in RFC 9000 A.1', (hex, value) => {
    if (value === undefined) expect(() => decodeVarint(fromHex(hex))).toThrow(FormatError)
    else expect(decodeVarint(fromHex(hex))).toBe(value)
  })

  it('writes the shortest form at every boundary', () => {
    const at = (n: number) => toHex(encodeVarint(n))
    expect([at(0), at(63), at(64), at(16_383), at(16_384)]).toEqual(['00', '3f', '4040', '7fff', '80004000'])
    expect([at(2 ** 30 - 1), at(2 ** 30), at(Number.MAX_SAFE_INTEGER)]).toEqual([
      'bfffffff',
      'c000000040000000',
      'c01fffffffffffff',
    ])
    expect(() => encodeVarint(-1)).toThrow(RangeError)
    expect(() => encodeVarint(2 ** 53)).toThrow(RangeError)
  })

  it('decode inverts encode', () => {
    fc.assert(fc.property(fc.maxSafeNat(), (n) => decodeVarint(encodeVarint(n)) === n))
  })

  it('a stream that ends inside one is truncated', async () => {
    const whole = encodeVarint(2 ** 40)
    for (let length = 0; length < whole.length; length++) {
      const reader = new StreamReader(streamOf(whole.subarray(0, length)), 'test')
      await expect(reader.varint()).rejects.toThrow(TruncatedError)
    }
  })
})
