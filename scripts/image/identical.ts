/** Two folders, file by file: what two builds of one kernel left, or a build and what is kept of an earlier one. */
import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { expect } from './lane.js'

/** Sizes and digests of all files. @throws Error naming the first that differs, modules before the kernel that holds their digests. */
export async function identical(one: string, two: string): Promise<string> {
  const [files, others] = [await filesOf(one), await filesOf(two)]
  const alone = [...files, ...others].find((name) => !files.includes(name) || !others.includes(name))
  expect(alone === undefined, 'the same files', `${alone} in one of them only`)
  const lines: string[] = []
  for (const name of files) {
    const [left, right] = await Promise.all([readFile(join(one, name)), readFile(join(two, name))])
    const at = left.findIndex((byte, i) => byte !== right[i])
    expect(left.equals(right), `identical ${name}`, `a difference from byte ${at < 0 ? left.length : at} on`)
    lines.push(`\n      ${name} ${left.length} ${createHash('sha256').update(left).digest('hex')}`)
  }
  return lines.join('')
}

/** In alphabetical order, which has causes before effects: config, digests.h, modules, vmlinuz. */
async function filesOf(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .sort()
}
