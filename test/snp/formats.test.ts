/** Readers of everything that arrives as bytes: boundaries, look-alikes, and arbitrary input. */
import fc from 'fast-check'
import * as v from 'valibot'
import { describe, expect, it } from 'vitest'
import { buildCertificateTable } from '../../scripts/simulated/certificate-table.js'
import { buildSnpReport } from '../../scripts/simulated/snp-report.js'
import { readDer } from '../../verifier/der.js'
import { sortEndorsements } from '../../verifier/endorsements.js'
import { looksLikePem, readPem } from '../../verifier/pem.js'
import { concat, utf8 } from '../../verifier/protocol/bytes.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { readCertificateTable } from '../../verifier/snp/certificate-table.js'
import { readSnpEvidence } from '../../verifier/snp/evidence.js'
import { shippedFloor } from '../../verifier/snp/floors.js'
import { readHclEnvelope } from '../../verifier/snp/hcl.js'
import { parseTcbFloor, STRICT_SNP_POLICY, snpPolicySchema } from '../../verifier/snp/policy.js'
import { productOfCpuid } from '../../verifier/snp/product.js'
import { describeSnpReport, parseSnpReport } from '../../verifier/snp/report.js'
import { componentsBelow, parseTcb } from '../../verifier/snp/tcb.js'
import { readTpmQuote } from '../../verifier/snp/tpm-quote.js'
import { kindOfSubject, parseTrustAnchors, TrustAnchorError } from '../../verifier/trust-anchors.js'
import { isCrl, parseCertificate, parseRevocationList } from '../../verifier/x509.js'
import { hclClaims, hclEnvelope, judge, makeWorld, tpmQuote } from './world.js'

const world = makeWorld()
const { amd, leaf, report } = world

/** Calls a reader; the FormatError it threw, or undefined. Anything else it throws is a defect. */
function refusal(read: () => unknown): FormatError | undefined {
  try {
    read()
    return undefined
  } catch (error) {
    if (error instanceof FormatError) return error
    throw error
  }
}

const READERS: Readonly<Record<string, readonly [(bytes: Uint8Array) => unknown, Uint8Array]>> = {
  report: [parseSnpReport, report],
  'described report': [(bytes) => JSON.stringify(describeSnpReport(parseSnpReport(bytes))), report],
  evidence: [readSnpEvidence, utf8('{"version":1}')],
  'certificate table': [
    readCertificateTable,
    buildCertificateTable([
      { guid: 'vcek', blob: leaf.der },
      { guid: 'ark', blob: utf8(amd.arkPem) },
    ]),
  ],
  PEM: [(bytes) => [looksLikePem(bytes), readPem(bytes)], utf8(amd.arkPem + amd.askPem)],
  'HCL envelope': [readHclEnvelope, hclEnvelope(report, hclClaims())],
  'TPM quote': [readTpmQuote, tpmQuote()],
  DER: [(bytes) => readDer(bytes, 'x'), leaf.der],
  certificate: [parseCertificate, leaf.der],
  CRL: [parseRevocationList, amd.crl({ revokedSerials: [1n, 0x20001n] })],
}

describe('arbitrary bytes: a value or a FormatError, in bounded time', () => {
  it.each(Object.entries(READERS))('%s', (_name, [read, good]) => {
    refusal(() => read(good))
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 4096 }), (bytes) => {
        refusal(() => read(bytes))
      }),
      { numRuns: 300 },
    )
    const edit = fc.record({ at: fc.nat(good.length - 1), value: fc.integer({ min: 0, max: 255 }) })
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), fc.nat(good.length), (edits, cut) => {
        const bytes = new Uint8Array(good)
        for (const { at, value } of edits) bytes[at] = value
        refusal(() => read(bytes))
        refusal(() => read(bytes.subarray(0, cut)))
      }),
      { numRuns: 300 },
    )
  })

  it('a pool of anything sorts, and evidence of anything is judged', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.uint8Array({ maxLength: 2000 }), { maxLength: 5 }), async (files) => {
        const pool = sortEndorsements(files.map((bytes, i) => ({ name: `${i}`, bytes })))
        expect(pool.certificates).toEqual([])
        const { verdict } = await judge({ files: () => ({ a: files[0] ?? leaf.der }) })
        expect(verdict).not.toBe('accepted')
      }),
      { numRuns: 60 },
    )
  })

  it('deep nesting is refused, not followed', () => {
    const deep = new Uint8Array(4000)
    for (let i = 0; i + 4 <= deep.length; i += 4) deep.set([0x30, 0x82, (3996 - i) >> 8, (3996 - i) & 0xff], i)
    expect(refusal(() => readDer(deep, 'deep'))).toBeInstanceOf(FormatError)
  })
})

