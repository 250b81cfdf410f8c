/** The copy of a base that buildah has, which is what compiles, is as it was kept, or nothing is built in it. */
import { mkdtempSync } from 'node:fs'
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { run } from '../../scripts/image/command.js'
import { buildTrees } from '../../scripts/image/container.js'
import { keptFolder } from '../../scripts/image/kept.js'
import { cacheFolder } from '../../scripts/image/places.js'

vi.mock('../../scripts/image/places.js', async (original) => ({
  ...(await original<typeof import('../../scripts/image/places.js')>()),
  cacheFolder: mkdtempSync(join(tmpdir(), 'subrosa-store-cache-')),
}))
vi.mock('../../scripts/image/command.js', async (original) => ({
  ...(await original<typeof import('../../scripts/image/command.js')>()),
  run: vi.fn(),
}))

let scratch: string
let base: { readonly id: string; readonly folder: string }
/** What an import makes of what it was given. */
let onImport: (layer: string) => Promise<void>
let onBuild: () => Promise<void>
let ran: { readonly command: string; readonly words: readonly string[] }[]
let said: string[]

beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'subrosa-store-'))
  const folder = await keptFolder(join(scratch, 'base', '0123456789abcdef'), async (part) => {
    await mkdir(join(part, 'usr', 'bin'), { recursive: true })
    await writeFile(join(part, 'usr', 'bin', 'cc'), 'a compiler')
  })
  base = { id: '0123456789abcdef', folder }
  onImport = onBuild = async () => undefined
  ran = []
  said = []
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => said.push(String(text)) > 0)
  vi.mocked(run).mockReset().mockImplementation(buildah)
})
afterEach(async () => {
  vi.restoreAllMocks()
  for (const folder of [scratch, cacheFolder]) await rm(folder, { recursive: true, force: true })
})

/** As far as imports, and builds of a recipe that does nothing, need it. */
async function buildah(program: string, words: readonly string[]): Promise<string> {
  const command = words.find((word) => /^(from|add|commit|rm|bud)$/.test(word)) ?? program
  ran.push({ command, words })
  if (command === 'from') return 'container\n'
  if (command === 'commit') {
    const layer = join(words[words.indexOf('--root') + 1] ?? '', 'vfs', 'dir', 'layer')
    await cp(base.folder, layer, { recursive: true })
    await onImport(layer)
  }
  if (command === 'bud') await onBuild()
  return ''
}

const build = () => buildTrees({ bases: { BASE: base }, target: 'test', epoch: 0, out: join(scratch, 'out') })
const commands = () => ran.map(({ command }) => command)
/** The compiler that the last build was given. */
const compiler = () => {
  const option = ran.at(-1)?.words.find((word) => word.startsWith('--storage-opt='))
  return join(option?.replace('--storage-opt=vfs.imagestore=', '') ?? '', 'vfs', 'dir', 'layer', 'usr', 'bin', 'cc')
}

describe('the base that compiles', () => {
  it('is imported once, and read by each build from where it is kept', async () => {
    await build()
    expect(commands()).toContain('commit')
    ran = []
    await build()
    expect(commands()).toEqual(['bud'])
    expect(await readFile(compiler(), 'utf8')).toBe('a compiler')
  })

  it('is imported anew when a byte of it is another, which is named', async () => {
    await build()
    await writeFile(compiler(), 'a compilex')
    ran = []
    await build()
    expect(commands().indexOf('commit')).toBeGreaterThanOrEqual(0)
    expect(commands().at(-1)).toBe('bud')
    expect(await readFile(compiler(), 'utf8')).toBe('a compiler')
    expect(said.join('')).toMatch(/store\/[0-9a-f]{16} is not as it was kept, .*\/usr\/bin\/cc: /)
  })

  it('is not built in when what was imported is not the base', async () => {
    onImport = (layer) => writeFile(join(layer, 'usr', 'bin', 'cc'), 'a compilex')
    await expect(build()).rejects.toThrow(/as buildah imported it: \/usr\/bin\/cc: /)
    onImport = (layer) => mkdir(join(layer, '..', 'another layer'))
    await expect(build()).rejects.toThrow('expected one layer, got 2')
    onImport = (layer) => rm(layer, { recursive: true })
    await expect(build()).rejects.toThrow('expected one layer, got 0')
    expect(commands()).not.toContain('bud')
    expect(await readdir(join(cacheFolder, 'store'))).toEqual([])
  })

  it('leaves no container behind, of a build that fails either', async () => {
    onBuild = async () => {
      const { words } = ran.at(-1) as (typeof ran)[number]
      await mkdir(words[words.indexOf('--root') + 1] ?? '', { recursive: true })
      throw new Error('no compiler')
    }
    await expect(build()).rejects.toThrow('no compiler')
    expect(await readdir(join(cacheFolder, 'buildah'))).toEqual([])
  })
})
