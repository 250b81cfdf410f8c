/**
 * Folders of the cache, each named by the hash of what went in. What came out is listed beside it when it is kept, and compared with
 * that when it is taken: after a damaged disk or a change by hand it is made again, and nothing is built with it. This is no
 * defence against somebody who may write to the cache, as the list lies there too.
 */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { ImageError } from './command.js'
import { firstLineThatDiffers, inventoryOf } from './inventory.js'

/** Longer than anything takes to make: what is older was left by a build that was killed. */
const LEFT_BEHIND_MS = 24 * 3600_000

/**
 * Returns `folder`, made by `make` at the path it is given, where nothing is yet, unless it lies there as it was kept. Builds at the same time
 * may each make it; the first that is done is kept, and no build takes away what another has been given.
 * @throws ImageError when two of them came out differently.
 */
export async function keptFolder(folder: string, make: (scratch: string) => Promise<void>): Promise<string> {
  const found = await stateOf(folder)
  if (found.asKept) return folder
  if (found.difference !== undefined) {
    process.stderr.write(`image: ${folder} is not as it was kept, and is made again: ${found.difference}\n`)
  }
  await mkdir(dirname(folder), { recursive: true })
  await removeLeftBehind(folder)
  const scratch = await mkdtemp(`${folder}.part-`)
  try {
    const made = join(scratch, 'made')
    await make(made)
    await writeFile(join(scratch, 'list'), await inventoryOf(made, 'listed'))
    await publish(scratch, folder)
    return folder
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

async function publish(scratch: string, folder: string): Promise<void> {
  const present = await stateOf(folder)
  // Another build has been faster.
  if (present.asKept) return
  if (present.difference !== undefined) await rename(folder, join(scratch, 'replaced'))
  await rename(join(scratch, 'list'), listOf(folder))
  try {
    // Last: a folder without its list would be made again.
    await rename(join(scratch, 'made'), folder)
  } catch (cause) {
    // Another has been faster by a moment; its list and this one's say the same where both made the same.
    if ((await stateOf(folder)).asKept) return
    throw new ImageError(`${folder}: another build made something else there at the same time; run it again`, { cause })
  }
}

/** The name of a folder that is made of these and of nothing else. */
export function keyOf(inputs: readonly string[]): string {
  return createHash('sha256').update(inputs.join('\n')).digest('hex').slice(0, 16)
}

interface KeptState {
  readonly asKept: boolean
  /** What is not as it was kept; undefined also where nothing is. */
  readonly difference?: string
}

async function stateOf(folder: string): Promise<KeptState> {
  if (!existsSync(folder)) return { asKept: false }
  const list = listOf(folder)
  const difference = existsSync(list)
    ? firstLineThatDiffers(await readFile(list, 'utf8'), await inventoryOf(folder, 'listed'))
    : `there is no ${list}`
  return difference === undefined ? { asKept: true } : { asKept: false, difference }
}

async function removeLeftBehind(folder: string): Promise<void> {
  const parts = (await readdir(dirname(folder))).filter((name) => name.startsWith(`${basename(folder)}.part`))
  for (const part of parts.map((name) => join(dirname(folder), name))) {
    const info = await stat(part).catch(() => undefined)
    if (info !== undefined && info.mtimeMs < Date.now() - LEFT_BEHIND_MS)
      await rm(part, { recursive: true, force: true })
  }
}

/** Where the list of what was kept in `folder` lies: lines of inventoryOf. */
export function listOf(folder: string): string {
  return `${folder}.inventory`
}
