/** Folders of the cache that belong to one process: gone with its work, and where it was killed, with the next that needs one there. */
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises'
import { join } from 'node:path'

/** Lends `work` a new folder in `parent`. A cache serves one machine: elsewhere, a process of that number may well be running. */
export async function withOwnFolder<T>(parent: string, work: (folder: string) => Promise<T>): Promise<T> {
  await mkdir(parent, { recursive: true })
  await removeOrphans(parent)
  const folder = await mkdtemp(join(parent, `${process.pid}-`))
  try {
    return await work(folder)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function removeOrphans(parent: string): Promise<void> {
  for (const name of await readdir(parent)) {
    const owner = /^(\d+)(-|$)/.exec(name)?.[1]
    if (owner !== undefined && !runs(Number(owner))) await rm(join(parent, name), { recursive: true, force: true })
  }
}

function runs(pid: number): boolean {
  try {
    // Signal 0 is not sent: it only asks.
    process.kill(pid, 0)
    return true
  } catch (error) {
    return !(error instanceof Error && 'code' in error && error.code === 'ESRCH')
  }
}
