/**
 * Authenticode SHA-384 of a PE file ("Windows Authenticode Portable Executable Signature Format" 1.0, "Calculating the PE
 * Image Hash"): what firmware extends when it loads a kernel. Checksum and signatures are left out, so a signed and an
 * unsigned build of one kernel have one hash. PE32+ only. Integers are little-endian.
 */
import type { Bytes } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { createSha384 } from '../protocol/hash.js'

const PE32_PLUS = 0x20b
const COFF_BYTES = 24
const SECTION_HEADER_BYTES = 40
/** Offsets in the optional header of PE32+. */
const SIZE_OF_HEADERS = 60
const CHECKSUM = 64
const DIRECTORY_COUNT = 108
const CERTIFICATE_ENTRY = 144
const MAX_SECTIONS = 96

/** 48 bytes. @throws FormatError on anything but a whole PE32+ file. */
export function authenticodeSha384(file: Uint8Array): Bytes {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength)
  const u32 = (offset: number): number => {
    if (offset + 4 > file.length) throw malformed('it is cut short')
    return view.getUint32(offset, true)
  }
  if (file.length < 0x40 || view.getUint16(0, true) !== 0x5a4d) throw malformed('it does not begin with MZ')
  const pe = u32(0x3c)
  if (u32(pe) !== 0x4550) throw malformed('it has no PE header')
  const optional = pe + COFF_BYTES
  const sectionCount = u32(pe + 4) >>> 16
  const optionalBytes = u32(pe + 20) & 0xffff
  if ((u32(optional) & 0xffff) !== PE32_PLUS) throw malformed('it is no PE32+ file')
  if (optionalBytes < CERTIFICATE_ENTRY + 8 || u32(optional + DIRECTORY_COUNT) < 5) {
    throw malformed('its header has no place for a signature')
  }
  if (sectionCount > MAX_SECTIONS) throw malformed(`${sectionCount} sections, at most ${MAX_SECTIONS}`)
  const headerBytes = u32(optional + SIZE_OF_HEADERS)
  const table = optional + optionalBytes
  if (headerBytes < table + sectionCount * SECTION_HEADER_BYTES || headerBytes > file.length) {
    throw malformed('its headers leave the file')
  }
  const certificateBytes = u32(optional + CERTIFICATE_ENTRY + 4)

  const hash = createSha384()
  hash.update(file.subarray(0, optional + CHECKSUM))
  hash.update(file.subarray(optional + CHECKSUM + 4, optional + CERTIFICATE_ENTRY))
  hash.update(file.subarray(optional + CERTIFICATE_ENTRY + 8, headerBytes))
  let hashed = headerBytes
  const sections = Array.from({ length: sectionCount }, (_, i) => table + i * SECTION_HEADER_BYTES)
    .map((at) => ({ size: u32(at + 16), offset: u32(at + 20) }))
    .filter(({ size }) => size > 0)
    .sort((a, b) => a.offset - b.offset)
  for (const { offset, size } of sections) {
    if (offset + size > file.length) throw malformed('a section leaves the file')
    hash.update(file.subarray(offset, offset + size))
    hashed += size
  }
  const rest = file.length - certificateBytes
  if (rest < hashed) throw malformed('its sections overlap or its signature is longer than what follows them')
  hash.update(file.subarray(hashed, rest))
  return hash.digest()
}

function malformed(what: string): FormatError {
  return new FormatError('measure.pe', `kernel: not a PE image: ${what}`)
}
