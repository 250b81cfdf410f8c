/** Reading several sources of descriptors, a few at a time: one that cannot be read hinders no other. */
import type { DescriptorSourceList, LeftOut } from '../../verifier/directory/collect.js'
import { SubrosaError, UnavailableError, UsageError } from '../errors.js'

export interface FailedSource extends LeftOut {
  readonly error: SubrosaError
}

export interface ReadSources {
  readonly lists: readonly DescriptorSourceList[]
  /** Sources of which nothing could be read. */
  readonly failures: readonly FailedSource[]
}

const PARALLEL = 8

/** `read` gives the compact JWS of one source, or throws a SubrosaError. @throws UsageError on what can never be a source. */
export async function readSources(
  sources: readonly string[],
  read: (source: string) => Promise<readonly string[]>,
): Promise<ReadSources> {
  const lists: DescriptorSourceList[] = []
  const failures: FailedSource[] = []
  const left = [...new Set(sources)]
  const work = async (): Promise<void> => {
    for (let source = left.shift(); source !== undefined; source = left.shift()) {
      try {
        lists.push({ source, descriptors: await read(source) })
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
