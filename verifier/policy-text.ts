/**
 * A policy as people write it, YAML or JSON, to a policy in force: one reader for every door, so that none takes a text that
 * another refuses.
 */
import { PolicyError } from './errors.js'
import { type AppraisalPolicy, resolvePolicy } from './policy.js'
import { type Bytes, fromUtf8 } from './protocol/bytes.js'

/** `name` is what messages call it. @throws PolicyError naming it and the line. */
export async function parsePolicy(bytes: Bytes, name: string): Promise<AppraisalPolicy> {
  // Loaded only for those who have a policy: it would be a tenth of every other start.
  const { LineCounter, parseDocument } = await import('yaml')
  const lines = new LineCounter()
  const unusable = (reason: string, cause: unknown) =>
    new PolicyError('policy.unreadable', `cannot read ${name}: ${reason}`, { cause })
  let document: ReturnType<typeof parseDocument>
  let value: unknown
  try {
    document = parseDocument(fromUtf8(bytes), {
      prettyErrors: true,
      strict: true,
      uniqueKeys: true,
      lineCounter: lines,
    })
    // A warning is something the reader guessed at, such as a tag it does not know: a policy is not guessed at.
    const [problem] = [...document.errors, ...document.warnings]
    if (problem !== undefined) throw problem
    value = document.toJS({ maxAliasCount: 0 })
  } catch (error) {
    throw unusable((error instanceof Error ? error.message : String(error)).split('\n')[0] ?? '', error)
  }
  try {
    return resolvePolicy(value)
  } catch (error) {
    if (!(error instanceof PolicyError)) throw error
    const offset = error.path === undefined ? undefined : offsetOf(document.contents, error.path)
    if (offset === undefined) throw unusable(error.message, error)
    throw unusable(`line ${lines.linePos(offset).line}: ${error.message}`, error)
  }
}

/** A node of a YAML document, as far as finding a line takes. */
interface YamlNode {
  readonly range?: readonly number[] | null
  readonly items?: readonly { readonly key?: YamlNode & { readonly value?: unknown }; readonly value?: unknown }[]
}

/** Where the member at this path begins, or the nearest that is there. */
function offsetOf(root: unknown, path: readonly (string | number)[]): number | undefined {
  let offset: number | undefined
  let node = root as YamlNode | null | undefined
  for (const step of path) {
    const item: unknown =
      typeof step === 'number' ? node?.items?.[step] : node?.items?.find(({ key }) => key?.value === step)
    const pair = item as { readonly key?: YamlNode; readonly value?: YamlNode } | undefined
    if (pair === undefined) break
    const place = pair.key ?? (pair as YamlNode)
    offset = place.range?.[0] ?? offset
    node = pair.key === undefined ? (pair as YamlNode) : pair.value
  }
  return offset
}
