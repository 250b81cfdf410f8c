/** Which certificates are chosen, from pools that hold more, less or other than the right ones. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createAmdHierarchy, sharedAmdKeys } from '../../scripts/simulated/amd.js'
import { CA_EXTENSION } from '../../scripts/simulated/amd-extensions.js'
import { buildCertificateTable } from '../../scripts/simulated/certificate-table.js'
import { PRODUCTS } from '../../scripts/simulated/product.js'
import { Transcript } from '../../verifier/checks.js'
import { sortEndorsements } from '../../verifier/endorsements.js'
import { utf8 } from '../../verifier/protocol/bytes.js'
import { isSignedBy } from '../../verifier/signature.js'
import { snpPlan, verifySnp } from '../../verifier/snp/verify.js'
import { parseTrustAnchors } from '../../verifier/trust-anchors.js'
import { parseCertificate } from '../../verifier/x509.js'
import {
  type Bend,
  hclClaims,
  hclEnvelope,
  judge,
  makeWorld,
  NONCE,
  NOON,
  PCRS,
  reportDataFor,
  signQuote,
  tpmQuote,
  vtpmEvidence,
} from './world.js'

const HOUR = 60 * 60 * 1000
const tcb = PRODUCTS.Genoa.tcb
/** Same names, other keys. */
const stranger = createAmdHierarchy({ product: 'Genoa', keys: await sharedAmdKeys('snp stranger', 2048) })
const strangersVek = (fill: number) => stranger.issueVcek({ tcb, hwid: new Uint8Array(64).fill(fill) }).der
const none = sortEndorsements([])

describe('choosing a chain', () => {
  it('order and packing of the pool change nothing', async () => {
    const shuffled: Bend = { files: (files) => Object.fromEntries(Object.entries(files).reverse()) }
    expect((await judge(shuffled)).verdict).toBe('accepted')
    const { amd, leaf, input, report, plan } = makeWorld()
    const text = utf8(`${amd.arkPem}${leaf.pem}${amd.asvkPem}${amd.askPem}`)
    const files = [text, amd.crl()].map((bytes, i) => ({ name: `${i}`, bytes }))
    const t = new Transcript(plan)
    await verifySnp(t, { ...input, report, endorsements: sortEndorsements(files) })
    expect(t.verdict()).toBe('accepted')
  })

  it('namesakes of every certificate do no harm, and vouch for nothing', async () => {
    const beside: Bend = {
      files: (files) => ({ ark2: stranger.arkDer, ask2: stranger.askDer, vek2: strangersVek(1), ...files }),
    }
    expect((await judge(beside)).verdict).toBe('accepted')
    expect((await judge({ ...beside, input: { anchors: parseTrustAnchors(stranger.arkDer) } })).failing).toEqual([
      'snp.chain.root',
    ])
  })

  it('a namesake of the root alone, trusted or not, is not the signer', async () => {
    const swapped: Bend = { files: (files) => ({ ...files, ark: stranger.arkDer }), anchored: false }
    expect((await judge(swapped)).failing).toEqual(['snp.chain.root', 'snp.chain.issuer-signature'])
    const anchors = parseTrustAnchors(stranger.arkDer)
    const { failing } = await judge({ ...swapped, input: { anchors }, crl: null })
    expect(failing).toEqual(['snp.chain.issuer-signature'])
  })

  it('the certificates that came with the evidence are enough, as DER, PEM or a table', async () => {
    const { amd, leaf, input } = makeWorld()
    const table = buildCertificateTable([
      { guid: 'vcek', blob: leaf.der },
      { guid: 'ask', blob: utf8(amd.askPem) },
      { guid: 'ark', blob: amd.arkDer },
      { guid: '92f81bc3-5811-4d3d-97ff-d19f88dc67ea', blob: amd.crl() },
    ])
    for (const certificates of [[table], [leaf.der, utf8(amd.askPem), amd.arkDer, amd.crl()]]) {
      const t = new Transcript(makeWorld().plan)
      await verifySnp(t, { ...input, endorsements: none, certificates })
      expect(t.verdict()).toBe('accepted')
    }
  })

  it('a key certified twice: the certificate in its validity is taken', async () => {
    const { amd, leaf, input, plan } = makeWorld()
    const hwid = new Uint8Array(64).map((_, i) => 0xc1 + i)
    const future = amd.issueVcek({ tcb, hwid, keyPair: leaf, notBefore: new Date(NOON.getTime() + HOUR) }).der
    const files = [future, leaf.der, amd.askDer, amd.arkDer, amd.crl()].map((bytes, i) => ({ name: `${i}`, bytes }))
    const t = new Transcript(plan)
    await verifySnp(t, { ...input, endorsements: sortEndorsements(files) })
    expect(t.verdict()).toBe('accepted')
  })

  it('the right one is found among any number of strangers’', async () => {
    const crowd: Bend = {
      files: (files) => ({
        ...Object.fromEntries(Array.from({ length: 80 }, (_, i) => [`s${i}`, strangersVek(i + 1)])),
        ...files,
      }),
    }
    expect((await judge(crowd)).verdict).toBe('accepted')
  })

  it('strangers’ VEKs are no endorsement: several are a missing one, one alone is a wrong one', async () => {
    const several: Bend = {
      files: ({ vek: _, ...files }) => ({ ...files, a: strangersVek(1), b: strangersVek(2) }),
    }
    const outcome = await judge(several)
    expect([outcome.verdict, outcome.firstFailing]).toEqual(['unavailable', 'snp.vek.present'])
    const alone = await judge({ files: ({ vek: _, ...files }) => ({ ...files, a: strangersVek(1) }) })
    expect(alone.verdict).toBe('rejected')
    expect(alone.failing).toContain('snp.report.signature')
    const carried = await judge({ ...several, input: { certificates: [strangersVek(3)] } })
    expect(carried.failing).toContain('snp.report.signature')
  })
})

