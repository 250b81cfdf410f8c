/**
 * TDX quotes, versions 4 and 5 (Intel "TDX DCAP Quoting Library API", ECDSA-P256 quote): header, body descriptor, TD
 * report, signature data. Integers are little-endian; keys and signatures are big-endian coordinate pairs.
 *
 * Refused by name: SGX quotes (version 3, TEE type 0, body type 1), other attestation keys, other certification data.
 * Lengths must consume the signature data exactly. Bytes after it are padding nobody signed: counted, never read. Nothing
 * here verifies anything.
 */
import { ByteReader, type Bytes, equalBytes, fromHex, toBytes, toHex } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import {
  CERTIFICATION_QE_REPORT,
  certificationName,
  parseQeReportCertification,
  type QeReportCertification,
} from './certification-data.js'
import { describeEnclaveReport } from './enclave-report.js'
import { describeTdReport, parseTdReport, TD_REPORT_10_BYTES, TD_REPORT_15_BYTES, type TdReport } from './td-report.js'

export const TEE_TYPE_SGX = 0x00
export const TEE_TYPE_TDX = 0x81
export const KEY_TYPE_ECDSA_P256 = 2
/** Version 5 body types. */
export const BODY_TYPE = { sgx: 1, td10: 2, td15: 3 } as const

/** QE vendor id of Intel's quoting enclave. */
export const INTEL_QE_VENDOR_ID: Bytes = fromHex('939a7233f79c4ca9940a0db3957f0607')

const HEADER_BYTES = 48
/** TDREPORT_STRUCT: what a TD gets from its module, before any quoting enclave has signed it. */
const RAW_TD_REPORT_BYTES = 1024
const MAX_QUOTE_BYTES = 64 * 1024
/** Versions whose header has this shape; 3 is SGX only. */
const KNOWN_VERSIONS: readonly number[] = [3, 4, 5]

export interface QuoteHeader {
  readonly version: number
  readonly attestationKeyType: number
  readonly teeType: number
  /** Bytes 8 to 11: reserved here, and never evidence of any TCB. */
  readonly reserved: Bytes
  readonly qeVendorId: Bytes
  readonly userData: Bytes
  /** Version 5 only. */
  readonly bodyType?: number
}

export interface TdxQuote {
  readonly header: QuoteHeader
  readonly report: TdReport
  /** Header, body descriptor and body as received: what the attestation key signed. */
  readonly signedBytes: Bytes
  /** R then S, 64 bytes. */
  readonly signature: Bytes
  /** X then Y, 64 bytes. */
  readonly attestationKey: Bytes
  readonly certificationType: number
  /** Undefined unless the certification data is of type 6. */
  readonly certification?: QeReportCertification
  /** How many unsigned bytes follow the signature data. */
  readonly trailingBytes: number
}

/**
 * The header alone, for quotes this verifier names and refuses.
 * @throws FormatError on fewer than 48 bytes, more than 64 KiB, or bytes that are no quote header at all.
 */
export function parseQuoteHeader(bytes: Uint8Array): QuoteHeader {
  if (bytes.length > MAX_QUOTE_BYTES) {
    throw new FormatError('tdx.quote.size', `quote: ${bytes.length} bytes, at most ${MAX_QUOTE_BYTES}`)
  }
  const reader = new ByteReader(bytes, 'quote')
  const version = reader.u16le() //            0
  const attestationKeyType = reader.u16le() // 2
  const teeType = reader.u32le() //            4
  const reserved = reader.take(4) //           8
  const qeVendorId = reader.take(16) //        12
  const userData = reader.take(20) //          28
  if (!KNOWN_VERSIONS.includes(version) && !equalBytes(qeVendorId, INTEL_QE_VENDOR_ID)) {
    const rawReport = looksLikeRawTdReport(bytes)
      ? `: ${bytes.length} bytes are a raw TDREPORT, which nobody signed`
      : ''
    throw new FormatError('tdx.quote.header', `not an attestation quote${rawReport}`)
  }
  const header = { version, attestationKeyType, teeType, reserved, qeVendorId, userData }
  return version === 5 ? { ...header, bodyType: reader.u16le() } : header
}

