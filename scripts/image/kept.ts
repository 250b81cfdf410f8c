/**
 * Folders of the cache, each named by the hash of what went in. What came out is listed beside it when it is kept, and compared with
 * that when it is taken: after a damaged disk or a change by hand it is made again, and nothing is built with it. This is no
 * defence against somebody who may write to the cache, as the list lies there too.
 */
import { existsSync } from 'node:fs'
import { readFile, rename, rm, writeFile } from 'node:fs/promises'
import { firstLineThatDiffers, inventoryOf } from './inventory.js'

/** Returns `folder`, made by `make` at the path it is given unless it lies there as it was kept. */
export async function keptFolder(folder: string, make: (scratch: string) => Promise<void>): Promise<string> {
  if (await isAsKept(folder)) return folder
  const scratch = `${folder}.part`
  await rm(scratch, { recursive: true, force: true })
  await make(scratch)
  await rm(folder, { recursive: true, force: true })
  await writeFile(listOf(folder), await inventoryOf(scratch, 'listed'))
  // Last: a folder without its list would be made again.
  await rename(scratch, folder)
  return folder
}

async function isAsKept(folder: string): Promise<boolean> {
  if (!existsSync(folder)) return false
  const list = listOf(folder)
  const difference = existsSync(list)
    ? firstLineThatDiffers(await readFile(list, 'utf8'), await inventoryOf(folder, 'listed'))
    : `there is no ${list}`
  if (difference === undefined) return true
  process.stderr.write(`image: ${folder} is not as it was kept, and is made again: ${difference}\n`)
  return false
}

function listOf(folder: string): string {
  return `${folder}.inventory`
}
