/** Two builds of a kernel with its modules, side by side: identical, or the first file that differs by name. */
import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { identical } from '../../scripts/image/identical.js'

let folder: string
let one: string
let two: string
const MODULES = 'modules/6.12.0-subrosa-gpu'

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'subrosa-slow-test-'))
  one = join(folder, 'one')
  two = join(folder, 'two')
  await mkdir(join(one, MODULES), { recursive: true })
  for (const name of ['config', 'vmlinuz', `${MODULES}/nvidia.ko`, `${MODULES}/nvidia-uvm.ko`]) {
    await writeFile(join(one, name), `the bytes of ${name}`)
  }
  await cp(one, two, { recursive: true })
})
afterEach(() => rm(folder, { recursive: true }))

describe('two builds', () => {
  it('are identical, file by file, with size and digest', async () => {
    const lines = (await identical(one, two)).trim().split(/\n\s+/)
    expect(lines.map((line) => line.split(' ')[0])).toEqual([
      'config',
      `${MODULES}/nvidia-uvm.ko`,
      `${MODULES}/nvidia.ko`,
      'vmlinuz',
    ])
    expect(lines.every((line) => /^\S+ \d+ [0-9a-f]{64}$/.test(line))).toBe(true)
  })

  it('name the module that differs, and not the kernel that holds its digest', async () => {
    await writeFile(join(two, MODULES, 'nvidia.ko'), 'the bytes of nothing')
    await writeFile(join(two, 'vmlinuz'), 'another kernel')
    await expect(identical(one, two)).rejects.toThrow(
      `identical ${MODULES}/nvidia.ko, got a difference from byte 13 on`,
    )
  })

  it('differ where one is longer', async () => {
    await writeFile(join(two, 'vmlinuz'), 'the bytes of vmlinuz and more')
    await expect(identical(one, two)).rejects.toThrow('identical vmlinuz, got a difference from byte 20 on')
  })

  it.each(['one', 'two'])('differ where a file is in build %s alone', async (which) => {
    await writeFile(join(folder, which, MODULES, 'nvidia-drm.ko'), '')
    await expect(identical(one, two)).rejects.toThrow(`${MODULES}/nvidia-drm.ko in one of them only`)
  })
})
