/**
 * Certification data of a quote (Intel "TDX DCAP Quoting Library API", QE Certification Data): the type 6 envelope that
 * carries the quoting enclave's report, and the PCK chain of type 5 inside it.
 *
 * Types 1 to 4 (platform ids and a bare leaf) and 7 (platform manifest) are known and refused by name: they would need
 * the chain from somewhere else. Sizes must consume exactly what encloses them.
 */
import { TAG } from '../der.js'
import { looksLikePem, readPem } from '../pem.js'
import { ByteReader, type Bytes } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { type Certificate, parseCertificate } from '../x509.js'
import { ENCLAVE_REPORT_BYTES, type EnclaveReport, parseEnclaveReport } from './enclave-report.js'
import { remembering } from './remember.js'

export const CERTIFICATION_QE_REPORT = 6
export const CERTIFICATION_PCK_CHAIN = 5

const NAMES: Readonly<Record<number, string>> = {
  1: 'plain PPID',
  2: 'PPID encrypted with RSA-2048',
  3: 'PPID encrypted with RSA-3072',
  4: 'PCK leaf certificate alone',
  5: 'PCK certificate chain',
  6: 'QE report',
  7: 'platform manifest',
}

export interface QeReportCertification {
  readonly qeReport: EnclaveReport
  /** The 384 bytes the PCK key signed, as received. */
  readonly qeReportBytes: Bytes
  /** R then S, 64 bytes. */
  readonly qeReportSignature: Bytes
  /** QE authentication data: any length, also none. */
  readonly authData: Bytes
  readonly innerType: number
  readonly innerData: Bytes
}

/** @throws FormatError on anything that does not fill the given bytes exactly. */
export function parseQeReportCertification(bytes: Bytes): QeReportCertification {
  const reader = new ByteReader(bytes, 'QE report certification data')
  const qeReportBytes = reader.take(ENCLAVE_REPORT_BYTES)
  const qeReportSignature = reader.take(64)
  const authData = reader.take(reader.u16le())
  const innerType = reader.u16le()
  const innerData = reader.take(reader.u32le())
  reader.end()
  const qeReport = parseEnclaveReport(qeReportBytes)
  return { qeReport, qeReportBytes, qeReportSignature, authData, innerType, innerData }
}

/** `5 (PCK certificate chain)`: a certification data type for people. */
export function certificationName(type: number): string {
  const name = NAMES[type]
  return name === undefined ? `${type} (unknown)` : `${type} (${name})`
}

/**
 * The certificates of type 5 data in the order given: PEM as production quotes carry it, with or without a NUL at the
 * end, or DER one after another as Intel's sample quotes do. Says nothing about order or trust.
 * @throws FormatError on anything else, including bytes between or after the certificates.
 */
export const readCertificateChain: (data: Bytes) => readonly Certificate[] = remembering(64, (data) => {
  if (!looksLikePem(data)) return splitDer(data).map(parseCertificate)
  return readPem(data).map(({ label, der }) => {
    if (label !== 'CERTIFICATE') throw new FormatError('tdx.pck.label', `PCK chain: unexpected ${label} block`)
    return parseCertificate(der)
  })
})

const MAX_CHAIN = 8

/** Cuts concatenated DER at each outer SEQUENCE's end; what is inside is judged by the certificate reader. */
function splitDer(data: Bytes): readonly Bytes[] {
  const out: Bytes[] = []
  for (let offset = 0; offset < data.length; ) {
    // Certificates are longer than 255 and shorter than 65536 bytes: always the two-byte length form.
    const long = data[offset] === TAG.sequence && data[offset + 1] === 0x82
    const length = 4 + (data[offset + 2] ?? 0) * 256 + (data[offset + 3] ?? 0)
    if (!long || offset + length > data.length || out.length === MAX_CHAIN) {
      throw new FormatError('tdx.pck.chain', `PCK chain: no certificate at offset ${offset}`)
    }
    out.push(data.subarray(offset, offset + length))
    offset += length
  }
  return out
}