describe('DER', () => {
  it.each([
    ['an indefinite length', [0x30, 0x80, 0, 0]],
    ['a long form that would be short', [0x04, 0x81, 0x01, 0xff]],
    ['a long form with a leading zero', [0x04, 0x82, 0x00, 0x01, 0xff]],
    ['an empty integer', [0x02, 0x00]],
    ['a padded integer', [0x02, 0x02, 0x00, 0x01]],
    ['a padded negative integer', [0x02, 0x02, 0xff, 0x80]],
    ['a boolean that is neither', [0x01, 0x01, 0x01]],
    ['a null with contents', [0x05, 0x01, 0x00]],
    ['a high tag number', [0x1f, 0x81, 0x01, 0x00]],
    ['an empty bit string with unused bits', [0x03, 0x01, 0x01]],
    ['eight unused bits', [0x03, 0x02, 0x08, 0x00]],
    ['unused bits that are set', [0x03, 0x02, 0x01, 0x01]],
    ['a bit string without its first octet', [0x03, 0x00]],
    ['an empty object identifier', [0x06, 0x00]],
    ['an object identifier cut short', [0x06, 0x02, 0x55, 0x84]],
    ['a padded object identifier', [0x06, 0x03, 0x55, 0x80, 0x01]],
    ['text that is not UTF-8', [0x0c, 0x02, 0xc3, 0x28]],
    ['half a character', [0x1e, 0x01, 0x41]],
    ['a time that is none', [0x17, 0x01, 0x5a]],
    ['a string in pieces', [0x24, 0x03, 0x04, 0x01, 0x00]],
    ['a primitive sequence', [0x10, 0x00]],
    ['a primitive set', [0x11, 0x00]],
    ['an end of contents', [0x30, 0x02, 0x00, 0x00]],
    ['a reserved tag', [0x0f, 0x00]],
    ['bytes after the element', [0x05, 0x00, 0x00]],
    ['an element past the end', [0x04, 0x05, 0x00]],
  ])('%s is refused', (_name, bytes) => {
    expect(refusal(() => readDer(new Uint8Array(bytes), 'x'))).toBeInstanceOf(FormatError)
  })
})

describe('certificates and CRLs', () => {
  it('an outer algorithm other than the signed one is refused', () => {
    const { der } = amd.issueVcek({
      tcb: { bl: 1, tee: 0, snp: 1, ucode: 1 },
      hwid: new Uint8Array(64),
      overrides: { signature: { statedOutside: { hash: 'sha256', saltLength: 48 } } },
    })
    expect(refusal(() => parseCertificate(der))?.code).toBe('x509.algorithm')
  })

  it('an extension that appears twice is refused', () => {
    const { der } = amd.issueVcek({
      tcb: { bl: 1, tee: 0, snp: 1, ucode: 1 },
      hwid: new Uint8Array(64),
      overrides: { extensions: [{ oid: '1.3.6.1.4.1.3704.1.4', duplicate: true }] },
    })
    expect(refusal(() => parseCertificate(der))?.code).toBe('x509.extension-twice')
  })

  it('a CRL without nextUpdate is refused', () => {
    expect(refusal(() => parseRevocationList(amd.crl({ nextUpdate: null })))).toBeInstanceOf(FormatError)
  })

  it('what was parsed does not change with the caller’s buffer', () => {
    const buffer = new Uint8Array(leaf.der)
    const parsed = parseCertificate(buffer)
    buffer.fill(0)
    expect(parsed.der).toEqual(leaf.der)
    expect(isCrl(buffer)).toBe(false)
  })
})

