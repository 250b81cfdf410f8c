/** A release names the revision that was built: not what lies in the checkout later, nor what no revision has. */
import { execFileSync } from 'node:child_process'
import { copyFile, mkdir, mkdtemp, rm, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { repository } from '../../scripts/image/places.js'
import { releasedRevision, sourceState } from '../../scripts/image/source-state.js'

let checkout: string
const git = (...words: readonly string[]): string =>
  execFileSync('git', ['-C', checkout, '-c', 'user.name=a', '-c', 'user.email=a@example.org', ...words])
    .toString()
    .trim()

beforeEach(async () => {
  checkout = await mkdtemp(join(tmpdir(), 'subrosa-source-'))
})
afterEach(() => rm(checkout, { recursive: true }))

async function put(path: string, text = 'x'): Promise<void> {
  await mkdir(dirname(join(checkout, path)), { recursive: true })
  await writeFile(join(checkout, path), text)
}

/** With scripts that were compiled a moment later. */
async function commit(): Promise<string> {
  git('init', '-q')
  await put('file', 'text')
  await put('enclave/main.ts', 'text')
  await put('.gitignore', 'made/\ndist/\nnode_modules/\n*.log\n')
  await mkdir(join(checkout, 'scripts'))
  await copyFile(join(repository, 'scripts', 'setup.mjs'), join(checkout, 'scripts', 'setup.mjs'))
  git('add', '.')
  git('commit', '-qm', 'first')
  await put('dist/.built')
  return git('rev-parse', 'HEAD')
}

describe('the state of the sources', () => {
  it('is a revision, clean whatever is ignored and not taken', async () => {
    const revision = await commit()
    for (const path of ['made/output', 'a.log', 'enclave/node_modules/a/index.js', 'verifier/node_modules/b.log']) {
      await put(path)
    }
    // Folders that are older than what was compiled.
    await put('dist/.built')
    expect(await sourceState(checkout)).toEqual({ revision, clean: true })
  })

  it.each<[string, string, () => Promise<unknown> | unknown]>([
    ['a change', 'file', () => put('file', 'another text')],
    ['a file that nobody knows', 'other', () => put('other')],
    [
      'a file that nobody knows and git’s settings do not show',
      'enclave/new.ts',
      async () => {
        git('config', 'status.showUntrackedFiles', 'no')
        await put('enclave/new.ts')
      },
    ],
    ['an ignored file that the recipe copies', 'enclave/a.log', () => put('enclave/a.log')],
    ['an ignored folder that the recipe copies', 'verifier/protocol/made/', () => put('verifier/protocol/made/a.ts')],
    [
      'a compiled folder where .dockerignore has none',
      'scripts/image/guest/dist/',
      () => put('scripts/image/guest/dist/a'),
    ],
    [
      'a file that the checkout’s own list ignores',
      'enclave/hidden.ts',
      async () => {
        await put('.git/info/exclude', 'hidden.ts\n')
        await put('enclave/hidden.ts')
      },
    ],
    [
      'an ignored list of what is copied',
      '.containerignore',
      async () => {
        await put('.git/info/exclude', '.containerignore\n')
        await put('.containerignore')
      },
    ],
    [
      'a change that git was told not to look for',
      'enclave/main.ts',
      async () => {
        git('update-index', '--assume-unchanged', 'enclave/main.ts')
        await put('enclave/main.ts', 'another text')
      },
    ],
    [
      'a file that git was told to do without',
      'enclave/main.ts',
      async () => {
        git('update-index', '--skip-worktree', 'enclave/main.ts')
        await put('enclave/main.ts', 'another text')
      },
    ],
    [
      'scripts that are older than their sources',
      'dist/',
      () => utimes(join(checkout, 'dist', '.built'), new Date(0), new Date(0)),
    ],
    ['scripts that were never compiled', 'dist/', () => rm(join(checkout, 'dist'), { recursive: true })],
  ])('is not clean with %s, which is named', async (_, named, alter) => {
    const revision = await commit()
    await alter()
    const state = await sourceState(checkout)
    expect(state).toMatchObject({ revision, clean: false })
    expect(state?.because).toContain(named)
  })

  it('is unknown outside of a checkout, without a revision, and of a folder of some other one', async () => {
    expect(await sourceState(checkout)).toBeUndefined()
    git('init', '-q')
    expect(await sourceState(checkout)).toBeUndefined()
    await commit()
    await mkdir(join(checkout, 'inner'))
    expect(await sourceState(join(checkout, 'inner'))).toBeUndefined()
  })
})

describe('the revision that a release names', () => {
  const built = { revision: 'a'.repeat(40), clean: true }

  it('is that of the build, whatever the checkout has beside it by now', () => {
    expect(releasedRevision(built, { ...built, clean: false })).toBe(built.revision)
  })

  it.each([
    ['an unknown build', undefined, built, /not built in a git checkout/],
    [
      'a build with changes',
      { ...built, clean: false, because: '?? new.ts' },
      built,
      /what no revision has \(\?\? new\.ts\)/,
    ],
    ['another checkout', built, { revision: 'b'.repeat(40), clean: true }, /this checkout is b{40}/],
    ['no checkout', built, undefined, /this checkout is no revision/],
  ])('is none after %s', (_, before, present, message) => {
    expect(() => releasedRevision(before, present)).toThrow(message)
  })
})
