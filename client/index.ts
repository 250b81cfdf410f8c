/**
 * `subrosa/client`: verify a worker, then talk to it through the sealed channel.
 *
 * ```ts
 * import { connect } from 'subrosa/client'
 * const worker = await connect('https://gpu7.example.net')
 * const openai = new OpenAI({ baseURL: worker.baseURL, fetch: worker.fetch, apiKey: 'unused' })
 * ```
 */

export { type AppraisalPolicy, POLICY_SCHEMA, type PolicyDocument } from '../verifier/policy.js'
export type { SigstoreVerifier } from '../verifier/release/logged.js'
export type { AcceptedResult, AttestationResult, NotProven, VerifiedWorker } from '../verifier/result.js'
export * from './errors.js'
export type { ProveWhen } from './possession.js'
export type { ReceivedReceipt } from './receipts.js'
export { type ConnectOptions, connect, type WorkerSession } from './session.js'
