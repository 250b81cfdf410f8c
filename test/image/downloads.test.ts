/** A package is what the lock says of it, in the cache as off the line: anything else is refused, and gone. */
import { createHash } from 'node:crypto'
import { mkdtempSync } from 'node:fs'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { fetchDebs } from '../../scripts/image/archive.js'
import { ImageError, run } from '../../scripts/image/command.js'
import { fetchNpmPackages } from '../../scripts/image/npm-packages.js'
import { cacheFolder } from '../../scripts/image/places.js'

vi.mock('../../scripts/image/places.js', async (original) => ({
  ...(await original<typeof import('../../scripts/image/places.js')>()),
  cacheFolder: join(mkdtempSync(join(tmpdir(), 'subrosa-downloads-')), 'subrosa'),
}))
vi.mock('../../scripts/image/command.js', async (original) => ({
  ...(await original<typeof import('../../scripts/image/command.js')>()),
  run: vi.fn(),
}))

const sha256 = (bytes: string | Buffer): string => createHash('sha256').update(bytes).digest('hex')
const debs = ['one', 'two'].map((name) => ({
  name,
  version: '1.0-1',
  path: `pool/main/${name}.deb`,
  size: 10,
  sha256: sha256(`the bytes of ${name}`),
}))
const npm = {
  name: 'three',
  version: '1.0.0',
  integrity: `sha512-${createHash('sha512').update('the bytes of three').digest('base64')}`,
}

/** What apt and npm bring, by package. */
let served: Record<string, string>

beforeEach(async () => {
  vi.stubEnv('SUBROSA_DEBIAN_ARCHIVE', 'archive.invalid/debian')
  vi.spyOn(process.stderr, 'write').mockReturnValue(true)
  served = Object.fromEntries(['one', 'two', 'three'].map((name) => [name, `the bytes of ${name}`]))
  vi.mocked(run).mockReset().mockImplementation(bring)
  await mkdir(cacheFolder, { recursive: true })
})
afterEach(async () => {
  vi.restoreAllMocks()
  vi.unstubAllEnvs()
  await rm(join(cacheFolder, '..'), { recursive: true })
})

/** As apt's helper and npm do, but for their own checks: FILE of each URL, or a tarball in the folder that was named. */
async function bring(program: string, words: readonly string[]): Promise<string> {
  if (program === 'npm') {
    const into = words[words.indexOf('--pack-destination') + 1] ?? ''
    await writeFile(join(into, 'three-1.0.0.tgz'), served['three'] ?? '')
    return ''
  }
  for (const [i, word] of words.entries()) {
    const name = /^archive\.invalid\/debian\/pool\/main\/(\w+)\.deb$/.exec(word)?.[1]
    if (name !== undefined) await writeFile(words[i + 1] ?? '', served[name] ?? '')
  }
  return ''
}

/** Contents of the cache by name, whatever else the downloads leave beside it. */
async function kept(set: 'debs' | 'npm'): Promise<Map<string, Buffer>> {
  const names = (await readdir(join(cacheFolder, set))).filter((name) => /\.(deb|tgz)$/.test(name))
  return new Map(
    await Promise.all(names.map(async (name) => [name, await readFile(join(cacheFolder, set, name))] as const)),
  )
}

it('is taken as the lock has it, and not fetched again', async () => {
  const files = [...(await fetchDebs(debs)), ...(await fetchNpmPackages([npm]))]
  const contents = await Promise.all(files.map((file) => readFile(file, 'utf8')))
  expect(contents).toEqual(['the bytes of one', 'the bytes of two', 'the bytes of three'])
  vi.mocked(run).mockClear()
  expect([...(await fetchDebs(debs)), ...(await fetchNpmPackages([npm]))]).toEqual(files)
  expect(run).not.toHaveBeenCalled()
})

it('of Debian is refused when other bytes lie in the cache under its name, and fetched anew the next time', async () => {
  const [file = ''] = await fetchDebs(debs)
  await writeFile(file, 'other bytes')
  await expect(fetchDebs(debs)).rejects.toThrow(ImageError)
  expect(await kept('debs')).toEqual(new Map([[`${debs[1]?.sha256}.deb`, Buffer.from('the bytes of two')]]))
  await fetchDebs(debs)
  expect(await readFile(file, 'utf8')).toBe('the bytes of one')
})

it('of Debian that came with other bytes is refused before it has its name in the cache', async () => {
  served = { one: 'other bytes', two: 'other bytes' }
  await expect(fetchDebs(debs)).rejects.toThrow(`one 1.0-1: expected SHA-256 ${sha256('the bytes of one')}`)
  expect(await kept('debs')).toEqual(new Map())
})

it('of npm is refused when other bytes lie in the cache under its name, and fetched anew the next time', async () => {
  const [file = ''] = await fetchNpmPackages([npm])
  await writeFile(file, 'other bytes')
  await expect(fetchNpmPackages([npm])).rejects.toThrow(ImageError)
  expect(await kept('npm')).toEqual(new Map())
  await fetchNpmPackages([npm])
  expect(await readFile(file, 'utf8')).toBe('the bytes of three')
})

it('of npm that came with other bytes is refused', async () => {
  served = { three: 'other bytes' }
  await expect(fetchNpmPackages([npm])).rejects.toThrow(`npm three 1.0.0: expected ${npm.integrity}`)
  expect(await kept('npm')).toEqual(new Map())
})

it('of Debian may be fetched by two builds at the same time, and nothing of that is left beside it', async () => {
  const [one, other] = await Promise.all([fetchDebs(debs), fetchDebs(debs)])
  expect(one).toEqual(other)
  expect(await readFile(one[1] ?? '', 'utf8')).toBe('the bytes of two')
  expect(await readdir(join(cacheFolder, 'debs'))).toHaveLength(debs.length)
})
