/** One negative for every SNP check: a world bent in one way, in which that check is the only failure. */
import { describe, expect, it } from 'vitest'
import { AMD_EXTENSION, CA_EXTENSION, encodeSpl } from '../../scripts/simulated/amd-extensions.js'
import { encodeDer, ia5String, octetString, sequence, taggedPrimitive } from '../../scripts/simulated/der.js'
import { PRODUCTS } from '../../scripts/simulated/product.js'
import { snpKeyInfo, snpPlatformInfo, snpPolicy } from '../../scripts/simulated/snp-report.js'
import type { Bytes } from '../../verifier/protocol/bytes.js'
import { ALL_SNP_CHECKS } from '../../verifier/snp/checks.js'
import {
  type Bend,
  hclClaims,
  hclEnvelope,
  judge,
  NONCE,
  NOON,
  PCRS,
  type QuoteParts,
  reportDataFor,
  signQuote,
  tpmQuote,
  vtpmEvidence,
} from './world.js'

const HOUR = 60 * 60 * 1000
const OTHER = (bytes: number): string => 'ab'.repeat(bytes)
const TCB = PRODUCTS.Genoa.tcb
const HWID = new Uint8Array(64).fill(0x5a)
const corrupt = { signature: { corrupt: true } } as const

function flipped(at: number): (report: Bytes) => Bytes {
  return (report) => report.map((byte, i) => (i === at ? byte ^ 1 : byte))
}

/** vTPM evidence that is right but for `bend`. */
function vtpm(bend: { claims?: Bytes; bound?: Bytes; quote?: Partial<QuoteParts>; nonce?: Bytes }): Bend {
  const claims = bend.claims ?? hclClaims()
  const message = bend.quote?.message ?? tpmQuote()
  const quote = { message, signature: signQuote(message), pcrs: PCRS, ...bend.quote }
  const reportData = reportDataFor(bend.bound ?? claims)
  return {
    report: { reportData },
    evidence: (report) => vtpmEvidence(hclEnvelope(report, claims), quote),
    input: { nonce: bend.nonce ?? NONCE, expectedReportData: reportData },
  }
}

