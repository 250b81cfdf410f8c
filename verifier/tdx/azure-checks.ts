/**
 * Azure's paravisor around a TD: REPORTDATA → runtime claims → HCLAkPub → vTPM quote → nonce and PCRs.
 *
 * Everything after the claims is the same whichever CPU they were bound to, and is carried out by the one implementation
 * there is; here its outcomes get the names they have for a TD. The nonce is in the TPM quote, never in REPORTDATA.
 */
import {
  type Check,
  type CheckDefinition,
  type Finding,
  fail,
  pass,
  Transcript,
  unavailable,
  waived,
} from '../checks.js'
import { type Bytes, equalBytes, toHex } from '../protocol/bytes.js'
import { checkVtpm } from '../snp/azure-checks.js'
import { VTPM_CHECKS } from '../snp/checks-azure.js'
import type { TpmEvidence } from '../snp/evidence.js'
import { reportDataOfClaims } from '../snp/hcl.js'
import type { HclTdxEnvelope } from './hcl.js'
import type { TdReport } from './td-report.js'

export const TDX_HCL_CHECKS: readonly CheckDefinition[] = [
  {
    id: 'tdx.hcl.claims',
    title: 'REPORTDATA is the hash of the envelope’s runtime claims, followed by zeros',
    spec: 'Azure HCL report (HCLA envelope), runtime data',
    gain: 'Claims, and the attestation key in them, could be swapped under a genuine quote.',
    needs: ['tdx.quote.signature'],
  },
]

export const TDX_VTPM_CHECKS: readonly CheckDefinition[] = VTPM_CHECKS.map((check) => ({
  ...check,
  id: named(check.id),
  ...(check.needs === undefined ? {} : { needs: check.needs.map(named) }),
}))

/** `tdx.hcl.claims`: the quote covers these claims. Returns whether there is an envelope. */
export function checkHcl(t: Transcript, report: TdReport, hcl: HclTdxEnvelope | undefined): void {
  t.check('tdx.hcl.claims', () => {
    if (hcl === undefined) return unavailable('a bare quote carries no TPM quote; what it binds is in its REPORTDATA')
    const expected = reportDataOfClaims(hcl)
    if (equalBytes(expected, report.reportData)) return pass(undefined, { actual: hcl.hash })
    const detail = { expected: toHex(expected), actual: toHex(report.reportData) }
    return fail(`REPORTDATA is not the ${hcl.hash} of the runtime claims`, detail)
  })
}

/** `tdx.tpm.*`. `expectedNonce` is the qualifying data the caller asked for. */
export async function checkTpmQuote(
  t: Transcript,
  { hash, claims }: HclTdxEnvelope,
  evidence: TpmEvidence | undefined,
  expectedNonce: Bytes | undefined,
): Promise<void> {
  const inner = new Transcript(VTPM_CHECKS)
  await checkVtpm(inner, { version: 0, report: new Uint8Array(), hash, claims }, evidence, expectedNonce)
  for (const check of inner.checks()) t.check(named(check.id), () => findingOf(check))
}

function named(id: string): string {
  return id === 'snp.report.parse' ? 'tdx.quote.parse' : id.replace(/^snp\./, 'tdx.')
}

function findingOf({ status, reason = '', expected, actual }: Check): Finding {
  const detail = { ...(expected === undefined ? {} : { expected }), ...(actual === undefined ? {} : { actual }) }
  if (status === 'pass') return pass(undefined, detail)
  if (status === 'fail') return fail(reason, detail)
  const waiver = 'waived: '
  return reason.startsWith(waiver) ? waived(reason.slice(waiver.length)) : unavailable(reason)
}
