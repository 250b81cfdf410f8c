/**
 * ACPI tables as a host may change them: QEMU's own, read from its firmware interface (docs/specs/fw_cfg.rst), with a multiprocessor
 * wakeup structure (ACPI 6.5 §5.2.12.19) in the MADT, without the object that says how to power off, and with code beside them that
 * the structure points to. The firmware places them by the commands of QEMU's table loader.
 */
import type { ChildProcessByStdio } from 'node:child_process'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable, Writable } from 'node:stream'
import { spawnBounded } from './bounded.js'
import { ImageError } from './command.js'
import { toolCommand } from './qemu.js'

export interface HostTables {
  readonly tables: Buffer
  readonly rsdp: Buffer
  readonly loader: Buffer
}

const NAMES = { tables: 'etc/acpi/tables', rsdp: 'etc/acpi/rsdp', loader: 'etc/table-loader' } as const
const [SELECTOR, DATA] = ['0x510', '0x511']
const DIRECTORY = 0x19
const READ_AT_ONCE = 512
/** bios-linker-loader.c of QEMU: 128 bytes a command, file names of 56. */
const [COMMAND_BYTES, NAME_BYTES] = [128, 56]
const [ALLOCATE, ADD_POINTER, ADD_CHECKSUM] = [1, 2, 3]
const HEADER_BYTES = 36
const CHECKSUM_OFFSET = 9
const PAGE = 4096
/** It takes seconds. */
const DEADLINE_MS = 600_000

/** The tables of a machine like the one that guests get, from QEMU itself, which runs nothing. */
export async function qemuTables(qemu: string, memoryMiB: number): Promise<HostTables> {
  const [program, ...words] = toolCommand(qemu, 'qemu-system-x86_64', [
    ...['-L', join(qemu, 'usr/share/qemu'), '-L', join(qemu, 'usr/share/seabios')],
    ...['-machine', 'q35', '-accel', 'tcg', '-cpu', 'max', '-smp', '1', '-m', String(memoryMiB), '-S'],
    ...['-display', 'none', '-nodefaults', '-no-user-config', '-qtest', 'stdio'],
    ...['-netdev', 'user,id=net,restrict=on', '-device', 'virtio-net-pci,netdev=net,romfile='],
  ])
  const { child, kill } = spawnBounded<ChildProcessByStdio<Writable, Readable, null>>(program, words, {
    deadlineMs: DEADLINE_MS,
    stdio: ['pipe', 'pipe', 'ignore'],
  })
  try {
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    const say = async (commands: readonly string[]): Promise<readonly string[]> => {
      child.stdin.write(commands.map((command) => `${command}\n`).join(''))
      const answers: string[] = []
      while (answers.length < commands.length) {
        const { value, done } = await lines.next()
        if (done === true || value.startsWith('FAIL')) throw new ImageError(`qtest: ${value ?? 'QEMU ended'}`)
        if (value.startsWith('OK')) answers.push(value.slice(3))
      }
      return answers
    }
    const read = async (selector: number, length: number): Promise<Buffer> => {
      await say([`outw ${SELECTOR} 0x${selector.toString(16)}`])
      const bytes: number[] = []
      while (bytes.length < length) {
        const count = Math.min(READ_AT_ONCE, length - bytes.length)
        bytes.push(...(await say(Array.from({ length: count }, () => `inb ${DATA}`))).map(Number))
      }
      return Buffer.from(bytes)
    }
    const count = (await read(DIRECTORY, 4)).readUInt32BE()
    const entries = (await read(DIRECTORY, 4 + 64 * count)).subarray(4)
    const file = async (wanted: string): Promise<Buffer> => {
      for (let at = 0; at < entries.length; at += 64) {
        const name = entries.toString('latin1', at + 8, at + 64).replace(/\0.*$/s, '')
        if (name === wanted) return read(entries.readUInt16BE(at + 4), entries.readUInt32BE(at))
      }
      throw new ImageError(`QEMU has no ${wanted}`)
    }
    return { tables: await file(NAMES.tables), rsdp: await file(NAMES.rsdp), loader: await file(NAMES.loader) }
  } finally {
    kill()
  }
}

