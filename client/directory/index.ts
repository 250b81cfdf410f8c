/**
 * `subrosa/directory`: the best verified worker of a directory, and the next one when it fails.
 *
 * ```ts
 * import { connect } from 'subrosa/directory'
 * const worker = await connect('https://list.example.net/.well-known/subrosa-directory', { intent: { model }, policy })
 * const openai = new OpenAI({ baseURL: worker.baseURL, fetch: worker.fetch, apiKey: 'unused' })
 * ```
 */
import { reachOver } from '../lines.js'
import { privateEndpoint } from './addresses.js'
import { connectThrough, type Directories, type DirectoryOptions, type DirectorySession } from './connect.js'

export type { LeftOut } from '../../verifier/directory/collect.js'
export type { Endpoint, ListedModel, ListedPrice } from '../../verifier/directory/descriptor.js'
export type { DirectoryDocument } from '../../verifier/directory/document.js'
export type { Listing } from '../../verifier/directory/listing.js'
export { NoWorkerError, type WorkerFailure } from '../worker-pool.js'
export type { Directories, DirectoryOptions, DirectorySession, RoutedReceipt } from './connect.js'
export { ListingError, TooSlowError } from './errors.js'
export type { Intent, PriceCap } from './intent.js'
export type { CandidateReport, CandidateStatus, RouteReport } from './report.js'

/**
 * Reads the directory, verifies some of the listed workers that fit the intent, and returns a session over the best. Being
 * listed grants no trust: every worker is verified under the caller's policy before anything is sealed to it.
 * @throws UsageError or PolicyError before any network; NoWorkerError when none of those that fit verifies.
 */
export function connect(directories: Directories, options: DirectoryOptions): Promise<DirectorySession> {
  return connectThrough(directories, options, {
    listed: () => reachOver(listedFetch),
    any: () => reachOver(globalThis.fetch.bind(globalThis)),
  })
}

/** In a browser, names cannot be resolved: what the URL itself says is all that is looked at; pages may not ask private networks. */
const listedFetch: typeof globalThis.fetch = async (input, init) => {
  const refusal = privateEndpoint(new URL(input instanceof Request ? input.url : input))
  if (refusal !== undefined) throw new TypeError('fetch failed', { cause: new Error(refusal) })
  return globalThis.fetch(input, init)
}
