/**
 * Finding the chain under a report: which VEK, which ASK or ASVK, which ARK (AMD 57230, "Certificate chain").
 *
 * Nothing is judged here. Candidates come from untrusted pools, so the best one is chosen for checks that then hold it to
 * every rule; choosing badly can only make them fail.
 */
import { type EndorsementPool, preferCertificates } from '../endorsements.js'
import { type Bytes, equalBytes, includesBytes, isZero, toHex } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { findPinnedRoot } from '../roots.js'
import { isSignedBy } from '../signature.js'
import type { TrustAnchor } from '../trust-anchors.js'
import { type Certificate, namesIssuer } from '../x509.js'
import { type Product, productOfCpuid } from './product.js'
import type { SnpReport } from './report.js'
import { isReportSignedBy, type P1363Signature } from './report-signature.js'
import { componentsDiffering, describeTcb, parseTcb } from './tcb.js'
import { parseIssuerName, peekHwid, readVekClaims, roleOfLeaf, type VekRole } from './vek.js'

export interface VekSources {
  /** Everything at hand, the evidence's own certificates included. */
  readonly pool: EndorsementPool
  /** What came with the evidence. */
  readonly carried: EndorsementPool
}

export type VekChoice =
  | { readonly found: Certificate; readonly why: string }
  /** A VEK was handed over, and it is broken. */
  | { readonly damaged: string }
  | { readonly missing: string }

/** Most signatures tried to find a signer: bounds what hostile pools can cost. */
const MAX_CANDIDATES = 64

/**
 * The VEK to hold the report to: the one made for this chip, TCB and role; else one whose key signed the report whatever
 * it claims to be; else one the evidence itself carries; else the only one there is; else one that shows the report to be
 * altered rather than unknown, because it is the same chip's. Several strangers' VEKs are no endorsement of this report: it
 * is then missing.
 */
export async function chooseVek(
  report: SnpReport,
  signature: P1363Signature | undefined,
  sources: VekSources,
  now: Date,
): Promise<VekChoice> {
  const veks = preferCertificates(
    sources.pool.certificates.filter((certificate) => roleOfLeaf(certificate) !== undefined),
    now,
  )
  const fitting = veks.filter((vek) => fits(vek, report))
  const [first] = fitting
  if (first !== undefined) {
    const oneKey = fitting.every((vek) => vek.spkiSha256Hex === first.spkiSha256Hex)
    const found = oneKey ? first : ((await signerAmong(fitting, report, signature)) ?? first)
    return { found, why: 'made for this chip and TCB' }
  }
  const signer = await signerAmong(veks, report, signature)
  const carried = sources.carried.certificates.find((certificate) => roleOfLeaf(certificate) !== undefined)
  if (signer !== undefined) return { found: signer, why: 'its key signed the report' }
  if (carried !== undefined) return { found: carried, why: 'came with the evidence' }
  const [only] = veks
  if (only !== undefined && veks.length === 1) return { found: only, why: 'the only one at hand' }
  const nearest = veks.find((vek) => isNear(vek, report))
  if (nearest !== undefined) return { found: nearest, why: 'of this chip, for another TCB or role' }
  const damaged = sources.carried.unrecognised[0] ?? sources.pool.unrecognised.find(({ bytes }) => namesVek(bytes))
  if (damaged !== undefined) return { damaged: `${damaged.name}: ${damaged.reason}` }
  return { missing: `no ${describeNeed(report)} among ${veks.length} VCEK and VLEK certificates at hand` }
}

/** The intermediate under which a VEK stands, preferring one whose key really signed it. */
export async function chooseIssuer(
  vek: Certificate,
  pool: EndorsementPool,
  now: Date,
): Promise<Certificate | undefined> {
  const candidates = candidatesFor(vek, pool.certificates, now)
  return (await firstSigner(vek, candidates)) ?? candidates[0]
}

/** The root under which an intermediate stands: a trusted signer, any signer, a trusted namesake, a namesake. */
export async function chooseRoot(
  issuer: Certificate,
  pool: EndorsementPool,
  anchors: readonly TrustAnchor[],
  now: Date,
): Promise<Certificate | undefined> {
  const all = [...anchors.map((anchor) => anchor.certificate), ...pool.certificates]
  const candidates = candidatesFor(issuer, all, now)
  const trusted = candidates.filter((root) => trustOf(root, anchors) !== undefined)
  return (await firstSigner(issuer, trusted)) ?? (await firstSigner(issuer, candidates)) ?? trusted[0] ?? candidates[0]
}

export type Trust = { readonly pinned: true; readonly product: string } | { readonly pinned: false }

/** Why a root is trusted: its key is AMD's, or the policy adds it. A matching name is no reason. */
export function trustOf(root: Certificate, anchors: readonly TrustAnchor[]): Trust | undefined {
  const pin = findPinnedRoot('snp', root.spkiSha256Hex)
  if (pin?.product !== undefined) return { pinned: true, product: pin.product }
  const added = anchors.some((anchor) => anchor.kind === 'snp' && anchor.spkiSha256Hex === root.spkiSha256Hex)
  return added ? { pinned: false } : undefined
}

