/**
 * TD report body: TDREPORT fields as a quote carries them (Intel "TDX DCAP Quoting Library API", TD Quote Body; "TDX
 * Module 1.5 ABI" 348551, TDREPORT_STRUCT), in the 584-byte 1.0 form and the 648-byte 1.5 form.
 *
 * Refused: any other length. Parsing trusts nothing and judges nothing.
 */
import { ByteReader, type Bytes, toHex } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'

export const TD_REPORT_10_BYTES = 584
export const TD_REPORT_15_BYTES = 648

/** All measurement registers are 48 bytes (SHA-384), attribute words 8 bytes, little-endian. */
export interface TdReport {
  readonly form: '1.0' | '1.5'
  /** TEE_TCB_SVN, 16 bytes: module ISV SVN, module version id, TDX late microcode, zeros. Value at TD launch. */
  readonly teeTcbSvn: Bytes
  /** MRSEAM: measurement of the TDX module. */
  readonly mrSeam: Bytes
  /** MRSIGNERSEAM: zero for Intel's modules. */
  readonly mrSignerSeam: Bytes
  /** SEAMATTRIBUTES. */
  readonly seamAttributes: Bytes
  /** TDATTRIBUTES. */
  readonly tdAttributes: Bytes
  readonly xfam: Bytes
  /** MRTD: initial contents of the TD. */
  readonly mrTd: Bytes
  readonly mrConfigId: Bytes
  readonly mrOwner: Bytes
  readonly mrOwnerConfig: Bytes
  readonly rtmr0: Bytes
  readonly rtmr1: Bytes
  readonly rtmr2: Bytes
  readonly rtmr3: Bytes
  /** REPORTDATA, 64 bytes. */
  readonly reportData: Bytes
  /** TEE_TCB_SVN_2, 16 bytes: the module's current SVNs; 1.5 only. */
  readonly teeTcbSvn2?: Bytes
  /** MRSERVICETD: hash of the bound service TDs, zero if none; 1.5 only. */
  readonly mrServiceTd?: Bytes
}

/** @throws FormatError unless the length is exactly that of a 1.0 or 1.5 body. */
export function parseTdReport(bytes: Bytes): TdReport {
  if (bytes.length !== TD_REPORT_10_BYTES && bytes.length !== TD_REPORT_15_BYTES) {
    throw new FormatError(
      'tdx.body.length',
      `TD report: expected ${TD_REPORT_10_BYTES} or ${TD_REPORT_15_BYTES} bytes, found ${bytes.length}`,
    )
  }
  const form = bytes.length === TD_REPORT_15_BYTES ? '1.5' : '1.0'
  const reader = new ByteReader(bytes, 'TD report')
  const base = {
    teeTcbSvn: reader.take(16), //       0x000
    mrSeam: reader.take(48), //          0x010
    mrSignerSeam: reader.take(48), //    0x040
    seamAttributes: reader.take(8), //   0x070
    tdAttributes: reader.take(8), //     0x078
    xfam: reader.take(8), //             0x080
    mrTd: reader.take(48), //            0x088
    mrConfigId: reader.take(48), //      0x0B8
    mrOwner: reader.take(48), //         0x0E8
    mrOwnerConfig: reader.take(48), //   0x118
    rtmr0: reader.take(48), //           0x148
    rtmr1: reader.take(48), //           0x178
    rtmr2: reader.take(48), //           0x1A8
    rtmr3: reader.take(48), //           0x1D8
    reportData: reader.take(64), //      0x208
  }
  if (form === '1.0') {
    reader.end()
    return { form, ...base }
  }
  const teeTcbSvn2 = reader.take(16) //  0x248
  const mrServiceTd = reader.take(48) // 0x258
  reader.end()
  return { form, ...base, teeTcbSvn2, mrServiceTd }
}

/** The four runtime registers in order. */
export function rtmrsOf(report: TdReport): readonly [Bytes, Bytes, Bytes, Bytes] {
  return [report.rtmr0, report.rtmr1, report.rtmr2, report.rtmr3]
}

/** JSON-ready: every byte field as lower-case hex. */
export function describeTdReport(report: TdReport): Record<string, string> {
  return Object.fromEntries(
    Object.entries(report).map(([name, value]) => [name, typeof value === 'string' ? value : toHex(value)]),
  )
}
