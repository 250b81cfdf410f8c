/**
 * Guest firmware files (edk2 OVMF builds): where the SEV and TDX parts are, read from the GUID table at the end of the
 * file (edk2 OvmfPkg/ResetVector "OvmfSevGuid" table; AMD "SEV Metadata", Intel "TDX Virtual Firmware Design Guide" §11).
 *
 * Reading only: whether a firmware can be trusted to act on what it carries is `known-firmware.ts`. Refused: tables that
 * leave the file, versions other than 1, unknown section types, sections that overlap or are no whole pages, more than 64.
 * Integers are little-endian.
 */
import { type Bytes, equalBytes, toHex } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { sha256 } from '../protocol/hash.js'

/** One range of guest memory that the host adds before launch (SEV metadata). */
export interface SevSection {
  /** Guest-physical address, a multiple of 4096. */
  readonly gpa: number
  /** Bytes, a multiple of 4096; a section of size 0 adds nothing. */
  readonly size: number
  readonly type: SevSectionType
}

/** `kernel-hashes` is the page the host fills with hashes of kernel, initrd and command line. */
export type SevSectionType = 'prevalidated' | 'secrets' | 'cpuid' | 'calling-area' | 'kernel-hashes'

/** One range of guest memory that the VMM adds to a TD (TDX metadata). */
export interface TdxSection {
  readonly fileOffset: number
  readonly fileSize: number
  readonly gpa: bigint
  readonly memorySize: bigint
  readonly type: 'code' | 'variables' | 'hob' | 'temporary'
  /** The contents are measured into MRTD, not only the address. */
  readonly extend: boolean
  /** The page is accepted by the guest later, and not added at build. */
  readonly acceptedLater: boolean
}

export interface SevFirmware {
  /** EIP the application processors start at. */
  readonly resetEip: number
  /** Where in guest memory the kernel hashes stand; undefined when the firmware has no place for them. */
  readonly hashTableGpa: number | undefined
  /** In file order, which is the order of measurement. */
  readonly sections: readonly SevSection[]
}

export interface FirmwareFile {
  readonly bytes: Bytes
  readonly sha256Hex: string
  /** Undefined when the file has no SEV metadata. */
  readonly sev: SevFirmware | undefined
  /** Undefined when the file has no TDX metadata. */
  readonly tdx: readonly TdxSection[] | undefined
}

export const PAGE_BYTES = 4096
const MAX_FIRMWARE_BYTES = 64 * 1024 * 1024
const MAX_SECTIONS = 64
const GUID_BYTES = 16
/** Each entry ends with a length of two bytes, counting itself and the GUID, and the GUID. */
const ENTRY_TAIL_BYTES = 2 + GUID_BYTES
/** The table's footer ends this far before the end of the file. */
const FOOTER_DISTANCE = 32

const GUID = {
  footer: '96b582de-1fb2-45f7-baea-a366c55a082d',
  resetBlock: '00f771de-1a7e-4fcb-890e-68c77e2fb44e',
  hashTable: '7255371f-3a3b-4b04-927b-1da6efa8d454',
  sevMetadata: 'dc886566-984a-4798-a75e-5585a7bf67cc',
  tdxMetadata: 'e47a6535-984a-4798-865e-4685a7bf8ec2',
} as const

const SEV_TYPES: Readonly<Record<number, SevSectionType | undefined>> = {
  1: 'prevalidated',
  2: 'secrets',
  3: 'cpuid',
  4: 'calling-area',
  16: 'kernel-hashes',
}
const TDX_TYPES = ['code', 'variables', 'hob', 'temporary'] as const

/** @throws FormatError on anything but a firmware file whose tables are whole. */
export function parseFirmware(bytes: Bytes): FirmwareFile {
  if (bytes.length === 0 || bytes.length % PAGE_BYTES !== 0 || bytes.length > MAX_FIRMWARE_BYTES) {
    throw malformed(`${bytes.length} bytes; expected whole pages of 4096 bytes, at most 64 MiB`)
  }
  const table = readGuidTable(bytes)
  return { bytes, sha256Hex: toHex(sha256(bytes)), sev: readSev(bytes, table), tdx: readTdx(bytes, table) }
}

/** Where an area described by the table stands in memory or from the end of the file. */
type GuidTable = ReadonlyMap<string, Bytes>

function readGuidTable(bytes: Bytes): GuidTable {
  const end = bytes.length - FOOTER_DISTANCE
  const entries = new Map<string, Bytes>()
  // A file without a table has anything there.
  if (guidText(bytes.subarray(end - GUID_BYTES, end)) !== GUID.footer) return entries
  const start = end - entryAt(bytes, end, 0).length
  for (let at = end - ENTRY_TAIL_BYTES; at > start; ) {
    const { guid, length } = entryAt(bytes, at, start)
    if (entries.has(guid)) throw malformed(`the GUID table has ${guid} twice`)
    entries.set(guid, bytes.slice(at - length, at - ENTRY_TAIL_BYTES))
    at -= length
  }
  return entries
}

/** The entry that ends at `end`. */
function entryAt(bytes: Bytes, end: number, start: number): { readonly guid: string; readonly length: number } {
  if (end - ENTRY_TAIL_BYTES < start) throw malformed('an entry of the GUID table is cut short')
  const length = viewOf(bytes).getUint16(end - ENTRY_TAIL_BYTES, true)
  if (length < ENTRY_TAIL_BYTES || end - length < start) throw malformed('an entry of the GUID table leaves it')
  return { guid: guidText(bytes.subarray(end - GUID_BYTES, end)), length }
}

