/**
 * The CPU's part of a bundle or a raw report, whichever vendor made it: one shape for what the rest of the recipe needs.
 */
import type { CheckDefinition, Transcript } from './checks.js'
import type { EndorsementPool } from './endorsements.js'
import type { AppraisalPolicy } from './policy.js'
import type { Bytes } from './protocol/bytes.js'
import { toHex } from './protocol/bytes.js'
import type { EndorsementUse, NotProven } from './result.js'
import { ALL_SNP_CHECKS } from './snp/checks.js'
import { AUTHENTICITY_CHECKS } from './snp/checks-authenticity.js'
import { describeSnpReport } from './snp/report.js'
import { snpPlan, verifySnp } from './snp/verify.js'
import { ALL_TDX_CHECKS } from './tdx/checks.js'
import { AUTHENTICITY_CHECKS as TDX_AUTHENTICITY_CHECKS } from './tdx/checks-authenticity.js'
import { describeTdxQuote } from './tdx/quote.js'
import type { TdxTcb } from './tdx/tcb.js'
import { tdxPlan, verifyTdx } from './tdx/verify.js'

/** What a vendor's verifier found, reduced to what claims, keys and reference values are held against. */
export interface CpuFindings {
  /** As people know it: `AMD SEV-SNP (Genoa)`. */
  readonly platform: string
  readonly reportData: Bytes
  /** HOST_DATA (SNP, 32 bytes) or MRCONFIGID (TDX, 48 bytes). */
  readonly configuration: { readonly field: string; readonly value: Bytes }
  /** What was launched, by the names references use: `measurement` (SNP); `mrTd`, `rtmr0` to `rtmr3` (TDX). Lower-case hex. */
  readonly measurements: Readonly<Record<string, string>>
  /** The measurement names a cloud's paravisor, never software of the guest's owner. */
  readonly paravisorMeasurement: boolean
  readonly privateAnchor: boolean
  readonly endorsementsUsed: readonly EndorsementUse[]
  readonly endorsementBytes: readonly Bytes[]
  readonly validUntil: Date
  readonly notProven: readonly NotProven[]
  /** Every parsed field, JSON-ready. */
  readonly described: Readonly<Record<string, unknown>>
}

export interface CpuInput {
  readonly evidence: Bytes
  readonly endorsements: EndorsementPool
  readonly policy: AppraisalPolicy
  readonly now: Date
  readonly reportData?: Bytes
  readonly nonce?: Bytes
  readonly eventLog?: Bytes
}

/** A vendor's verifier, its checks, and which of them says that the evidence is signed. */
export interface CpuVerifier {
  readonly kind: 'snp' | 'tdx'
  readonly signatureCheck: string
  /** The checks that together say the evidence is authentic, whatever the policy makes of it. */
  readonly authenticity: readonly CheckDefinition[]
  /** Every check it can make, for registries. */
  readonly allChecks: readonly CheckDefinition[]
  plan(evidence: Uint8Array, withNonce: boolean): readonly CheckDefinition[]
  verify(t: Transcript, input: CpuInput): Promise<CpuFindings | undefined>
}

export const SNP: CpuVerifier = {
  kind: 'snp',
  signatureCheck: 'snp.report.signature',
  authenticity: AUTHENTICITY_CHECKS,
  allChecks: ALL_SNP_CHECKS,
  plan: snpPlan,
  async verify(t, { evidence, endorsements, policy, now, reportData, nonce }) {
    const findings = await verifySnp(t, {
      report: evidence,
      endorsements,
      anchors: policy.trustAnchors.filter((anchor) => anchor.kind === 'snp'),
      now,
      revocation: policy.revocation,
      policy: policy.snp,
      ...(reportData === undefined ? {} : { expectedReportData: reportData }),
      ...(nonce === undefined ? {} : { nonce }),
    })
    if (findings === undefined) return undefined
    const { report } = findings
    return {
      platform: `AMD SEV-SNP (${findings.product})`,
      reportData: report.reportData,
      configuration: { field: 'HOST_DATA', value: report.hostData },
      measurements: { measurement: toHex(report.measurement) },
      paravisorMeasurement: findings.paravisorMeasurement,
      privateAnchor: findings.privateAnchor,
      endorsementsUsed: findings.endorsementsUsed,
      endorsementBytes: findings.endorsementBytes,
      validUntil: findings.validUntil,
      notProven: findings.notProven,
      described: {
        product: findings.product,
        signer: findings.signer ?? null,
        notes: findings.notes,
        report: describeSnpReport(report, findings.tcbLayout),
      },
    }
  },
}

export const TDX: CpuVerifier = {
  kind: 'tdx',
  signatureCheck: 'tdx.quote.signature',
  authenticity: TDX_AUTHENTICITY_CHECKS,
  allChecks: ALL_TDX_CHECKS,
  plan: (evidence, withNonce) => tdxPlan(evidence, withNonce),
  async verify(t, { evidence, endorsements, policy, now, reportData, nonce, eventLog }) {
    const findings = await verifyTdx(t, {
      quote: evidence,
      endorsements,
      anchors: policy.trustAnchors.filter((anchor) => anchor.kind === 'tdx'),
      now,
      revocation: policy.revocation,
      policy: policy.tdx,
      ...(reportData === undefined ? {} : { expectedReportData: reportData }),
      ...(nonce === undefined ? {} : { nonce }),
      ...(eventLog === undefined ? {} : { eventLog }),
    })
    if (findings === undefined) return undefined
    const { report } = findings.quote
    const [rtmr0, rtmr1, rtmr2, rtmr3] = findings.rtmrs.map(toHex)
    return {
      platform: `Intel TDX${findings.pck === undefined ? '' : ` (FMSPC ${toHex(findings.pck.fmspc)})`}`,
      reportData: report.reportData,
      configuration: { field: 'MRCONFIGID', value: report.mrConfigId },
      measurements: {
        mrTd: toHex(findings.mrTd),
        rtmr0: rtmr0 ?? '',
        rtmr1: rtmr1 ?? '',
        rtmr2: rtmr2 ?? '',
        rtmr3: rtmr3 ?? '',
      },
      paravisorMeasurement: findings.paravisorMeasurement,
      privateAnchor: findings.privateAnchor,
      endorsementsUsed: findings.endorsementsUsed,
      endorsementBytes: findings.endorsementBytes,
      validUntil: findings.validUntil,
      notProven: findings.notProven,
      described: {
        report: describeTdxQuote(findings.quote),
        tcb: findings.tcb === undefined ? null : describeTdxTcb(findings.tcb),
      },
    }
  },
}

/** JSON-ready: dates as RFC 3339, the rest as it is. */
function describeTdxTcb(tcb: TdxTcb): unknown {
  return JSON.parse(JSON.stringify(tcb))
}

export const CPU_VERIFIERS: readonly CpuVerifier[] = [SNP, TDX]
