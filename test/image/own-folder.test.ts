/** Folders of the cache that belong to one process. */
import { spawnSync } from 'node:child_process'
import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { withOwnFolder } from '../../scripts/image/own-folder.js'

let parent: string
beforeEach(async () => {
  parent = join(await mkdtemp(join(tmpdir(), 'subrosa-own-')), 'parent')
})
afterEach(() => rm(join(parent, '..'), { recursive: true }))

describe('a folder of one process', () => {
  it('is there for its work and gone after it, however that ends', async () => {
    const left = await withOwnFolder(parent, async (folder) => {
      await writeFile(join(folder, 'a file'), 'x')
      return folder
    })
    await expect(stat(left)).rejects.toThrow('ENOENT')
    await expect(withOwnFolder(parent, () => Promise.reject(new Error('no more disk')))).rejects.toThrow('no more disk')
    expect(await readdir(parent)).toEqual([])
  })

  it('may be had twice at once', async () => {
    await withOwnFolder(parent, (one) =>
      withOwnFolder(parent, async (two) => {
        expect(two).not.toBe(one)
        expect(await readdir(parent)).toHaveLength(2)
      }),
    )
  })

  it('is removed by the next where its process is gone, and only there', async () => {
    const { pid: gone } = spawnSync(process.execPath, ['--version'])
    for (const name of [`${gone}-abcdef`, `${gone}`, `${process.pid}-abcdef`, `${process.ppid}-abcdef`, 'store'])
      await mkdir(join(parent, name, 'images'), { recursive: true })
    await withOwnFolder(parent, async () => undefined)
    expect((await readdir(parent)).sort()).toEqual([`${process.pid}-abcdef`, `${process.ppid}-abcdef`, 'store'].sort())
  })
})