describe('look-alikes are refused by name', () => {
  const response = concat(new Uint8Array([0, 0, 0, 0, 0xa0, 0x04, 0, 0]), new Uint8Array(24), report)
  const tdx = hclEnvelope(report, hclClaims())
  new DataView(tdx.buffer).setUint32(1224, 4, true)
  it.each([
    ['a report cut short', report.subarray(0, 1183), 'snp.evidence.truncated'],
    ['a report with something after it', concat(report, new Uint8Array(1)), 'snp.evidence.trailing'],
    ['nothing', new Uint8Array(0), 'snp.evidence.truncated'],
    ['MSG_REPORT_RSP', response, 'snp.evidence.report-response'],
    ['MSG_REPORT_RSP in its 4000-byte buffer', concat(response, new Uint8Array(2784)), 'snp.evidence.report-response'],
    [
      'a certificate table',
      buildCertificateTable([{ guid: 'vcek', blob: leaf.der }]),
      'snp.evidence.certificate-table',
    ],
    ['an HCL envelope with a TDX report', tdx, 'snp.hcl.report-type'],
    ['an HCL envelope cut short', hclEnvelope(report, hclClaims()).subarray(0, 1300), 'bytes.truncated'],
    ['JSON that is no evidence', utf8('{"a":1}'), 'snp.evidence.vtpm'],
  ])('%s', (_name, bytes, code) => {
    expect(refusal(() => readSnpEvidence(bytes))?.code).toBe(code)
  })
})

describe('certificate tables', () => {
  const blob = leaf.der
  it('DER and PEM entries come out as they went in, page padding and all', () => {
    const table = buildCertificateTable(
      [
        { guid: 'vcek', blob },
        { guid: 'ask', blob: utf8(amd.askPem) },
      ],
      { trailingZeros: 4096 },
    )
    expect(readCertificateTable(table).map((entry) => entry.bytes)).toEqual([blob, utf8(amd.askPem)])
    expect(sortEndorsements([{ name: 't', bytes: table }]).certificates).toHaveLength(2)
  })

  it.each([
    ['past the end', buildCertificateTable([{ guid: 'vcek', blob, statedLength: blob.length + 1 }])],
    ['over the header', buildCertificateTable([{ guid: 'vcek', blob, statedOffset: 8 }])],
    ['far out of range', buildCertificateTable([{ guid: 'vcek', blob, statedOffset: 0xffffffff }])],
    ['empty', buildCertificateTable([{ guid: 'vcek', blob, statedLength: 0 }])],
    [
      'over another',
      buildCertificateTable([
        { guid: 'vcek', blob },
        { guid: 'ask', blob, statedOffset: 72 + blob.length - 1, statedLength: blob.length },
      ]),
    ],
    [
      'in the place of another',
      buildCertificateTable([
        { guid: 'vcek', blob },
        { guid: 'vlek', blob: new Uint8Array(), statedOffset: 72, statedLength: blob.length },
      ]),
    ],
  ])('an entry %s is refused', (_name, table) => {
    expect(refusal(() => readCertificateTable(table))?.code).toBe('snp.certificate-table.bounds')
  })
})

