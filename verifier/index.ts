/**
 * `subrosa/verifier`: appraise evidence against a policy you own, in Node or in a browser.
 *
 * Nothing here reads the clock, the disk or the network by itself; pass in what it needs.
 */
export { type VerifyOptions, verifyEvidence } from './appraise.js'
export { type Check, type CheckDefinition, type CheckStatus, EXIT_CODES, type Verdict } from './checks.js'
export {
  type EndorsementDocument,
  type EndorsementFile,
  type EndorsementPool,
  mergePools,
  sortEndorsements,
  type UnrecognisedFile,
} from './endorsements.js'
export { FormatError, PolicyError, SubrosaError, UnavailableError, UsageError } from './errors.js'
export type { FetchLimits } from './fetch-bounded.js'
export { fetchBundle, parseWorkerUrl } from './fetch-evidence.js'
export type { GpuPolicy } from './gpu/policy.js'
export type { Grace } from './graces.js'
export type { Pin } from './pin.js'
export {
  type AppraisalPolicy,
  POLICY_SCHEMA,
  type PolicyDocument,
  type ReferenceMeasurement,
  type Revocation,
  resolvePolicy,
  STRICT_POLICY,
  type SuiteName,
} from './policy.js'
export { RECEIPT_CHECKS, type ReceiptContext, type ReceiptResult, receiptDigest, verifyReceipt } from './receipt.js'
export { ALL_CHECKS } from './registry.js'
export type { KeyType, NoteKey } from './release/note.js'
export type { ReleasePolicy, ReleasePolicyDocument } from './release/policy.js'
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
export { PINNED_ROOTS, type PinnedRoot, type VendorKind } from './roots.js'
export { addEndorsements } from './save.js'
export type { Permission, Restriction, SnpPolicy } from './snp/policy.js'
export type { Tcb } from './snp/tcb.js'
export type { RtmrPin, TdxPolicy } from './tdx/policy.js'
export { PLAIN, printable, renderExplanation, renderResult, type Style } from './text.js'
export { parseTrustAnchors, type TrustAnchor } from './trust-anchors.js'
export type { Certificate, RevocationList } from './x509.js'
export type { Extension, Extensions, KeyUsage } from './x509-extensions.js'
