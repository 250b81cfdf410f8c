/** A release names the revision that was built: not what lies in the checkout later, nor what no revision has. */
import { execFileSync } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
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

async function commit(): Promise<string> {
  git('init', '-q')
  await writeFile(join(checkout, 'file'), 'text')
  await writeFile(join(checkout, '.gitignore'), 'made/\n')
  git('add', '.')
  git('commit', '-qm', 'first')
  return git('rev-parse', 'HEAD')
}

describe('the state of the sources', () => {
  it('is a revision, clean whatever is ignored', async () => {
    const revision = await commit()
    await mkdir(join(checkout, 'made'))
    await writeFile(join(checkout, 'made', 'output'), 'x')
    expect(await sourceState(checkout)).toEqual({ revision, clean: true })
  })

  it('is not clean with a change, or with a file that nobody knows', async () => {
    const revision = await commit()
    await writeFile(join(checkout, 'other'), 'x')
    expect(await sourceState(checkout)).toEqual({ revision, clean: false })
    await rm(join(checkout, 'other'))
    await writeFile(join(checkout, 'file'), 'another text')
    expect(await sourceState(checkout)).toEqual({ revision, clean: false })
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
    ['a build with changes', { ...built, clean: false }, built, /changes that no revision has/],
    ['another checkout', built, { revision: 'b'.repeat(40), clean: true }, /this checkout is b{40}/],
    ['no checkout', built, undefined, /this checkout is no revision/],
  ])('is none after %s', (_, before, present, message) => {
    expect(() => releasedRevision(before, present)).toThrow(message)
  })
})
