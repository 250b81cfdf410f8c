/** Captured certificates and CRLs that come without a report of their own, and what the key server would be asked. */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { Transcript } from '../../verifier/checks.js'
import { sortEndorsements } from '../../verifier/endorsements.js'
import { findPinnedRoot, PINNED_ROOTS } from '../../verifier/roots.js'
import { isSignedBy } from '../../verifier/signature.js'
import { checkChain } from '../../verifier/snp/authenticity.js'
import { chooseIssuer, chooseRoot } from '../../verifier/snp/chain.js'
import { AUTHENTICITY_CHECKS } from '../../verifier/snp/checks-authenticity.js'
import { kdsAddresses } from '../../verifier/snp/kds.js'
import { parseSnpReport } from '../../verifier/snp/report.js'
import { parseIssuerName, readVekClaims } from '../../verifier/snp/vek.js'
import { type Certificate, inWindow, parseCertificate, parseRevocationList } from '../../verifier/x509.js'
import { vectorPath, withoutVectors } from '../support/vectors.js'
import { filesUnder } from './cases.js'
import { makeWorld } from './world.js'

const read = (name: string): Uint8Array => new Uint8Array(readFileSync(vectorPath(name)))

const CHAIN_CHECKS = AUTHENTICITY_CHECKS.filter((check) => check.id.startsWith('snp.chain.'))

/** Ids of the chain checks that do not pass at this time. */
async function chainFailures(vek: Certificate, at: string): Promise<readonly string[]> {
  const pool = sortEndorsements(filesUnder(vectorPath('roots')))
  const now = new Date(at)
  const t = new Transcript(
    CHAIN_CHECKS.filter(({ id }) => id !== 'snp.chain.complete' && id !== 'snp.chain.revocation'),
  )
  const issuer = await chooseIssuer(vek, pool, now)
  const root = issuer && (await chooseRoot(issuer, pool, [], now))
  if (issuer === undefined || root === undefined) throw new Error('no chain')
  await checkChain(t, { vek, issuer, root }, [], now)
  return t
    .checks()
    .filter((check) => check.status !== 'pass')
    .map((check) => check.id)
}

