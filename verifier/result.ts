/**
 * Attestation results: what `verifyEvidence` returns and the command line prints.
 *
 * A result is never a boolean. Keys exist only on the accepted arm, and there only when the evidence answered the
 * caller's own nonce on the real clock and the software was identified; using unverified keys does not compile.
 */
import { type Check, EXIT_CODES, type Verdict } from './checks.js'
import type { Bytes } from './protocol/bytes.js'
import type { SignedKeyConfiguration } from './protocol/key-configuration.js'
import type { Statement } from './protocol/statement.js'

export const RESULT_SCHEMA = 'subrosa-attestation-result/1'

/** Something a verdict leaves open, in words. */
export interface NotProven {
  readonly id: string
  readonly text: string
}

/** Where an endorsement the verdict used stands in time; instants are RFC 3339. */
export interface EndorsementUse {
  readonly kind: string
  readonly issuedAt: string | null
  readonly nextUpdate: string | null
}

/** What a live, accepted worker may be spoken to with. Holds until `validUntil` on the caller's own clock. */
export interface VerifiedWorker {
  readonly statement: Statement
  /** SHA-256 of the statement bytes: receipts and later key configurations must name it. */
  readonly statementDigest: Bytes
  /** Current configurations of an accepted suite, newest first; each carries its own window. */
  readonly keyConfigurations: readonly SignedKeyConfiguration[]
  readonly validUntil: Date
}

interface ResultBase {
  readonly checks: readonly Check[]
  /** Whether the CPU evidence is authentic, leaving aside whether it is acceptable. */
  readonly authentic: boolean
  /** Ids of the checks the policy gave up. */
  readonly waived: readonly string[]
  /** Parsed fields of the evidence, JSON-ready, whatever the verdict. */
  readonly evidence: { readonly kind: string } & Readonly<Record<string, unknown>>
  readonly notProven: readonly NotProven[]
  readonly endorsements: readonly EndorsementUse[]
  /** The policy applied, JSON-ready, with its waivers written out. */
  readonly policy: Readonly<Record<string, unknown>>
  readonly evaluatedAt: Date
  /**
   * For saving beside the evidence: the exact endorsement bytes an accepted verdict depended on; of any other, everything the
   * caller had at hand, as far as it was recognised.
   */
  readonly endorsementBytes: readonly Bytes[]
}

export interface AcceptedResult extends ResultBase {
  readonly verdict: 'accepted'
  /** Only for live evidence of identified software. */
  readonly worker?: VerifiedWorker
}

export interface RefusedResult extends ResultBase {
  readonly verdict: Exclude<Verdict, 'accepted'>
}

export type AttestationResult = AcceptedResult | RefusedResult

export function exitCodeOf(result: AttestationResult): 0 | 1 | 3 | 4 {
  return EXIT_CODES[result.verdict]
}

/** The one JSON object of the command line contract; instants are RFC 3339 in UTC. */
export function resultToJson(result: AttestationResult): Record<string, unknown> {
  return {
    schema: RESULT_SCHEMA,
    verdict: result.verdict,
    exitCode: exitCodeOf(result),
    evidence: result.evidence,
    checks: result.checks,
    notProven: result.notProven,
    endorsements: result.endorsements,
    policy: result.policy,
    evaluatedAt: result.evaluatedAt.toISOString(),
  }
}

/** Ids of the checks that stand in the way, failures before missing inputs. */
export function standingInTheWay(result: AttestationResult): readonly Check[] {
  return [
    ...result.checks.filter((check) => check.status === 'fail'),
    ...result.checks.filter((check) => check.status === 'skip' && !result.waived.includes(check.id)),
  ]
}
