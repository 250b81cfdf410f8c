import { describe, expect, it } from 'vitest'
import { concat, toHex, utf8 } from '../../verifier/protocol/bytes.js'
import { type CborKey, type CborValue, decodeCbor, encodeCbor } from '../../verifier/protocol/cbor.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { sha256, sha512 } from '../../verifier/protocol/hash.js'
import {
  encodeClaims,
  encodeCore,
  encodeFresh,
  encodeStatement,
  gpuNonceFor,
  parseClaims,
  parseFresh,
  parseStatement,
  reportDataFor,
} from '../../verifier/protocol/statement.js'
import { CLAIMS, FRESH, filled, STATEMENT } from '../support/samples.js'

type Members = Map<CborKey, CborValue>
const members = (bytes: Uint8Array): Members => new Map(decodeCbor(bytes) as ReadonlyMap<CborKey, CborValue>)

describe('statement and claims (PROTOCOL.md §4)', () => {
  it('reads back what it writes', () => {
    expect(parseStatement(encodeStatement(STATEMENT))).toEqual(STATEMENT)
    expect(parseFresh(encodeFresh(FRESH))).toEqual(FRESH)
  })

  it('reads a statement without the optional members', () => {
    const { operatorKey: _, ...rest } = STATEMENT
    const { imageDigest: __, ...runtime } = rest.runtime
    expect(parseStatement(encodeStatement({ ...rest, runtime }))).toEqual({ ...rest, runtime })
  })

  it('derives gpu_nonce and report_data as written down (P-1.3)', () => {
    const core = encodeCore(encodeStatement(STATEMENT), encodeFresh(FRESH))
    expect(toHex(gpuNonceFor(core))).toBe(
      toHex(sha256(concat(utf8('subrosa gpu-nonce/1'), filled(0, 1), sha512(core)))),
    )
    const claims = encodeClaims(core, [])
    expect(reportDataFor(claims)).toHaveLength(64)
    expect(toHex(reportDataFor(claims))).toBe(toHex(sha512(claims)))
  })

  it('hashes the statement as it came (P-1.2)', () => {
    const claims = parseClaims(CLAIMS)
    expect(toHex(claims.statementDigest)).toBe(toHex(sha256(encodeStatement(STATEMENT))))
    expect(claims.gpuEvidenceDigests.map(toHex)).toEqual([toHex(filled(12))])
  })

  it.each<[string, (m: Members) => void]>([
    ['another profile', (m) => m.set(265, 'tag:subrosa,2026:statement/2')],
    ['an unknown member', (m) => m.set('extra', 1)],
    ['a missing member', (m) => m.delete('model')],
    ['a short boot id', (m) => m.set(268, filled(1, 31))],
    ['a config digest of neither length', (m) => m.set('config', filled(1, 33))],
    ['a version without its scheme', (m) => m.set(271, ['0.1.0'])],
    ['a version of another scheme', (m) => m.set(271, ['0.1.0', 1])],
    ['keys that are no map', (m) => m.set('keys', [])],
    [
      'an unknown key',
      (m) =>
        m.set(
          'keys',
          new Map([
            ['identity', filled(2)],
            ['receipt', filled(3)],
            ['spare', filled(1)],
          ]),
        ),
    ],
    ['an unknown padding mode', (m) => m.set('serving', new Map(m.get('serving') as Members).set('padding', 'some'))],
    ['retention of anything', (m) => m.set('serving', new Map(m.get('serving') as Members).set('retention', '30d'))],
    ['a short operator key', (m) => m.set('operator', filled(1, 31))],
  ])('refuses a statement with %s', (_, change) => {
    const changed = members(encodeStatement(STATEMENT))
    change(changed)
    expect(() => parseStatement(encodeCbor(changed))).toThrow(FormatError)
  })

  it.each<[string, (m: Members) => void]>([
    ['no key configuration', (m) => m.set('hpke', [])],
    [
      'five key configurations',
      (m) =>
        m.set(
          'hpke',
          Array.from({ length: 5 }, () => filled(1)),
        ),
    ],
    ['an expiry before its issue', (m) => m.set(4, FRESH.issuedAt)],
    ['a negative instant', (m) => m.set(6, -1)],
    ['a short root', (m) => m.set(10, filled(1, 31))],
    ['an unknown member', (m) => m.set(7, filled(1))],
  ])('refuses fresh with %s', (_, change) => {
    const changed = members(encodeFresh(FRESH))
    change(changed)
    expect(() => parseFresh(encodeCbor(changed))).toThrow(FormatError)
  })

  it('refuses claims of any other shape', () => {
    const core = encodeCore(encodeStatement(STATEMENT), encodeFresh(FRESH))
    for (const shape of [[core], [core, [], 1], [core, [filled(1, 31)]], [core, filled(1)], [1, []]] as CborValue[]) {
      expect(() => parseClaims(encodeCbor(shape))).toThrow(FormatError)
    }
    const many = Array.from({ length: 33 }, () => filled(1))
    expect(() => parseClaims(encodeClaims(core, many))).toThrow(/at most 32 devices/)
  })
})
