/** From a finished transcript and what was found to an attestation result: the one place where verdicts are put together. */
import type { CheckDefinition, Transcript } from './checks.js'
import { describePolicy } from './describe.js'
import type { EndorsementPool } from './endorsements.js'
import type { AppraisalPolicy } from './policy.js'
import type { Bytes } from './protocol/bytes.js'
import type { AttestationResult, EndorsementUse, NotProven, VerifiedWorker } from './result.js'

/** What every vendor's findings have in common. */
export interface Findings {
  readonly privateAnchor: boolean
  readonly endorsementsUsed: readonly EndorsementUse[]
  readonly endorsementBytes: readonly Bytes[]
  readonly notProven: readonly NotProven[]
}

export interface Conclusion {
  readonly policy: AppraisalPolicy
  readonly now: Date
  /** The checks that together say the evidence is authentic. */
  readonly authenticity: readonly CheckDefinition[]
  readonly findings: readonly (Findings | undefined)[]
  readonly evidence: AttestationResult['evidence']
  /** What the policy leaves open beside its waivers. */
  readonly notProven?: readonly NotProven[]
  readonly worker?: VerifiedWorker | undefined
  /** Everything at hand beside the evidence. */
  readonly endorsements?: EndorsementPool
}

export function conclude(t: Transcript, conclusion: Conclusion): AttestationResult {
  const { policy, now, authenticity, evidence, worker } = conclusion
  const findings = conclusion.findings.filter((item) => item !== undefined)
  const verdict = t.verdict()
  const checks = t.checks()
  const waivers = checks.filter(({ id, status }) => status === 'skip' && t.satisfied(id))
  const base = {
    checks,
    authentic: authenticity.filter((check) => t.plans(check.id)).every((check) => t.satisfied(check.id)),
    waived: waivers.map(({ id }) => id),
    evidence,
    notProven: [
      ...labels(findings),
      ...firstUse(policy),
      ...waivers.map(({ id, title, reason }) => ({ id, text: `${title}: ${reason}` })),
      ...(conclusion.notProven ?? []),
      ...findings.flatMap((item) => item.notProven),
      ...ALWAYS_OPEN,
    ],
    endorsements: findings.flatMap((item) => item.endorsementsUsed),
    policy: describePolicy(policy),
    evaluatedAt: now,
  }
  // What a refusal rested on may be any of it: a list that revokes, a manifest that differs.
  if (verdict !== 'accepted') return { ...base, verdict, endorsementBytes: bytesOf(conclusion.endorsements) }
  return {
    ...base,
    verdict,
    ...(worker === undefined ? {} : { worker }),
    endorsementBytes: findings.flatMap((item) => item.endorsementBytes),
  }
}

function bytesOf(pool: EndorsementPool | undefined): readonly Bytes[] {
  if (pool === undefined) return []
  const { certificates, crls, documents } = pool
  return [...certificates, ...crls].map(({ der }) => der).concat(documents.map(({ bytes }) => bytes))
}

function labels(findings: readonly Findings[]): NotProven[] {
  if (!findings.some((item) => item.privateAnchor)) return []
  return [
    {
      id: 'hardware.private-root',
      text: 'SIMULATED OR PRIVATE hardware: a root is one you supplied, not the vendor’s; nothing here proves real confidential hardware',
    },
  ]
}

function firstUse({ trustOnFirstUse }: AppraisalPolicy): NotProven[] {
  if (!trustOnFirstUse) return []
  return [
    {
      id: 'reference.first-use',
      text: 'that the software is what anyone published: your policy’s reference values were taken from a worker on first use',
    },
  ]
}

/** What no verdict of this verifier proves, whatever the evidence. */
const ALWAYS_OPEN: readonly NotProven[] = [
  {
    id: 'physical.memory-bus',
    text: 'that nobody with hands on the machine tapped its memory bus or extracted keys from its chips',
  },
  { id: 'software.rebuild', text: 'that you rebuilt the image from its sources yourself' },
  { id: 'traffic.timing', text: 'that nothing can be learnt from when, how often and how much you talk to it' },
]
