/** AMD SEV-SNP as the recipe sees it. */
import type { CpuVerifier } from './cpu.js'
import { isZero, toHex } from './protocol/bytes.js'
import { ALL_SNP_CHECKS } from './snp/checks.js'
import { AUTHENTICITY_CHECKS } from './snp/checks-authenticity.js'
import { describeSnpReport } from './snp/report.js'
import { snpPlan, verifySnp } from './snp/verify.js'

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
      platformId: isZero(report.chipId) ? undefined : report.chipId,
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
