/** YAML or JSON as people write it, read strictly: one reader for every document of theirs. */
import { type Bytes, fromUtf8 } from './protocol/bytes.js'

export interface YamlText {
  readonly value: unknown
  /** Line of the member at this path, from the outside in, or of the nearest that is there. */
  lineOf(path: readonly (string | number)[]): number | undefined
}

/** `unusable` makes the error that is thrown on text that cannot be read; its reason says where. */
export async function parseYaml(bytes: Bytes, unusable: (reason: string, cause: unknown) => Error): Promise<YamlText> {
  // Loaded only for those who have such a document: it would be a tenth of every other start.
  const { LineCounter, parseDocument } = await import('yaml')
  const lines = new LineCounter()
  try {
    const document = parseDocument(fromUtf8(bytes), {
      prettyErrors: true,
      strict: true,
      uniqueKeys: true,
      lineCounter: lines,
    })
    // A warning is something the reader guessed at, such as a tag it does not know: what people decide is not guessed at.
    const [problem] = [...document.errors, ...document.warnings]
    if (problem !== undefined) throw problem
    return {
      value: document.toJS({ maxAliasCount: 0 }),
      lineOf(path) {
        const offset = offsetOf(document.contents, path)
        return offset === undefined ? undefined : lines.linePos(offset).line
      },
    }
  } catch (error) {
    throw unusable((error instanceof Error ? error.message : String(error)).split('\n')[0] ?? '', error)
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
