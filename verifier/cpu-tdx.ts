/** Intel TDX as the recipe sees it. */
import type { CpuVerifier } from './cpu.js'
import { toHex } from './protocol/bytes.js'
import { ALL_TDX_CHECKS } from './tdx/checks.js'
import { AUTHENTICITY_CHECKS } from './tdx/checks-authenticity.js'
import { describeTdxQuote } from './tdx/quote.js'
import type { TdxTcb } from './tdx/tcb.js'
import { tdxPlan, verifyTdx } from './tdx/verify.js'

export const TDX: CpuVerifier = {
  kind: 'tdx',
  signatureCheck: 'tdx.quote.signature',
  authenticity: AUTHENTICITY_CHECKS,
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
      platformId: findings.pck?.ppid,
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
