/**
 * A policy as people write it, YAML or JSON, to a policy in force: one reader for every door, so that none takes a text that
 * another refuses.
 */
import { PolicyError } from './errors.js'
import { type AppraisalPolicy, resolvePolicy } from './policy.js'
import type { Bytes } from './protocol/bytes.js'
import { parseYaml } from './yaml-text.js'

/** `name` is what messages call it. @throws PolicyError naming it and the line. */
export async function parsePolicy(bytes: Bytes, name: string): Promise<AppraisalPolicy> {
  const unusable = (reason: string, cause: unknown) =>
    new PolicyError('policy.unreadable', `cannot read ${name}: ${reason}`, { cause })
  const { value, lineOf } = await parseYaml(bytes, unusable)
  try {
    return resolvePolicy(value)
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error
    const line = error.path === undefined ? undefined : lineOf(error.path)
    throw unusable(line === undefined ? error.message : `line ${line}: ${error.message}`, error)
  }
}
