/**
 * The simulated Intel hierarchy, quoting enclave, collateral, event log and platform, checked by parties that share no
 * code with them: the `openssl` command, node:crypto, a reader of this file's own, and the shape of captured evidence
 * where there is any. The reader is itself checked on captured evidence.
 */
import { spawnSync } from 'node:child_process'
import { createHash, createPublicKey, type KeyObject, verify, X509Certificate } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import forge from 'node-forge'
import { afterAll, describe, expect, it } from 'vitest'
import { toPem } from '../../scripts/simulated/der.js'
import {
  createIntelHierarchy,
  generateEcKeys,
  INTEL_EXTENSION,
  type PckRequest,
  SIMULATED_EPOCH,
  SIMULATED_LIFETIME_MS,
} from '../../scripts/simulated/intel.js'
import {
  buildQeIdentity,
  buildTcbInfo,
  type CollateralHooks,
  type CollateralVerdict,
  moduleIdentities,
  qeLevels,
  tcbLevels,
} from '../../scripts/simulated/tdx-collateral.js'
import {
  buildCcelTable,
  buildEventLog,
  EVENT_TYPE,
  type LoggedEvent,
  simulatedBootEvents,
} from '../../scripts/simulated/tdx-event-log.js'
import { SIMULATED_MR_TD, SIMULATED_PCK, SIMULATED_TDX_TCB } from '../../scripts/simulated/tdx-facts.js'
import { createSimulatedTdxPlatform } from '../../scripts/simulated/tdx-platform.js'
import {
  buildTdxQuote,
  certificationData,
  type TdxQuoteBreak,
  type TdxQuoteFields,
  tdxQuoteOffsets,
} from '../../scripts/simulated/tdx-quote.js'
import {
  buildQeReport,
  buildTdBody,
  layoutBytes,
  QE_REPORT_LAYOUT,
  TD_BODY_10_LAYOUT,
  TD_BODY_15_LAYOUT,
  TDX_HEADER_LAYOUT,
  tdAttributes,
} from '../../scripts/simulated/tdx-report.js'
import { vectorPath, withoutVectors } from '../support/vectors.js'