const NEGATIVES: Readonly<Record<string, Bend>> = {
  'snp.report.parse': { mangle: (report) => report.slice(0, 1183) },
  'snp.report.version': { report: { version: 6 } },
  'snp.report.signature-algorithm': { report: { signatureAlgo: 2 } },
  'snp.report.signing-key': { report: { keyInfo: snpKeyInfo({ signingKey: 7 }) } },
  'snp.report.signature-encoding': { mangle: flipped(0x330) },
  'snp.product.known': { report: { cpuidFamId: 0x17 } },
  'snp.vek.present': {
    files: (files) => ({ ...files, vek: files.vek.map((byte, i) => (i === 0 ? byte ^ 0x80 : byte)) }),
  },
  'snp.chain.complete': { files: ({ ark, vek }) => ({ ark, vek }) },
  'snp.chain.root': { anchored: false },
  'snp.chain.root-signature': { hierarchy: { overrides: { ark: corrupt } } },
  'snp.chain.issuer-signature': { hierarchy: { overrides: { ask: corrupt } } },
  'snp.chain.vek-signature': { vcek: { overrides: corrupt } },
  'snp.chain.issuer': { vcek: { issuer: 'asvk' } },
  'snp.chain.validity': { vcek: { notAfter: new Date(NOON.getTime() - HOUR) } },
  'snp.crl.present': { crl: null },
  'snp.crl.issuer': {
    crl: {
      extensions: [
        {
          oid: CA_EXTENSION.authorityKeyIdentifier,
          value: encodeDer(sequence(taggedPrimitive(0, new Uint8Array(20)))),
        },
      ],
    },
  },
  'snp.crl.signature': { crl: { signature: { corrupt: true } } },
  'snp.crl.window': { crl: { nextUpdate: new Date(NOON.getTime() - HOUR) } },
  'snp.chain.revocation': { crl: { revokedSerials: [PRODUCTS.Genoa.askSerial] } },
  'snp.vek.role': { vlek: {}, report: { keyInfo: snpKeyInfo({ signingKey: 0 }) } },
  'snp.vek.key': { vcek: { curve: 'P-256' } },
  'snp.vek.extensions': { vcek: { overrides: { extensions: [{ oid: AMD_EXTENSION.spl5, omit: true }] } } },
  'snp.vek.product': {
    vcek: { overrides: { extensions: [{ oid: AMD_EXTENSION.productName, value: encodeDer(ia5String('Milan-B0')) }] } },
  },
  'snp.report.signature': { mangle: flipped(0x2a0) },
  'snp.product.issuer': { report: { cpuidFamId: 0x19, cpuidModId: 0x01, cpuidStep: 0x01 } },
  'snp.vek.tcb': { vcek: { tcb: { ...TCB, ucode: TCB.ucode - 1 } } },
  'snp.vek.hwid': { vcek: { hwid: HWID } },
  'snp.product.allowed': { policy: { products: ['Turin'] } },
  'snp.vek.signer': { policy: { signers: ['VLEK'] } },
  'snp.vek.csp-id': { vlek: {}, policy: { cspIds: ['CN=another'] } },
  'snp.chip-id': { policy: { chipIds: [OTHER(64)] } },
  'snp.policy.reserved': { report: { policy: snpPolicy() | (1n << 30n) } },
  'snp.policy.debug': { report: { policy: snpPolicy({ debug: true }) } },
  'snp.policy.migrate-ma': { report: { policy: snpPolicy({ migrateMa: true }) } },
  'snp.policy.smt': { policy: { guestPolicy: { smt: 'forbidden' } } },
  'snp.policy.cxl': { report: { policy: snpPolicy({ cxlAllow: true }) } },
  'snp.policy.single-socket': { policy: { guestPolicy: { singleSocket: 'required' } } },
  'snp.policy.aes-xts': { policy: { guestPolicy: { memAes256Xts: 'required' } } },
  'snp.policy.rapl': { policy: { guestPolicy: { raplDis: 'required' } } },
  'snp.policy.ciphertext-hiding': { policy: { guestPolicy: { ciphertextHiding: 'required' } } },
  'snp.policy.page-swap': { policy: { guestPolicy: { pageSwapDisable: 'required' } } },
  'snp.policy.abi': { policy: { minAbi: { major: 0, minor: 32 } } },
  'snp.policy.vmpl': { report: { vmpl: 1 } },
  'snp.tcb.floor': { policy: { tcbFloor: { bootLoader: 0, tee: 0, snp: 0, microcode: TCB.ucode + 1 } } },
  'snp.tcb.provisional': {
    report: { currentTcb: { ...TCB, snp: TCB.snp + 1 } },
    policy: { provisionalFirmware: 'forbidden' },
  },
  'snp.platform.smt': { policy: { platform: { smt: 'forbidden' } } },
  'snp.platform.tsme': { policy: { platform: { tsme: 'required' } } },
  'snp.platform.ecc': {
    report: { platformInfo: snpPlatformInfo({ eccEn: false }) },
    policy: { platform: { ecc: 'required' } },
  },
  'snp.platform.rapl': { policy: { platform: { raplDis: 'required' } } },
  'snp.platform.ciphertext-hiding': { policy: { platform: { ciphertextHiding: 'required' } } },
  'snp.platform.alias-check': {
    report: { platformInfo: snpPlatformInfo({ aliasCheckComplete: false }) },
    policy: { platform: { aliasCheck: 'required' } },
  },
  'snp.platform.tio': {
    report: { platformInfo: snpPlatformInfo({ tioEn: true }) },
    policy: { platform: { tio: 'forbidden' } },
  },
  'snp.platform.mitigations': { policy: { mitigations: { current: '0x4' } } },
  'snp.report-data': { input: { expectedReportData: new Uint8Array(64).fill(1) } },
  'snp.host-data': { policy: { hostData: [OTHER(32)] } },
  'snp.guest-svn': { policy: { minGuestSvn: 1 } },
  'snp.family-id': { policy: { familyIds: [OTHER(16)] } },
  'snp.image-id': { policy: { imageIds: [OTHER(16)] } },
  'snp.report-id': { policy: { reportIds: [OTHER(32)] } },
  'snp.id-key-digest': { policy: { idKeyDigests: [OTHER(48)] } },
  'snp.author-key-digest': { policy: { authorKeyDigests: [OTHER(48)] } },
  'snp.hcl.claims': vtpm({ bound: hclClaims('other') }),
  'snp.tpm.key': vtpm({ claims: hclClaims('HCLEkPub') }),
  'snp.tpm.quote': vtpm({ quote: { message: tpmQuote(NONCE, 0x12345678) } }),
  'snp.tpm.signature': vtpm({ quote: { signature: new Uint8Array(256).fill(1) } }),
  'snp.tpm.nonce': vtpm({ nonce: new Uint8Array([1]) }),
  'snp.tpm.pcrs': vtpm({ quote: { pcrs: [...PCRS.slice(0, 23), new Uint8Array(32)] } }),
}

