/** Processes of the image scripts end with their deadline and with their parent, and take along what they started. */
import { spawn } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { transform } from 'esbuild'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { run } from '../../scripts/image/command.js'
import { repository } from '../../scripts/image/places.js'

let folder: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'subrosa-bounded-'))
})
afterEach(() => rm(folder, { recursive: true }))

/** Starts another process, which is deaf to SIGTERM as it is itself, and writes both ids into `file`. */
const withChild = (file: string) => `trap '' TERM; sleep 1000 & echo $$ $! > ${file}.new; mv ${file}.new ${file}; wait`

async function idsIn(file: string): Promise<readonly number[]> {
  const text = await vi.waitFor(() => readFile(file, 'utf8'), { timeout: 20_000 })
  return text.trim().split(' ').map(Number)
}

/** A process that has ended and was not yet waited for, by whoever inherited it, has ended. */
async function ended(id: number): Promise<boolean> {
  const state = await readFile(`/proc/${id}/stat`, 'utf8').catch(() => ') Z')
  return / Z/.test(state.slice(state.lastIndexOf(')')))
}

async function expectAllEnded(ids: readonly number[]): Promise<void> {
  expect(ids).toHaveLength(2)
  for (const id of ids) await vi.waitFor(async () => expect(await ended(id)).toBe(true), { timeout: 20_000 })
}

describe('a process', () => {
  it('ends at its deadline, with what it started', async () => {
    const file = join(folder, 'ids')
    await expect(run('sh', ['-c', withChild(file)], { timeoutMs: 2000 })).rejects.toThrow('no end after 2 s, killed')
    await expectAllEnded(await idsIn(file))
  })

  it.each(['SIGTERM', 'SIGINT', 'SIGKILL'] as const)(
    'ends with what it started when %s ends its parent',
    async (signal) => {
      const source = await readFile(join(repository, 'scripts', 'image', 'bounded.ts'), 'utf8')
      const { code } = await transform(source, { loader: 'ts', format: 'esm' })
      const [script, file] = [join(folder, 'parent.mjs'), join(folder, 'ids')]
      const start = `spawnBounded('sh', ['-c', ${JSON.stringify(withChild(file))}], { deadlineMs: 3600_000, stdio: 'ignore' })`
      await writeFile(script, `${code}\n${start}\n`)
      const parent = spawn(process.execPath, [script], { stdio: 'ignore' })
      const ids = await idsIn(file)
      expect(await Promise.all(ids.map(ended))).toEqual([false, false])
      parent.kill(signal)
      await expectAllEnded(ids)
    },
    60_000,
  )

  it('returns what it printed, and fails with what it said', async () => {
    expect(await run('sh', ['-c', 'echo yes'])).toBe('yes\n')
    await expect(run('sh', ['-c', 'echo because >&2; exit 3'])).rejects.toThrow(/expected status 0, got 3\nbecause/)
    expect(await run('sh', ['-c', 'echo no; exit 3'], { accept: [3] })).toBe('no\n')
  })

  it('that is not installed is named, and no other that ends with the same status is', async () => {
    await expect(run('subrosa-no-such-program', [])).rejects.toThrow('subrosa-no-such-program is not installed')
    await expect(run('sh', ['-c', 'echo oh >&2; exit 127'])).rejects.toThrow(/expected status 0, got 127\noh/)
  })
})
