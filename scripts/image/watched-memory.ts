/** Guests whose memory is a file of the host's and whose debug port is another: what a hostile table reads and writes can be seen. */
import { open, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type GuestMaker, withGuest } from './guests.js'
import type { Guest, RunningGuest } from './qemu.js'

export const MEMORY_MIB = 1024
/** Where the secret is put, which nothing else uses; the tables name it too. */
export const SECRET_ADDRESS = 0x30000000
export const SECRET_BYTES = 16

export interface Watched {
  /** What came out of the debug port so far. */
  sent(): Promise<Buffer>
  /** As many bytes of the guest's memory as the secret has. */
  at(address: number): Promise<Buffer>
}

/** Starts a guest with the secret in its memory, and ends it whatever came of `work`. */
export async function withWatchedMemory(
  maker: GuestMaker,
  name: string,
  scratch: string,
  secret: Buffer,
  changes: Partial<Guest>,
  work: (guest: RunningGuest, watched: Watched) => Promise<string>,
): Promise<string> {
  const [memoryFile, debugPort] = [join(scratch, `${name}.memory`), join(scratch, `${name}.port`)]
  await rm(debugPort, { force: true })
  const memory = await open(memoryFile, 'w+')
  try {
    await memory.truncate(MEMORY_MIB * 2 ** 20)
    await memory.write(secret, 0, SECRET_BYTES, SECRET_ADDRESS)
    const watched: Watched = {
      sent: () => readFile(debugPort).catch(() => Buffer.alloc(0)),
      at: async (address) => (await memory.read(Buffer.alloc(SECRET_BYTES), 0, SECRET_BYTES, address)).buffer,
    }
    const all = { memoryFile, debugPort, memoryMiB: MEMORY_MIB, ...changes }
    return await withGuest(maker.start(name, all), (guest) => work(guest, watched))
  } finally {
    await memory.close()
    await rm(memoryFile, { force: true })
  }
}
