/**
 * The kernel as older QEMU hands it to the firmware: its loader writes into the Linux setup header (Linux "x86 boot
 * protocol" 2.12), and what firmware then measures depends on the sizes of memory and initrd. QEMU 10.2 and later leave the
 * header alone for confidential guests, and every QEMU does so for SEV with kernel hashing. Integers are little-endian.
 */
import type { Bytes } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'

export interface QemuLoad {
  readonly memoryBytes: number
  readonly initrdBytes: number
}

const MIB = 1024 * 1024
const MAX_LOW_BYTES = 2816 * MIB
const PAGE_MASK = 0xffff_f000
const ACPI_DATA_BYTES = 0x28000

/** A copy with the fields that QEMU's loader sets. @throws FormatError when there is no setup header. */
export function asLoadedByQemu(kernel: Uint8Array, { memoryBytes, initrdBytes }: QemuLoad): Bytes {
  const out = new Uint8Array(kernel)
  const view = new DataView(out.buffer)
  if (out.length < 0x268 || view.getUint32(0x202, true) !== 0x5372_6448) {
    throw new FormatError('measure.setup-header', 'kernel: it has no Linux setup header')
  }
  if (view.getUint16(0x206, true) < 0x20c) {
    throw new FormatError('measure.setup-header', 'kernel: boot protocol older than 2.12')
  }
  const low = memoryBytes < MAX_LOW_BYTES ? memoryBytes : 2048 * MIB
  view.setUint8(0x210, 0xb0) // type_of_loader
  view.setUint8(0x211, view.getUint8(0x211) | 0x80) // loadflags: CAN_USE_HEAP
  view.setUint32(0x224, 0xfe00, true) // heap_end_ptr
  view.setUint32(0x228, 0x20000, true) // cmd_line_ptr
  if (initrdBytes > 0) {
    view.setUint32(0x218, (low - ACPI_DATA_BYTES - 1 - initrdBytes) & PAGE_MASK, true) // ramdisk_image
    view.setUint32(0x21c, initrdBytes, true) // ramdisk_size
  }
  return out
}
