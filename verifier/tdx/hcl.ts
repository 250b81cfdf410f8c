/**
 * The Azure HCL envelope around a TD: the TDREPORT a paravisor obtained for itself, and the runtime claims it bound to it.
 *
 * `HCLA` ‖ version (1 or 2) ‖ size ‖ request type (2) ‖ status (0) ‖ 12 bytes ‖ 1184 bytes that begin with the TDREPORT ‖
 * runtime data {size, version, report type (4 TDX), hash type, claims length, JSON claims} ‖ zeros. Integers little-endian.
 * The TDREPORT carries no signature anyone outside the machine could check: only the quote does, and it covers the claims
 * through REPORTDATA. Refused: another report type, sizes that disagree, anything but zeros after the claims.
 */
import { ByteReader, type Bytes, isZero } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { type ClaimsHash, looksLikeHcl } from '../snp/hcl.js'

export interface HclTdxEnvelope {
  readonly hash: ClaimsHash
  /** JSON, as received: the hash in REPORTDATA covers exactly these bytes. */
  readonly claims: Bytes
}

const HEADER_BYTES = 32
const REPORT_BYTES = 1184
const RUNTIME_HEADER_BYTES = 20
const HASHES: Readonly<Record<number, ClaimsHash>> = { 1: 'SHA-256', 2: 'SHA-384', 3: 'SHA-512' }

/** @throws FormatError on an envelope that is not exactly as described above. */
export function readHclTdxEnvelope(bytes: Uint8Array): HclTdxEnvelope {
  if (!looksLikeHcl(bytes)) throw malformed('expected it to start with HCLA')
  const reader = new ByteReader(bytes, 'HCL envelope')
  reader.take(4)
  const version = reader.u32le()
  const size = reader.u32le()
  const requestType = reader.u32le()
  const status = reader.u32le()
  reader.take(12)
  if ((version !== 1 && version !== 2) || requestType !== 2 || status !== 0) {
    throw malformed(`version ${version}, request type ${requestType}, status ${status}`)
  }
  reader.take(REPORT_BYTES)
  const runtimeSize = reader.u32le()
  reader.u32le() // runtime data version
  const reportType = reader.u32le()
  const hash = HASHES[reader.u32le()]
  const claimsLength = reader.u32le()
  if (reportType !== 4) throw malformed(`holds report type ${reportType}, expected a TDX report`)
  if (hash === undefined) throw malformed('unknown hash type')
  if (runtimeSize !== RUNTIME_HEADER_BYTES + claimsLength || size !== HEADER_BYTES + REPORT_BYTES + runtimeSize) {
    throw malformed('its sizes disagree')
  }
  const claims = reader.take(claimsLength)
  if (!isZero(reader.take(reader.remaining))) throw malformed('bytes after the claims')
  return { hash, claims }
}

function malformed(reason: string): FormatError {
  return new FormatError('tdx.hcl.malformed', `HCL envelope: ${reason}`)
}