/** The role SIGNING_KEY names. */
export function roleOfReport(report: SnpReport): VekRole | undefined {
  return report.signingKey === 0 ? 'VCEK' : report.signingKey === 1 ? 'VLEK' : undefined
}

/** What would have to be fetched, for messages. */
function describeNeed(report: SnpReport): string {
  const product = report.cpuid === undefined ? undefined : productOfCpuid(report.cpuid)
  const layout = product?.tcbLayout ?? 'legacy'
  const chip = roleOfReport(report) === 'VLEK' ? '' : ` for chip ${toHex(report.chipId.subarray(0, 8))}…`
  return `${roleOfReport(report) ?? 'VEK'}${chip} at TCB ${describeTcb(parseTcb(report.reportedTcb, layout))}`
}

function fits(vek: Certificate, report: SnpReport): boolean {
  const issuer = parseIssuerName(vek.issuerCommonName)
  const expected = report.cpuid === undefined ? undefined : productOfCpuid(report.cpuid)
  if (issuer === undefined || (expected !== undefined && expected !== issuer.product)) return false
  if (roleOfLeaf(vek) !== roleOfReport(report)) return false
  try {
    const claims = readVekClaims(vek, issuer.product)
    const tcb = parseTcb(report.reportedTcb, issuer.product.tcbLayout)
    if (componentsDiffering(claims.tcb, tcb).length > 0) return false
    return claims.role === 'VLEK' || isZero(report.chipId) || chipIdIs(report.chipId, peekHwid(vek))
  } catch (error) {
    if (error instanceof FormatError) return false
    throw error
  }
}

/** How many bytes of a hwID may differ before it is another chip's: they are random, so chance does not come close. */
const NEAR_BYTES = { 64: 8, 8: 1 } as const

/** Whether this is evidently the report's own VEK, and the report (or the firmware) has changed since. */
function isNear(vek: Certificate, report: SnpReport): boolean {
  const product = parseIssuerName(vek.issuerCommonName)?.product
  const hwid = peekHwid(vek)
  if (product === undefined) return false
  if (hwid === undefined) return isZero(report.chipId) && differences(vek, report, product) <= 1
  if (hwid.length !== product.hwidBytes) return false
  return hwid.filter((byte, i) => byte !== report.chipId[i]).length <= NEAR_BYTES[product.hwidBytes]
}

/** Components in which a VLEK's levels differ from REPORTED_TCB. */
function differences(vlek: Certificate, report: SnpReport, product: Product): number {
  try {
    const reported = parseTcb(report.reportedTcb, product.tcbLayout)
    return componentsDiffering(readVekClaims(vlek, product).tcb, reported).length
  } catch (error) {
    if (error instanceof FormatError) return Number.POSITIVE_INFINITY
    throw error
  }
}

/** CHIP_ID against a hwID: the leading bytes equal, the rest zero. */
export function chipIdIs(chipId: Bytes, hwid: Bytes | undefined): boolean {
  if (hwid === undefined || hwid.length > chipId.length) return false
  return equalBytes(chipId.subarray(0, hwid.length), hwid) && isZero(chipId.subarray(hwid.length))
}

async function signerAmong(
  veks: readonly Certificate[],
  report: SnpReport,
  signature: P1363Signature | undefined,
): Promise<Certificate | undefined> {
  if (signature === undefined) return undefined
  for (const vek of veks.slice(0, MAX_CANDIDATES)) {
    if (await isReportSignedBy(report, signature, vek)) return vek
  }
  return undefined
}

function candidatesFor(subject: Certificate, certificates: readonly Certificate[], now: Date): readonly Certificate[] {
  const named = certificates.filter((candidate) => namesIssuer(subject, candidate))
  return preferCertificates(named, now).slice(0, MAX_CANDIDATES)
}

async function firstSigner(subject: Certificate, candidates: readonly Certificate[]): Promise<Certificate | undefined> {
  for (const candidate of candidates) {
    if (await isSignedBy(subject, candidate, 'rsassa-pss-sha384')) return candidate
  }
  return undefined
}

/** DER of a commonName's value, UTF8String or PrintableString, whatever the bytes around it have become. */
const VEK_NAMES: readonly Bytes[] = ['SEV-VCEK', 'SEV-VLEK'].flatMap((name) =>
  [0x0c, 0x13].map((tag) => new Uint8Array([tag, name.length, ...new TextEncoder().encode(name)])),
)

/** Whether unreadable bytes were evidently meant as a VEK certificate: an endorsement that is wrong, not one that is absent. */
function namesVek(bytes: Bytes): boolean {
  if (bytes.length > 16 * 1024) return false
  return VEK_NAMES.some((name) => includesBytes(bytes, name))
}
