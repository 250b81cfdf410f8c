/** What a plain Debian lacks is installed, or asked for by name; nothing is compared without it. */
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { ImageError, run } from '../../scripts/image/command.js'
import { clockInside, elsewhere, here } from '../../scripts/image/elsewhere.js'
import { ensureInstalled } from '../../scripts/image/tools.js'

vi.mock('../../scripts/image/command.js', async (original) => ({
  ...(await original<typeof import('../../scripts/image/command.js')>()),
  run: vi.fn(),
}))

let ran: string[]
/** What faketime has programs load. */
let library: string
/** Whether the program is on the path, and whether apt puts it there. */
let machine: { present: boolean; readonly served: boolean }

beforeEach(() => {
  ran = []
  vi.spyOn(process.stderr, 'write').mockReturnValue(true)
  vi.mocked(run).mockImplementation(async (program, words) => {
    ran.push([program, ...words].join(' '))
    if (program === 'sh') return machine.present ? `/usr/bin/${words.at(-1)}\n` : ''
    if (words[0] === 'install') machine.present = machine.served
    if (words.includes('/proc/self/maps'))
      return `7f00-7f01 r--p 00000000 fe:00 1   ${library}\n7f01-7f02 rw-p 0 0:0 0\n`
    return ''
  })
})
afterEach(() => vi.restoreAllMocks())

describe('a program that a lane needs', () => {
  it('is taken where it is', async () => {
    machine = { present: true, served: false }
    expect(await ensureInstalled('faketime')).toBe('/usr/bin/faketime')
    expect(ran.some((line) => line.startsWith('apt-get'))).toBe(false)
  })

  it('is installed where it is not', async () => {
    machine = { present: false, served: true }
    expect(await ensureInstalled('faketime')).toBe('/usr/bin/faketime')
    expect(ran).toContain('apt-get install -y --no-install-recommends faketime')
  })

  it('ends the lane where it cannot be had: no second build is made under the same clock', async () => {
    machine = { present: false, served: false }
    const folder = await mkdtemp(join(tmpdir(), 'subrosa-tools-'))
    try {
      await expect(elsewhere(folder, [])).rejects.toThrow(ImageError)
      await expect(elsewhere(folder, [])).rejects.toThrow('faketime')
      expect(await readdir(folder)).toEqual([])
    } finally {
      await rm(folder, { recursive: true })
    }
  })
})

describe('another clock', () => {
  it('is mounted into the steps of the recipe, with what has programs load it and how far ahead it is', async () => {
    machine = { present: true, served: false }
    const folder = await mkdtemp(join(tmpdir(), 'subrosa-clock-'))
    try {
      library = join(folder, 'libfaketime.so.1')
      await writeFile(library, 'a library')
      const { env } = await clockInside({ ...here(), env: { TZ: 'UTC' } }, folder)
      expect(env).toEqual({ TZ: 'UTC', CONTAINERS_CONF: join(folder, 'containers.conf') })
      const volumes = /^\[containers\]\nvolumes = (\[.*\])\n$/.exec(
        await readFile(env['CONTAINERS_CONF'] ?? '', 'utf8'),
      )?.[1]
      const mounts = (JSON.parse(volumes ?? '') as string[]).map((volume) => volume.split(':'))
      expect(mounts.map(([, ...rest]) => rest)).toEqual([
        ['/clock', 'ro'],
        ['/etc/ld.so.preload', 'ro'],
        ['/etc/faketimerc', 'ro'],
      ])
      const [of = '', preload = '', rc = ''] = mounts.map(([from]) => from)
      expect(await readFile(join(of, 'library.so'), 'utf8')).toBe('a library')
      expect(await readFile(preload, 'utf8')).toBe('/clock/library.so\n')
      expect(await readFile(rc, 'utf8')).toMatch(/^\+\d+d\n$/)
      library = '/usr/lib/libc.so.6'
      await expect(clockInside(here(), folder)).rejects.toThrow('its library loaded')
    } finally {
      await rm(folder, { recursive: true })
    }
  })
})