/** These say that something is missing, which is neither success nor failure. */
const ONLY_EVER_MISSING: readonly string[] = ['snp.chain.complete', 'snp.crl.present']

describe('a negative for every check', () => {
  it('covers the registry, and nothing else', () => {
    expect(Object.keys(NEGATIVES).sort()).toEqual(ALL_SNP_CHECKS.map((check) => check.id).sort())
  })

  it.each(Object.entries(NEGATIVES))('%s', async (id, bend) => {
    const { checks, failing, firstFailing, verdict } = await judge(bend)
    expect(firstFailing).toBe(id)
    expect(failing).toEqual(ONLY_EVER_MISSING.includes(id) ? [] : [id])
    expect(verdict).toBe(
      id === 'snp.report.parse' ? 'malformed' : ONLY_EVER_MISSING.includes(id) ? 'unavailable' : 'rejected',
    )
    // Whatever else did not pass was skipped because of this check, directly or through another.
    const caused = new Set([id])
    for (const check of checks.filter(({ status, id: other }) => status === 'skip' && other !== id)) {
      expect(check.reason).toMatch(/^needs /)
      expect(caused).toContain(check.reason?.slice('needs '.length))
      caused.add(check.id)
    }
  })
})

describe('worlds in which nothing is wrong', () => {
  it.each(['Milan', 'Genoa', 'Turin'] as const)('%s, VCEK, strict policy', async (product) => {
    const { verdict, checks, findings } = await judge({ product })
    expect(checks.filter((check) => check.status !== 'pass')).toEqual([])
    expect({ verdict, product: findings?.product, privateAnchor: findings?.privateAnchor }).toEqual({
      verdict: 'accepted',
      product,
      privateAnchor: true,
    })
  })

  it.each(['Milan', 'Genoa', 'Turin'] as const)('%s, VLEK, strict policy', async (product) => {
    const { verdict, findings } = await judge({ product, vlek: {} })
    expect(verdict).toBe('accepted')
    const open = findings?.notProven.map((item) => item.id)
    expect(open).toEqual(expect.arrayContaining(['snp.vlek-shared', 'snp.chip-id-masked']))
    expect(open?.includes('snp.milan-chip-secrets')).toBe(product === 'Milan')
  })

  it('vTPM evidence', async () => {
    const { verdict, findings } = await judge(vtpm({}))
    expect({ verdict, paravisor: findings?.paravisorMeasurement }).toEqual({ verdict: 'accepted', paravisor: true })
  })

  it.each([2, 3, 4, 5])('report version %i', async (version) => {
    expect((await judge({ report: { version } })).verdict).toBe('accepted')
  })
})