describe('the same chip’s certificate among strangers’', () => {
  const among = (vcek: Bend['vcek'], report: Bend['report'] = {}): Bend => ({
    ...(vcek === undefined ? {} : { vcek }),
    report,
    // Signed by a key none of these certificates holds.
    mangle: (bytes) => bytes.map((byte, i) => (i === 0x90 ? byte ^ 1 : byte)),
    files: (files) => ({ ...files, a: strangersVek(1), b: strangersVek(2) }),
  })
  const hwid = new Uint8Array(64).map((_, i) => 0xc1 + i)
  const bent = (bytes: number) => hwid.map((byte, i) => (i < bytes ? byte ^ 0xff : byte))

  it.each([
    ['for another TCB', among({ tcb: { ...tcb, snp: 1 } }), 'rejected'],
    ['with CHIP_ID a little off', among(undefined, { chipId: bent(8) }), 'rejected'],
    ['with CHIP_ID of another chip', among(undefined, { chipId: bent(9) }), 'unavailable'],
  ])('%s', async (_name, bend, expected) => {
    const { verdict, checks } = await judge(bend)
    expect(verdict).toBe(expected)
    const present = checks.find((check) => check.id === 'snp.vek.present')
    if (expected === 'rejected') expect(present?.actual).toContain('for another TCB or role')
  })
})

