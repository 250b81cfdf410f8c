/** What a plain Debian lacks is installed, or asked for by name; nothing is compared without it. */
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { ImageError, run } from '../../scripts/image/command.js'
import { elsewhere } from '../../scripts/image/elsewhere.js'
import { ensureInstalled } from '../../scripts/image/tools.js'

vi.mock('../../scripts/image/command.js', async (original) => ({
  ...(await original<typeof import('../../scripts/image/command.js')>()),
  run: vi.fn(),
}))

let ran: string[]
/** Whether the program is on the path, and whether apt puts it there. */
let machine: { present: boolean; readonly served: boolean }

beforeEach(() => {
  ran = []
  vi.spyOn(process.stderr, 'write').mockReturnValue(true)
  vi.mocked(run).mockImplementation(async (program, words) => {
    ran.push([program, ...words].join(' '))
    if (program === 'sh') return machine.present ? `/usr/bin/${words.at(-1)}\n` : ''
    if (words[0] === 'install') machine.present = machine.served
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
