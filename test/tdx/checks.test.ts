/** Every registered check has a world in which it is the only one that fails; everything it needs passes. */
import { describe, expect, it } from 'vitest'
import { moduleIdentities, qeLevels, tcbLevels } from '../../scripts/simulated/tdx-collateral.js'
import { certificationData } from '../../scripts/simulated/tdx-quote.js'
import { tdAttributes } from '../../scripts/simulated/tdx-report.js'
import { type Bytes, concat, utf8 } from '../../verifier/protocol/bytes.js'
import { sha256 } from '../../verifier/protocol/hash.js'
import { ALL_TDX_CHECKS } from '../../verifier/tdx/checks.js'
import { parseEventLog } from '../../verifier/tdx/event-log.js'
import { hclClaims, NONCE, PCRS, type QuoteParts, signQuote, tpmQuote, vtpmEvidence } from '../snp/world.js'
import { type Bend, hclEnvelope, NOON, runBent } from './world.js'

/** issuingDistributionPoint, always critical: the list covers only part of what was issued. */
const PARTIAL = { oid: '2.5.29.28', critical: true, value: new Uint8Array([0x30, 0x00]) }
const DAY = 24 * 60 * 60 * 1000
const OTHER_48 = 'ab'.repeat(48)
const before = (days: number): Date => new Date(NOON.getTime() - days * DAY)