const NOON = new Date(SIMULATED_EPOCH.getTime() + SIMULATED_LIFETIME_MS / 2)
const hasOpenssl = spawnSync('openssl', ['version']).status === 0
const folder = mkdtempSync(join(tmpdir(), 'subrosa-simulated-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const intel = createIntelHierarchy()
const pck = intel.issuePck()

let files = 0
function file(content: string | Uint8Array): string {
  const path = join(folder, `${files++}.bin`)
  writeFileSync(path, content)
  return path
}

/** What `openssl verify` says of a leaf under the root, at noon of the simulated day. */
function opensslVerify(between: readonly string[], leaf: string, ...options: string[]): string {
  const at = String(NOON.getTime() / 1000)
  const untrusted = between.flatMap((pem) => ['-untrusted', file(pem)])
  const args = ['verify', '-x509_strict', '-check_ss_sig', '-attime', at, '-CAfile', file(intel.root.pem), ...options]
  const run = spawnSync('openssl', [...args, ...untrusted, file(leaf)], { encoding: 'utf8' })
  return run.status === 0 ? 'OK' : `${run.stdout}${run.stderr}`
}

describe('Intel hierarchy', () => {
  it('chains by signature and name under node:crypto, on P-256, for a day', () => {
    const processorPck = intel.issuePck({ issuer: 'processor' })
    const chains = [
      [intel.root, intel.root],
      [intel.platform, intel.root],
      [intel.processor, intel.root],
      [intel.tcbSigning, intel.root],
      [pck, intel.platform],
      [processorPck, intel.processor],
    ] as const
    for (const [childDer, issuerDer] of chains) {
      const child = new X509Certificate(childDer.der)
      const issuer = new X509Certificate(issuerDer.der)
      expect(child.verify(issuer.publicKey)).toBe(true)
      expect(child.issuer).toBe(issuer.subject)
      expect(child.publicKey.asymmetricKeyDetails?.namedCurve).toBe('prime256v1')
      expect(Date.parse(child.validTo) - Date.parse(child.validFrom)).toBe(SIMULATED_LIFETIME_MS)
      expect(child.subject).toContain('O=SIMULATED (not Intel Corporation)')
      expect(BigInt(`0x${child.serialNumber}`)).toBe(childDer.serialNumber)
    }
    const commonNames = chains.map(([{ der }]) => /CN=(.*)/.exec(new X509Certificate(der).subject)?.[1])
    expect(commonNames).toEqual([
      'Intel SGX Root CA',
      'Intel SGX PCK Platform CA',
      'Intel SGX PCK Processor CA',
      'Intel SGX TCB Signing',
      'Intel SGX PCK Certificate',
      'Intel SGX PCK Certificate',
    ])
  })

  it.skipIf(!hasOpenssl)('verifies with openssl, CRLs included (skipped without the openssl command)', () => {
    expect(opensslVerify([intel.platform.pem], pck.pem)).toBe('OK')
    expect(opensslVerify([intel.processor.pem], intel.issuePck({ issuer: 'processor' }).pem)).toBe('OK')
    expect(opensslVerify([], intel.tcbSigning.pem)).toBe('OK')
    expect(opensslVerify([intel.processor.pem], pck.pem)).toContain('unable to get local issuer')

    const checked = (revokedByRoot: readonly bigint[], revokedByPlatform: readonly bigint[]): string => {
      const rootCrl = toPem('X509 CRL', intel.rootCrl({ revokedSerials: revokedByRoot }))
      const pckCrl = toPem('X509 CRL', intel.pckCrl({ revokedSerials: revokedByPlatform }))
      return opensslVerify([intel.platform.pem], pck.pem, '-crl_check_all', '-CRLfile', file(`${rootCrl}${pckCrl}`))
    }
    expect(checked([], [])).toBe('OK')
    expect(checked([7n], [8n])).toBe('OK')
    expect(checked([], [pck.serialNumber])).toContain('certificate revoked')
    expect(checked([intel.platform.serialNumber], [])).toContain('certificate revoked')

    const checkCrl = (der: Uint8Array, issuerPem: string): string =>
      spawnSync('openssl', ['crl', '-inform', 'der', '-in', file(der), '-CAfile', file(issuerPem), '-noout'], {
        encoding: 'utf8',
      }).stderr
    expect(checkCrl(intel.pckCrl({ issuer: 'processor' }), intel.processor.pem)).toContain('verify OK')
    expect(checkCrl(intel.rootCrl({ signature: { corrupt: true } }), intel.root.pem)).toContain('verify failure')
    expect(checkCrl(intel.rootCrl({ signWith: intel.keys.platform.privateKey }), intel.root.pem)).toContain('failure')
  })

  it('writes the SGX extension, and bends its members', () => {
    const members = (request: PckRequest): string[] => sgxMembers(intel.issuePck(request).der)
    const names = members({}).map((member) => member.split('=')[0])
    const components = Array.from({ length: 18 }, (_, index) => `2.${index + 1}`)
    expect(names).toEqual(['1', ...components, '3', '4', '5', '6', '7.1', '7.2', '7.3'])
    expect(members({ issuer: 'processor' })).toHaveLength(22)
    expect(members({})).toContain(`4=0406${Buffer.from(SIMULATED_PCK.fmspc).toString('hex')}`)
    expect(members({ components: [255, ...SIMULATED_PCK.components.slice(1)] })).toEqual(
      expect.arrayContaining(['2.1=020200ff', expect.stringMatching(/^2\.18=0410ff05/)]),
    )
    const value = Buffer.from('020109', 'hex')
    expect(members({ sgxEdits: [{ member: '4', omit: true }] })).toHaveLength(25)
    expect(members({ sgxEdits: [{ member: '2', omit: true }] })).toHaveLength(8)
    expect(members({ sgxEdits: [{ member: '2.17', value }] })).toContain('2.17=020109')
    expect(members({ sgxEdits: [{ member: '2.17', duplicate: true, value }] })).toEqual(
      expect.arrayContaining(['2.17=02010d', '2.17=020109']),
    )
    expect(members({ sgxEdits: [{ member: '1', duplicate: true }] })).toHaveLength(27)
    expect(members({ sgxEdits: [{ member: '9', value }] }).at(-1)).toBe('9=020109')
  })

  it('breaks certificates on request', () => {
    const platform = new X509Certificate(intel.platform.der).publicKey
    const parsed = (request: PckRequest): X509Certificate => new X509Certificate(intel.issuePck(request).der)
    expect(parsed({ overrides: { signature: { corrupt: true } } }).verify(platform)).toBe(false)
    expect(parsed({ overrides: { signWith: intel.keys.processor.privateKey } }).verify(platform)).toBe(false)
    expect(parsed({ overrides: { issuer: { commonName: 'Intel SGX PCK Processor CA' } } }).issuer).toContain(
      'Processor',
    )
    expect(parsed({ curve: 'P-384' }).publicKey.asymmetricKeyDetails?.namedCurve).toBe('secp384r1')
    expect(parsed({ notAfter: new Date('2060-01-01T00:00:00Z') }).validTo).toBe('Jan  1 00:00:00 2060 GMT')
    const differs = { stated: { hash: 'sha384', saltLength: 0 } } as const
    expect(parsed({ overrides: { signature: differs } }).verify(platform)).toBe(false)
    const without = intel.issuePck({ overrides: { extensions: [{ oid: INTEL_EXTENSION.sgx, omit: true }] } })
    expect(extensions(without.der).map(({ oid }) => oid)).not.toContain(INTEL_EXTENSION.sgx)
    const renamed = createIntelHierarchy({ keys: intel.keys, commonNameSuffix: ' X' })
    expect(new X509Certificate(renamed.root.der).subject).toContain('CN=Intel SGX Root CA X')
    expect(() => createIntelHierarchy({ notBefore: NOON, notAfter: NOON })).toThrow(RangeError)
    const text = Buffer.from(intel.pckChain(pck, { order: ['root', 'leaf'], nulTerminated: false })).toString()
    expect(text).toBe(`${intel.root.pem}${pck.pem}`)
  })
})

describe.skipIf(withoutVectors)('shape of real certificates and CRLs (skipped without captured evidence)', () => {
  const quoted = (name: string, index: number) => (): Uint8Array =>
    new X509Certificate(pemBlocks(vector(`tdx/${name}`))[index] ?? '').raw
  const fromPlatform = 'v5-td15-90c06f-uptodate-quote.bin'
  const fromProcessor = 'wrong-tee-sgx-v3-quote.bin'
  it.each([
    ['root', () => intel.root.der, () => vector('roots/intel-sgx-root-ca.der')],
    ['Platform CA', () => intel.platform.der, quoted(fromPlatform, 1)],
    ['Processor CA', () => intel.processor.der, quoted(fromProcessor, 1)],
    ['TCB Signing', () => intel.tcbSigning.der, quoted('tcb-signing-chain-2025.pem', 0)],
    ['PCK of a platform', () => pck.der, quoted(fromPlatform, 0)],
    ['PCK of a processor', () => intel.issuePck({ issuer: 'processor' }).der, quoted(fromProcessor, 0)],
  ] as const)('%s', (_, simulated, real) => {
    expect(skeleton(simulated())).toEqual(skeleton(real()))
    const shape = (der: Uint8Array): unknown =>
      extensions(der).map(({ oid, critical, valueHex }) => {
        if (oid === INTEL_EXTENSION.sgx) return skeleton(Buffer.from(valueHex, 'hex'))
        return ['2.5.29.15', '2.5.29.19'].includes(oid) ? `${oid} ${critical} ${valueHex}` : `${oid} ${critical}`
      })
    expect(shape(simulated())).toEqual(shape(real()))
  })

  it('CRLs', () => {
    expect(skeleton(intel.rootCrl())).toEqual(skeleton(vector('tdx/collateral-2026-03/root-ca-crl.der')))
    const real = vector('tdx/collateral-2026-03/pck-crl-platform.der')
    const entries = Buffer.from(real).toString('hex').split('0603551d1504030a0101').length - 1
    const revokedSerials = Array.from({ length: entries }, (_, index) => BigInt(index + 1))
    expect(skeleton(intel.pckCrl({ revokedSerials }))).toEqual(skeleton(real))
  })
})

describe('quote', () => {
  const quote = (fields: Partial<TdxQuoteFields> = {}): Uint8Array =>
    buildTdxQuote({ pckPrivateKey: pck.privateKey, pckChain: intel.pckChain(pck), ...fields })
  const intact: Relations = { sizes: true, pckSignsQe: true, qeBindsKey: true, tailZero: true, keySignsQuote: true }

  it('has layouts without gaps or overlaps', () => {
    const ends = [TDX_HEADER_LAYOUT, TD_BODY_10_LAYOUT, TD_BODY_15_LAYOUT, QE_REPORT_LAYOUT].map((layout) => {
      let end = 0
      for (const [offset, size] of Object.values(layout)) {
        expect(offset).toBe(end)
        end = offset + size
      }
      expect(layoutBytes(layout)).toBe(end)
      return end
    })
    expect(ends).toEqual([48, 584, 648, 384])
    expect(tdxQuoteOffsets(4)).toMatchObject({ body: 0x30, signatureDataBytes: 0x278, quoteSignature: 0x27c })
    expect(tdxQuoteOffsets(5)).toMatchObject({ body: 0x36, signatureDataBytes: 0x2be, quoteSignature: 0x2c2 })
    expect(tdxQuoteOffsets(5, 2).signatureDataBytes).toBe(0x27e)
  })

  it.each([
    ['version 4', { version: 4 }],
    ['version 5, TD 1.0', { version: 5, bodyType: 2 }],
    ['version 5, TD 1.5', { version: 5 }],
    ['padded', { version: 5, paddedTo: 8000 }],
    ['without authentication data', { authData: new Uint8Array(), padding: Uint8Array.of(1, 2, 3) }],
  ] as const)('holds together: %s', (_, fields) => {
    expect(relations(quote(fields))).toEqual(intact)
  })

  it.each([
    ['binding', 'qeBindsKey'],
    ['binding-tail', 'tailZero'],
    ['qe-signature', 'pckSignsQe'],
    ['qe-report-altered', 'pckSignsQe'],
    ['quote-signature', 'keySignsQuote'],
    ['body-altered', 'keySignsQuote'],
    ['header-altered', 'keySignsQuote'],
    ['attestation-key', 'keySignsQuote'],
  ] as const satisfies readonly (readonly [TdxQuoteBreak, keyof Relations])[])('breaks %s alone', (what, relation) => {
    expect(relations(quote({ version: 5, broken: [what] }))).toEqual({ ...intact, [relation]: false })
  })

  it('sets fields, sizes and certification data', () => {
    const at = (bytes: Uint8Array, offset: number, length: number): string =>
      Buffer.from(bytes.subarray(offset, offset + length)).toString('hex')
    const { body, certificationType, qeReport, authDataBytes } = tdxQuoteOffsets(4)
    const odd = quote({
      header: { reserved8: 7, teeType: 0 },
      body: { tdAttributes: tdAttributes({ debug: true }), mrTd: new Uint8Array(48).fill(9) },
      qe: { attributes: new Uint8Array(16).fill(2), isvSvn: 0x1234 },
      certificationType: 3,
      stated: { authDataBytes: 31 },
    })
    expect(at(odd, 4, 6)).toBe('000000000700')
    expect(at(odd, body + 0x78, 8)).toBe('0100001000000000')
    expect(at(odd, body + 0x88, 48)).toBe('09'.repeat(48))
    expect(at(odd, certificationType, 2)).toBe('0300')
    expect(at(odd, qeReport + 258, 2)).toBe('3412')
    expect(at(odd, authDataBytes, 2)).toBe('1f00')
    expect(relations(quote({ stated: { innerBytes: 5 } })).sizes).toBe(false)
    expect(relations(quote({ afterInner: Uint8Array.of(0) })).sizes).toBe(false)
    expect(relations(quote({ afterCertification: Uint8Array.of(0) })).sizes).toBe(false)
    expect(certificationData(1, pck).data).toHaveLength(36)
    expect(certificationData(2, pck).data).toHaveLength(276)
    expect(certificationData(3, pck).data).toHaveLength(404)
    expect(at(quote({ inner: certificationData(4, pck) }), authDataBytes + 34, 2)).toBe('0400')
    expect(at(buildTdBody('1.5'), 0x248, 3)).toBe('070104')
    expect(() => buildTdBody('1.0', { mrServiceTd: new Uint8Array(48) })).toThrow(RangeError)
    expect(() => quote({ body: { mrTd: new Uint8Array(47) } })).toThrow(RangeError)
    expect(() => quote({ paddedTo: 100 })).toThrow(RangeError)
  })

  it.skipIf(withoutVectors)('is like real ones to the same reader (skipped without captured evidence)', () => {
    const names = ['v5-td15-90c06f-uptodate', 'v4-b0c06f-uptodate', 'v4-00806f05-gcp-cos113-padded8000']
    for (const name of names) {
      const real = vector(`tdx/${name}-quote.bin`)
      const version = real[0] === 5 ? 5 : 4
      const simulated = quote({ version })
      expect(relations(real), name).toEqual(intact)
      const zeros = (bytes: Uint8Array): string[] => {
        const { body, qeReport } = tdxQuoteOffsets(version)
        const bodyFields = Object.entries(version === 5 ? TD_BODY_15_LAYOUT : TD_BODY_10_LAYOUT)
        const named = [
          ...Object.entries(TDX_HEADER_LAYOUT),
          ...bodyFields.map(([field, [offset, size]]) => [`body.${field}`, [body + offset, size]] as const),
          ...Object.entries(QE_REPORT_LAYOUT).map(
            ([field, [at, size]]) => [`qe.${field}`, [qeReport + at, size]] as const,
          ),
        ]
        return named
          .filter(([, [offset, size]]) => bytes.subarray(offset, offset + size).every((byte) => byte === 0))
          .map(([field]) => field)
      }
      const guest = /rtmr|reportData|userData|mrConfigId|mrOwner/
      expect(zeros(simulated).filter((field) => !guest.test(field))).toEqual(
        zeros(real).filter((field) => !guest.test(field)),
      )
      const { qeReport } = tdxQuoteOffsets(version)
      for (const field of ['attributes', 'mrSigner', 'isvProdId', 'miscSelect'] as const) {
        const [offset, size] = QE_REPORT_LAYOUT[field]
        expect(buildQeReport().subarray(offset, offset + size)).toEqual(
          new Uint8Array(real.subarray(qeReport + offset, qeReport + offset + size)),
        )
      }
    }
  })
})

describe('collateral', () => {
  const signer = intel.keys.tcbSigning.privateKey
  const issueDate = SIMULATED_EPOCH
  const verifies = (document: Uint8Array, key: KeyObject = intel.keys.tcbSigning.publicKey): boolean => {
    const [, inner = '', hex = ''] =
      /^\{"\w+":(.*),"signature":"([0-9a-f]{128})"\}$/s.exec(String(Buffer.from(document))) ?? []
    return verify('sha256', Buffer.from(inner), { key, dsaEncoding: 'ieee-p1363' }, Buffer.from(hex, 'hex'))
  }

  it('is signed over the exact inner bytes, and broken on request', () => {
    const info = (hooks: CollateralHooks): Uint8Array => buildTcbInfo({ issueDate }, signer, hooks)
    expect(verifies(info({}))).toBe(true)
    expect(verifies(buildQeIdentity({ issueDate }, signer))).toBe(true)
    const duplicate = (inner: string): string => inner.replace('{', '{"id":"SGX",')
    expect(verifies(info({ editSigned: duplicate }))).toBe(true)
    expect(String(Buffer.from(info({ editSigned: duplicate })))).toMatch(/^\{"tcbInfo":\{"id":"SGX","id":"TDX"/)
    expect(verifies(info({ editUnsigned: duplicate }))).toBe(false)
    expect(verifies(info({ signWith: generateEcKeys('P-256').privateKey }))).toBe(false)
    expect(verifies(info({ corruptSignature: true }))).toBe(false)
    expect(String(Buffer.from(info({ member: 'enclaveIdentity' })))).toMatch(/^\{"enclaveIdentity":/)
    expect(String(Buffer.from(info({ signatureText: 'zz', editDocument: (all) => `${all} x` })))).toMatch(/"zz"\} x$/)
  })

  it('gives the simulated machine every verdict', () => {
    const verdicts: readonly CollateralVerdict[] = [
      'UpToDate',
      'SWHardeningNeeded',
      'ConfigurationNeeded',
      'ConfigurationAndSWHardeningNeeded',
      'OutOfDate',
      'OutOfDateConfigurationNeeded',
      'Revoked',
      'unmatched',
    ]
    for (const verdict of verdicts) {
      const { tcbInfo } = JSON.parse(
        String(
          Buffer.from(
            buildTcbInfo(
              { issueDate, tcbLevels: tcbLevels(verdict), tdxModuleIdentities: moduleIdentities(verdict) },
              signer,
            ),
          ),
        ),
      )
      const svns = (list: readonly { svn: number }[]): number[] => list.map(({ svn }) => svn)
      const covers = (have: readonly number[], want: readonly number[]): boolean =>
        want.every((svn, index) => (have[index] ?? 0) >= svn)
      const level = tcbInfo.tcbLevels.find(
        ({
          tcb,
        }: {
          tcb: { sgxtcbcomponents: { svn: number }[]; pcesvn: number; tdxtcbcomponents: { svn: number }[] }
        }) =>
          covers(SIMULATED_TDX_TCB.components, svns(tcb.sgxtcbcomponents)) &&
          SIMULATED_TDX_TCB.pceSvn >= tcb.pcesvn &&
          covers(SIMULATED_TDX_TCB.teeTcbSvn, svns(tcb.tdxtcbcomponents)),
      )
      expect(level?.tcbStatus ?? 'unmatched').toBe(verdict)
      const module = tcbInfo.tdxModuleIdentities.find(({ id }: { id: string }) => id === 'TDX_01')
      const isv = module.tcbLevels.find(({ tcb }: { tcb: { isvsvn: number } }) => tcb.isvsvn <= 7)
      expect(isv?.tcbStatus ?? 'unmatched').toBe(verdict)
      const qe = qeLevels(verdict).find(({ isvSvn }) => isvSvn <= SIMULATED_TDX_TCB.qeIsvSvn)
      expect(qe?.tcbStatus ?? 'unmatched').toBe(verdict)
    }
    const early = { ...SIMULATED_TDX_TCB, teeTcbSvn: [5, 0, 4, ...new Array<number>(13).fill(0)] }
    expect(tcbLevels('UpToDate', early)[0]?.tdxComponents.slice(0, 3)).toEqual([5, 0, 4])
    expect(moduleIdentities('UpToDate', early)).toHaveLength(1)
  })

  it.skipIf(withoutVectors)('has the members of real responses, in order (skipped without captured evidence)', () => {
    const key = new X509Certificate(vector('tdx/tcb-signing-chain-2025.pem')).publicKey
    const paths = (document: Uint8Array): string[] => {
      const seen = new Set<string>()
      JSON.parse(String(Buffer.from(document)), function (name, value) {
        if (!Array.isArray(this)) seen.add(`${name}: ${typeof value}`)
        return value
      })
      return [...seen].filter((path) => !path.startsWith(': '))
    }
    const info = vector('tdx/collateral-2026-03/tcb-info-90c06f000000.json')
    const identity = vector('tdx/collateral-2026-03/td-qe-identity.json')
    expect(verifies(info, key)).toBe(true)
    expect(verifies(identity, key)).toBe(true)
    const advised = moduleIdentities('OutOfDate')
    expect(paths(buildTcbInfo({ issueDate, tdxModuleIdentities: advised }, signer))).toEqual(paths(info))
    const plain = [{ isvSvn: 4, tcbStatus: 'UpToDate' }]
    expect(paths(buildQeIdentity({ issueDate, tcbLevels: plain }, signer))).toEqual(paths(identity))
  })
})

describe('event log', () => {
  it('replays, pads and counts offsets', () => {
    const { bytes, rtmrs, offsets } = buildEventLog(simulatedBootEvents(), { areaBytes: 4096 })
    expect(bytes).toHaveLength(4096)
    const events = readLog(bytes)
    expect(events).toHaveLength(9)
    expect(offsets).toHaveLength(9)
    expect(replayed(events)).toEqual(rtmrs.map((rtmr) => Buffer.from(rtmr).toString('hex')))
    for (const rtmr of rtmrs) expect(rtmr.some((byte) => byte !== 0)).toBe(true)
  })

  it('lies on request', () => {
    const event: LoggedEvent = { register: 4, type: EVENT_TYPE.eventTag, data: Uint8Array.of(1) }
    const honest = buildEventLog([event])
    const lying = buildEventLog([{ ...event, extendedWith: new Uint8Array(48) }])
    expect(lying.bytes).toEqual(honest.bytes)
    expect(lying.rtmrs[3]).not.toEqual(honest.rtmrs[3])
    expect(buildEventLog([{ ...event, type: EVENT_TYPE.noAction }]).rtmrs[3]).toEqual(new Uint8Array(48))
    expect(() => buildEventLog([event], { areaBytes: 8 })).toThrow(RangeError)
  })

  it.skipIf(withoutVectors)('rebuilds a real log byte for byte (skipped without captured evidence)', () => {
    const real = vector('tdx/gcp-cos113-ccel-data-unpadded.bin')
    const rebuilt = buildEventLog(readLog(real))
    expect(Buffer.from(rebuilt.bytes).equals(real)).toBe(true)
    const quote = vector('tdx/v4-00806f05-gcp-cos113-padded8000-quote.bin')
    const { body } = tdxQuoteOffsets(4)
    for (const [index, rtmr] of rebuilt.rtmrs.entries()) {
      const offset = body + 0x148 + 48 * index
      expect(Buffer.from(rtmr).equals(quote.subarray(offset, offset + 48))).toBe(true)
    }
    const table = buildCcelTable(0x40000)
    const announced = vector('tdx/gcp-cos113-ccel-acpi-table.bin')
    expect(table.reduce((sum, byte) => sum + byte, 0) % 256).toBe(0)
    expect(announced.reduce((sum, byte) => sum + byte, 0) % 256).toBe(0)
    for (const [from, to] of [
      [0, 9],
      [36, 56],
    ] as const) {
      expect(Buffer.from(table.subarray(from, to))).toEqual(announced.subarray(from, to))
    }
  })
})

describe('TDX platform', () => {
  const now = new Date('2026-05-04T03:02:01.500Z')
  const configDigest = new Uint8Array(48).fill(7)

  it.each([4, 5] as const)('attests with a quote its own endorsements vouch for, version %i', async (version) => {
    const platform = await createSimulatedTdxPlatform({ configDigest, now, version })
    const reportData = new Uint8Array(64).map((_, index) => index)
    const quote = await platform.attest(reportData)
    expect(Object.values(relations(quote))).not.toContain(false)
    const { body } = tdxQuoteOffsets(version)
    const field = (name: keyof typeof TD_BODY_10_LAYOUT): Uint8Array => {
      const [offset, size] = TD_BODY_10_LAYOUT[name]
      return quote.subarray(body + offset, body + offset + size)
    }
    expect(field('reportData')).toEqual(reportData)
    expect(field('mrConfigId')).toEqual(configDigest)
    expect(field('mrTd')).toEqual(SIMULATED_MR_TD)
    expect(replayed(readLog(platform.eventLog))).toEqual(
      (['rtmr0', 'rtmr1', 'rtmr2', 'rtmr3'] as const).map((name) => Buffer.from(field(name)).toString('hex')),
    )

    const [leaf, platformCa, tcbSigning, root, rootCrl, pckCrl, tcbInfo, qeIdentity] = platform.endorsements
    if (!leaf || !platformCa || !tcbSigning || !root || !rootCrl || !pckCrl || !tcbInfo || !qeIdentity) {
      throw new Error('expected eight endorsements')
    }
    const certificates = [leaf, platformCa, tcbSigning, root].map(({ bytes }) => new X509Certificate(bytes))
    for (const certificate of certificates) {
      expect(Date.parse(certificate.validTo)).toBe(platform.validUntil.getTime())
      expect(Date.parse(certificate.validFrom)).toBeLessThan(now.getTime())
    }
    expect(platform.endorsements.map(({ type }) => type.split('/')[1])).toEqual([
      ...['pkix-cert', 'pkix-cert', 'pkix-cert', 'pkix-cert', 'pkix-crl', 'pkix-crl', 'json', 'json'],
    ])
    const quoted = pemBlocks(quote).map((pem) => new X509Certificate(pem).raw)
    expect(quoted).toEqual([leaf, platformCa, root].map(({ bytes }) => Buffer.from(bytes)))
    expect(JSON.parse(String(Buffer.from(tcbInfo.bytes))).tcbInfo).toMatchObject({
      issueDate: '2026-05-04T02:57:01Z',
      nextUpdate: '2026-05-05T02:57:01Z',
      fmspc: 'f0f0f0000000',
    })
    expect(JSON.parse(String(Buffer.from(qeIdentity.bytes))).enclaveIdentity.id).toBe('TD_QE')
    expect(platform.validUntil.getTime() - now.getTime()).toBeLessThan(SIMULATED_LIFETIME_MS)
    expect(platform.rootsPem).toMatch(
      /^Kind: tdx\nSIMULATED root, valid until 2026-05-05T02:57:01Z; trust it for development only\n-----BEGIN CERT/,
    )
    expect(new X509Certificate(platform.rootsPem).raw.equals(Buffer.from(root.bytes))).toBe(true)
  })

  it('refuses wrong lengths, and takes verdicts', async () => {
    const platform = await createSimulatedTdxPlatform({ configDigest, now, verdict: { module: 'OutOfDate' } })
    await expect(platform.attest(new Uint8Array(63))).rejects.toThrow(RangeError)
    await expect(createSimulatedTdxPlatform({ configDigest: new Uint8Array(32), now })).rejects.toThrow(RangeError)
    const { tcbInfo } = JSON.parse(String(Buffer.from(platform.endorsements[6]?.bytes ?? [])))
    const statuses = tcbInfo.tdxModuleIdentities[1].tcbLevels.map((level: { tcbStatus: string }) => level.tcbStatus)
    expect(statuses).toEqual(['UpToDate', 'OutOfDate'])
    expect(tcbInfo.tcbLevels[0].tcbStatus).toBe('UpToDate')
  })
})

function vector(name: string): Buffer {
  return readFileSync(vectorPath(...name.split('/')))
}

function pemBlocks(bytes: Uint8Array): string[] {
  const text = Buffer.from(bytes).toString('latin1')
  return text.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----\n?/g) ?? []
}

interface Relations {
  readonly sizes: boolean
  readonly pckSignsQe: boolean
  readonly qeBindsKey: boolean
  readonly tailZero: boolean
  readonly keySignsQuote: boolean
}

/** Which relations of a quote hold, read from its bytes with offsets counted here. */
function relations(quote: Uint8Array): Relations {
  const bytes = Buffer.from(quote)
  const bodyStart = bytes.readUInt16LE(0) >= 5 ? 54 : 48
  const bodyBytes = bodyStart === 54 ? bytes.readUInt32LE(50) : 584
  const signedBytes = bodyStart + bodyBytes
  const data = bytes.subarray(signedBytes + 4, signedBytes + 4 + bytes.readUInt32LE(signedBytes))
  const key = data.subarray(64, 128)
  const certification = data.subarray(134)
  const qeReport = certification.subarray(0, 384)
  const authBytes = certification.readUInt16LE(448)
  const authData = certification.subarray(450, 450 + authBytes)
  const innerBytes = certification.readUInt32LE(452 + authBytes)
  const [leaf = ''] = pemBlocks(certification.subarray(456 + authBytes))
  const bound = createHash('sha256').update(key).update(authData).digest()
  const signs = (publicKey: KeyObject, message: Uint8Array, signature: Uint8Array): boolean =>
    verify('sha256', message, { key: publicKey, dsaEncoding: 'ieee-p1363' }, signature)
  return {
    sizes: data.readUInt32LE(130) === certification.length && 456 + authBytes + innerBytes === certification.length,
    pckSignsQe: signs(new X509Certificate(leaf).publicKey, qeReport, certification.subarray(384, 448)),
    qeBindsKey: qeReport.subarray(320, 352).equals(bound),
    tailZero: qeReport.subarray(352).every((byte) => byte === 0),
    keySignsQuote: keySigns(key, bytes.subarray(0, signedBytes), data.subarray(0, 64)),
  }
}

/** False when the point is not on the curve, too. */
function keySigns(point: Buffer, message: Uint8Array, signature: Uint8Array): boolean {
  const coordinate = (start: number): string => point.subarray(start, start + 32).toString('base64url')
  try {
    const key = createPublicKey({
      key: { kty: 'EC', crv: 'P-256', x: coordinate(0), y: coordinate(32) },
      format: 'jwk',
    })
    return verify('sha256', message, { key, dsaEncoding: 'ieee-p1363' }, signature)
  } catch {
    return false
  }
}

interface ReadEvent extends LoggedEvent {
  readonly digest: Uint8Array
}

/** Events of a log with SHA-384 digests only, the Spec ID event left out. */
function readLog(log: Uint8Array): ReadEvent[] {
  const bytes = Buffer.from(log)
  const events: ReadEvent[] = []
  let at = 32 + bytes.readUInt32LE(28)
  while (at < bytes.length && bytes.readUInt32LE(at) !== 0xffffffff) {
    expect(bytes.subarray(at + 8, at + 14).toString('hex')).toBe('010000000c00')
    const dataBytes = bytes.readUInt32LE(at + 62)
    events.push({
      register: bytes.readUInt32LE(at),
      type: bytes.readUInt32LE(at + 4),
      digest: bytes.subarray(at + 14, at + 62),
      data: bytes.subarray(at + 66, at + 66 + dataBytes),
    })
    at += 66 + dataBytes
  }
  return events
}

function replayed(events: readonly ReadEvent[]): string[] {
  return [1, 2, 3, 4].map((register) => {
    let value = Buffer.alloc(48)
    for (const event of events.filter((one) => one.register === register && one.type !== 3)) {
      value = createHash('sha384').update(value).update(event.digest).digest()
    }
    return value.toString('hex')
  })
}

interface ReadExtension {
  readonly oid: string
  readonly critical: boolean
  readonly valueHex: string
}

/** Extensions of a certificate, read back from its bytes. */
function extensions(der: Uint8Array): ReadExtension[] {
  const body = children(children(forge.asn1.fromDer(Buffer.from(der).toString('latin1')))[0])
  const list = body.find((node) => node.tagClass === forge.asn1.Class.CONTEXT_SPECIFIC && Number(node.type) === 3)
  return children(children(list)[0]).map((extension) => {
    const parts = children(extension)
    const [first, last] = [parts[0], parts[parts.length - 1]]
    return {
      oid: forge.asn1.derToOid(forge.util.createBuffer(String(first?.value))),
      critical: parts.length === 3,
      valueHex: Buffer.from(String(last?.value), 'latin1').toString('hex'),
    }
  })
}

/** Leaves of the SGX extension as `2.17=02010d`. */
function sgxMembers(der: Uint8Array): string[] {
  const hex = extensions(der).find(({ oid }) => oid === INTEL_EXTENSION.sgx)?.valueHex ?? ''
  const walk = (node: forge.asn1.Asn1): string[] =>
    children(node).flatMap((member) => {
      const [name, value] = children(member)
      if (value === undefined) throw new Error('expected a value')
      if (value.type === forge.asn1.Type.SEQUENCE) return walk(value)
      const oid = forge.asn1.derToOid(forge.util.createBuffer(String(name?.value)))
      return [`${oid.replace(`${INTEL_EXTENSION.sgx}.`, '')}=${forge.asn1.toDer(value).toHex()}`]
    })
  return walk(forge.asn1.fromDer(Buffer.from(hex, 'hex').toString('latin1')))
}

/** Tags, nesting and object identifiers of a structure, without its values. */
function skeleton(der: Uint8Array): unknown {
  const walk = (node: forge.asn1.Asn1): unknown => {
    const tag = `${node.tagClass}/${node.type}`
    if (node.tagClass === 0 && node.type === forge.asn1.Type.BITSTRING) return tag
    if (Array.isArray(node.value)) return [tag, ...node.value.map(walk)]
    if (node.tagClass === 0 && node.type === forge.asn1.Type.OID) {
      return forge.asn1.derToOid(forge.util.createBuffer(node.value))
    }
    return tag
  }
  return walk(forge.asn1.fromDer(Buffer.from(der).toString('latin1')))
}

function children(node: forge.asn1.Asn1 | undefined): forge.asn1.Asn1[] {
  if (node === undefined || !Array.isArray(node.value)) throw new Error('expected a constructed node')
  return node.value
}
