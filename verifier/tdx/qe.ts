/**
 * The quoting enclave (Intel "TDX DCAP Quoting Library API", QE Report Certification Data; PCS API v4, QE identity): that
 * its report binds the attestation key, and that it is the enclave Intel says it is.
 */
import { type Finding, fail, pass } from '../checks.js'
import { concat, equalBytes, toHex } from '../protocol/bytes.js'
import { sha256 } from '../protocol/hash.js'
import type { QeReportCertification } from './certification-data.js'
import type { QeIdentity } from './collateral.js'
import type { EnclaveReport } from './enclave-report.js'
import type { TdxQuote } from './quote.js'
import { maskedEqual } from './tcb.js'

/** REPORTDATA of the QE report is SHA-256(attestation key, auth data) and 32 zero bytes: all 64 are compared. */
export function matchKeyBinding(quote: TdxQuote, { qeReport, authData }: QeReportCertification): Finding {
  const expected = concat(sha256(concat(quote.attestationKey, authData)), new Uint8Array(32))
  if (equalBytes(qeReport.reportData, expected)) return pass()
  return fail('the QE report names another attestation key', {
    expected: toHex(expected),
    actual: toHex(qeReport.reportData),
  })
}

/** MRSIGNER, ISVPRODID, and MISCSELECT and ATTRIBUTES under their masks. */
export function matchQeIdentity(qe: EnclaveReport, identity: QeIdentity): Finding {
  if (!equalBytes(qe.mrSigner, identity.mrsigner)) {
    return fail('MRSIGNER is not Intel’s', { expected: toHex(identity.mrsigner), actual: toHex(qe.mrSigner) })
  }
  if (qe.isvProdId !== identity.isvprodid) {
    return fail('ISVPRODID is another enclave’s', {
      expected: String(identity.isvprodid),
      actual: String(qe.isvProdId),
    })
  }
  if (!maskedEqual(qe.miscSelect, identity.miscselect, identity.miscselectMask)) {
    const detail = { expected: masked(identity.miscselect, identity.miscselectMask), actual: toHex(qe.miscSelect) }
    return fail('MISCSELECT differs', detail)
  }
  if (!maskedEqual(qe.attributes, identity.attributes, identity.attributesMask)) {
    const detail = { expected: masked(identity.attributes, identity.attributesMask), actual: toHex(qe.attributes) }
    return fail('ATTRIBUTES differ', detail)
  }
  return pass()
}

function masked(value: Uint8Array, mask: Uint8Array): string {
  return `${toHex(value)} under ${toHex(mask)}`
}
