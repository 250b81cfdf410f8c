/** A simulated world in which everything is right, to be bent one way at a time. */
import { createPrivateKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import * as v from 'valibot'
import {
  type AmdHierarchy,
  type AmdHierarchyOptions,
  type CrlRequest,
  createAmdHierarchy,
  type IssuedLeaf,
  SIMULATED_EPOCH,
  type SimulatedProduct,
  sharedAmdKeys,
  type VcekRequest,
  type VlekRequest,
} from '../../scripts/simulated/amd.js'
import { PRODUCTS } from '../../scripts/simulated/product.js'
import { buildSnpReport, type SnpReportFields, signSnpReport, snpKeyInfo } from '../../scripts/simulated/snp-report.js'
import { type CheckDefinition, Transcript } from '../../verifier/checks.js'
import { sortEndorsements } from '../../verifier/endorsements.js'
import { type Bytes, concat, utf8 } from '../../verifier/protocol/bytes.js'
import { sha256 } from '../../verifier/protocol/hash.js'
import { snpPolicySchema } from '../../verifier/snp/policy.js'
import { type SnpInput, snpPlan, verifySnp } from '../../verifier/snp/verify.js'
import { parseTrustAnchors } from '../../verifier/trust-anchors.js'
import { type Outcome, outcomeOf } from './cases.js'

/** Noon of the one day simulated certificates hold. */
export const NOON: Date = new Date(SIMULATED_EPOCH.getTime() + 12 * 60 * 60 * 1000)
export const CSP_ID = 'CN=cc-simulated.example'
export const REPORT_DATA: Bytes = new Uint8Array(64).fill(0xd7)

/** How one world differs from the right one. */
export interface Bend {
  readonly product?: SimulatedProduct
  readonly hierarchy?: Omit<AmdHierarchyOptions, 'product' | 'keys'>
  /** Signed by a VLEK, with SIGNING_KEY to match. */
  readonly vlek?: Partial<VlekRequest>
  readonly vcek?: Partial<VcekRequest>
  readonly report?: Partial<SnpReportFields>
  /** After signing. */
  readonly mangle?: (report: Bytes) => Bytes
  readonly crl?: CrlRequest | null
  /** Changes to the files handed over, by what they are. */
  readonly files?: (files: WorldFiles) => Readonly<Record<string, Uint8Array>>
  readonly anchored?: false
  readonly policy?: Readonly<Record<string, unknown>>
  readonly input?: Partial<SnpInput>
  /** Wraps the report: the default is none. */
  readonly evidence?: (report: Bytes) => Bytes
}

export interface WorldFiles extends Readonly<Record<string, Uint8Array>> {
  readonly ark: Bytes
  readonly ask: Bytes
  readonly asvk: Bytes
  readonly vek: Bytes
}

export interface World {
  readonly amd: AmdHierarchy
  readonly leaf: IssuedLeaf
  readonly report: Bytes
  readonly input: SnpInput
  readonly plan: readonly CheckDefinition[]
}

/** 2048-bit keys, shared by every world of the process: their making is what takes time. */
const keys = await sharedAmdKeys('snp checks', 2048)

export function makeWorld(bend: Bend = {}): World {
  const product = bend.product ?? 'Genoa'
  const facts = PRODUCTS[product]
  const amd = createAmdHierarchy({ product, keys, ...bend.hierarchy })
  const hwid = new Uint8Array(facts.hwidBytes).map((_, i) => 0xc1 + i)
  const leaf =
    bend.vlek === undefined
      ? amd.issueVcek({ tcb: facts.tcb, hwid, ...bend.vcek })
      : amd.issueVlek({ tcb: facts.tcb, cspId: CSP_ID, ...bend.vlek })
  const fields: Partial<SnpReportFields> = {
    product,
    policy: 0x3001fn,
    reportData: REPORT_DATA,
    ...(bend.vlek === undefined ? { chipId: hwid } : { keyInfo: snpKeyInfo({ signingKey: 1 }) }),
    ...bend.report,
  }
  const signed = signSnpReport(buildSnpReport(fields), leaf.privateKey)
  const report = bend.mangle?.(signed) ?? signed
  const crl: Readonly<Record<string, Uint8Array>> = bend.crl === null ? {} : { crl: amd.crl(bend.crl ?? {}) }
  const given = { ark: amd.arkDer, ask: amd.askDer, asvk: amd.asvkDer, vek: leaf.der, ...crl }
  const files = bend.files?.(given) ?? given
  const evidence = bend.evidence?.(report) ?? report
  const input: SnpInput = {
    report: evidence,
    endorsements: sortEndorsements(Object.entries(files).map(([name, bytes]) => ({ name, bytes }))),
    anchors: bend.anchored === false ? [] : parseTrustAnchors(amd.arkDer),
    now: NOON,
    revocation: 'required',
    policy: v.parse(snpPolicySchema, bend.policy ?? {}),
    expectedReportData: REPORT_DATA,
    ...bend.input,
  }
  return { amd, leaf, report, input, plan: snpPlan(evidence, input.nonce !== undefined) }
}

export async function judge(bend: Bend = {}): Promise<Outcome> {
  const { input, plan } = makeWorld(bend)
  const t = new Transcript(plan)
  return outcomeOf(t, await verifySnp(t, input))
}

const ak = generateKeyPairSync('rsa', { modulusLength: 2048 })
export const NONCE: Bytes = utf8('a nonce of the caller')
export const PCRS: readonly Bytes[] = Array.from({ length: 24 }, (_, i) => new Uint8Array(32).fill(i))

export function hclClaims(kid = 'HCLAkPub'): Bytes {
  const { n, e } = ak.publicKey.export({ format: 'jwk' })
  return utf8(JSON.stringify({ keys: [{ kid, kty: 'RSA', key_ops: ['sign'], n, e }] }))
}

export function reportDataFor(claims: Bytes): Bytes {
  return concat(sha256(claims), new Uint8Array(32))
}

/** An HCL envelope around a report. */
export function hclEnvelope(report: Bytes, claims: Bytes): Bytes {
  const out = new Uint8Array(2600)
  const view = new DataView(out.buffer)
  out.set(utf8('HCLA'))
  view.setUint32(4, 2, true)
  view.setUint32(8, 32 + 1184 + 20 + claims.length, true)
  view.setUint32(12, 2, true)
  out.set(report, 32)
  for (const [i, value] of [20 + claims.length, 1, 2, 1, claims.length].entries()) {
    view.setUint32(1216 + 4 * i, value, true)
  }
  out.set(claims, 1236)
  return out
}

/** TPMS_ATTEST over PCRs 0 to 23 of the SHA-256 bank. */
export function tpmQuote(nonce: Bytes = NONCE, magic = 0xff544347): Bytes {
  const u16 = (value: number) => new Uint8Array([value >> 8, value & 0xff])
  const head = new Uint8Array(4)
  new DataView(head.buffer).setUint32(0, magic)
  const digest = sha256(concat(...PCRS))
  const selection = new Uint8Array([0, 0, 0, 1, 0, 0x0b, 3, 0xff, 0xff, 0xff])
  return concat(head, u16(0x8018), u16(0), u16(nonce.length), nonce, new Uint8Array(25), selection, u16(32), digest)
}

export function signQuote(message: Bytes, key: KeyObject = ak.privateKey): Bytes {
  return new Uint8Array(sign('sha256', message, createPrivateKey(key.export({ type: 'pkcs8', format: 'pem' }))))
}

export interface QuoteParts {
  readonly message: Bytes
  readonly signature: Bytes
  readonly pcrs: readonly Bytes[]
}

export function vtpmEvidence(envelope: Bytes, quote: QuoteParts): Bytes {
  const hex = (bytes: Bytes) => Buffer.from(bytes).toString('hex')
  return utf8(
    JSON.stringify({
      version: 1,
      hcl_report: Buffer.from(envelope).toString('base64url'),
      tpm_quote: { message: hex(quote.message), signature: hex(quote.signature), pcrs: quote.pcrs.map(hex) },
    }),
  )
}
