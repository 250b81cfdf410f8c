/**
 * QEMU with the lock's own version and libraries, always emulating (TCG): a nested /dev/kvm that hangs would be a test that
 * says nothing. Every guest has a deadline, and is killed with all that it started when that has passed or the script is gone; its
 * network is one forwarded port and nothing else.
 */
import type { ChildProcessByStdio } from 'node:child_process'
import { existsSync } from 'node:fs'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { fetchDebs } from './archive.js'
import { unpackDeb } from './base.js'
import { spawnBounded } from './bounded.js'
import { keptFolder, keyOf } from './kept.js'
import type { ImageLock } from './lock.js'
import { cacheFolder } from './places.js'

export interface Guest {
  readonly kernel: string
  /** A unified kernel image has its own, and its own command line. */
  readonly initrd?: string
  readonly commandLine?: string
  readonly root: string
  readonly model: string
  /** SEV firmware has a hash table, 176 bytes, put where a launch of a real SNP guest would have it. */
  readonly firmware?: { readonly file: string; readonly hashTable?: Buffer }
  /** Control socket of a software TPM. */
  readonly tpm?: string
  /** Compiled tables that the guest gets beside QEMU's own. */
  readonly acpiTables?: readonly string[]
  /** Files of ACPI tables in the place of QEMU's own, with the commands of its table loader. */
  readonly hostTables?: { readonly tables: string; readonly rsdp: string; readonly loader: string }
  /** Default: 2. */
  readonly processors?: number
  /** Without root and model. */
  readonly diskless?: boolean
  /** File of the size of the guest's memory that is its memory: what is in it at first stays until the guest writes there. */
  readonly memoryFile?: string
  /** File for what the guest writes to I/O port 0xE9. */
  readonly debugPort?: string
  /** Items for the guest, by name below opt/org.subrosa/. */
  readonly hostItems?: Readonly<Record<string, string>>
  /** File for the serial port's output. */
  readonly serial: string
  /** Command that answers on its standard streams whatever the guest says to port 8646 of 10.0.2.100, once a connection. */
  readonly relayCommand?: string
  /** Socket of a vhost-user back end that carries the guest's vsock. */
  readonly vsock?: string
  /** File for everything that goes over the guest's network, as pcap. */
  readonly capture?: string
  readonly deadlineMs: number
  readonly memoryMiB?: number
}

export interface RunningGuest {
  /** Leads to the worker's port in the guest. */
  readonly url: string
  serialText(): Promise<string>
  /** Whether QEMU has ended, by itself or by its deadline. */
  ended(): boolean
  /** Resolves when QEMU has ended; true when it was its deadline that ended it. */
  readonly end: Promise<{ readonly late: boolean }>
  stop(): Promise<void>
}

/** Where edk2's AmdSev build expects the table, as its metadata says. */
const HASH_TABLE_GPA = 0x810c00

/** Changes when the layout of the folder does. */
const LAYOUT = 'qemu/1'

/** Unpacks the lock's QEMU beside the system's own. */
export async function prepareQemu(lock: ImageLock): Promise<string> {
  const inputs = [LAYOUT, ...lock.debs.qemu.map(({ sha256 }) => sha256)]
  const id = keyOf(inputs)
  return keptFolder(join(cacheFolder, 'qemu', id), async (folder) => {
    const files = await fetchDebs(lock.debs.qemu)
    await mkdir(folder)
    for (const file of files) await unpackDeb(file, folder)
  })
}

/** A program of the lock's QEMU set, run by that set's own loader and libraries. */
export function toolCommand(qemu: string, program: string, args: readonly string[]): readonly [string, ...string[]] {
  const libraries = ['usr/lib/x86_64-linux-gnu', 'lib/x86_64-linux-gnu']
  const inner = ['pulseaudio', 'swtpm'].map((name) => `usr/lib/x86_64-linux-gnu/${name}`)
  const loader = ['lib64', 'lib/x86_64-linux-gnu', 'usr/lib64']
    .map((place) => join(qemu, place, 'ld-linux-x86-64.so.2'))
    .find(existsSync)
  const path = [...libraries, ...inner].map((place) => join(qemu, place)).join(':')
  return [loader ?? 'ld-linux-x86-64.so.2', '--library-path', path, join(qemu, 'usr/bin', program), ...args]
}