describe('endorsements', () => {
  it('are sorted by content, each once, in any order and packing', () => {
    const pem = utf8(`chain of the day\n${leaf.pem}${amd.askPem}${amd.arkPem}`)
    const crlPem = utf8(
      `-----BEGIN X509 CRL-----\n${Buffer.from(amd.crl()).toString('base64')}\n-----END X509 CRL-----\n`,
    )
    const pool = sortEndorsements([
      { name: 'notes.txt', bytes: utf8('nothing to see') },
      { name: 'a.crl', bytes: amd.arkDer },
      { name: 'chain.jpg', bytes: pem },
      { name: 'b.pem', bytes: crlPem },
      { name: 'keys.json', bytes: utf8('{"keys":[]}') },
      { name: 'info.json', bytes: utf8('{"tcbInfo":{},"signature":""}') },
      { name: 'rim', bytes: utf8('<?xml version="1.0"?><SoftwareIdentity name="x"/>') },
      { name: 'ocsp', bytes: new Uint8Array([0x30, 0x03, 0x0a, 0x01, 0x06]) },
    ])
    expect(pool.certificates).toHaveLength(3)
    expect(pool.crls).toHaveLength(1)
    expect(pool.documents.map((item) => item.kind)).toEqual(['jwks', 'tdx-collateral', 'rim', 'ocsp'])
    expect(pool.unrecognised.map((item) => item.name)).toEqual(['notes.txt'])
  })

  it('a damaged PEM block is listed, and harms no other file', () => {
    const damaged = utf8(amd.askPem.replace('END CERTIFICATE', 'END CRL'))
    const pool = sortEndorsements([
      { name: 'bad', bytes: damaged },
      { name: 'good', bytes: utf8(amd.arkPem) },
    ])
    expect(pool.certificates).toHaveLength(1)
    expect(pool.unrecognised).toMatchObject([{ name: 'bad' }])
  })
})

describe('trust anchors', () => {
  it('take their kind from the declaration, else from the subject', () => {
    expect(parseTrustAnchors(utf8(`A root.\nKind: nvidia\n${amd.arkPem}`))[0]?.kind).toBe('nvidia')
    expect(parseTrustAnchors(amd.arkDer)[0]?.kind).toBe('snp')
    expect(['ARK-x', 'Intel SGX Root CA', 'NVIDIA Device Identity CA', 'Acme', undefined].map(kindOfSubject)).toEqual([
      'snp',
      'tdx',
      'nvidia',
      undefined,
      undefined,
    ])
  })

  it.each([
    ['no kind', utf8(amd.askPem)],
    ['an unknown kind', utf8(`Kind: sgx\n${amd.arkPem}`)],
    ['two kinds', utf8(`Kind: snp\nKind: tdx\n${amd.arkPem}`)],
    ['no certificate', utf8('-----BEGIN but nothing')],
    ['garbage', utf8('hello')],
    ['a CRL', utf8('-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n')],
  ])('with %s are the caller’s mistake', (_name, bytes) => {
    expect(() => parseTrustAnchors(bytes)).toThrow(TrustAnchorError)
  })

  it('of another vendor kind vouch for no SNP chain', async () => {
    const anchors = parseTrustAnchors(utf8(`Kind: tdx\n${amd.arkPem}`))
    expect((await judge({ input: { anchors } })).failing).toEqual(['snp.chain.root'])
  })
})

describe('products, TCBs and floors', () => {
  it.each([
    [0x19, 0x00, 'Milan'],
    [0x19, 0x0f, 'Milan'],
    [0x19, 0x10, 'Genoa'],
    [0x19, 0x1f, 'Genoa'],
    [0x19, 0x20, undefined],
    [0x19, 0x9f, undefined],
    [0x19, 0xa0, 'Genoa'],
    [0x19, 0xaf, 'Genoa'],
    [0x19, 0xb0, undefined],
    [0x1a, 0x00, 'Turin'],
    [0x1a, 0x11, 'Turin'],
    [0x1a, 0x12, undefined],
    [0x1a, 0x50, 'Venice'],
    [0x1a, 0xc7, 'Venice'],
    [0x1a, 0xc8, undefined],
    [0x17, 0x01, undefined],
  ])('family %i model %i is %s', (family, model, name) => {
    expect(productOfCpuid({ family, model, stepping: 0 })?.name).toBe(name)
  })

  it('components are read from their own bytes and compared one by one', () => {
    const bytes = new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8])
    expect(parseTcb(bytes, 'legacy')).toEqual({ bootLoader: 1, tee: 2, snp: 7, microcode: 8 })
    expect(parseTcb(bytes, 'turin')).toEqual({ fmc: 1, bootLoader: 2, tee: 3, snp: 4, microcode: 8 })
    const high = { bootLoader: 1, tee: 0, snp: 9, microcode: 255 }
    expect(componentsBelow(high, { bootLoader: 2, tee: 0, snp: 9, microcode: 1 })).toEqual(['bootLoader'])
  })

  it('a part without a row has no floor; a version 2 report gets its product’s strictest', () => {
    expect(shippedFloor('Genoa', { family: 0x19, model: 0xa0, stepping: 2 })?.microcode).toBe(0x19)
    expect(shippedFloor('Genoa', { family: 0x19, model: 0x11, stepping: 2 })?.microcode).toBe(0x4f)
    expect(shippedFloor('Genoa', { family: 0x19, model: 0x12, stepping: 1 })).toBeUndefined()
    expect(shippedFloor('Venice', { family: 0x1a, model: 0x50, stepping: 0 })).toBeUndefined()
    expect(shippedFloor('Milan', undefined)?.microcode).toBe(0xdb)
  })

  it('floor options', () => {
    expect(parseTcbFloor('none')).toBe('none')
    expect(parseTcbFloor('bl=4,tee=0,snp=0x18,ucode=219')).toEqual({ bootLoader: 4, tee: 0, snp: 24, microcode: 219 })
    expect(parseTcbFloor('fmc=1,bl=1,tee=1,snp=4,ucode=81')).toMatchObject({ fmc: 1 })
    for (const text of [
      '',
      'bl=4',
      'bl=4,tee=0,snp=1',
      'bl=4,bl=4,tee=0,snp=1,ucode=1',
      'bl=256,tee=0,snp=1,ucode=1',
    ]) {
      expect(() => parseTcbFloor(text)).toThrow(expect.objectContaining({ code: 'snp.tcb-floor' }))
    }
  })
})

