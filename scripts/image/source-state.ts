/** Which revision of its sources a checkout is, so that a release names what was built and not what lies there later. */
import { join } from 'node:path'
import { ImageError, run } from './command.js'

export interface SourceState {
  /** Git commit, 40 hex digits. */
  readonly revision: string
  /**
   * Nothing was changed, no file was there that version control neither has nor ignores, none at all that the recipe would take
   * from outside of it, and the scripts that build were compiled from these sources.
   */
  readonly clean: boolean
  /** What it is not clean for: the first thing found. */
  readonly because?: string
}

/** Undefined where the folder is not the top of a checkout, or git does not say. */
export async function sourceState(checkout: string): Promise<SourceState | undefined> {
  try {
    const [revision = '', prefix = ''] = (await git(checkout, 'rev-parse', 'HEAD', '--show-prefix')).split('\n')
    if (!/^[0-9a-f]{40}$/.test(revision) || prefix !== '') return undefined
    const because = (await changeIn(checkout)) ?? (await staleScripts(checkout))
    return { revision, clean: because === undefined, ...(because === undefined ? {} : { because }) }
  } catch (error) {
    if (error instanceof ImageError) return undefined
    throw error
  }
}

function git(checkout: string, ...words: readonly string[]): Promise<string> {
  return run('git', ['-C', checkout, '-c', 'core.fsmonitor=false', ...words])
}

/** Of what Dockerfile.enclave copies, or that says what it copies: the recipe takes an ignored file as it takes any other. */
const TAKEN = /^(enclave|verifier|scripts)\/|^(\.dockerignore|\.containerignore|Dockerfile\.[^/]*)$/
/** What .dockerignore leaves out wherever it is. */
const LEFT_OUT = /(^|\/)node_modules(\/|$)/

/** The caller's own settings decide nothing of it: they may hide untracked files, and ignore more than the repository does. */
async function changeIn(checkout: string): Promise<string | undefined> {
  const status = ['status', '--porcelain', '-z', '--untracked-files=all', '--ignored=matching', '--no-renames']
  const lines = (await git(checkout, ...status)).split('\0').filter((line) => line !== '')
  const change = lines.find((line) => {
    const path = line.slice(3)
    return !line.startsWith('!!') || (TAKEN.test(path) && !LEFT_OUT.test(path))
  })
  if (change !== undefined) return change
  // Files that git was told not to look at, or to do without: it compares neither.
  const unseen = (await git(checkout, 'ls-files', '-v', '-z')).split('\0').find((line) => /^([a-z]|S) /.test(line))
  return unseen === undefined ? undefined : `${unseen.slice(2)}, which git was told not to compare`
}

/** `npx subrosa` runs what was compiled last, of whatever revision that was. */
async function staleScripts(checkout: string): Promise<string | undefined> {
  try {
    await run(process.execPath, [join(checkout, 'scripts', 'setup.mjs'), '--check'])
    return undefined
  } catch (error) {
    if (error instanceof ImageError) return 'dist/, which was compiled from other sources: npm run build compiles these'
    throw error
  }
}

/**
 * The revision that a release manifest may name: that of the build, if it was of nothing else and the checkout is still there.
 * @throws ImageError saying what to do otherwise.
 */
export function releasedRevision(built: SourceState | undefined, present: SourceState | undefined): string {
  const again = 'commit what belongs to it and build the image again'
  if (built === undefined) throw new ImageError(`the image was not built in a git checkout: ${again} in one`)
  if (!built.clean) {
    throw new ImageError(
      `the image was built of ${built.revision} with what no revision has (${built.because ?? 'not said'}): ${again}`,
    )
  }
  if (built.revision === present?.revision) return built.revision
  throw new ImageError(
    `the image was built of ${built.revision}, and this checkout is ${present?.revision ?? 'no revision'}: check that one out, or build the image again`,
  )
}
