/**
 * Builds the certificate table of an extended guest request (AMD 56421, "GHCB", SNP Extended Guest Request), also found
 * as `auxblob` in Linux's configfs-tsm: 24-byte entries {GUID, offset u32 LE, length u32 LE} ended by an all-zero entry,
 * then the certificates. GUIDs are in RFC 4122 byte order; offsets count from the start of the table.
 */
import type { Bytes } from '../../verifier/protocol/bytes.js'

export const CERTIFICATE_TABLE_GUID = {
  vcek: '63da758d-e664-4564-adc5-f4b93be8accd',
  vlek: 'a8074bc2-a25a-483e-aae6-39c045a0b8a1',
  /** ASK and ASVK share one. */
  ask: '4ab7b379-bbac-4fe4-a02f-05aef327c782',
  ark: 'c0b406a4-a803-4952-9743-3fb6014cd0ae',
} as const

export interface CertificateTableEntry {
  /** A certificate kind, or any GUID in its usual text form. */
  readonly guid: keyof typeof CERTIFICATE_TABLE_GUID | (string & {})
  /** DER or PEM: real tables carry either. */
  readonly blob: Uint8Array
  /** States another offset or length than the true one. */
  readonly statedOffset?: number
  readonly statedLength?: number
}

export interface CertificateTableOptions {
  /** Zero bytes after the last certificate, as hosts that hand over whole pages leave. */
  readonly trailingZeros?: number
  /** Leaves out the all-zero entry. */
  readonly unterminated?: true
}

const ENTRY_BYTES = 24

/**
 * The table for these certificates, in this order.
 * @throws RangeError when a GUID is not 32 hexadecimal digits with hyphens.
 */
export function buildCertificateTable(
  entries: readonly CertificateTableEntry[],
  options: CertificateTableOptions = {},
): Bytes {
  const headerBytes = ENTRY_BYTES * (entries.length + (options.unterminated === true ? 0 : 1))
  const blobBytes = entries.reduce((sum, entry) => sum + entry.blob.length, 0)
  const table = new Uint8Array(headerBytes + blobBytes + (options.trailingZeros ?? 0))
  const view = new DataView(table.buffer)
  let offset = headerBytes
  for (const [index, entry] of entries.entries()) {
    table.set(encodeGuid(entry.guid), index * ENTRY_BYTES)
    view.setUint32(index * ENTRY_BYTES + 16, entry.statedOffset ?? offset, true)
    view.setUint32(index * ENTRY_BYTES + 20, entry.statedLength ?? entry.blob.length, true)
    table.set(entry.blob, offset)
    offset += entry.blob.length
  }
  return table
}

function encodeGuid(guid: string): Uint8Array {
  const known: Readonly<Record<string, string>> = CERTIFICATE_TABLE_GUID
  const text = known[guid] ?? guid
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(text)) throw new RangeError(`expected a GUID, got ${guid}`)
  return Buffer.from(text.replaceAll('-', ''), 'hex')
}
