/**
 * The Azure HCL envelope: the report a paravisor obtained for itself, and the runtime claims it bound to that report.
 *
 * `HCLA` ‖ version (1 or 2) ‖ size ‖ request type (2) ‖ status (0) ‖ 12 bytes ‖ 1184-byte report ‖ runtime data {size,
 * version, report type (2 SNP), hash type, claims length, JSON claims} ‖ zeros. Integers little-endian. Refused: another
 * report type, sizes that disagree, anything but zeros after the claims.
 */
import { ByteReader, type Bytes, isZero } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { sha256, sha384, sha512 } from '../protocol/hash.js'
import { SNP_REPORT_BYTES } from './report.js'

export type ClaimsHash = 'SHA-256' | 'SHA-384' | 'SHA-512'

export interface HclEnvelope {
  readonly version: number
  readonly report: Bytes
  readonly hash: ClaimsHash
  /** JSON, as received: the hash in REPORT_DATA covers exactly these bytes. */
  readonly claims: Bytes
}

const HEADER_BYTES = 32
const RUNTIME_HEADER_BYTES = 20
const HASHES: Readonly<Record<number, ClaimsHash>> = { 1: 'SHA-256', 2: 'SHA-384', 3: 'SHA-512' }

export function looksLikeHcl(bytes: Uint8Array): boolean {
  return bytes[0] === 0x48 && bytes[1] === 0x43 && bytes[2] === 0x4c && bytes[3] === 0x41
}

/** @throws FormatError on an envelope that is not exactly as described above. */
export function readHclEnvelope(bytes: Uint8Array): HclEnvelope {
  const reader = new ByteReader(bytes, 'HCL envelope')
  if (!looksLikeHcl(bytes)) throw new FormatError('snp.hcl.magic', 'HCL envelope: expected it to start with HCLA')
  reader.take(4)
  const version = reader.u32le()
  const size = reader.u32le()
  const requestType = reader.u32le()
  const status = reader.u32le()
  reader.take(12)
  if (version !== 1 && version !== 2)
    throw new FormatError('snp.hcl.version', `HCL envelope: unknown version ${version}`)
  if (requestType !== 2)
    throw new FormatError('snp.hcl.request', `HCL envelope: request type ${requestType}, expected 2`)
  if (status !== 0) throw new FormatError('snp.hcl.status', `HCL envelope: the paravisor reports error ${status}`)
  const report = reader.take(SNP_REPORT_BYTES)
  const runtimeSize = reader.u32le()
  reader.u32le()
  const reportType = reader.u32le()
  const hash = HASHES[reader.u32le()]
  const claimsLength = reader.u32le()
  if (reportType !== 2) {
    const kind = reportType === 4 ? 'a TDX report' : `report type ${reportType}`
    throw new FormatError('snp.hcl.report-type', `HCL envelope: holds ${kind}, expected an SNP report`)
  }
  if (hash === undefined) throw new FormatError('snp.hcl.hash', 'HCL envelope: unknown hash type')
  if (runtimeSize !== RUNTIME_HEADER_BYTES + claimsLength || size !== HEADER_BYTES + SNP_REPORT_BYTES + runtimeSize) {
    throw new FormatError('snp.hcl.size', 'HCL envelope: its sizes disagree')
  }
  const claims = reader.take(claimsLength)
  if (!isZero(reader.take(reader.remaining)))
    throw new FormatError('snp.hcl.trailing', 'HCL envelope: bytes after the claims')
  return { version, report, hash, claims }
}

/** What REPORT_DATA must hold: the hash of the claims, padded with zeros to 64 bytes. */
export function reportDataOfClaims({ hash, claims }: Pick<HclEnvelope, 'hash' | 'claims'>): Bytes {
  const digest = hash === 'SHA-256' ? sha256(claims) : hash === 'SHA-384' ? sha384(claims) : sha512(claims)
  const out = new Uint8Array(64)
  out.set(digest)
  return out
}
