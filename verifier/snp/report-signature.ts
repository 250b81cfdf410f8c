/**
 * The report's own signature (AMD 56860, "ATTESTATION_REPORT" SIGNATURE and "ECDSA P-384 with SHA-384" signature format).
 *
 * R and S are 48-byte values, little-endian, in fields of 72 bytes. The upper 24 bytes of each field and everything from
 * 0x330 to 0x49F must be zero: they are outside what the signature covers, so anything else there would be
 * bytes that nobody vouches for, and two different files would pass for one report.
 */
import { type Finding, fail, pass } from '../checks.js'
import { type Bytes, isZero, toHex } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { importVerifyKey, verifyP384 } from '../signature.js'
import type { Certificate } from '../x509.js'
import { SNP_SIGNED_BYTES, type SnpReport } from './report.js'

/** IEEE P1363: R then S, 48 bytes each, big-endian. */
export type P1363Signature = Bytes

const VALUE_BYTES = 48

export function readReportSignature(report: SnpReport): Finding<P1363Signature> {
  const { signatureR, signatureS, signatureReserved } = report
  if (!isZero(signatureReserved)) return fail('bytes 0x330 to 0x49f after the signature are not zero')
  const out = new Uint8Array(2 * VALUE_BYTES)
  for (const [index, field] of [signatureR, signatureS].entries()) {
    const name = index === 0 ? 'R' : 'S'
    if (!isZero(field.subarray(VALUE_BYTES))) return fail(`${name} is longer than 48 bytes`, { actual: toHex(field) })
    const value = field.slice(0, VALUE_BYTES).reverse()
    if (isZero(value)) return fail(`${name} is zero: the report is not signed`)
    out.set(value, index * VALUE_BYTES)
  }
  return pass(out)
}

/** Over bytes 0x000 to 0x29F of the received report, never of anything encoded again. */
export async function isReportSignedBy(
  report: SnpReport,
  signature: P1363Signature,
  vek: Certificate,
): Promise<boolean> {
  try {
    const key = await importVerifyKey(vek, 'ecdsa-p384-sha384')
    return await verifyP384(key, signature, report.bytes.subarray(0, SNP_SIGNED_BYTES))
  } catch (error) {
    if (error instanceof FormatError) return false
    throw error
  }
}
