/** Firmware files and kernels made for tests: just enough of each to be read, under no vendor's name. */
import { concat, fromHex, utf8 } from '../../verifier/protocol/bytes.js'

const u16 = (value: number) => new Uint8Array([value & 0xff, value >> 8])
const u32 = (value: number) => {
  const out = new Uint8Array(4)
  new DataView(out.buffer).setUint32(0, value, true)
  return out
}
const u64 = (value: number) => concat(u32(value), u32(0))
/** As it stands in memory. */
const guid = (text: string) => {
  const [a = '', b = '', c = '', d = '', e = ''] = text.split('-')
  const swap = (hex: string) => fromHex(hex).reverse()
  return concat(swap(a), swap(b), swap(c), fromHex(d), fromHex(e))
}
const entry = (name: string, data: Uint8Array) => concat(data, u16(data.length + 18), guid(name))

export interface FirmwareOptions {
  readonly sev?: readonly (readonly [gpa: number, size: number, type: number])[]
  readonly tdx?: readonly (readonly [
    offset: number,
    fileSize: number,
    gpa: number,
    size: number,
    type: number,
    attributes: number,
  ])[]
  readonly hashTableGpa?: number
  readonly version?: number
  readonly extraEntry?: string
}

/** Two pages: metadata in the first, the GUID table at the end of the second. */
export function buildFirmware(options: FirmwareOptions): Uint8Array<ArrayBuffer> {
  const { sev, tdx, hashTableGpa = 0, version = 1, extraEntry } = options
  const file = new Uint8Array(8192).fill(0x90)
  const entries: Uint8Array[] = []
  if (sev !== undefined) {
    const rows = concat(...sev.map((row) => concat(...row.map(u32))))
    file.set(concat(utf8('ASEV'), u32(16 + rows.length), u32(version), u32(sev.length), rows), 0x100)
    entries.push(entry('dc886566-984a-4798-a75e-5585a7bf67cc', u32(8192 - 0x100)))
    entries.push(entry('00f771de-1a7e-4fcb-890e-68c77e2fb44e', u32(0x80b004)))
    entries.push(entry('7255371f-3a3b-4b04-927b-1da6efa8d454', concat(u32(hashTableGpa), u32(0x400))))
  }
  if (tdx !== undefined) {
    const rows = concat(
      ...tdx.map(([offset, fileSize, gpa, size, type, attributes]) =>
        concat(u32(offset), u32(fileSize), u64(gpa), u64(size), u32(type), u32(attributes)),
      ),
    )
    file.set(concat(utf8('TDVF'), u32(16 + rows.length), u32(version), u32(tdx.length), rows), 0x800)
    entries.push(entry('e47a6535-984a-4798-865e-4685a7bf8ec2', u32(8192 - 0x800)))
  }
  if (extraEntry !== undefined) entries.push(entry(extraEntry, u32(0)))
  const body = concat(...entries)
  const table = concat(body, u16(body.length + 18), guid('96b582de-1fb2-45f7-baea-a366c55a082d'))
  file.set(table, 8192 - 32 - table.length)
  return file
}

/** A PE32+ file of one section with `code` in it, and bytes behind it; `signature` is put where signatures stand. */
export function buildPe(
  code: Uint8Array,
  options: { signature?: Uint8Array; checksum?: number } = {},
): Uint8Array<ArrayBuffer> {
  const { signature = new Uint8Array(), checksum = 0 } = options
  const headers = new Uint8Array(0x200)
  const view = new DataView(headers.buffer)
  const pe = 0x40
  const optional = pe + 24
  const padded = Math.ceil(code.length / 0x200) * 0x200
  view.setUint16(0, 0x5a4d, true)
  view.setUint32(0x3c, pe, true)
  view.setUint32(pe, 0x4550, true)
  view.setUint16(pe + 6, 1, true) // sections
  view.setUint16(pe + 20, 0xf0, true) // optional header size
  view.setUint16(optional, 0x20b, true)
  view.setUint32(optional + 32, 0x1000, true) // SectionAlignment
  view.setUint32(optional + 36, 0x200, true) // FileAlignment
  view.setUint32(optional + 60, headers.length, true)
  view.setUint32(optional + 64, checksum, true)
  view.setUint32(optional + 108, 16, true)
  if (signature.length > 0) {
    view.setUint32(optional + 144, headers.length + padded, true)
    view.setUint32(optional + 148, signature.length, true)
  }
  headers.set(utf8('.text'), optional + 0xf0)
  view.setUint32(optional + 0xf0 + 8, code.length, true) // VirtualSize
  view.setUint32(optional + 0xf0 + 12, 0x1000, true) // VirtualAddress
  view.setUint32(optional + 0xf0 + 16, padded, true) // SizeOfRawData
  view.setUint32(optional + 0xf0 + 20, headers.length, true) // PointerToRawData
  return concat(headers, code, new Uint8Array(padded - code.length), signature)
}