/** Whether these bytes may be a raw TDREPORT, by their number alone: nothing in it is a magic every module writes. */
export function looksLikeRawTdReport(bytes: Uint8Array): boolean {
  return bytes.length === RAW_TD_REPORT_BYTES
}

/** Whether these bytes begin like an attestation quote of any kind; says nothing about validity. */
export function looksLikeQuote(bytes: Uint8Array): boolean {
  const teeType = (bytes[4] ?? 0xff) | ((bytes[5] ?? 0xff) << 8) | ((bytes[6] ?? 0xff) << 16)
  const known = KNOWN_VERSIONS.includes(bytes[0] ?? 0) && bytes[1] === 0 && bytes[7] === 0
  return known && (teeType === TEE_TYPE_TDX || teeType === TEE_TYPE_SGX) && bytes.length >= HEADER_BYTES
}

/** Whether `parseTdxQuote` can read what follows this header. */
export function isReadable(header: QuoteHeader): boolean {
  const { version, bodyType } = header
  const body = version === 4 || (version === 5 && (bodyType === BODY_TYPE.td10 || bodyType === BODY_TYPE.td15))
  return body && header.teeType === TEE_TYPE_TDX && header.attestationKeyType === KEY_TYPE_ECDSA_P256
}

/** @throws FormatError on anything but a TDX quote of version 4 or 5 with an ECDSA P-256 attestation key. */
export function parseTdxQuote(input: Uint8Array): TdxQuote {
  const bytes = toBytes(input)
  const header = parseQuoteHeader(bytes)
  if (!isReadable(header)) {
    const { version, teeType, attestationKeyType, bodyType } = header
    throw new FormatError(
      'tdx.quote.unsupported',
      `quote: version ${version}, TEE type ${teeType}, key type ${attestationKeyType}, body type ${bodyType ?? 'implied'}`,
    )
  }
  const reader = new ByteReader(bytes, 'quote')
  reader.take(HEADER_BYTES)
  const report = parseTdReport(reader.take(bodyLength(header, reader)))
  const signedBytes = new Uint8Array(bytes.subarray(0, reader.offset))

  const signatureData = reader.take(reader.u32le())
  const data = new ByteReader(signatureData, 'quote signature data')
  const signature = data.take(64) //          0
  const attestationKey = data.take(64) //     64
  const certificationType = data.u16le() //   128
  const certification = data.take(data.u32le()) // 130, 134
  data.end()
  return {
    header,
    report,
    signedBytes,
    signature,
    attestationKey,
    certificationType,
    ...(certificationType === CERTIFICATION_QE_REPORT
      ? { certification: parseQeReportCertification(certification) }
      : {}),
    trailingBytes: reader.remaining,
  }
}

/** Version 4 implies the 1.0 body; version 5 describes it, and the size must be that of its type. */
function bodyLength(header: QuoteHeader, reader: ByteReader): number {
  if (header.version === 4) return TD_REPORT_10_BYTES
  const type = reader.u16le()
  const size = reader.u32le()
  const expected = type === BODY_TYPE.td15 ? TD_REPORT_15_BYTES : TD_REPORT_10_BYTES
  if (size !== expected) {
    throw new FormatError('tdx.quote.body-size', `quote: body type ${type} has ${expected} bytes, found ${size}`)
  }
  return size
}

/** JSON-ready; bytes become lower-case hex. */
export function describeTdxQuote(quote: TdxQuote): Record<string, unknown> {
  const { header, report, certification } = quote
  return {
    version: header.version,
    teeType: header.teeType,
    attestationKeyType: header.attestationKeyType,
    ...(header.bodyType === undefined ? {} : { bodyType: header.bodyType }),
    qeVendorId: toHex(header.qeVendorId),
    userData: toHex(header.userData),
    report: describeTdReport(report),
    attestationKey: toHex(quote.attestationKey),
    certificationType: certificationName(quote.certificationType),
    ...(certification === undefined
      ? {}
      : {
          innerCertificationType: certificationName(certification.innerType),
          qeReport: describeEnclaveReport(certification.qeReport),
          authData: toHex(certification.authData),
        }),
    trailingBytes: quote.trailingBytes,
  }
}