describe('the leaf’s extensions', () => {
  const der = encodeDer
  const edits = {
    'a missing hwID': [{ oid: AMD_EXTENSION.hwid, omit: true }],
    'a missing snpSPL': [{ oid: AMD_EXTENSION.snpSpl, omit: true }],
    'a repeated hwID': [{ oid: AMD_EXTENSION.hwid, duplicate: true }],
    'a hwID one byte short': [{ oid: AMD_EXTENSION.hwid, value: new Uint8Array(63) }],
    'a CSP_ID on a VCEK': [{ oid: AMD_EXTENSION.cspId, value: der(ia5String('CN=x')) }],
    'an FMC level on Genoa': [{ oid: AMD_EXTENSION.fmcSpl, value: encodeSpl(0) }],
    'structVersion 1 on Genoa': [{ oid: AMD_EXTENSION.structVersion, value: encodeSpl(1) }],
    'a level above 255': [{ oid: AMD_EXTENSION.blSpl, value: encodeSpl(256) }],
    'a padded level': [{ oid: AMD_EXTENSION.blSpl, value: new Uint8Array([2, 2, 0, 10]) }],
    'a level with bytes after it': [{ oid: AMD_EXTENSION.blSpl, value: new Uint8Array([2, 1, 10, 0]) }],
    'a negative level': [{ oid: AMD_EXTENSION.ucodeSpl, value: new Uint8Array([2, 1, 0x96]) }],
    'an unknown critical extension': [{ oid: '1.2.3.4', value: new Uint8Array([5, 0]), critical: true }],
  } as const

  it.each(Object.entries(edits))('%s is rejected', async (_name, extensions) => {
    const { verdict, findings } = await judge({ vcek: { overrides: { extensions } } })
    expect(verdict).not.toBe('accepted')
    expect(findings).toBeDefined()
  })

  it('a hwID in an OCTET STRING is read', async () => {
    const hwid = new Uint8Array(64).map((_, i) => 0xc1 + i)
    const extensions = [{ oid: AMD_EXTENSION.hwid, value: der(octetString(hwid)) }]
    expect((await judge({ vcek: { overrides: { extensions } } })).verdict).toBe('accepted')
  })

  it.each([0x02, 0x04])('a raw hwID beginning with 0x0%i is not taken for a wrapper', async (first) => {
    const hwid = new Uint8Array(64).fill(7)
    hwid.set([first, 62])
    expect((await judge({ vcek: { hwid }, report: { chipId: hwid } })).verdict).toBe('accepted')
  })
})

describe('signing', () => {
  it.each([
    ['PKCS#1 v1.5', { scheme: 'pkcs1' }],
    ['SHA-256', { hash: 'sha256' }],
    ['another salt length', { saltLength: 32 }],
  ] as const)('a chain signed with %s is rejected', async (_name, signature) => {
    const { failing } = await judge({ vcek: { overrides: { signature } } })
    expect(failing).toEqual(['snp.chain.vek-signature'])
  })

  it('MASK_CHIP_KEY on a VCEK-signed report is rejected', async () => {
    const { failing } = await judge({ report: { keyInfo: snpKeyInfo({ maskChipKey: true }) } })
    expect(failing).toEqual(['snp.report.signing-key'])
  })

  it('a zero signature is rejected', async () => {
    const { failing } = await judge({ mangle: (report) => report.fill(0, 0x2a0) })
    expect(failing).toEqual(['snp.report.signature-encoding'])
  })

  it('a masked CHIP_ID is rejected unless the policy allows it, by name', async () => {
    const masked: Bend = { report: { chipId: new Uint8Array(64) } }
    expect((await judge(masked)).failing).toEqual(['snp.vek.hwid'])
    const allowed = await judge({ ...masked, policy: { maskedChipId: 'allowed' } })
    expect(allowed.verdict).toBe('accepted')
    expect(allowed.checks.find((check) => check.id === 'snp.vek.hwid')?.status).toBe('skip')
  })

  it('an author-key pin of zeros means that there is no author key', async () => {
    const policy = { authorKeyDigests: ['00'.repeat(48)] }
    expect((await judge({ policy })).verdict).toBe('accepted')
    const set = { ...PINNED_AUTHOR, report: { authorKeyDigest: new Uint8Array(48).fill(0xab) } }
    expect((await judge(set)).failing).toEqual(['snp.author-key-digest'])
    const enabled = { ...set, report: { ...set.report, keyInfo: snpKeyInfo({ authorKeyEn: true }) } }
    expect((await judge(enabled)).verdict).toBe('accepted')
  })
})

const PINNED_AUTHOR = { policy: { authorKeyDigests: [OTHER(48)] } }
