/**
 * `subrosa/client`: verify a worker, then talk to it through the sealed channel.
 *
 * ```ts
 * import { connect } from 'subrosa/client'
 * const worker = await connect('https://gpu7.example.net')
 * const openai = new OpenAI({ baseURL: worker.baseURL, fetch: worker.fetch, apiKey: 'unused' })
 * ```
 */

import { reachOver } from './lines.js'
import { type ConnectOptions, connectOver, type WorkerSession } from './session.js'

export { type AppraisalPolicy, POLICY_SCHEMA, type PolicyDocument } from '../verifier/policy.js'
export type { SigstoreVerifier } from '../verifier/release/logged.js'
export type { AcceptedResult, AttestationResult, NotProven, VerifiedWorker } from '../verifier/result.js'
export * from './errors.js'
export type { ProveWhen } from './possession.js'
export type { ReceivedReceipt } from './receipts.js'
export type { ConnectOptions, WorkerSession } from './session.js'

/**
 * Fetches evidence with a fresh nonce, appraises it, and returns a session only if it was accepted live.
 * @throws UsageError or PolicyError before any network; UnavailableError when the worker does not answer;
 * NotTrustedError, with the whole result, when it answers and is not acceptable.
 */
export function connect(url: string | URL, options: ConnectOptions = {}): Promise<WorkerSession> {
  return connectOver(url, options, reachOver(options.fetch ?? globalThis.fetch.bind(globalThis)))
}
