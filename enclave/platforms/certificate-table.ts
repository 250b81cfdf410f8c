/**
 * The host's certificate table (AMD 56421 "GHCB", SNP Extended Guest Request): {GUID 16, u32 offset, u32 length} until a
 * zero entry. Nobody has vouched for it: it is a cache of certificates that verifiers check to a pinned root, so a table that
 * cannot be read is worth as much as none.
 */

import type { StapledEndorsement } from '../../verifier/protocol/bundle.js'
import { ByteReader, type Bytes, fromBase64, isZero, toBytes, toHex } from '../../verifier/protocol/bytes.js'
import { MEDIA_TYPE_CERTIFICATE, MEDIA_TYPE_CRL } from '../../verifier/protocol/constants.js'
import { FormatError } from '../../verifier/protocol/errors.js'

/** GUIDs in RFC 4122 byte order, and what the entry is. */
const TABLE_TYPES: ReadonlyMap<string, StapledEndorsement['type']> = new Map([
  ['63da758de6644564adc5f4b93be8accd', MEDIA_TYPE_CERTIFICATE], // VCEK
  ['a8074bc2a25a483eaae639c045a0b8a1', MEDIA_TYPE_CERTIFICATE], // VLEK
  ['4ab7b379bbac4fe4a02f05aef327c782', MEDIA_TYPE_CERTIFICATE], // ASK or ASVK
  ['c0b406a4a803495297433fb6014cd0ae', MEDIA_TYPE_CERTIFICATE], // ARK
  ['92f81bc358114d3d97ffd19f88dc67ea', MEDIA_TYPE_CRL],
] as const)

const ENTRY_BYTES = 24
const MAX_TABLE_ENTRIES = 32
/** What the driver allows is 16 KiB; newer kernels more. */
export const MAX_TABLE_BYTES: number = 1024 * 1024

/** What the table holds of known kinds, in DER. @throws FormatError on a table that is not as described above. */
export function certificateTable(auxblob: Bytes): readonly StapledEndorsement[] {
  const out: StapledEndorsement[] = []
  if (auxblob.length === 0) return out
  const table = new ByteReader(auxblob, 'certificate table')
  for (let i = 0; i < MAX_TABLE_ENTRIES; i++) {
    const guid = table.take(16)
    const offset = table.u32le()
    const length = table.u32le()
    if (isZero(guid)) return out
    if (offset < (i + 1) * ENTRY_BYTES || offset + length > auxblob.length) {
      throw new FormatError('tsm.table', 'certificate table: an entry out of bounds')
    }
    const type = TABLE_TYPES.get(toHex(guid))
    if (type !== undefined && length > 0) {
      out.push(...derItems(auxblob.subarray(offset, offset + length)).map((bytes) => ({ type, bytes })))
    }
  }
  throw new FormatError('tsm.table', `certificate table: more than ${MAX_TABLE_ENTRIES} entries`)
}

/** The same, without complaint: what cannot be read is left out. */
export function certificatesOf(auxblob: Bytes): readonly StapledEndorsement[] {
  try {
    return certificateTable(auxblob)
  } catch (error) {
    if (error instanceof FormatError) return []
    throw error
  }
}

const PEM = /-----BEGIN (?:CERTIFICATE|X509 CRL)-----([A-Za-z0-9+/=\s]*)-----END/g

/** Entries are DER by the book and PEM on some hosts; a bundle carries DER (PROTOCOL.md §6). @throws FormatError */
export function derItems(entry: Uint8Array): readonly Bytes[] {
  if (entry[0] === 0x30) return [toBytes(entry.slice())]
  const text = new TextDecoder('latin1').decode(entry)
  return [...text.matchAll(PEM)].map(([, body = '']) => fromBase64(body.replaceAll(/\s/g, '')))
}
