/** Two builds, artifact by artifact, causes before effects: the first file that differs is the one to look at. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ARTIFACTS } from './build.js'
import { CONFIGURATION_FILE } from './host-configuration.js'
import { MANIFEST_FILE, readImageManifest } from './manifest.js'

/** What differs first, in words; undefined when the builds are identical. */
export async function firstDifference(one: string, two: string): Promise<string | undefined> {
  for (const name of [...ARTIFACTS, CONFIGURATION_FILE, MANIFEST_FILE]) {
    const [left, right] = await Promise.all([comparable(one, name), comparable(two, name)])
    if (left.equals(right)) continue
    if (name === 'inventory.txt')
      return `the first file that differs is ${firstLine(left.toString(), right.toString())}`
    return `${name} differs from byte ${firstByte(left, right)} on, of ${left.length} and ${right.length}`
  }
  return undefined
}

/** Where the sources came from is no part of what was built. */
async function comparable(folder: string, name: string): Promise<Buffer> {
  if (name !== MANIFEST_FILE) return readFile(join(folder, name))
  return Buffer.from(JSON.stringify({ ...(await readImageManifest(folder)), source: undefined }))
}

/** Lines are in order of path in both. */
function firstLine(left: string, right: string): string {
  const [ours, theirs] = [left.split('\n'), right.split('\n')]
  const at = ours.findIndex((line, i) => line !== theirs[i])
  const [one, two] = [ours[at] ?? '', theirs[at] ?? '']
  const path = (line: string): string => line.slice(line.indexOf('/'))
  return path(one) === path(two)
    ? `${path(one)}: ${one.slice(0, one.indexOf('/')).trim()} and ${two.slice(0, two.indexOf('/')).trim()}`
    : `${path(one) || 'nothing'}, where the other has ${path(two) || 'nothing'}`
}

function firstByte(left: Buffer, right: Buffer): number {
  const length = Math.min(left.length, right.length)
  for (let i = 0; i < length; i++) if (left[i] !== right[i]) return i
  return length
}
