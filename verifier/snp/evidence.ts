/**
 * The containers SNP reports travel in: raw, in an Azure HCL envelope, or in vTPM evidence around such an envelope.
 *
 * Look-alikes are refused by name: a firmware response (MSG_REPORT_RSP, AMD 56860) that still has its header, a report cut
 * short or followed by something, an envelope holding a TDX report. Nothing here is trusted or verified.
 */
import { type Bytes, fromBase64Url, fromHex, fromUtf8, toBytes } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { looksLikeCertificateTable } from './certificate-table.js'
import { type HclEnvelope, looksLikeHcl, readHclEnvelope } from './hcl.js'
import { SNP_REPORT_BYTES } from './report.js'

/** As received: parsed only when a check asks for it. */
export interface TpmEvidence {
  /** TPMS_ATTEST. */
  readonly message: Bytes
  /** RSASSA-PKCS1-v1_5, raw. */
  readonly signature: Bytes
  /** SHA-256 bank, by index. */
  readonly pcrs: readonly Bytes[]
}

export interface SnpEvidence {
  /** 1184 bytes. */
  readonly report: Bytes
  /** DER or PEM, as they came. */
  readonly certificates: readonly Bytes[]
  readonly hcl?: HclEnvelope
  readonly quote?: TpmEvidence
}

const MAX_JSON_BYTES = 1024 * 1024
const OPEN_BRACE = 0x7b

/** @throws FormatError on anything but the three containers, naming the look-alike where it is one. */
export function readSnpEvidence(input: Uint8Array): SnpEvidence {
  const bytes = toBytes(input)
  if (bytes.length === SNP_REPORT_BYTES) return { report: bytes, certificates: [] }
  if (looksLikeHcl(bytes)) {
    const hcl = readHclEnvelope(bytes)
    return { report: hcl.report, certificates: [], hcl }
  }
  if (bytes.find((byte) => byte > 0x20) === OPEN_BRACE) return readVtpmEvidence(bytes)
  throw refusal(bytes)
}

/** Whether these bytes are a container other than a raw report, by its first bytes alone. */
export function looksLikeSnpContainer(bytes: Uint8Array): boolean {
  return looksLikeHcl(bytes) || bytes.find((byte) => byte > 0x20) === OPEN_BRACE
}

function refusal(bytes: Bytes): FormatError {
  const length = bytes.length
  const view = new DataView(bytes.buffer, bytes.byteOffset, length)
  if (length >= 32 && view.getUint32(4, true) === SNP_REPORT_BYTES && isResponseHeader(bytes)) {
    return new FormatError(
      'snp.evidence.report-response',
      `this is a firmware response (MSG_REPORT_RSP) of ${length} bytes: the report is the 1184 bytes after its 32-byte header`,
    )
  }
  if (looksLikeCertificateTable(bytes)) {
    return new FormatError('snp.evidence.certificate-table', 'this is a guest certificate table, not a report')
  }
  return length < SNP_REPORT_BYTES
    ? new FormatError('snp.evidence.truncated', `expected ${SNP_REPORT_BYTES} bytes of report, found ${length}`)
    : new FormatError('snp.evidence.trailing', `expected ${SNP_REPORT_BYTES} bytes of report, found ${length}`)
}

/** {status u32, size u32, 24 reserved bytes of zero}. */
function isResponseHeader(bytes: Bytes): boolean {
  return bytes.subarray(8, 32).every((byte) => byte === 0)
}

/**
 * vTPM evidence as attestation agents write it: `{version, hcl_report, tpm_quote, vcek}` with base64 and hex text, or the
 * older `{report, quote, vcek}` with arrays of numbers and a PEM certificate.
 */
function readVtpmEvidence(bytes: Bytes): SnpEvidence {
  if (bytes.length > MAX_JSON_BYTES) throw malformed(`${bytes.length} bytes`)
  const top = members(parseJson(bytes), 'evidence')
  const envelope = top['hcl_report'] ?? top['report']
  const quote = members(top['tpm_quote'] ?? top['quote'], 'quote')
  if (envelope === undefined) throw malformed('no hcl_report')
  const hcl = readHclEnvelope(bytesOf(envelope, 'hcl_report', fromEitherBase64))
  return {
    report: hcl.report,
    certificates: top['vcek'] === undefined ? [] : [certificateBytes(top['vcek'])],
    hcl,
    quote: {
      message: bytesOf(quote['message'], 'quote message', fromHex),
      signature: bytesOf(quote['signature'], 'quote signature', fromHex),
      pcrs: pcrValues(quote['pcrs']),
    },
  }
}

function parseJson(bytes: Bytes): unknown {
  try {
    return JSON.parse(fromUtf8(bytes))
  } catch (cause) {
    throw new FormatError('snp.evidence.json', 'vTPM evidence: not JSON', { cause })
  }
}

function members(value: unknown, what: string): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw malformed(`${what} is not an object`)
  return value as Readonly<Record<string, unknown>>
}

function bytesOf(value: unknown, what: string, fromText: (text: string) => Bytes): Bytes {
  if (typeof value === 'string') return fromText(value)
  if (!Array.isArray(value)) throw malformed(`${what} is neither text nor an array of bytes`)
  const isByte = (item: unknown) => Number.isInteger(item) && Number(item) >= 0 && Number(item) <= 255
  if (!value.every(isByte)) throw malformed(`${what} holds something other than bytes`)
  return new Uint8Array(value as number[])
}

function pcrValues(value: unknown): readonly Bytes[] {
  if (!Array.isArray(value) || value.length > 32) throw malformed('pcrs is not an array of at most 32')
  return value.map((pcr: unknown) => bytesOf(pcr, 'pcr', fromHex))
}

/** Either alphabet, padded or not: agents write the URL alphabet with padding (seen). */
function fromEitherBase64(text: string): Bytes {
  return fromBase64Url(
    text
      .replaceAll('+', '-')
      .replaceAll('/', '_')
      .replace(/={1,2}$/, ''),
  )
}

/** PEM text stays PEM; anything else is base64 of DER. */
function certificateBytes(value: unknown): Bytes {
  if (typeof value === 'string' && value.includes('-----BEGIN ')) return toBytes(new TextEncoder().encode(value))
  return bytesOf(value, 'vcek', fromEitherBase64)
}

function malformed(reason: string): FormatError {
  return new FormatError('snp.evidence.vtpm', `vTPM evidence: ${reason}`)
}