describe('roles and permissions', () => {
  it('a VLEK issued by the ASK is rejected', async () => {
    expect((await judge({ vlek: { issuer: 'ask' } })).failing).toEqual(['snp.chain.issuer'])
  })

  it('a VCEK without its ASK is not complete, whatever else is there', async () => {
    const { verdict, firstFailing } = await judge({ files: ({ ask: _, ...files }) => files })
    expect([verdict, firstFailing]).toEqual(['unavailable', 'snp.chain.complete'])
  })

  const notCa = { oid: CA_EXTENSION.basicConstraints, value: new Uint8Array([0x30, 0]), critical: true }
  const crlSignOnly = { oid: CA_EXTENSION.keyUsage, value: new Uint8Array([3, 2, 1, 2]), critical: true }
  const unknown = { oid: '1.2.3.4', value: new Uint8Array([5, 0]), critical: true }
  const noPath = {
    oid: CA_EXTENSION.basicConstraints,
    value: new Uint8Array([0x30, 6, 1, 1, 0xff, 2, 1, 0]),
    critical: true,
  }
  it.each([
    ['an ASK that is no CA', { ask: { extensions: [notCa] } }],
    ['an ASK without basicConstraints', { ask: { extensions: [{ oid: notCa.oid, omit: true as const }] } }],
    ['an ASK that may only sign CRLs', { ask: { extensions: [crlSignOnly] } }],
    ['an ASK with an unknown critical extension', { ask: { extensions: [unknown] } }],
    ['an ARK that is no CA', { ark: { extensions: [notCa] } }],
    ['an ARK that allows no intermediate', { ark: { extensions: [noPath] } }],
    ['an ASK of another product', { ask: { subject: { commonName: 'SEV-Milan' } } }],
    ['an ARK of another product', { ark: { subject: { commonName: 'ARK-Turin' } } }],
    ['an ASK of no product', { ask: { subject: { commonName: 'SEV-Naples' } } }],
  ])('%s is rejected', async (_name, overrides) => {
    expect((await judge({ hierarchy: { overrides } })).failing).toEqual(['snp.chain.issuer'])
  })

  it('an ARK that may not sign CRLs has no valid one', async () => {
    const certSignOnly = { oid: CA_EXTENSION.keyUsage, value: new Uint8Array([3, 2, 2, 4]), critical: true }
    const { failing } = await judge({ hierarchy: { overrides: { ark: { extensions: [certSignOnly] } } } })
    expect(failing).toEqual(['snp.crl.issuer'])
  })
})

describe('hostile endorsements', () => {
  it('no file can change in any byte', async () => {
    const { amd, leaf, input, plan } = makeWorld()
    // Not the root: the anchor brings its own copy.
    const files = [leaf.der, amd.askDer, amd.crl()]
    const edit = fc.tuple(fc.nat(files.length - 1), fc.nat(), fc.integer({ min: 1, max: 255 }))
    await fc.assert(
      fc.asyncProperty(edit, async ([which, where, change]) => {
        const bent = files.map((bytes, i) => {
          const copy = new Uint8Array(bytes)
          const at = where % copy.length
          if (i === which) copy[at] = (copy[at] ?? 0) ^ change
          return { name: `${i}`, bytes: copy }
        })
        const t = new Transcript(plan)
        await verifySnp(t, { ...input, endorsements: sortEndorsements(bent) })
        expect(t.verdict()).not.toBe('accepted')
      }),
      { numRuns: 400 },
    )
  })
})

describe('hostile containers', () => {
  it('no change to one makes it throw', async () => {
    const claims = hclClaims()
    const message = tpmQuote()
    const quote = { message, signature: signQuote(message), pcrs: PCRS }
    const { report, input } = makeWorld({ report: { reportData: reportDataFor(claims) } })
    const envelope = hclEnvelope(report, claims)
    const whole = vtpmEvidence(envelope, quote)
    const edit = fc.tuple(fc.boolean(), fc.nat(), fc.integer({ min: 1, max: 255 }))
    await fc.assert(
      fc.asyncProperty(edit, async ([json, where, change]) => {
        const evidence = new Uint8Array(json ? whole : envelope)
        const at = where % evidence.length
        evidence[at] = (evidence[at] ?? 0) ^ change
        const t = new Transcript(snpPlan(evidence, true))
        await verifySnp(t, { ...input, report: evidence, nonce: NONCE })
        expect(json || t.verdict() !== 'accepted').toBe(true)
      }),
      { numRuns: 300 },
    )
  })
})

describe('what is remembered', () => {
  it('answers for one signer say nothing about another', async () => {
    const { amd, leaf } = makeWorld()
    const vek = parseCertificate(leaf.der)
    const answers = []
    for (const issuer of [amd.askDer, stranger.askDer, amd.askDer, amd.asvkDer]) {
      answers.push(await isSignedBy(vek, parseCertificate(issuer), 'rsassa-pss-sha384'))
    }
    expect(answers).toEqual([true, false, true, false])
    expect(await isSignedBy(vek, parseCertificate(amd.askDer), 'ecdsa-p384-sha384')).toBe(false)
  })

  it('cannot be changed through what a result hands out', async () => {
    const { input, plan } = makeWorld()
    const first = await verifySnp(new Transcript(plan), input)
    for (const bytes of first?.endorsementBytes ?? []) bytes.fill(0)
    const t = new Transcript(plan)
    await verifySnp(t, input)
    expect(t.verdict()).toBe('accepted')
  })
})
