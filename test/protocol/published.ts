/** Published protocol vectors, read from the folder of captured evidence where there is one. */
import { existsSync, readFileSync } from 'node:fs'
import { vectorPath, withoutVectors } from '../support/vectors.js'

/** The parsed file, or undefined when the vectors are not on this machine. */
export function published<T>(name: string): T | undefined {
  const path = withoutVectors ? '' : vectorPath('protocol', name)
  return existsSync(path) ? (JSON.parse(readFileSync(path, 'utf8')) as T) : undefined
}
