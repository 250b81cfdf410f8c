/**
 * A host whose MADT names an address to start processors from, or one to stop them at. Under Debian's kernel the host's code then runs
 * in the guest's kernel mode and reads its memory, and the guest's memory is written, which shows that the tables do what they
 * say; ours does neither.
 */
import { randomBytes } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type GuestMaker, untilAnswering } from './guests.js'
import { type HostTables, qemuTables, withWakeup } from './host-tables.js'
import { expect, type Lane } from './lane.js'
import { bootFilesOf } from './measurements.js'
import type { Guest, RunningGuest } from './qemu.js'
import { MEMORY_MIB, SECRET_ADDRESS, SECRET_BYTES, type Watched, withWatchedMemory } from './watched-memory.js'

const POLL_MS = 50
const DEADLINE_MS = 180_000
/** After the guest's end, what would run has run. */
const AFTERMATH_MS = 5000
const HALTED = 'System halted'
const IGNORED = 'MADT wakeup: ignored'
const SAID = 'HOST CODE: '

/**
 * x86-64, for any address: sends `SAID` and the secret's bytes to I/O port 0xE9, and halts.
 * cld; lea rsi, [rip+27]; mov ecx, length; mov edx, 0xE9; rep outsb; mov esi, address; mov ecx, 16; rep outsb; hlt; jmp to hlt.
 */
const CODE: Buffer = Buffer.concat([
  Buffer.from([0xfc, 0x48, 0x8d, 0x35, 27, 0, 0, 0, 0xb9, SAID.length, 0, 0, 0, 0xba, 0xe9, 0, 0, 0, 0xf3, 0x6e]),
  Buffer.from([0xbe, 0, 0, 0, 0x30, 0xb9, SECRET_BYTES, 0, 0, 0, 0xf3, 0x6e, 0xf4, 0xeb, 0xfd]),
  Buffer.from(SAID, 'latin1'),
])

interface World {
  readonly scratch: string
  readonly secret: Buffer
  readonly files: Readonly<Record<'code' | 'mailbox', NonNullable<Guest['hostTables']>>>
}

/** `own` are flavours that say on the console what happens, each beside the one that does not and has the same kernel. */
export async function bootWakeup(
  lane: Lane,
  own: readonly { readonly name: string; readonly silent: GuestMaker; readonly talking: GuestMaker }[],
  debian: GuestMaker,
  qemu: string,
  scratch: string,
): Promise<void> {
  const tables = await qemuTables(qemu, MEMORY_MIB)
  const world: World = {
    scratch,
    secret: randomBytes(SECRET_BYTES),
    files: {
      code: await write(scratch, 'code', withWakeup(tables, { mailbox: PAGE_OF_NOBODY, code: CODE, another: false })),
      mailbox: await write(scratch, 'mailbox', withWakeup(tables, { mailbox: SECRET_ADDRESS, another: true })),
    },
  }
  const runs = await lane.check(
    'control: on Debian’s kernel a host’s table has the host’s code run in kernel mode',
    () =>
      withTables(world, debian, 'debian-code', 'code', { diskless: true }, async (guest, seen) => {
        await until(guest, async () => (await seen.sent()).includes(world.secret))
        return 'it read the guest’s memory'
      }),
  )
  const writes = await lane.check('control: on Debian’s kernel a host’s table has the guest’s memory written', () =>
    withTables(world, debian, 'debian-mailbox', 'mailbox', {}, async (guest, seen) => {
      await until(guest, async () => !(await seen.at(SECRET_ADDRESS)).equals(world.secret))
      return 'at the address that the table names'
    }),
  )
  for (const { name, silent, talking } of own) {
    const same = async (): Promise<void> => {
      const [a, b] = await Promise.all([silent, talking].map(({ folder }) => readFile(join(folder, 'vmlinuz'))))
      expect(a !== undefined && b !== undefined && a.equals(b), 'one kernel in both flavours', 'two')
    }
    const { commandLine } = await bootFilesOf(talking.folder)
    const loud = { commandLine: commandLine.replace('quiet', 'loglevel=7') }
    const code = `the ${name} kernel does not jump where a host’s table says when it stops`
    if (!runs) lane.skip(code, 'the control did not show what would be denied')
    else {
      await lane.check(code, async () => {
        await same()
        return withTables(world, talking, `${name}-code`, 'code', { ...loud, diskless: true }, async (guest, seen) => {
          await until(guest, async () => (await guest.serialText()).includes(HALTED))
          expect((await guest.serialText()).includes(IGNORED), `${IGNORED} on the console`, 'nothing of it')
          await new Promise((resolve) => setTimeout(resolve, AFTERMATH_MS))
          const sent = (await seen.sent()).toString('latin1')
          expect(sent === '', 'nothing at the host', JSON.stringify(sent))
          return 'the entry is ignored, and the guest halts'
        })
      })
    }
    const mailbox = `the ${name} kernel starts no processor by a host’s table, and the worker runs on`
    if (!writes) lane.skip(mailbox, 'the control did not show what would be denied')
    else {
      await lane.check(mailbox, () =>
        withTables(world, silent, `${name}-mailbox`, 'mailbox', {}, async (guest, seen) => {
          await untilAnswering(guest)
          expect(
            (await seen.at(SECRET_ADDRESS)).equals(world.secret),
            'the secret where it was',
            (await seen.at(SECRET_ADDRESS)).toString('hex'),
          )
          return 'memory at the address that the table names is as it was'
        }),
      )
    }
  }
}

/** A mailbox has to be somewhere; with one processor nobody looks. */
const PAGE_OF_NOBODY = 0x1000

async function write(scratch: string, name: string, tables: HostTables): Promise<NonNullable<Guest['hostTables']>> {
  const place = (what: string): string => join(scratch, `wakeup-${name}.${what}`)
  await writeFile(place('tables'), tables.tables)
  await writeFile(place('rsdp'), tables.rsdp)
  await writeFile(place('loader'), tables.loader)
  return { tables: place('tables'), rsdp: place('rsdp'), loader: place('loader') }
}

async function withTables(
  { scratch, secret, files }: World,
  maker: GuestMaker,
  name: string,
  tables: 'code' | 'mailbox',
  changes: Partial<Guest>,
  work: (guest: RunningGuest, watched: Watched) => Promise<string>,
): Promise<string> {
  const host = { hostTables: files[tables], processors: 1, ...changes }
  return withWatchedMemory(maker, name, scratch, secret, host, work)
}

async function until(guest: RunningGuest, holds: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + DEADLINE_MS
  while (performance.now() < end && !guest.ended()) {
    if (await holds()) return
    await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  }
  throw new Error(`expected what the table asks for, got ${(await guest.serialText()).slice(-400)}`)
}