export interface Wakeup {
  /** Where a processor is started from; its version 0 has nothing more. */
  readonly mailbox: number
  /** Code to be jumped to when a processor stops (version 1). */
  readonly code?: Buffer
  /** Lists one processor more, so that somebody is to be started. */
  readonly another: boolean
}

/** The same tables with that structure at the end of the MADT, and no `_S5`. */
export function withWakeup({ tables, rsdp, loader }: HostTables, { mailbox, code, another }: Wakeup): HostTables {
  const changed = Buffer.from(tables)
  changed.write('_X5_', indexOf(changed, '_S5_'), 'latin1')
  const [old, root] = [indexOf(changed, 'APIC'), indexOf(changed, 'RSDT')]
  const oldBytes = changed.readUInt32LE(old + 4)

  const madt = Buffer.concat([
    changed.subarray(old, old + oldBytes),
    another ? Buffer.from([0, 8, 1, 1, 1, 0, 0, 0]) : Buffer.alloc(0),
    wakeupEntry(mailbox, code === undefined ? undefined : changed.length + PAGE),
  ])
  madt.writeUInt32LE(madt.length, 4)
  const start = changed.length
  const all = Buffer.concat([changed, Buffer.alloc(3 * PAGE)])
  madt.copy(all, start)
  code?.copy(all, start + PAGE)
  const links = Array.from(
    { length: (all.readUInt32LE(root + 4) - HEADER_BYTES) / 4 },
    (_, i) => root + HEADER_BYTES + 4 * i,
  )
  const link = links.find((at) => all.readUInt32LE(at) === old)
  if (link === undefined) throw new ImageError('QEMU’s root table does not lead to a MADT')
  all.writeUInt32LE(start, link)

  // Once there are files and before anything reads them.
  const commands = chunks(loader).filter((command) => command.readUInt32LE() !== 0)
  const isFile = (command: Buffer): boolean => command.readUInt32LE() === ALLOCATE
  const ours = code === undefined ? [] : [pointer(start + madt.length - 8, 8)]
  const order = [
    ...commands.filter(isFile),
    ...ours,
    checksum(start, madt.length),
    ...commands.filter((command) => !isFile(command)),
  ]
  return { tables: all, rsdp, loader: Buffer.concat(order) }
}

function wakeupEntry(mailbox: number, code: number | undefined): Buffer {
  const entry = Buffer.alloc(code === undefined ? 16 : 24)
  entry.writeUInt8(0x10, 0)
  entry.writeUInt8(entry.length, 1)
  entry.writeUInt16LE(code === undefined ? 0 : 1, 2)
  entry.writeBigUInt64LE(BigInt(mailbox), 8)
  // Of the file; the loader adds where the file is.
  if (code !== undefined) entry.writeBigUInt64LE(BigInt(code), 16)
  return entry
}

function pointer(offset: number, size: number): Buffer {
  const command = Buffer.alloc(COMMAND_BYTES)
  command.writeUInt32LE(ADD_POINTER)
  command.write(NAMES.tables, 4, 'latin1')
  command.write(NAMES.tables, 4 + NAME_BYTES, 'latin1')
  command.writeUInt32LE(offset, 4 + 2 * NAME_BYTES)
  command.writeUInt8(size, 8 + 2 * NAME_BYTES)
  return command
}

function checksum(start: number, length: number): Buffer {
  const command = Buffer.alloc(COMMAND_BYTES)
  command.writeUInt32LE(ADD_CHECKSUM)
  command.write(NAMES.tables, 4, 'latin1')
  command.writeUInt32LE(start + CHECKSUM_OFFSET, 4 + NAME_BYTES)
  command.writeUInt32LE(start, 8 + NAME_BYTES)
  command.writeUInt32LE(length, 12 + NAME_BYTES)
  return command
}

function chunks(loader: Buffer): Buffer[] {
  return Array.from({ length: loader.length / COMMAND_BYTES }, (_, i) =>
    loader.subarray(i * COMMAND_BYTES, (i + 1) * COMMAND_BYTES),
  )
}

function indexOf(tables: Buffer, text: string): number {
  const at = tables.indexOf(text, 0, 'latin1')
  if (at < 0) throw new ImageError(`QEMU’s ACPI tables have no ${text}`)
  return at
}
