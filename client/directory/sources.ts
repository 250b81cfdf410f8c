/** Where descriptors are read from on a command line: files and addresses. Node only. */

import type { DescriptorSourceList, LeftOut } from '../../verifier/directory/collect.js'
import { MAX_DIRECTORY_BYTES, parseDirectory } from '../../verifier/directory/document.js'
import { fetchDescriptors } from '../../verifier/directory/fetch.js'
import { SubrosaError, UnavailableError, UsageError } from '../../verifier/errors.js'
import { loadFile } from '../../verifier/files.js'
import { fromUtf8 } from '../../verifier/protocol/bytes.js'

export interface ReadSources {
  readonly lists: readonly DescriptorSourceList[]
  /** Sources of which nothing could be read. */
  readonly failures: readonly (LeftOut & { readonly error: SubrosaError })[]
}

const TIMEOUT_MS = 15_000
const PARALLEL = 8

/** One source: the compact JWS of a directory or of one descriptor. @throws SubrosaError saying why there are none. */
export async function readDescriptors(source: string): Promise<readonly string[]> {
  if (/^https?:/i.test(source)) return fetchDescriptors(source, { fetch: globalThis.fetch, timeoutMs: TIMEOUT_MS })
  const bytes = await loadFile(source, 'directory', MAX_DIRECTORY_BYTES)
  const text = fromUtf8(bytes).trim()
  return text.startsWith('{') ? parseDirectory(bytes).descriptors : [text]
}

/** All of them, a few at a time. One that cannot be read hinders no other. @throws UsageError on what can never be one. */
export async function readSources(sources: readonly string[]): Promise<ReadSources> {
  const lists: DescriptorSourceList[] = []
  const failures: (LeftOut & { readonly error: SubrosaError })[] = []
  const left = [...new Set(sources)]
  const work = async (): Promise<void> => {
    for (let source = left.shift(); source !== undefined; source = left.shift()) {
      try {
        lists.push({ source, descriptors: await readDescriptors(source) })
      } catch (error) {
        if (!(error instanceof SubrosaError) || error instanceof UsageError) throw error
        failures.push({ source, reason: error.message, malformed: !(error instanceof UnavailableError), error })
      }
    }
  }
  await Promise.all(Array.from({ length: PARALLEL }, work))
  // In the order named, however long each took.
  const order = (a: { source: string }, b: { source: string }) => sources.indexOf(a.source) - sources.indexOf(b.source)
  return { lists: lists.sort(order), failures: failures.sort(order) }
}