/** The first three groups are little-endian (UEFI 2.10, appendix A). */
function guidText(guid: Uint8Array): string {
  const hex = toHex(guid)
  const swap = (from: number, to: number) => (hex.slice(from, to).match(/../g) ?? []).reverse().join('')
  return `${swap(0, 8)}-${swap(8, 12)}-${swap(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
}

function readSev(bytes: Bytes, table: GuidTable): SevFirmware | undefined {
  const pointer = table.get(GUID.sevMetadata)
  if (pointer === undefined) return undefined
  const reset = table.get(GUID.resetBlock)
  if (reset === undefined) throw malformed('SEV metadata without a reset address')
  const hashTable = table.get(GUID.hashTable)
  // Address 0 is how a firmware says that it does no kernel hashing.
  const gpa = hashTable === undefined ? 0 : word(hashTable, 0)
  const rows = readSections(bytes, pointer, 'ASEV', 12)
  const sections = rows.map((row) => {
    const type = SEV_TYPES[word(row, 8)]
    if (type === undefined) throw malformed(`unknown SEV section type ${word(row, 8)}`)
    return { gpa: word(row, 0), size: word(row, 4), type }
  })
  return checkSevFirmware({ resetEip: word(reset, 0), hashTableGpa: gpa === 0 ? undefined : gpa, sections })
}

/** What holds for every description of a firmware, read from a file or written down. @throws FormatError otherwise. */
export function checkSevFirmware(firmware: SevFirmware): SevFirmware {
  const { sections } = firmware
  for (const { gpa, size } of sections) {
    if (gpa % PAGE_BYTES !== 0 || size % PAGE_BYTES !== 0) throw malformed('a SEV section is no whole number of pages')
    if (gpa + size > 0x1_0000_0000) throw malformed('a SEV section leaves the first 4 GiB')
  }
  const ordered = sections.filter(({ size }) => size > 0).sort((a, b) => a.gpa - b.gpa)
  if (ordered.some(({ gpa }, i) => i > 0 && gpa < endOf(ordered[i - 1]))) throw malformed('two SEV sections overlap')
  if (sections.filter(({ type }) => type === 'kernel-hashes').length > 1) throw malformed('two kernel-hash sections')
  return firmware
}

function endOf(section: SevSection | undefined): number {
  return section === undefined ? 0 : section.gpa + section.size
}

function readTdx(bytes: Bytes, table: GuidTable): readonly TdxSection[] | undefined {
  const pointer = table.get(GUID.tdxMetadata)
  if (pointer === undefined) return undefined
  return readSections(bytes, pointer, 'TDVF', 32).map((row) => {
    const view = viewOf(row)
    const type = TDX_TYPES[word(row, 24)]
    if (type === undefined) throw malformed(`unknown TDX section type ${word(row, 24)}`)
    const attributes = word(row, 28)
    if ((attributes & ~3) !== 0) throw malformed('unknown TDX section attributes')
    const section: TdxSection = {
      fileOffset: word(row, 0),
      fileSize: word(row, 4),
      gpa: view.getBigUint64(8, true),
      memorySize: view.getBigUint64(16, true),
      type,
      extend: (attributes & 1) !== 0,
      acceptedLater: (attributes & 2) !== 0,
    }
    return checkTdxSection(section, bytes.length)
  })
}

/** @throws FormatError when the section leaves the file or memory, or is no whole number of pages. */
export function checkTdxSection(section: TdxSection, fileBytes: number): TdxSection {
  const { fileOffset, fileSize, gpa, memorySize, extend } = section
  if (fileOffset + fileSize > fileBytes) throw malformed('a TDX section leaves the file')
  if (gpa % 4096n !== 0n || memorySize % 4096n !== 0n) throw malformed('a TDX section is no whole number of pages')
  if (memorySize > BigInt(MAX_FIRMWARE_BYTES) || gpa + memorySize > 0x1_0000_0000n) {
    throw malformed('a TDX section is larger than 64 MiB or leaves the first 4 GiB')
  }
  if (BigInt(fileSize) > memorySize) throw malformed('a TDX section holds more than its memory')
  if (extend && BigInt(fileSize) !== memorySize) throw malformed('a measured TDX section does not fill its memory')
  return section
}

/** The rows of a metadata block: signature, length, version 1, count, rows. */
function readSections(bytes: Bytes, pointer: Bytes, signature: string, rowBytes: number): readonly Bytes[] {
  const start = bytes.length - word(pointer, 0)
  if (start < 0 || start + 16 > bytes.length) throw malformed(`${signature} metadata lies outside the file`)
  const header = bytes.slice(start, start + 16)
  if (!equalBytes(header.subarray(0, 4), new TextEncoder().encode(signature))) {
    throw malformed(`no ${signature} metadata where the table says`)
  }
  const [length, version, count] = [word(header, 4), word(header, 8), word(header, 12)]
  if (version !== 1) throw malformed(`${signature} metadata version ${version}, expected 1`)
  if (count > MAX_SECTIONS) throw malformed(`${count} sections, at most ${MAX_SECTIONS}`)
  const end = start + 16 + count * rowBytes
  if (end > bytes.length || length < count * rowBytes) throw malformed(`${signature} metadata is cut short`)
  return Array.from({ length: count }, (_, i) => bytes.slice(end - (count - i) * rowBytes).slice(0, rowBytes))
}

function word(bytes: Bytes, offset: number): number {
  if (offset + 4 > bytes.length) throw malformed('a table entry is too short')
  return viewOf(bytes).getUint32(offset, true)
}

function viewOf(bytes: Bytes): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

function malformed(what: string): FormatError {
  return new FormatError('measure.firmware', `firmware: ${what}`)
}
