/**
 * The SNP recipe: from evidence to findings, one step a check, in the order of the registry.
 *
 * Authentic comes before acceptable, and nothing the report says is acted on before its signature verifies, except to
 * choose which certificates to try. Hostile bytes become failed checks; nothing here throws on them. What is not decided
 * here: whether MEASUREMENT is software anyone knows.
 */
import { type CheckDefinition, type Finding, fail, pass, type Transcript, unavailable } from '../checks.js'
import { type EndorsementPool, mergePools, sortEndorsements } from '../endorsements.js'
import type { Bytes } from '../protocol/bytes.js'
import type { TrustAnchor } from '../trust-anchors.js'
import type { Certificate } from '../x509.js'
import { startVerifying } from './ahead.js'
import { checkGuestPolicy, checkPlatform, checkReferenceValues, checkTcb, matchPin } from './appraise.js'
import {
  type Chain,
  checkChain,
  checkVek,
  knownAlgorithm,
  knownProduct,
  knownVersion,
  matchHwid,
  matchIssuerProduct,
  matchTcb,
  saysSigned,
} from './authenticity.js'
import { checkHcl, checkVtpm } from './azure-checks.js'
import { chooseIssuer, chooseRoot, chooseVek, roleOfReport } from './chain.js'
import { HCL_CHECKS, SNP_CHECKS, VTPM_CHECKS } from './checks.js'
import { looksLikeSnpContainer, readSnpEvidence, type SnpEvidence } from './evidence.js'
import { describeFindings, type SnpFindings } from './findings.js'
import { looksLikeHcl } from './hcl.js'
import type { SnpPolicy } from './policy.js'
import type { Product } from './product.js'
import { parseSnpReport, type SnpReport } from './report.js'
import { isReportSignedBy, readReportSignature } from './report-signature.js'
import { checkRevocation, type Revocation } from './revocation.js'
import type { VekClaims } from './vek.js'

export type { SnpFindings } from './findings.js'

export interface SnpInput {
  /** Raw report, HCL envelope or vTPM evidence, binary. Untrusted. */
  readonly report: Bytes
  /** Certificates that came with the evidence, DER, PEM or a certificate table each. Untrusted. */
  readonly certificates?: readonly Bytes[]
  /** Untrusted until chained to a root. */
  readonly endorsements: EndorsementPool
  /** Roots besides AMD's that the policy already authorised. */
  readonly anchors: readonly TrustAnchor[]
  /** The instant every window is judged by: the caller's clock, never the evidence's. */
  readonly now: Date
  readonly revocation: Revocation
  readonly policy: SnpPolicy
  /** 1 to 64 bytes; shorter is padded with zeros. Omitting it lets any recorded report pass: the check is then waived. */
  readonly expectedReportData?: Bytes
  /** Qualifying data a TPM quote must carry. Omitting it lets a recorded quote pass. Without a quote it is unavailable. */
  readonly nonce?: Bytes
}

/** The plan for this piece of evidence: SNP_CHECKS, and what its container adds. `withNonce`: the caller expects a quote. */
export function snpPlan(evidence: Uint8Array, withNonce = false): readonly CheckDefinition[] {
  if (!looksLikeSnpContainer(evidence)) return withNonce ? [...SNP_CHECKS, ...HCL_CHECKS, ...VTPM_CHECKS] : SNP_CHECKS
  const quoted = withNonce || !looksLikeHcl(evidence)
  return [...SNP_CHECKS, ...HCL_CHECKS, ...(quoted ? VTPM_CHECKS : [])]
}

/**
 * Carries out every SNP check of the transcript's plan. Returns what was found, also about rejected evidence; undefined
 * only when there is no report to speak of. Whether anything is accepted is the transcript's verdict.
 */
