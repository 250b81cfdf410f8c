/**
 * Boots with other bytes on a disk, and with another root hash on the measured command line, of the root and of the model alike: none of
 * them gets as far as an answer, and where the console says so it is dm-verity's panic that ends the guest.
 */
import { constants } from 'node:fs'
import { copyFile, open, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type GuestMaker, untilEndOf, withGuest } from './guests.js'
import { expect, type Lane } from './lane.js'
import { bootFilesOf } from './measurements.js'
import type { Guest } from './qemu.js'

const PANIC = /Kernel panic - not syncing: dm-verity device corrupted/
const SILENCE = /^$/

interface Disk {
  readonly name: 'root' | 'model'
  /** Where to flip a bit, and what lies there. */
  readonly place: (file: string) => Promise<{ readonly offset: number; readonly what: string }>
}

const DISKS: readonly Disk[] = [
  { name: 'root', place: workerByte },
  // An erofs begins after 1024 bytes that nothing of it looks at: what refuses these is the disk's hash and nothing else.
  { name: 'model', place: async () => ({ offset: 0, what: 'byte 0, before the file system' }) },
]

/** @param talks whether the kernel's panic is on the console; if not, nothing may be. */
export async function bootOtherDisks(lane: Lane, maker: GuestMaker, flavour: string, talks: boolean): Promise<void> {
  const said = talks ? PANIC : SILENCE
  const ends = (name: string, changes: Partial<Guest>, what: string): Promise<string> =>
    withGuest(maker.start(`${name}-${flavour}`, changes), async (guest) => {
      const text = await untilEndOf(guest)
      expect(said.test(text), `${said} on the console`, text.slice(-300))
      return what
    })
  for (const { name, place } of DISKS) {
    await lane.check(`${flavour} image: one flipped bit of the ${name} disk ends the guest`, async () => {
      const file = join(maker.scratch, `${name}-flipped-${flavour}.img`)
      try {
        await copyFile(join(maker.folder, `${name}.img`), file, constants.COPYFILE_FICLONE)
        const { offset, what } = await place(file)
        await flipBit(file, offset)
        return await ends(`flipped-${name}`, { [name]: file }, what)
      } finally {
        await rm(file, { force: true })
      }
    })
    await lane.check(
      `${flavour} image: another hash of the ${name} disk on the command line ends the guest`,
      async () => {
        const { commandLine } = await bootFilesOf(maker.folder)
        return ends(`${name}-hash`, { commandLine: withOtherHash(commandLine, name) }, 'first digit')
      },
    )
  }
}

/** @throws Error when the command line names no such hash. */
export function withOtherHash(commandLine: string, name: string): string {
  const other = commandLine.replace(
    new RegExp(`( subrosa\\.${name}=)([0-9a-f])`),
    (_, words, digit) => `${words}${digit === '0' ? '1' : '0'}`,
  )
  expect(other !== commandLine, `subrosa.${name}=HASH on the command line`, commandLine)
  return other
}

/** In the middle of the worker's own code, which is read at every start; on the disk it is the last of our bundles. */
async function workerByte(file: string): Promise<{ readonly offset: number; readonly what: string }> {
  const start = (await readFile(file)).lastIndexOf('import { createRequire as __createRequire }')
  expect(start >= 0, 'the worker in the clear on the root disk', 'none')
  const offset = start + 4096
  return { offset, what: `byte ${offset} of the worker` }
}

async function flipBit(file: string, offset: number): Promise<void> {
  const handle = await open(file, 'r+')
  try {
    const { buffer } = await handle.read(Buffer.alloc(1), 0, 1, offset)
    await handle.write(Buffer.of((buffer[0] ?? 0) ^ 1), 0, 1, offset)
  } finally {
    await handle.close()
  }
}