describe.skipIf(withoutVectors)('captured certificates (skipped without SUBROSA_VECTORS)', () => {
  it.each([
    ['turin-vcek-only-structver1', '2026-01-01', []],
    ['turin-vcek-only-structver1', '2024-11-01', ['snp.chain.validity']],
    ['turin-vcek-only-structver1', '2031-11-07', ['snp.chain.validity']],
    ['vlek-only-aws-us-east-2-2023', '2024-01-01', []],
    ['vlek-only-aws-us-east-2-2023', '2024-07-20', ['snp.chain.validity']],
    ['milan-v3-aws-vlek-vlek', '2025-06-01', []],
    ['invalid-vcek-tampered-legacy-hwid-encoding', '2025-01-01', ['snp.chain.vek-signature']],
    ['invalid-vcek-tampered-der-hwid-encoding', '2025-01-01', ['snp.chain.vek-signature']],
  ])('%s at %s: %j', async (name, at, expected) => {
    expect(await chainFailures(parseCertificate(read(`snp/${name}.der`)), at)).toEqual(expected)
  })

  it.each([
    ['turin-vcek-only-structver1', 'Turin', { fmc: 0, bootLoader: 0, tee: 0, snp: 0, microcode: 9 }, 8],
    ['turin-v5-aci-vcek', 'Turin', { fmc: 1, bootLoader: 1, tee: 1, snp: 4, microcode: 0x51 }, 8],
    ['milan-v2-azure-vcek', 'Milan', { bootLoader: 3, tee: 0, snp: 8, microcode: 115 }, 64],
    ['siena-v5-baremetal-vcek', 'Genoa', { bootLoader: 10, tee: 0, snp: 27, microcode: 27 }, 64],
    ['invalid-vcek-tampered-legacy-hwid-encoding', 'Milan', { bootLoader: 3, tee: 0, snp: 10, microcode: 169 }, 64],
    ['invalid-vcek-tampered-der-hwid-encoding', 'Milan', { bootLoader: 0, tee: 0, snp: 0, microcode: 30 }, 64],
  ])('%s says %s %o', (name, product, tcb, hwidBytes) => {
    const certificate = parseCertificate(read(`snp/${name}.der`))
    const issuer = parseIssuerName(certificate.issuerCommonName)
    if (issuer === undefined) throw new Error('no issuer name')
    const claims = readVekClaims(certificate, issuer.product)
    expect({ ...claims, hwid: claims.hwid?.length }).toMatchObject({ productName: product, tcb, hwid: hwidBytes })
  })

  it('a real VLEK names its provider and no chip', () => {
    const certificate = parseCertificate(read('snp/vlek-only-aws-us-east-2-2023.der'))
    const issuer = parseIssuerName(certificate.issuerCommonName)
    if (issuer === undefined) throw new Error('no issuer name')
    const claims = readVekClaims(certificate, issuer.product)
    expect(claims).toMatchObject({ role: 'VLEK', tcb: { bootLoader: 3, tee: 0, snp: 10, microcode: 115 } })
    expect(claims.cspId).toContain('us-east-2.amazonaws.com')
    expect(claims.hwid).toBeUndefined()
  })

  it.each([
    ['genoa-2024-10', 'genoa', ['020001'], '2025-11-03T01:00:00Z'],
    ['milan-2025-05', 'milan', [], '2026-05-12T00:00:00Z'],
  ])('CRL %s: signed by its ARK and by no other, revoking what it should', async (name, product, revoked, end) => {
    const list = parseRevocationList(read(`snp/crl-${name}.der`))
    for (const other of ['milan', 'genoa', 'turin']) {
      const root = parseCertificate(read(`roots/amd-ark-${other}.der`))
      expect(await isSignedBy(list, root, 'rsassa-pss-sha384')).toBe(other === product)
    }
    expect([...list.revokedSerials]).toEqual(revoked)
    expect(inWindow(list, new Date(end))).toBe(true)
    expect(inWindow(list, new Date(new Date(end).getTime() + 1000))).toBe(false)
  })

  it('the pins are the keys of the published roots, and of nothing else', () => {
    for (const { name, spkiSha256Hex, product } of PINNED_ROOTS.filter(({ kind }) => kind === 'snp')) {
      const root = parseCertificate(read(`roots/amd-ark-${product?.toLowerCase()}.der`))
      expect(root).toMatchObject({ subjectCommonName: name, spkiSha256Hex, isCa: true })
    }
    for (const name of ['amd-ask-milan', 'amd-asvk-genoa', 'intel-sgx-root-ca']) {
      expect(findPinnedRoot('snp', parseCertificate(read(`roots/${name}.der`)).spkiSha256Hex)).toBeUndefined()
    }
  })
})

describe('what the key server is asked', () => {
  const path = (report: Uint8Array) => kdsAddresses(parseSnpReport(report)).map((item) => item.vek?.split('/v1/')[1])

  it('Genoa: 64-byte hwID, four levels', () => {
    const { report, input } = makeWorld()
    const hwid = Buffer.from(report.subarray(0x1a0, 0x1e0)).toString('hex')
    expect(path(input.report)).toEqual([`Genoa/${hwid}?blSPL=10&teeSPL=00&snpSPL=28&ucodeSPL=96`])
  })

  it('Turin: 8-byte hwID, five levels', () => {
    const { report } = makeWorld({ product: 'Turin' })
    const hwid = Buffer.from(report.subarray(0x1a0, 0x1a8)).toString('hex')
    expect(path(report)).toEqual([`Turin/${hwid}?fmcSPL=01&blSPL=01&teeSPL=01&snpSPL=05&ucodeSPL=96`])
  })

  it('version 2: both products of its layout; a masked chip or a VLEK: no leaf', () => {
    expect(kdsAddresses(parseSnpReport(makeWorld({ report: { version: 2 } }).report)).map((a) => a.product)).toEqual([
      'Milan',
      'Genoa',
    ])
    expect(path(makeWorld({ report: { chipId: new Uint8Array(64) } }).report)).toEqual([undefined])
    expect(kdsAddresses(parseSnpReport(makeWorld({ vlek: {} }).report))).toEqual([
      {
        product: 'Genoa',
        chain: 'https://kdsintf.amd.com/vlek/v1/Genoa/cert_chain',
        crl: 'https://kdsintf.amd.com/vlek/v1/Genoa/crl',
      },
    ])
  })
})
