/** The revocation table: required, available and off, against every state a CRL can be in. */
import { describe, expect, it } from 'vitest'
import { createAmdHierarchy, sharedAmdKeys } from '../../scripts/simulated/amd.js'
import { PRODUCTS } from '../../scripts/simulated/product.js'
import type { Revocation } from '../../verifier/snp/revocation.js'
import { type Bend, judge, makeWorld, NOON } from './world.js'

const HOUR = 60 * 60 * 1000
const before = new Date(NOON.getTime() - HOUR)
const after = new Date(NOON.getTime() + HOUR)
const { askSerial, arkSerial, asvkSerial } = PRODUCTS.Genoa

const stranger = createAmdHierarchy({ product: 'Genoa', keys: await sharedAmdKeys('snp stranger', 2048) })
const otherProduct = createAmdHierarchy({ product: 'Milan', keys: await sharedAmdKeys('snp stranger', 2048) })

/** State of the CRL → [verdict, failing check] for required, available, off. */
const TABLE: Readonly<Record<string, readonly [Bend, string, string, string]>> = {
  'sound and current': [{}, 'accepted', 'accepted', 'accepted'],
  missing: [{ crl: null }, 'unavailable', 'accepted', 'accepted'],
  'of another product only': [
    { crl: null, files: (files) => ({ ...files, other: otherProduct.crl() }) },
    'unavailable',
    'accepted',
    'accepted',
  ],
  expired: [{ crl: { nextUpdate: before } }, 'snp.crl.window', 'accepted', 'accepted'],
  'not in force yet': [{ crl: { thisUpdate: after } }, 'snp.crl.window', 'accepted', 'accepted'],
  'badly signed': [{ crl: { signature: { corrupt: true } } }, 'snp.crl.signature', 'snp.crl.signature', 'accepted'],
  'badly signed and expired': [
    { crl: { nextUpdate: before, signature: { corrupt: true } } },
    'snp.crl.signature',
    'accepted',
    'accepted',
  ],
  'of another key with the same name': [
    { crl: null, files: (files) => ({ ...files, other: stranger.crl() }) },
    'snp.crl.issuer',
    'snp.crl.issuer',
    'accepted',
  ],
  'signed with PKCS#1 v1.5': [
    { crl: { signature: { scheme: 'pkcs1' } } },
    'snp.crl.signature',
    'snp.crl.signature',
    'accepted',
  ],
  'naming the ASK': [
    { crl: { revokedSerials: [askSerial] } },
    'snp.chain.revocation',
    'snp.chain.revocation',
    'accepted',
  ],
  'naming the ARK': [
    { crl: { revokedSerials: [arkSerial] } },
    'snp.chain.revocation',
    'snp.chain.revocation',
    'accepted',
  ],
  'naming the ASVK, for a VLEK': [
    { vlek: {}, crl: { revokedSerials: [asvkSerial] } },
    'snp.chain.revocation',
    'snp.chain.revocation',
    'accepted',
  ],
  'naming the ASVK, for a VCEK': [{ crl: { revokedSerials: [asvkSerial] } }, 'accepted', 'accepted', 'accepted'],
  'naming serial 0, which every leaf has': [{ crl: { revokedSerials: [0n] } }, 'accepted', 'accepted', 'accepted'],
  'partial, by an extension that is not critical': [
    { crl: { extensions: [{ oid: '2.5.29.28', value: new Uint8Array([0x30, 0]) }] } },
    'snp.crl.issuer',
    'snp.crl.issuer',
    'accepted',
  ],
  'a delta, by an extension that is not critical': [
    { crl: { extensions: [{ oid: '2.5.29.27', value: new Uint8Array([2, 1, 1]) }] } },
    'snp.crl.issuer',
    'snp.crl.issuer',
    'accepted',
  ],
  'partial, by a critical extension': [
    { crl: { extensions: [{ oid: '2.5.29.28', value: new Uint8Array([0x30, 0]), critical: true }] } },
    'snp.crl.issuer',
    'snp.crl.issuer',
    'accepted',
  ],
}

const MODES: readonly Revocation[] = ['required', 'available', 'off']
const ROWS = Object.entries(TABLE).flatMap(([state, [bend, ...expected]]) =>
  MODES.map((mode, i) => [state, mode, expected[i] ?? '', bend] as const),
)

describe('revocation', () => {
  it.each(ROWS)('a CRL %s, revocation %s: %s', async (_state, revocation, expected, bend) => {
    const { verdict, failing, checks } = await judge({ ...bend, input: { revocation } })
    if (expected.startsWith('snp.')) expect(failing).toEqual([expected])
    else expect(verdict).toBe(expected)
    const skipped = checks.filter((check) => check.status === 'skip' && /^snp\.(crl|chain)/.test(check.id))
    if (revocation === 'off') expect(skipped.map((check) => check.reason)).toContain('waived: revocation: off')
  })

  it('a waiver names the state it waives', async () => {
    const { checks } = await judge({ crl: { nextUpdate: before }, input: { revocation: 'available' } })
    const present = checks.find((check) => check.id === 'snp.crl.present')
    expect(present?.reason).toContain(before.toISOString())
  })

  it('a stale or foreign list beside a sound one changes nothing', async () => {
    const beside: Bend = {
      files: (files) => ({ ...files, stale: stranger.crl(), other: otherProduct.crl(), zz: stranger.arkDer }),
    }
    expect((await judge(beside)).verdict).toBe('accepted')
  })

  it('two sound lists: a serial in the older one stays revoked', async () => {
    const older = makeWorld().amd.crl({ revokedSerials: [askSerial] })
    const both: Bend = { files: (files) => ({ ...files, older }), crl: { thisUpdate: before, number: 2n } }
    expect((await judge(both)).failing).toEqual(['snp.chain.revocation'])
  })

  it('a serial on a list that is over stays revoked', async () => {
    const old = makeWorld().amd.crl({ nextUpdate: before, revokedSerials: [askSerial] })
    expect(await judge({ files: (files) => ({ ...files, old }) })).toMatchObject({
      verdict: 'rejected',
      failing: ['snp.chain.revocation'],
    })
  })

  it('more lists of one root than are looked at is a failure, not a choice (P-9.7)', async () => {
    const lists = Array.from({ length: 16 }, (_, i) => {
      const list = makeWorld().amd.crl({
        thisUpdate: new Date(NOON.getTime() - HOUR - i * 1000),
        number: BigInt(i + 2),
      })
      return [`list ${i}`, list] as const
    })
    expect(await judge({ files: (files) => ({ ...files, ...Object.fromEntries(lists) }) })).toMatchObject({
      verdict: 'rejected',
      failing: ['snp.crl.present'],
    })
  })

  it('an accepted result holds until the list’s next update', async () => {
    const { findings } = await judge({ crl: { nextUpdate: after } })
    expect(findings?.validUntil).toEqual(after)
  })
})
