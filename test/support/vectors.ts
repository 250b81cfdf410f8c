/**
 * Where captured evidence lies: `SUBROSA_VECTORS`, or a `shared/vectors` folder beside the checkout. It is not part of
 * the project. Tests that need it skip by name where it is absent.
 */
import { existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..')

/** The folder, or undefined where there is none. */
export const vectorsFolder: string | undefined = [process.env['SUBROSA_VECTORS'], join(root, '..', 'shared', 'vectors')]
  .filter((path) => path !== '')
  .find((path): path is string => path !== undefined && existsSync(path))

/** For `describe.skipIf`: skips, and the name says why. */
export const withoutVectors: boolean = vectorsFolder === undefined

/** A path inside the folder. @throws Error where the folder is absent: guard with `withoutVectors`. */
export function vectorPath(...parts: readonly string[]): string {
  if (vectorsFolder === undefined) throw new Error('captured evidence is not here; set SUBROSA_VECTORS')
  return join(vectorsFolder, ...parts)
}
