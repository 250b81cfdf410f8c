/**
 * Which other libraries a shared library names: DT_NEEDED of its dynamic section (System V ABI, ELF-64 object files, little
 * endian). Nothing else of the format is read.
 */
import type { FileHandle } from 'node:fs/promises'
import { FormatError } from '../../../verifier/protocol/errors.js'

/** Offsets and sizes in ELF-64's header, program header and dynamic entry. */
const HEADER = { size: 64, magic: 0x464c457f, class64: 2, littleEndian: 1, programs: 32, programSize: 54, count: 56 }
const PROGRAM = { size: 56, type: 0, offset: 8, address: 16, length: 32, load: 1, dynamic: 2 }
const DYNAMIC = { size: 16, needed: 1n, stringTable: 5n }
const MAX_PROGRAMS = 64
const MAX_DYNAMIC_BYTES = 64 * 1024
const MAX_NAME_BYTES = 256

/** In their order. @throws FormatError `elf.malformed`. */
export async function neededLibraries(file: Pick<FileHandle, 'read'>): Promise<string[]> {
  const header = await take(file, 0, HEADER.size)
  if (header.readUInt32LE(0) !== HEADER.magic || header[4] !== HEADER.class64 || header[5] !== HEADER.littleEndian) {
    throw malformed('it is none for 64 bits, little endian')
  }
  const count = header.readUInt16LE(HEADER.count)
  if (count > MAX_PROGRAMS || header.readUInt16LE(HEADER.programSize) !== PROGRAM.size) {
    throw malformed('its program headers are none')
  }
  const table = await take(file, offsetOf(header, HEADER.programs), count * PROGRAM.size)
  const programs = Array.from({ length: count }, (_, i) => {
    const program = table.subarray(i * PROGRAM.size, (i + 1) * PROGRAM.size)
    return {
      type: program.readUInt32LE(PROGRAM.type),
      offset: offsetOf(program, PROGRAM.offset),
      address: offsetOf(program, PROGRAM.address),
      length: offsetOf(program, PROGRAM.length),
    }
  })
  const section = programs.find(({ type }) => type === PROGRAM.dynamic)
  if (section === undefined || section.length > MAX_DYNAMIC_BYTES) throw malformed('it has no dynamic section')
  const dynamic = await take(file, section.offset, section.length)
  const entries = Array.from({ length: Math.floor(dynamic.length / DYNAMIC.size) }, (_, i) => ({
    tag: dynamic.readBigUInt64LE(i * DYNAMIC.size),
    value: offsetOf(dynamic, i * DYNAMIC.size + 8),
  }))
  const address = entries.find(({ tag }) => tag === DYNAMIC.stringTable)?.value ?? -1
  const holder = programs.find(
    (program) =>
      program.type === PROGRAM.load && address >= program.address && address < program.address + program.length,
  )
  if (holder === undefined) throw malformed('its names are nowhere')
  const names: string[] = []
  for (const { tag, value } of entries) {
    if (tag !== DYNAMIC.needed) continue
    const text = await take(file, holder.offset + (address - holder.address) + value, MAX_NAME_BYTES, 1)
    const end = text.indexOf(0)
    if (end < 1) throw malformed('a name in it does not end')
    names.push(text.toString('latin1', 0, end))
  }
  return names
}

/** That many bytes, or at the end of the file at least `least` of them. */
async function take(file: Pick<FileHandle, 'read'>, at: number, length: number, least = length): Promise<Buffer> {
  if (!Number.isSafeInteger(at)) throw malformed('a place in it is out of reach')
  const { bytesRead, buffer } = await file.read(Buffer.alloc(length), 0, length, at)
  if (bytesRead < least) throw malformed('it ends too early')
  return buffer.subarray(0, bytesRead)
}

function offsetOf(bytes: Buffer, at: number): number {
  const value = bytes.readBigUInt64LE(at)
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw malformed('a place in it is out of reach')
  return Number(value)
}

function malformed(what: string): FormatError {
  return new FormatError('elf.malformed', `expected a shared library, but ${what}`)
}
