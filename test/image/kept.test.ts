/** What is kept in the cache is used as it was kept, or made again. */
import { appendFile, chmod, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { keptFolder } from '../../scripts/image/kept.js'

let scratch: string
let said: string[]

beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'subrosa-kept-'))
  said = []
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => said.push(String(text)) > 0)
})
afterEach(async () => {
  vi.restoreAllMocks()
  await rm(scratch, { recursive: true })
})

const make = vi.fn(async (folder: string) => {
  await mkdir(join(folder, 'usr', 'bin'), { recursive: true })
  await writeFile(join(folder, 'usr', 'bin', 'cc'), 'a compiler', { mode: 0o755 })
  await writeFile(join(folder, 'vmlinuz'), 'a kernel')
  await symlink('usr/bin', join(folder, 'bin'))
})

async function kept(): Promise<string> {
  const folder = await keptFolder(join(scratch, '0123456789abcdef'), make)
  make.mockClear()
  return folder
}

describe('a folder of the cache', () => {
  it('is made once, and taken as it is after that', async () => {
    const folder = await kept()
    expect(await keptFolder(folder, make)).toBe(folder)
    expect(make).not.toHaveBeenCalled()
    expect(said).toEqual([])
  })

  it.each<[string, string, (folder: string) => Promise<unknown>]>([
    ['another byte', '/vmlinuz', (folder) => writeFile(join(folder, 'vmlinuz'), 'a kernem')],
    ['a byte more', '/usr/bin/cc', (folder) => appendFile(join(folder, 'usr', 'bin', 'cc'), '!')],
    ['a file less', '/vmlinuz', (folder) => rm(join(folder, 'vmlinuz'))],
    ['a file more', '/vmlinuz.old', (folder) => writeFile(join(folder, 'vmlinuz.old'), 'x')],
    ['another mode', '/usr/bin/cc', (folder) => chmod(join(folder, 'usr', 'bin', 'cc'), 0o644)],
    [
      'a link elsewhere',
      '/bin',
      async (folder) => {
        await rm(join(folder, 'bin'))
        await symlink('usr/sbin', join(folder, 'bin'))
      },
    ],
    ['no list beside it', '.inventory', (folder) => rm(`${folder}.inventory`)],
    ['an empty list beside it', '/bin', (folder) => writeFile(`${folder}.inventory`, '')],
  ])('is made again with %s, which is named', async (_, named, alter) => {
    const folder = await kept()
    await alter(folder)
    expect(await keptFolder(folder, make)).toBe(folder)
    expect(make).toHaveBeenCalledOnce()
    expect(said.join('')).toContain(`is made again: `)
    expect(said.join('')).toContain(named)
    expect(await readFile(join(folder, 'vmlinuz'), 'utf8')).toBe('a kernel')
    make.mockClear()
    await keptFolder(folder, make)
    expect(make).not.toHaveBeenCalled()
  })

  it('is not there when making it failed, and what that left is no part of the next', async () => {
    const folder = join(scratch, 'failed')
    const failing = async (part: string): Promise<void> => {
      await mkdir(part)
      await writeFile(join(part, 'half'), 'x')
      throw new Error('no more packages')
    }
    await expect(keptFolder(folder, failing)).rejects.toThrow('no more packages')
    await keptFolder(folder, make)
    await expect(readFile(join(folder, 'half'))).rejects.toThrow('ENOENT')
  })
})
