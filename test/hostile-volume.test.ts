/** What a worker hands over before anything of it is known costs what its bytes do, and no more. */
import { describe, expect, it } from 'vitest'
import { leadingTags, readDer } from '../verifier/der.js'
import { sortEndorsements } from '../verifier/endorsements.js'
import { toBytes } from '../verifier/protocol/bytes.js'

/** A SEQUENCE of that many NULLs, inside the given first elements. */
function nulls(count: number, ...before: readonly number[]): Uint8Array<ArrayBuffer> {
  const content = new Uint8Array(before.length + 2 * count)
  content.set(before)
  for (let i = before.length; i < content.length; i += 2) content[i] = 0x05
  const length = content.length
  const octets = [24, 16, 8, 0].map((shift) => (length >>> shift) & 0xff)
  const minimal = octets.slice(octets.findIndex((octet) => octet !== 0))
  const head = length < 0x80 ? [0x30, length] : [0x30, 0x80 | minimal.length, ...minimal]
  const out = new Uint8Array(head.length + length)
  out.set(head)
  out.set(content, head.length)
  return toBytes(out)
}

describe('DER of many small elements', () => {
  it('is read up to a number of them', () => {
    expect(() => readDer(nulls(40_000), 'x')).not.toThrow()
    expect(() => readDer(nulls(320_000), 'x')).toThrow(/more than 320000 elements/)
  })

  it.each([
    ['nothing known', []],
    ['a certificate', [0x30, 0x05, 0xa0, 0x03, 0x02, 0x01, 0x02]],
    ['a list', [0x30, 0x03, 0x02, 0x01, 0x01]],
    ['an OCSP response', [0x0a, 0x01, 0x00]],
  ])('is not read whole to see that it is too long for what begins as %s', (_, before) => {
    // Well below the bound of elements, and above that of bytes.
    const bytes = nulls(1_500_000, ...before)
    const { certificates, crls, unrecognised, documents } = sortEndorsements([{ name: 'x', bytes }])
    expect([certificates.length, crls.length, unrecognised.length + documents.length]).toEqual([0, 0, 1])
    expect(unrecognised.map(({ reason }) => reason).join()).not.toMatch(/elements/)
  })

  it('has its kind told by three headers', () => {
    expect(leadingTags(nulls(3, 0x30, 0x02, 0x05, 0x00), 'x')).toEqual([0x30, 0x30, 0x05])
    expect(leadingTags(new Uint8Array([0x0a, 0x01, 0x00]), 'x')).toEqual([0x0a])
    expect(() => leadingTags(new Uint8Array([0x30, 0x05, 0x30]), 'x')).toThrow(/past the end/)
  })
})
