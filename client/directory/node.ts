/** `subrosa/directory` in Node: as `index.ts`, with a `fetch` that also refuses names that lead to private addresses. */
import { connectThrough, type Directories, type DirectoryOptions, type DirectorySession } from './connect.js'
import { createPublicFetch } from './public-fetch.js'

export * from './index.js'

/** One for all sessions, which share its connections. */
let publicFetch: typeof globalThis.fetch | undefined

/**
 * Reads the directory, verifies some of the listed workers that fit the intent, and returns a session over the best. Being
 * listed grants no trust: every worker is verified under the caller's policy before anything is sealed to it.
 * @throws UsageError or PolicyError before any network; NoWorkerError when none of those that fit verifies.
 */
export function connect(directories: Directories, options: DirectoryOptions): Promise<DirectorySession> {
  publicFetch ??= createPublicFetch()
  return connectThrough(directories, options, publicFetch)
}