export async function verifySnp(t: Transcript, input: SnpInput): Promise<SnpFindings | undefined> {
  const { now, policy, anchors } = input
  const evidence = t.check('snp.report.parse', () => readEvidence(t, input.report))
  if (evidence === undefined) return undefined
  const report = parseSnpReport(evidence.report)

  t.check('snp.report.version', () => knownVersion(report))
  t.check('snp.report.signature-algorithm', () => knownAlgorithm(report))
  t.check('snp.report.signing-key', () => saysSigned(report))
  const signature = t.check('snp.report.signature-encoding', () => readReportSignature(report))
  t.check('snp.product.known', () => knownProduct(report))

  const carried = sortEndorsements(
    [...evidence.certificates, ...(input.certificates ?? [])].map((bytes, i) => ({ name: `evidence.${i}`, bytes })),
  )
  const pool = mergePools(carried, input.endorsements)
  const vek = await t.checkAsync('snp.vek.present', async () => {
    const choice = await chooseVek(report, signature, { pool, carried }, now)
    if ('found' in choice) return pass(choice.found, { actual: `${describeLeaf(choice.found)}, ${choice.why}` })
    return 'damaged' in choice ? fail(`the VEK certificate is damaged: ${choice.damaged}`) : unavailable(choice.missing)
  })
  if (vek !== undefined) startVerifying(vek, pool, anchors, input.revocation)
  // Started here for the same reason; `snp.report.signature` waits for it.
  const reportSigned =
    vek === undefined || signature === undefined ? Promise.resolve(false) : isReportSignedBy(report, signature, vek)
  const chain = await t.checkAsync('snp.chain.complete', () => completeChain(vek, pool, anchors, now))
  const product = chain && (await checkChain(t, chain, anchors, now))
  const lists = chain
    ? await checkRevocation(t, input.revocation, [chain.vek, chain.issuer, chain.root], chain.root, pool, now)
    : []

  const claims = await checkVek(t, report, vek, product)
  await t.checkAsync('snp.report.signature', async () =>
    (await reportSigned) ? pass() : fail('the signature does not verify over the received bytes'),
  )
  t.check('snp.product.issuer', () => matchIssuerProduct(report, product))
  if (claims !== undefined && product !== undefined) {
    t.check('snp.vek.tcb', () => matchTcb(report, claims, product))
    t.check('snp.vek.hwid', () => matchHwid(report, claims, policy))
  }
  appraise(t, report, claims, product, input)
  await checkContainer(t, report, evidence, input.nonce)
  return describeFindings(report, evidence, product, chain, lists, anchors)
}

/** An envelope in a plan without the envelope's checks would pass unchecked: that is refused, whoever forgot it. */
function readEvidence(t: Transcript, bytes: Bytes): Finding<SnpEvidence> {
  const evidence = readSnpEvidence(bytes)
  const unplanned = evidence.hcl !== undefined && !t.plans('snp.hcl.claims')
  return unplanned ? fail('this is an envelope, and only a bare report is expected here') : pass(evidence)
}

function describeLeaf({ subjectCommonName, issuerCommonName }: Certificate): string {
  return `${subjectCommonName ?? 'unnamed'} issued by ${issuerCommonName ?? 'unnamed'}`
}

async function completeChain(
  vek: Certificate | undefined,
  pool: EndorsementPool,
  anchors: readonly TrustAnchor[],
  now: Date,
): Promise<Finding<Chain>> {
  if (vek === undefined) return unavailable('no VEK')
  const issuer = await chooseIssuer(vek, pool, now)
  if (issuer === undefined) return unavailable(`no certificate of ${vek.issuerCommonName ?? 'the issuer'} at hand`)
  const root = await chooseRoot(issuer, pool, anchors, now)
  if (root === undefined) return unavailable(`no certificate of ${issuer.issuerCommonName ?? 'the root'} at hand`)
  return pass({ vek, issuer, root })
}

function appraise(
  t: Transcript,
  report: SnpReport,
  claims: VekClaims | undefined,
  product: Product | undefined,
  { policy, expectedReportData }: SnpInput,
): void {
  if (product !== undefined) t.check('snp.product.allowed', () => matchProduct(product, policy))
  t.check('snp.vek.signer', () => matchSigner(report, policy))
  if (claims !== undefined) t.check('snp.vek.csp-id', () => matchCspId(claims, policy))
  t.check('snp.chip-id', () => matchPin(report.chipId, policy.chipIds))
  checkGuestPolicy(t, report, policy)
  if (product !== undefined) checkTcb(t, report, product, policy)
  checkPlatform(t, report, policy)
  checkReferenceValues(t, report, policy, expectedReportData)
}

function matchProduct({ name }: Product, { products }: SnpPolicy): Finding {
  const detail = { expected: products.join(' or '), actual: name }
  const accepted = products.some((product) => product === name)
  return accepted ? pass(undefined, detail) : fail('the product line is not accepted', detail)
}

function matchSigner(report: SnpReport, { signers }: SnpPolicy): Finding {
  const signer = roleOfReport(report)
  const detail = { expected: signers.join(' or '), actual: signer ?? 'none' }
  const accepted = signer !== undefined && signers.includes(signer)
  return accepted ? pass(undefined, detail) : fail('this kind of key is not accepted', detail)
}

function matchCspId({ cspId }: VekClaims, { cspIds }: SnpPolicy): Finding {
  const actual = cspId ?? 'none: signed by a VCEK'
  if (cspIds === 'any' || cspId === undefined) return pass(undefined, { actual })
  const detail = { expected: cspIds.join(' or '), actual }
  return cspIds.includes(cspId) ? pass(undefined, detail) : fail('the VLEK is of another provider', detail)
}

async function checkContainer(
  t: Transcript,
  report: SnpReport,
  { hcl, quote }: SnpEvidence,
  nonce: Bytes | undefined,
): Promise<void> {
  if (hcl !== undefined) {
    checkHcl(t, report, hcl)
    if (t.plans('snp.tpm.key')) await checkVtpm(t, hcl, quote, nonce)
  } else if (t.plans('snp.hcl.claims')) {
    t.check('snp.hcl.claims', () => unavailable('a bare report carries no quote; what it binds is in its REPORT_DATA'))
  }
}
