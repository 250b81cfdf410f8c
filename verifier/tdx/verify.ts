/**
 * The TDX recipe: from a quote to findings, one step a check, in the order of the registry.
 *
 * Authentic comes before acceptable. Hostile bytes become failed checks; nothing here throws on them. Everything outside is
 * passed in: endorsements, anchors, the time. What is not decided here: whether MRTD and the RTMRs are software anyone knows.
 */
import type { CheckDefinition, Transcript } from '../checks.js'
import type { EndorsementPool } from '../endorsements.js'
import type { Bytes } from '../protocol/bytes.js'
import type { TrustAnchor } from '../trust-anchors.js'
import {
  checkEventLog,
  checkEventLogForm,
  checkPlatformPins,
  checkReportData,
  checkReportPins,
  checkTd,
} from './appraise.js'
import { checkChain, checkForm, checkPathRevocation, checkSignatures } from './authenticity.js'
import { checkHcl, checkTpmQuote } from './azure-checks.js'
import { TDX_CHECKS, TDX_HCL_CHECKS, TDX_VTPM_CHECKS } from './checks.js'
import { checkCollateral } from './collateral-checks.js'
import { carriesHcl, carriesTpmQuote } from './evidence.js'
import { describeFindings, type TdxFindings } from './findings.js'
import type { TdxPolicy } from './policy.js'
import type { Revocation } from './revocation.js'
import { checkTcb } from './tcb-checks.js'

export { describeTdxFindings, type TdxFindings } from './findings.js'

export interface TdxInput {
  /** The quote, or a container around it (`evidence.ts`); trailing padding is ignored. */
  readonly quote: Bytes
  /** Certificates, CRLs and collateral: untrusted until verified. */
  readonly endorsements: EndorsementPool
  readonly anchors: readonly TrustAnchor[]
  readonly now: Date
  readonly revocation: Revocation
  readonly policy: TdxPolicy
  /** What REPORTDATA must be; shorter values are padded with zeros and the tail is checked. */
  readonly expectedReportData?: Bytes
  /** A CCEL log area or a JSON list of events. */
  readonly eventLog?: Bytes
  /** The Azure HCL envelope whose claims the quote covers; a container may carry it too. */
  readonly hclReport?: Bytes
  /** The qualifying data a TPM quote must contain: the caller's own fresh value. */
  readonly nonce?: Bytes
  /** The verifier's own high-water mark; the policy may ask for more. */
  readonly minTcbEvaluationDataNumber?: number
}

/**
 * The plan for this evidence. What an Azure paravisor wraps has more links to check; with a nonce, whatever came has to come
 * up with a TPM quote, because nothing else answers it.
 */
export function tdxPlan(evidence: Uint8Array, withNonce = false, withHclReport = false): readonly CheckDefinition[] {
  const quoted = withNonce || carriesTpmQuote(evidence)
  if (quoted) return [...TDX_CHECKS, ...TDX_HCL_CHECKS, ...TDX_VTPM_CHECKS]
  return withHclReport || carriesHcl(evidence) ? [...TDX_CHECKS, ...TDX_HCL_CHECKS] : TDX_CHECKS
}

/**
 * Carries out every check of the transcript's plan. Findings are returned whatever the verdict, once the quote could be read;
 * what they rest on is in the transcript.
 */
export async function verifyTdx(t: Transcript, input: TdxInput): Promise<TdxFindings | undefined> {
  const { endorsements: pool, policy, now } = input
  const read = checkForm(t, input.quote, input.hclReport)
  if (read === undefined) return undefined
  const { quote, evidence } = read
  const { report } = quote

  const certified = await checkChain(t, quote, input.anchors, now)
  const crls = certified && (await checkPathRevocation(t, certified.chain, { mode: input.revocation, pool, now }))
  await checkSignatures(t, quote, certified?.chain)

  const qe = quote.certification?.qeReport
  const minimum = Math.max(policy.minTcbEvaluationDataNumber, input.minTcbEvaluationDataNumber ?? 0)
  const collateral = await checkCollateral(t, { pool, certified, rootCrl: crls?.root, qe, minimum, now })
  const tcb =
    qe &&
    checkTcb(t, {
      report,
      qe,
      pck: certified?.pck,
      info: collateral.tcbInfo?.document.content,
      identity: collateral.qeIdentity?.document.content,
      policy,
      now,
    })

  checkTd(t, report, policy)
  checkPlatformPins(t, certified?.pck, policy)
  const log = checkEventLogForm(t, input.eventLog ?? evidence.eventLog, policy)
  checkReportPins(t, report, policy, log)
  // In a bundle the claims say what REPORTDATA must be, and the bundle's own check compares.
  if (t.plans('tdx.report-data')) checkReportData(t, report, input.expectedReportData)
  checkEventLog(t, report, log, policy)
  const { hcl, tpm } = evidence
  if (t.plans('tdx.hcl.claims')) checkHcl(t, report, hcl)
  if (t.plans('tdx.tpm.key') && hcl !== undefined) await checkTpmQuote(t, hcl, tpm, input.nonce)
  return describeFindings({ quote, certified, crls, collateral, tcb, log, paravisor: hcl !== undefined, policy, now })
}