describe('policy', () => {
  it('what is left out is strict, at every depth', () => {
    expect(v.parse(snpPolicySchema, { guestPolicy: { smt: 'forbidden' } }).guestPolicy.debug).toBe('forbidden')
    expect(STRICT_SNP_POLICY).toMatchObject({
      vmpl: [0],
      tcbFloor: 'shipped',
      maskedChipId: 'forbidden',
      guestPolicy: { debug: 'forbidden', migrateMa: 'forbidden', cxl: 'forbidden' },
    })
  })

  it.each([
    { unknown: 1 },
    { guestPolicy: { debugg: 'forbidden' } },
    { guestPolicy: { debug: 'required' } },
    { guestPolicy: { singleSocket: 'forbidden' } },
    { hostData: [] },
    { hostData: '' },
    { hostData: [''] },
    { hostData: ['ab'] },
    { vmpl: [] },
    { vmpl: [4] },
    { cspIds: [''] },
    { products: ['Naples'] },
    { tcbFloor: {} },
    { tcbFloor: '' },
    { mitigations: { current: '' } },
  ])('%j is an error', (document) => {
    expect(v.safeParse(snpPolicySchema, document).success).toBe(false)
  })

  it('a pin in upper case is the same pin', async () => {
    expect(
      (await judge({ policy: { hostData: ['AB'.repeat(32)] }, report: { hostData: new Uint8Array(32).fill(0xab) } }))
        .verdict,
    ).toBe('accepted')
  })

  it('REPORT_DATA: short expectations are padded, and the tail counts', async () => {
    const tail = new Uint8Array(64)
    tail.set([1, 2])
    const expected = new Uint8Array([1, 2])
    expect((await judge({ report: { reportData: tail }, input: { expectedReportData: expected } })).verdict).toBe(
      'accepted',
    )
    tail[63] = 1
    const outcome = await judge({ report: { reportData: tail }, input: { expectedReportData: expected } })
    expect(outcome.failing).toEqual(['snp.report-data'])
    for (const length of [0, 65]) {
      const wrong = await judge({ input: { expectedReportData: new Uint8Array(length) } })
      expect(wrong.failing).toEqual(['snp.report-data'])
    }
  })
})

it('bytes a version leaves reserved are reported, not refused', async () => {
  const { verdict, findings } = await judge({ report: { reserved208: new Uint8Array(152).fill(1) } })
  expect(verdict).toBe('accepted')
  expect(findings?.notes).toEqual(['reserved bytes in use: 0x208..0x29f'])
  expect(describeSnpReport(parseSnpReport(buildSnpReport({ version: 99 })))['version']).toBe(99)
})
