/**
 * Headers of a PE32+ file (Microsoft "PE Format", 3.3, 3.4 and 4): what its Authenticode hash and a unified kernel image need of
 * them. Integers are little-endian. Refused: what is cut short, PE32, and headers or sections that leave the file.
 */
import { FormatError } from '../protocol/errors.js'

const PE32_PLUS = 0x20b
const COFF_BYTES = 24
const SECTION_HEADER_BYTES = 40
/** Offsets in the optional header of PE32+. */
const SIZE_OF_HEADERS = 60
const CHECKSUM = 64
const DIRECTORY_COUNT = 108
const CERTIFICATE_ENTRY = 144
const MAX_SECTIONS = 96

export interface PeSection {
  /** At most 8 characters, without the zeros behind them. */
  readonly name: string
  /** Bytes in memory: what the section holds, without the file's padding. */
  readonly memoryBytes: number
  readonly offset: number
  /** Bytes in the file. */
  readonly fileBytes: number
}

export interface PeHeaders {
  /** Where the 4 bytes of CheckSum and the 8 bytes of the certificate table's entry are. */
  readonly checksumOffset: number
  readonly certificateEntryOffset: number
  readonly certificateBytes: number
  readonly headerBytes: number
  /** In the order of the section table. */
  readonly sections: readonly PeSection[]
}

/** @throws FormatError on anything but a whole PE32+ file. */
export function parsePe(file: Uint8Array): PeHeaders {
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
  const sections = Array.from({ length: sectionCount }, (_, i) => {
    const at = table + i * SECTION_HEADER_BYTES
    const name = String.fromCharCode(...file.subarray(at, at + 8)).replace(/\0+$/, '')
    const section = { name, memoryBytes: u32(at + 8), fileBytes: u32(at + 16), offset: u32(at + 20) }
    if (section.fileBytes > 0 && section.offset + section.fileBytes > file.length) {
      throw malformed('a section leaves the file')
    }
    return section
  })
  return {
    checksumOffset: optional + CHECKSUM,
    certificateEntryOffset: optional + CERTIFICATE_ENTRY,
    certificateBytes: u32(optional + CERTIFICATE_ENTRY + 4),
    headerBytes,
    sections,
  }
}

export function malformed(what: string): FormatError {
  return new FormatError('measure.pe', `kernel: not a PE image: ${what}`)
}
