/**
 * The guest certificate table (AMD 56421 "GHCB", SNP Extended Guest Request; `auxblob` of Linux configfs-tsm).
 *
 * Entries of 24 bytes {GUID in RFC 4122 byte order, offset u32 LE, length u32 LE}, ended by an all-zero entry; offsets
 * count from the start of the table. The host fills it, so nothing in it is trusted: it only delivers candidates.
 * Refused: an entry out of bounds or over the header, entries that share bytes, no terminator, more than 64 entries.
 */
import { ByteReader, type Bytes, isZero, toBytes, toHex } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'

/** What each GUID announces. What a blob is, its content decides. */
export const CERTIFICATE_TABLE_GUIDS: Readonly<Record<string, string>> = {
  '63da758d-e664-4564-adc5-f4b93be8accd': 'VCEK',
  'a8074bc2-a25a-483e-aae6-39c045a0b8a1': 'VLEK',
  '4ab7b379-bbac-4fe4-a02f-05aef327c782': 'ASK or ASVK',
  'c0b406a4-a803-4952-9743-3fb6014cd0ae': 'ARK',
  '92f81bc3-5811-4d3d-97ff-d19f88dc67ea': 'CRL',
}

export interface CertificateTableEntry {
  /** Lower case, hyphenated. */
  readonly guid: string
  /** DER or PEM (both seen), exactly as the table delimits it. */
  readonly bytes: Bytes
}

const ENTRY_BYTES = 24
const MAX_ENTRIES = 64

/** Whether the first entry's GUID is one of the known ones. */
export function looksLikeCertificateTable(bytes: Uint8Array): boolean {
  return bytes.length >= 2 * ENTRY_BYTES && guidText(bytes.subarray(0, 16)) in CERTIFICATE_TABLE_GUIDS
}

/** @throws FormatError on a table that is not exactly as described above. */
export function readCertificateTable(bytes: Uint8Array): readonly CertificateTableEntry[] {
  const table = toBytes(bytes)
  const reader = new ByteReader(table, 'certificate table')
  const entries: { guid: string; offset: number; length: number }[] = []
  for (;;) {
    const guid = reader.take(16)
    const offset = reader.u32le()
    const length = reader.u32le()
    if (isZero(guid) && offset === 0 && length === 0) break
    if (entries.length === MAX_ENTRIES) {
      throw new FormatError('snp.certificate-table.entries', `certificate table: more than ${MAX_ENTRIES} entries`)
    }
    entries.push({ guid: guidText(guid), offset, length })
  }
  const headerEnd = reader.offset
  refuseSharedBytes(entries)
  return entries.map(({ guid, offset, length }) => {
    if (length === 0 || offset < headerEnd || offset + length > table.length) {
      throw new FormatError(
        'snp.certificate-table.bounds',
        `certificate table: entry ${guid} spans ${offset}..${offset + length} of ${table.length} bytes`,
      )
    }
    return { guid, bytes: table.subarray(offset, offset + length) }
  })
}

/** Or a table would unfold into as many times its bytes as it has entries. */
function refuseSharedBytes(entries: readonly { readonly offset: number; readonly length: number }[]): void {
  let end = 0
  for (const { offset, length } of [...entries].sort((a, b) => a.offset - b.offset)) {
    if (offset < end) throw new FormatError('snp.certificate-table.bounds', 'certificate table: entries share bytes')
    end = offset + length
  }
}

function guidText(bytes: Uint8Array): string {
  const hex = toHex(bytes)
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-')
}
