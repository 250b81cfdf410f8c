/**
 * A unified kernel image (UAPI Group specification 5, "Unified Kernel Image"): systemd's EFI stub with command line, initrd and
 * kernel as further sections of one PE file, which firmware measures as a whole. Nothing in it depends on when or where it was
 * made; the stub's own time stamp and checksum stay as Debian built them.
 */
import { ImageError } from './command.js'

const COFF_BYTES = 24
const SECTION_HEADER_BYTES = 40
/** Offsets in the COFF header and in the optional header of PE32+ (Microsoft PE format, 3.3 and 3.4). */
const SECTION_COUNT = 6
const OPTIONAL_BYTES = 20
const SECTION_ALIGNMENT = 32
const FILE_ALIGNMENT = 36
const SIZE_OF_IMAGE = 56
const SIZE_OF_HEADERS = 60
/** Initialised data, readable. */
const CHARACTERISTICS = 0x40000040
const PE32_PLUS = 0x20b

export interface UkiParts {
  readonly commandLine: string
  readonly initrd: Uint8Array
  readonly kernel: Uint8Array
}

/** @throws ImageError when the stub is no PE32+ file, has one of the sections already, or no room for their headers. */
export function unifiedKernelImage(stub: Uint8Array, { commandLine, initrd, kernel }: UkiParts): Buffer {
  // In the order in which the stub measures them: the kernel is the last thing it needs.
  const added: readonly (readonly [string, Uint8Array])[] = [
    ['.cmdline', Buffer.from(commandLine)],
    ['.initrd', initrd],
    ['.linux', kernel],
  ]
  const pe = stub.length > 0x40 ? Buffer.from(stub).readUInt32LE(0x3c) : 0
  const head = Buffer.from(stub)
  if (pe === 0 || pe + COFF_BYTES > head.length || head.toString('latin1', pe, pe + 4) !== 'PE\0\0') {
    throw new ImageError('EFI stub: expected a PE file')
  }
  const optional = pe + COFF_BYTES
  if (head.readUInt16LE(optional) !== PE32_PLUS) throw new ImageError('EFI stub: expected a PE32+ file')
  const table = optional + head.readUInt16LE(pe + OPTIONAL_BYTES)
  const count = head.readUInt16LE(pe + SECTION_COUNT)
  const end = table + (count + added.length) * SECTION_HEADER_BYTES
  if (end > head.readUInt32LE(optional + SIZE_OF_HEADERS)) {
    throw new ImageError('EFI stub: expected room for more section headers')
  }
  const sectionAlignment = head.readUInt32LE(optional + SECTION_ALIGNMENT)
  const fileAlignment = head.readUInt32LE(optional + FILE_ALIGNMENT)
  let address = 0
  for (let i = 0; i < count; i++) {
    const at = table + i * SECTION_HEADER_BYTES
    const name = head.toString('latin1', at, at + 8).replace(/\0+$/, '')
    if (added.some(([other]) => other === name)) throw new ImageError(`EFI stub: expected no section ${name}`)
    address = Math.max(address, head.readUInt32LE(at + 12) + head.readUInt32LE(at + 8))
  }
  const pieces = [padded(head, fileAlignment)]
  let offset = (pieces[0] as Buffer).length
  for (const [i, [name, bytes]] of added.entries()) {
    address = alignUp(address, sectionAlignment)
    const data = padded(bytes, fileAlignment)
    const header = Buffer.alloc(SECTION_HEADER_BYTES)
    header.write(name, 'latin1')
    for (const [k, value] of [bytes.length, address, data.length, offset].entries()) {
      header.writeUInt32LE(value, 8 + 4 * k)
    }
    header.writeUInt32LE(CHARACTERISTICS, 36)
    header.copy(pieces[0] as Buffer, table + (count + i) * SECTION_HEADER_BYTES)
    pieces.push(data)
    address += bytes.length
    offset += data.length
  }
  const first = pieces[0] as Buffer
  first.writeUInt16LE(count + added.length, pe + SECTION_COUNT)
  first.writeUInt32LE(alignUp(address, sectionAlignment), optional + SIZE_OF_IMAGE)
  return Buffer.concat(pieces)
}

function padded(bytes: Uint8Array, alignment: number): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(alignUp(bytes.length, alignment) - bytes.length)])
}

function alignUp(value: number, alignment: number): number {
  return Math.ceil(value / alignment) * alignment
}
