/** Two builds, artifact by artifact, causes before effects: the first file that differs is the one to look at. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ARTIFACTS } from './build.js'
import { CONFIGURATION_FILE } from './host-configuration.js'
import { firstLineThatDiffers } from './inventory.js'
import { MANIFEST_FILE, readImageManifest } from './manifest.js'

/** What differs first, in words; undefined when the builds are identical. */
export async function firstDifference(one: string, two: string): Promise<string | undefined> {
  for (const name of [...ARTIFACTS, CONFIGURATION_FILE, MANIFEST_FILE]) {
    const [left, right] = await Promise.all([comparable(one, name), comparable(two, name)])
    if (left.equals(right)) continue
    if (name === 'inventory.txt')
      return `the first file that differs is ${firstLineThatDiffers(left.toString(), right.toString())}`
    return `${name} differs from byte ${firstByte(left, right)} on, of ${left.length} and ${right.length}`
  }
  return undefined
}

/** Where the sources came from is no part of what was built. */
async function comparable(folder: string, name: string): Promise<Buffer> {
  if (name !== MANIFEST_FILE) return readFile(join(folder, name))
  return Buffer.from(JSON.stringify({ ...(await readImageManifest(folder)), source: undefined }))
}

function firstByte(left: Buffer, right: Buffer): number {
  const length = Math.min(left.length, right.length)
  for (let i = 0; i < length; i++) if (left[i] !== right[i]) return i
  return length
}