export async function startGuest(qemu: string, guest: Guest): Promise<RunningGuest> {
  const port = await freePort()
  const scratch = `${guest.serial}.d`
  await mkdir(scratch, { recursive: true })
  await rm(guest.serial, { force: true })
  const [program, ...words] = toolCommand(qemu, 'qemu-system-x86_64', await qemuArguments(qemu, guest, port, scratch))
  let late = false
  const { child, kill } = spawnBounded<ChildProcessByStdio<null, null, Readable>>(program, words, {
    deadlineMs: guest.deadlineMs,
    late: () => {
      late = true
    },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  let errors = ''
  child.stderr.on('data', (piece: Buffer) => {
    errors += piece.toString()
  })
  let over = false
  const end = new Promise<{ late: boolean }>((resolve) => {
    const finish = (): void => {
      over = true
      resolve({ late })
    }
    child.on('error', finish)
    child.on('close', finish)
  })
  return {
    url: `http://127.0.0.1:${port}`,
    end,
    ended: () => over,
    serialText: async () => `${await readFile(guest.serial, 'utf8').catch(() => '')}${errors}`,
    async stop() {
      kill()
      await end
    },
  }
}

async function qemuArguments(qemu: string, guest: Guest, port: number, scratch: string): Promise<string[]> {
  const { firmware, hostItems = {}, memoryMiB = 1024, processors = 2, hostTables } = guest
  const disk = (id: string, file: string): string[] => [
    '-drive',
    `file=${file},if=none,id=${id},format=raw,readonly=on`,
    '-device',
    `virtio-blk-pci,drive=${id}`,
  ]
  const items = Object.entries(hostItems).flatMap(([name, file]) => [
    '-fw_cfg',
    `name=opt/org.subrosa/${name},file=${file}`,
  ])
  const boot: string[] = []
  if (firmware !== undefined) boot.push('-bios', firmware.file)
  if (firmware?.hashTable !== undefined) {
    const table = join(scratch, 'hash-table.bin')
    await writeFile(table, firmware.hashTable)
    boot.push('-device', `loader,file=${table},addr=0x${HASH_TABLE_GPA.toString(16)},force-raw=on`)
  }
  boot.push('-kernel', guest.kernel)
  if (guest.initrd !== undefined) boot.push('-initrd', guest.initrd)
  if (guest.commandLine !== undefined) boot.push('-append', guest.commandLine)
  if (guest.tpm !== undefined) {
    boot.push('-chardev', `socket,id=tpm-control,path=${guest.tpm}`, '-tpmdev', 'emulator,id=tpm,chardev=tpm-control')
    boot.push('-device', 'tpm-crb,tpmdev=tpm')
  }
  const forward = guest.relayCommand === undefined ? '' : `,guestfwd=tcp:10.0.2.100:8646-cmd:${guest.relayCommand}`
  return [
    ...['-L', join(qemu, 'usr/share/qemu'), '-L', join(qemu, 'usr/share/seabios')],
    ...[
      '-accel',
      'tcg,thread=multi',
      '-machine',
      'q35',
      '-cpu',
      'max',
      '-smp',
      String(processors),
      '-m',
      String(memoryMiB),
    ],
    ...['-display', 'none', '-monitor', 'none', '-nodefaults', '-no-user-config', '-no-reboot'],
    ...['-serial', `file:${guest.serial}`],
    ...boot,
    ...(guest.diskless === true ? [] : [...disk('root', guest.root), ...disk('model', guest.model)]),
    ...items,
    ...(hostTables === undefined
      ? []
      : [
          ...['-machine', 'acpi=off', '-fw_cfg', `name=etc/acpi/tables,file=${hostTables.tables}`],
          ...['-fw_cfg', `name=etc/acpi/rsdp,file=${hostTables.rsdp}`],
          ...['-fw_cfg', `name=etc/table-loader,file=${hostTables.loader}`],
        ]),
    ...(guest.acpiTables ?? []).flatMap((file) => ['-acpitable', `file=${file}`]),
    ...(guest.debugPort === undefined ? [] : ['-debugcon', `file:${guest.debugPort}`]),
    ...(guest.memoryFile === undefined
      ? []
      : [
          '-object',
          `memory-backend-file,id=ram,size=${memoryMiB}M,mem-path=${guest.memoryFile},share=on`,
          '-machine',
          'memory-backend=ram',
        ]),
    ...(guest.vsock === undefined
      ? []
      : [
          ...[
            '-object',
            `memory-backend-memfd,id=shared,size=${memoryMiB}M,share=on`,
            '-machine',
            'memory-backend=shared',
          ],
          ...['-chardev', `socket,id=vsock,path=${guest.vsock}`, '-device', 'vhost-user-vsock-pci,chardev=vsock'],
        ]),
    ...['-netdev', `user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:${port}-:8080${forward}`],
    ...['-device', 'virtio-net-pci,netdev=net,romfile='],
    ...(guest.capture === undefined ? [] : ['-object', `filter-dump,id=dump,netdev=net,file=${guest.capture}`]),
  ]
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}
