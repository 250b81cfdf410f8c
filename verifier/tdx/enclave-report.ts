/**
 * SGX enclave report body, 384 bytes, as the quoting enclave's own report inside a quote (Intel "SGX DCAP Quoting
 * Library API", Enclave Report Body). Reserved bytes are covered by the signature and not interpreted.
 */
import { ByteReader, type Bytes, toHex } from '../protocol/bytes.js'

export const ENCLAVE_REPORT_BYTES = 384

export interface EnclaveReport {
  readonly cpuSvn: Bytes
  /** MISCSELECT, 4 bytes in report order. */
  readonly miscSelect: Bytes
  /** ATTRIBUTES, 16 bytes: flags then XFRM. */
  readonly attributes: Bytes
  readonly mrEnclave: Bytes
  readonly mrSigner: Bytes
  readonly isvProdId: number
  readonly isvSvn: number
  readonly reportData: Bytes
}

/** @throws FormatError unless there are exactly 384 bytes. */
export function parseEnclaveReport(bytes: Bytes): EnclaveReport {
  const reader = new ByteReader(bytes, 'QE report')
  const cpuSvn = reader.take(16) //     0
  const miscSelect = reader.take(4) //  16
  reader.take(28) //                    20 reserved
  const attributes = reader.take(16) // 48
  const mrEnclave = reader.take(32) //  64
  reader.take(32) //                    96 reserved
  const mrSigner = reader.take(32) //   128
  reader.take(96) //                    160 reserved
  const isvProdId = reader.u16le() //   256
  const isvSvn = reader.u16le() //      258
  reader.take(60) //                    260 reserved
  const reportData = reader.take(64) // 320
  reader.end()
  return { cpuSvn, miscSelect, attributes, mrEnclave, mrSigner, isvProdId, isvSvn, reportData }
}

/** ATTRIBUTES.FLAGS bit 1, DEBUG: its memory, and with it the attestation key, can be read. */
export function isDebugEnclave(report: EnclaveReport): boolean {
  return ((report.attributes[0] ?? 0) & 0x02) !== 0
}

export function describeEnclaveReport(report: EnclaveReport): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(report).map(([name, value]) => [name, typeof value === 'number' ? value : toHex(value)]),
  )
}