/** One bend for each check, by id. */
const BENDS: Readonly<Record<string, Bend>> = {
  'tdx.quote.parse': { mangle: (quote) => quote.slice(0, -1) },
  'tdx.quote.version': { quote: { version: 6 } },
  'tdx.quote.tee-type': { quote: { bodyType: 1 } },
  'tdx.quote.key-type': { quote: { header: { attestationKeyType: 3 } } },
  'tdx.quote.qe-vendor': { quote: { header: { qeVendorId: new Uint8Array(16).fill(7) } } },
  'tdx.quote.certification': { quoteWith: (pck) => ({ inner: certificationData(4, pck) }) },
  'tdx.pck.parse': { chain: { order: ['leaf', 'intermediate'] } },
  'tdx.pck.root': { anchored: false },
  'tdx.pck.roles': { hierarchy: { overrides: { platform: { subject: { commonName: 'Intel SGX PCK Other CA' } } } } },
  'tdx.pck.chain': { pck: { overrides: { signature: { corrupt: true } } } },
  'tdx.pck.validity': { pck: { notAfter: before(0.1) } },
  'tdx.pck.extension': { pck: { sgxEdits: [{ member: '4', duplicate: true }] } },
  'tdx.crl.root-issuer': { rootCrl: { extensions: [PARTIAL] } },
  'tdx.crl.root-signature': {
    files: (intel) => ({ rootCrl: intel.rootCrl({ signWith: intel.keys.platform.privateKey }) }),
  },
  'tdx.crl.root-window': { rootCrl: { thisUpdate: before(2), nextUpdate: before(1) } },
  'tdx.crl.intermediate-status': {
    files: (intel) => ({ rootCrl: intel.rootCrl({ revokedSerials: [intel.platform.serialNumber] }) }),
  },
  'tdx.crl.pck-issuer': { files: (intel) => ({ pckCrl: intel.pckCrl({ issuer: 'processor' }) }) },
  'tdx.crl.pck-signature': {
    files: (intel) => ({ pckCrl: intel.pckCrl({ signWith: intel.keys.processor.privateKey }) }),
  },
  'tdx.crl.pck-window': { pckCrl: { thisUpdate: before(2), nextUpdate: before(1) } },
  'tdx.crl.leaf-status': { files: (intel, pck) => ({ pckCrl: intel.pckCrl({ revokedSerials: [pck.serialNumber] }) }) },
  'tdx.qe.signature': { quote: { broken: ['qe-signature'] } },
  'tdx.qe.binding': { quote: { broken: ['binding-tail'] } },
  'tdx.quote.signature': { quote: { broken: ['quote-signature'] } },
  'tdx.qe.debug': {
    quote: { qe: { attributes: attributes(0x17) } },
    qeIdentity: { attributesMask: 'F9FFFFFFFFFFFFFF0000000000000000' },
  },
  'tdx.collateral.signer': { hierarchy: { overrides: { tcbSigning: { notAfter: before(0.1) } } } },
  'tdx.crl.signer-status': {
    files: (intel) => ({ rootCrl: intel.rootCrl({ revokedSerials: [intel.tcbSigning.serialNumber] }) }),
  },
  'tdx.collateral.tcb-info': { tcbInfo: { id: 'SGX' } },
  'tdx.collateral.tcb-info-signature': { tcbInfoHooks: { corruptSignature: true } },
  'tdx.collateral.tcb-info-window': { tcbInfo: { issueDate: before(40) } },
  'tdx.collateral.platform': { tcbInfo: { fmspc: new Uint8Array(6).fill(9) } },
  'tdx.collateral.qe-identity': { qeIdentity: { id: 'QE' } },
  'tdx.collateral.qe-identity-signature': { qeIdentityHooks: { corruptSignature: true } },
  'tdx.collateral.qe-identity-window': { qeIdentity: { issueDate: before(40) } },
  'tdx.collateral.evaluation-number': { qeIdentity: { tcbEvaluationDataNumber: 19 } },
  'tdx.qe.identity': { qeIdentity: { mrsigner: '00'.repeat(32) } },
  'tdx.tcb.platform': { tcbInfo: { tcbLevels: tcbLevels('unmatched') } },
  'tdx.tcb.module': { tcbInfo: { tdxModuleIdentities: moduleIdentities('unmatched') } },
  'tdx.tcb.qe': { qeIdentity: { tcbLevels: qeLevels('unmatched') } },
  'tdx.tcb.status': { tcbInfo: { tcbLevels: tcbLevels('SWHardeningNeeded') } },
  'tdx.tcb.advisories': {
    tcbInfo: { tcbLevels: tcbLevels('SWHardeningNeeded', undefined, { advisoryIDs: ['INTEL-SA-00615'] }) },
    policy: { acceptedStatuses: ['SWHardeningNeeded'], acceptedAdvisories: ['INTEL-SA-00001'] },
  },
  'tdx.policy.debug': { quote: { body: { tdAttributes: tdAttributes({ debug: true }) } } },
  'tdx.policy.tud': { quote: { body: { tdAttributes: tdAttributes({ tudReserved: 0x10 }) } } },
  'tdx.policy.attributes-reserved': { quote: { body: { tdAttributes: tdAttributes({ others: [27] }) } } },
  'tdx.policy.migratable': { quote: { body: { tdAttributes: tdAttributes({ migratable: true }) } } },
  'tdx.policy.sept-ve-disable': { quote: { body: { tdAttributes: tdAttributes({ septVeDisable: false }) } } },
  'tdx.policy.xfam': { quote: { body: { xfam: 0x2n } } },
  'tdx.policy.service-td': { quote: { body: { mrServiceTd: new Uint8Array(48).fill(1) } } },
  'tdx.policy.tee-tcb-svn': { policy: { minTeeTcbSvn: `0001ff${'00'.repeat(13)}` } },
  'tdx.policy.fmspc': { policy: { fmspcs: ['00'.repeat(6)] } },
  'tdx.policy.ppid': { policy: { ppids: ['00'.repeat(16)] } },
  'tdx.policy.platform-instance': { policy: { platformInstanceIds: ['00'.repeat(16)] } },
  'tdx.policy.td-attributes': { policy: { tdAttributes: ['00'.repeat(8)] } },
  'tdx.policy.xfam-value': { policy: { xfam: ['00'.repeat(8)] } },
  'tdx.policy.mr-seam': { policy: { mrSeam: [OTHER_48] } },
  'tdx.policy.mr-signer-seam': { policy: { mrSignerSeam: [OTHER_48] } },
  'tdx.policy.mr-td': { policy: { mrTd: [OTHER_48] } },
  'tdx.policy.mr-config-id': { policy: { mrConfigId: [OTHER_48] } },
  'tdx.policy.mr-owner': { policy: { mrOwner: [OTHER_48] } },
  'tdx.policy.mr-owner-config': { policy: { mrOwnerConfig: [OTHER_48] } },
  'tdx.policy.rtmr0': { policy: { rtmr0: [OTHER_48] } },
  'tdx.policy.rtmr1': { policy: { rtmr1: { events: [OTHER_48] } } },
  'tdx.policy.rtmr2': { policy: { rtmr2: [OTHER_48] } },
  'tdx.policy.rtmr3': { policy: { rtmr3: [OTHER_48] } },
  'tdx.report-data': { input: { expectedReportData: new Uint8Array(32).fill(0xd7) } },
  'tdx.event-log.parse': { input: { eventLog: utf8('not a log') } },
  'tdx.event-log.replay': { quote: { body: { rtmr3: new Uint8Array(48).fill(3) } } },
  'tdx.event-log.data': contradictedLog(),
  'tdx.hcl.claims': { input: { hclReport: hclEnvelope(utf8('{"keys":[]}')) } },
  'tdx.tpm.key': vtpm({ claims: hclClaims('HCLEkPub') }),
  'tdx.tpm.quote': vtpm({ quote: { message: tpmQuote(NONCE, 0x12345678) } }),
  'tdx.tpm.signature': vtpm({ quote: { signature: new Uint8Array(256).fill(1) } }),
  'tdx.tpm.nonce': vtpm({ nonce: new Uint8Array([1]) }),
  'tdx.tpm.pcrs': vtpm({ quote: { pcrs: [...PCRS.slice(0, 23), new Uint8Array(32)] } }),
}

