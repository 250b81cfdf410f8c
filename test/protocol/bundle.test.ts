import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { type Bundle, encodeBundle, looksLikeBundle, parseBundle } from '../../verifier/protocol/bundle.js'
import { toHex, utf8 } from '../../verifier/protocol/bytes.js'
import { type CborKey, type CborValue, decodeCbor, encodeCbor } from '../../verifier/protocol/cbor.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { sha256 } from '../../verifier/protocol/hash.js'
import { BUNDLE, filled } from '../support/samples.js'

type Members = Map<CborKey, CborValue>

/** A bundle with changed members and a digest that fits them. */
function altered(change: (members: Members) => void): Uint8Array {
  const members: Members = new Map(decodeCbor(encodeBundle(BUNDLE)) as ReadonlyMap<CborKey, CborValue>)
  change(members)
  members.delete('digest')
  members.set('digest', sha256(encodeCbor(members)))
  return encodeCbor(members)
}

describe('evidence bundle (PROTOCOL.md §6)', () => {
  it('reads back what it writes', () => {
    expect(parseBundle(encodeBundle(BUNDLE))).toEqual(BUNDLE)
    const minimal: Bundle = {
      claims: BUNDLE.claims,
      cpu: BUNDLE.cpu,
      gpus: [],
      switches: [],
      keys: BUNDLE.keys,
      endorsements: [],
    }
    expect(parseBundle(encodeBundle(minimal))).toEqual(minimal)
  })

  it('is known by its first bytes', () => {
    expect(looksLikeBundle(encodeBundle(BUNDLE))).toBe(true)
    expect(looksLikeBundle(filled(2, 1184))).toBe(false)
    expect(looksLikeBundle(utf8('{"a":1}'))).toBe(false)
  })

  it.each<[string, (m: Members) => void]>([
    ['another collection type', (m) => m.set('__cmwc_t', 'tag:subrosa,2026:bundle/2')],
    ['an unknown member', (m) => m.set('extra', ['application/json', filled(1), 4])],
    ['no claims', (m) => m.delete('claims')],
    ['a CPU of unknown type', (m) => m.set('cpu', ['application/octet-stream', filled(1), 4])],
    ['evidence labelled endorsement', (m) => m.set('cpu', ['application/vnd.amd.sev-snp.report', filled(1), 2])],
    ['a member without its indicator', (m) => m.set('cpu', ['application/vnd.amd.sev-snp.report', filled(1)])],
    ['a gap in its devices', (m) => m.set('gpu.2', ['application/vnd.nvidia.gpu.evidence+cbor', filled(1), 4])],
    ['an endorsement of unknown type', (m) => m.set('endorsement.1', ['text/plain', filled(1), 2])],
    ['a nonce proof of wrong shape', (m) => m.set('nonce', ['application/vnd.subrosa.nonce-proof+cbor', filled(1), 4])],
  ])('refuses a bundle with %s', (_, change) => {
    expect(() => parseBundle(altered(change))).toThrow(FormatError)
  })

  it('refuses any flipped bit: the digest covers everything (P-6.1)', () => {
    const bytes = encodeBundle(BUNDLE)
    let refused = 0
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const flipped = new Uint8Array(bytes)
      flipped[bit >> 3] = flipped[bit >> 3]! ^ (1 << (bit & 7))
      expect(() => parseBundle(flipped)).toThrow(FormatError)
      refused++
    }
    expect(refused).toBe(bytes.length * 8)
  })

  it('refuses every truncation', () => {
    const bytes = encodeBundle(BUNDLE)
    for (let length = 0; length < bytes.length; length += 7) {
      expect(() => parseBundle(bytes.subarray(0, length))).toThrow(FormatError)
    }
  })

  it('throws FormatError and nothing else, whatever the bytes', () => {
    const start = toHex(encodeBundle(BUNDLE)).length / 2
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: start }), (bytes) => {
        expect(() => parseBundle(bytes)).toThrow(FormatError)
      }),
    )
  })
})
