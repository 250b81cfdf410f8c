/** Where the image scripts keep things. Downloads and build state are kept outside the repository, by hash. */
import { existsSync } from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Root of the checkout, whether this runs from source or from `dist`. */
export const repository: string = [join('..', '..'), join('..', '..', '..')]
  .map((up) => join(dirname(fileURLToPath(import.meta.url)), up))
  .find((folder) => existsSync(join(folder, 'package-lock.json'))) as string

export const cacheFolder: string = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'subrosa')

/**
 * `production` and `test` run our own kernel, `developer` Debian's, `gpu` and `gpu-test` ours with NVIDIA's modules; `test` and
 * `gpu-test` have a SIMULATED machine in them.
 */
export const FLAVOURS = ['production', 'developer', 'test', 'gpu', 'gpu-test'] as const
export type Flavour = (typeof FLAVOURS)[number]

/** Artifacts of a build, in the checkout but not in version control. */
export function artifactFolder(flavour: Flavour): string {
  return join(repository, '.cache', 'image', flavour)
}

/** What to type where a folder was expected to hold an image. */
export function howToBuild(folder: string): string {
  const flavour = FLAVOURS.find((name) => artifactFolder(name) === folder)
  return flavour === undefined
    ? `npm run image -- build --out ${folder} builds one there`
    : `npm run image -- build --flavour ${flavour} builds it`
}