describe('one negative for each check', () => {
  it('accepts the world as it should be, in both formats and under both authorities', async () => {
    const bends: Bend[] = [
      {},
      { quote: { version: 4 } },
      { pck: { issuer: 'processor' } },
      { quote: { paddedTo: 8000 } },
    ]
    for (const bend of bends) {
      const { verdict, firstFailing, checks } = await runBent(bend)
      expect({ verdict, firstFailing }).toEqual({ verdict: 'accepted', firstFailing: null })
      expect(checks.filter((check) => check.status !== 'pass')).toEqual([])
    }
  })

  it.each(ALL_TDX_CHECKS.map((check) => [check.id, check] as const))('%s', async (id, definition) => {
    const bend = BENDS[id]
    expect(bend, `no negative for ${id}`).toBeDefined()
    const { failing, verdict, checks } = await runBent(bend)
    expect(failing).toEqual([id])
    expect(verdict).toBe(definition.malformed === true ? 'malformed' : 'rejected')
    for (const check of checks) {
      if (check.status === 'skip') expect(check.reason).toMatch(/^needs tdx\./)
    }
  })

  it('names no check that is not registered', () => {
    const ids = ALL_TDX_CHECKS.map((check) => check.id)
    expect(Object.keys(BENDS).filter((id) => !ids.includes(id))).toEqual([])
    expect(new Set(ids).size).toBe(ids.length)
    for (const { needs = [], id } of ALL_TDX_CHECKS) {
      expect(
        needs.filter((needed) => ids.indexOf(needed) >= ids.indexOf(id)),
        id,
      ).toEqual([])
    }
  })
})

function attributes(first: number): Bytes {
  const out = new Uint8Array(16)
  out[0] = first
  return out
}

/** A JSON log whose one runtime event does not hash to its digest, and a TD that measured exactly that. */
function contradictedLog(): Bend {
  const digest = '11'.repeat(48)
  const log = utf8(JSON.stringify([{ imr: 3, event_type: 0x08000001, digest, event: 'app', event_payload: '00' }]))
  const [rtmr0, rtmr1, rtmr2, rtmr3] = parseEventLog(log).rtmrs
  return { quote: { body: { rtmr0, rtmr1, rtmr2, rtmr3 } }, input: { eventLog: log } }
}

/** vTPM evidence around a TD that is right but for `bend`. */
function vtpm(bend: { claims?: Bytes; quote?: Partial<QuoteParts>; nonce?: Bytes }): Bend {
  const claims = bend.claims ?? hclClaims()
  const message = bend.quote?.message ?? tpmQuote()
  const quote = { message, signature: signQuote(message), pcrs: PCRS, ...bend.quote }
  const reportData = concat(sha256(claims), new Uint8Array(32))
  return {
    quote: { body: { reportData } },
    mangle: (bytes) => {
      const td_quote = Buffer.from(bytes).toString('base64url')
      const evidence: unknown = JSON.parse(new TextDecoder().decode(vtpmEvidence(hclEnvelope(claims), quote)))
      return utf8(JSON.stringify({ ...(evidence as object), td_quote }))
    },
    input: { nonce: bend.nonce ?? NONCE, expectedReportData: reportData },
  }
}

describe('vTPM evidence around a TD', () => {
  it('is accepted when every link holds, and leaves the software unidentified', async () => {
    const { verdict, findings, checks } = await runBent(vtpm({}))
    expect(verdict).toBe('accepted')
    expect(findings?.paravisorMeasurement).toBe(true)
    expect(checks.filter(({ id }) => id.startsWith('tdx.tpm.')).map(({ status }) => status)).toEqual(
      Array(5).fill('pass'),
    )
  })

  it('is what a nonce asks for: a bare quote answers none', async () => {
    const { verdict, firstFailing } = await runBent({ input: { nonce: NONCE } })
    expect([verdict, firstFailing]).toEqual(['unavailable', 'tdx.hcl.claims'])
  })
})

describe('an HCL envelope', () => {
  it('is bound by the hash of its claims and 32 zero bytes', async () => {
    const claims = utf8('{"keys":[]}')
    const reportData = concat(sha256(claims), new Uint8Array(32))
    const { verdict, findings } = await runBent({
      quote: { body: { reportData } },
      input: { hclReport: hclEnvelope(claims), expectedReportData: reportData },
    })
    expect(verdict).toBe('accepted')
    expect(findings?.paravisorMeasurement).toBe(true)
  })
})
