/** What is kept in the cache is used as it was kept, or made again. */
import {
  appendFile,
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises'
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

  it('is not there when making it failed, and nothing of that is left', async () => {
    const folder = join(scratch, 'failed')
    const failing = async (part: string): Promise<void> => {
      await mkdir(part)
      await writeFile(join(part, 'half'), 'x')
      throw new Error('no more packages')
    }
    await expect(keptFolder(folder, failing)).rejects.toThrow('no more packages')
    expect(await readdir(scratch)).toEqual([])
    await keptFolder(folder, make)
    await expect(readFile(join(folder, 'half'))).rejects.toThrow('ENOENT')
  })

  it('may be made twice at once: the first that is done is kept, and stays where it was given', async () => {
    const folder = join(scratch, 'at-once')
    let first: () => void = () => undefined
    const firstIsKept = new Promise<void>((resolve) => {
      first = resolve
    })
    const slower = keptFolder(folder, async (part) => {
      await firstIsKept
      await make(part)
    })
    await keptFolder(folder, make)
    const { ino } = await stat(folder)
    first()
    expect(await slower).toBe(folder)
    expect((await stat(folder)).ino).toBe(ino)
    expect((await readdir(scratch)).sort()).toEqual(['at-once', 'at-once.inventory'])
    expect(said).toEqual([])
  })

  it('may be made many times at the same moment', async () => {
    const folder = join(scratch, 'many')
    await Promise.all(Array.from({ length: 8 }, () => keptFolder(folder, make)))
    expect((await readdir(scratch)).sort()).toEqual(['many', 'many.inventory'])
    make.mockClear()
    await keptFolder(folder, make)
    expect(make).not.toHaveBeenCalled()
  })

  it('takes with it what a build that was killed left behind, and not what one is making', async () => {
    const folder = join(scratch, 'again')
    for (const name of ['again.part', 'again.part-old', 'again.part-new', 'other.part-old'])
      await mkdir(join(scratch, name))
    const old = new Date(Date.now() - 48 * 3600_000)
    for (const name of ['again.part', 'again.part-old', 'other.part-old']) await utimes(join(scratch, name), old, old)
    await keptFolder(folder, make)
    expect((await readdir(scratch)).sort()).toEqual(['again', 'again.inventory', 'again.part-new', 'other.part-old'])
  })
})
