/**
 * `subrosa/verifier`: appraise evidence against a policy you own, in Node or in a browser.
 *
 * Nothing here reads the clock, the disk or the network by itself; pass in what it needs.
 */
export { type VerifyOptions, verifyEvidence } from './appraise.js'
export { type Check, type CheckDefinition, type CheckStatus, EXIT_CODES, type Verdict } from './checks.js'
export { type EndorsementFile, type EndorsementPool, mergePools, sortEndorsements } from './endorsements.js'
export { FormatError, PolicyError, SubrosaError, UnavailableError, UsageError } from './errors.js'
export type { FetchLimits } from './fetch-bounded.js'
export { fetchBundle, parseWorkerUrl } from './fetch-evidence.js'
export {
  type AppraisalPolicy,
  POLICY_SCHEMA,
  type PolicyDocument,
  type ReferenceMeasurement,
  resolvePolicy,
  STRICT_POLICY,
} from './policy.js'
export { RECEIPT_CHECKS, type ReceiptContext, type ReceiptResult, receiptDigest, verifyReceipt } from './receipt.js'
export { ALL_CHECKS } from './registry.js'
export {
  type AcceptedResult,
  type AttestationResult,
  type EndorsementUse,
  exitCodeOf,
  type NotProven,
  RESULT_SCHEMA,
  type RefusedResult,
  resultToJson,
  standingInTheWay,
  type VerifiedWorker,
} from './result.js'
export { PINNED_ROOTS } from './roots.js'
export { addEndorsements } from './save.js'
export { PLAIN, printable, renderExplanation, renderResult, type Style } from './text.js'
export { parseTrustAnchors, type TrustAnchor } from './trust-anchors.js'
