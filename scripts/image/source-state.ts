/** Which revision of its sources a checkout is, so that a release names what was built and not what lies there later. */
import { ImageError, run } from './command.js'

export interface SourceState {
  /** Git commit, 40 hex digits. */
  readonly revision: string
  /** Nothing was changed, and no file was there that version control neither has nor ignores. */
  readonly clean: boolean
}

/** Undefined where the folder is not the top of a checkout, or git does not say. */
export async function sourceState(checkout: string): Promise<SourceState | undefined> {
  try {
    const git = (...words: readonly string[]): Promise<string> => run('git', ['-C', checkout, ...words])
    const [revision = '', prefix = ''] = (await git('rev-parse', 'HEAD', '--show-prefix')).split('\n')
    if (!/^[0-9a-f]{40}$/.test(revision) || prefix !== '') return undefined
    return { revision, clean: (await git('status', '--porcelain')) === '' }
  } catch (error) {
    if (error instanceof ImageError) return undefined
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
    throw new ImageError(`the image was built of ${built.revision} with changes that no revision has: ${again}`)
  }
  if (built.revision === present?.revision) return built.revision
  throw new ImageError(
    `the image was built of ${built.revision}, and this checkout is ${present?.revision ?? 'no revision'}: check that one out, or build the image again`,
  )
}
