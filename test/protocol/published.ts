/** Published protocol vectors, read from the folder of shared vectors when it is there. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

const root = process.env['SUBROSA_VECTORS'] ?? join(import.meta.dirname, '../../../shared/vectors')

/** The parsed file, or undefined when the vectors are not on this machine. */
export function published<T>(name: string): T | undefined {
  const path = join(root, 'protocol', name)
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as T) : undefined
}
