/**
 * Writing a policy from a worker or bundle: by the signed releases it runs, or, seen for the first time, by what it measured, under
 * `trustOnFirstUse: true`, which every verdict repeats. Everything but the software was verified under the strict policy,
 * and whatever the caller had waived is written out.
 */
import { stringify } from 'yaml'
import {
  type AppraisalPolicy,
  POLICY_SCHEMA,
  type ReferenceMeasurement,
  resolvePolicy,
  STRICT_POLICY,
} from './policy.js'
import { toBase64 } from './protocol/bytes.js'
import type { ReleasePolicyDocument } from './release/policy.js'
import type { AttestationResult } from './result.js'
import type { TrustAnchor } from './trust-anchors.js'

type Section = readonly [comments: readonly string[], members: Readonly<Record<string, unknown>>]

/** What the caller asked of the hardware, software left open: the policy a first look is made under. */
export function firstLookPolicy(asked: AppraisalPolicy): AppraisalPolicy {
  const named = typeof asked.model === 'object' && asked.model.digests.length > 0
  return { ...asked, measurements: 'any', model: named ? asked.model : 'any', trustOnFirstUse: true }
}

/** The asked-of policy under which only releases signed by these keys are known. @throws PolicyError on an unusable key. */
export function releasePolicy(asked: AppraisalPolicy, releases: ReleasePolicyDocument): AppraisalPolicy {
  const { releases: resolved } = resolvePolicy({ schema: POLICY_SCHEMA, releases })
  const named = typeof asked.model === 'object' && asked.model.digests.length > 0
  return { ...asked, measurements: [], releases: resolved, model: named ? asked.model : 'release' }
}

/** A policy that takes the reference values of signed releases, as a YAML document. */
export function writeReleasePolicy(
  asked: AppraisalPolicy,
  releases: ReleasePolicyDocument,
  result: AttestationResult,
): string {
  const version = get(result.evidence, 'release', 'version')
  return render([
    heading(`written on ${result.evaluatedAt.toISOString()}`),
    [[`Software is known by its signed release; release ${version} was seen when this was written.`], { releases }],
    [['The models a release names, or the ones you name.'], { model: asked.model }],
    ...(asked.trustAnchors.length > 0 ? [privateRoots(asked)] : []),
    ...relaxations(asked),
  ])
}

/** The policy under which only launches computed from given files are known. */
export function measuredPolicy(asked: AppraisalPolicy, measured: readonly ReferenceMeasurement[]): AppraisalPolicy {
  return { ...asked, measurements: measured, releases: undefined }
}

/** A policy whose reference values were computed from files, as a YAML document. */
export function writeMeasuredPolicy(asked: AppraisalPolicy, result: AttestationResult): string {
  return render([
    heading(`written on ${result.evaluatedAt.toISOString()}`),
    [
      ['Launch digests computed from files by verify-attestation measure; one of them was seen when this was written.'],
      { measurements: asked.measurements },
    ],
    [['The models you named.'], { model: asked.model }],
    ...relaxations(asked),
  ])
}

function heading(when: string): Section {
  return [
    [`Appraisal policy ${when} by verify-attestation policy init.`, 'What is not named here has its strict value.'],
    { schema: POLICY_SCHEMA },
  ]
}

/** The policy as a YAML document with comments. `target` is shown in a comment. Undefined when nothing was measured. */
export function writePolicy(target: string, asked: AppraisalPolicy, result: AttestationResult): string | undefined {
  const reference = referenceOf(result)
  const model = get(result.evidence, 'statement', 'model')
  if (reference === undefined || model === undefined) return undefined
  const manifest = get(model, 'manifestDigest')
  const simulated = asked.trustAnchors.length > 0
  const sections: Section[] = [
    [
      [
        `Appraisal policy taken from ${target}`,
        `on ${result.evaluatedAt.toISOString()} by verify-attestation policy init.`,
        'What is not named here has its strict value.',
      ],
      { schema: POLICY_SCHEMA },
    ],
    [
      [
        'Nobody rebuilt or signed for the values below: they are what was seen first. Every verdict',
        'says so. Compare them with digests published elsewhere, then take this line out.',
      ],
      { trustOnFirstUse: true },
    ],
    [[`Launch digest of the ${get(result.evidence, 'platform')} that was seen.`], { measurements: [reference] }],
    [
      [`The model package it said it serves, by its manifest: ${get(model, 'id')}.`],
      {
        model: {
          digests: typeof asked.model === 'object' && asked.model.digests.length > 0 ? asked.model.digests : [manifest],
        },
      },
    ],
    ...(simulated ? [privateRoots(asked)] : []),
    ...relaxations(asked),
  ]
  return render(sections)
}

function render(sections: readonly Section[]): string {
  return sections
    .map(([comments, members]) => `${comments.map(comment).join('')}${stringify(members, { lineWidth: 0 })}`)
    .join('\n')
}

function privateRoots({ trustAnchors }: AppraisalPolicy): Section {
  const warning = 'SIMULATED OR PRIVATE hardware: these roots are yours, not a vendor’s, and prove no real hardware.'
  return [[warning], { trustAnchors: trustAnchors.map(pemOf), allowNonVendorRoot: true }]
}

/** Sections in which the caller asked for something other than what is taken for absent: less strict, or stricter. */
function relaxations(asked: AppraisalPolicy): Section[] {
  const members: Record<string, unknown> = {}
  if (asked.revocation !== STRICT_POLICY.revocation) members['revocation'] = asked.revocation
  for (const name of ['snp', 'tdx', 'channel', 'serving', 'freshness'] as const) {
    const changed = differing(asked[name], STRICT_POLICY[name])
    if (changed !== undefined) members[name] = changed
  }
  if (asked.gpu === 'none') members['gpu'] = 'none'
  else if (STRICT_POLICY.gpu !== 'none') {
    const changed = differing(asked.gpu, STRICT_POLICY.gpu)
    if (changed !== undefined) members['gpu'] = changed
  }
  if (asked.operator !== 'any') members['operator'] = asked.operator
  if (asked.image !== 'any') members['image'] = asked.image
  if (asked.graces.length > 0) members['graces'] = asked.graces
  if (Object.keys(members).length === 0) return []
  return [[['As you asked; each of these differs from the strict value.'], members]]
}

function differing(section: object, strict: object): Record<string, unknown> | undefined {
  const values = new Map(Object.entries(strict).map(([name, value]) => [name, JSON.stringify(value)]))
  const changed = Object.entries(section).filter(([name, value]) => JSON.stringify(value) !== values.get(name))
  return changed.length === 0 ? undefined : Object.fromEntries(changed)
}

function referenceOf({ evidence }: AttestationResult): ReferenceMeasurement | undefined {
  const measurement = get(evidence, 'cpu', 'report', 'measurement')
  if (typeof measurement === 'string') return { digest: measurement }
  const td = get(evidence, 'cpu', 'report', 'report')
  const [mrTd, rtmr0, rtmr1, rtmr2, rtmr3] = ['mrTd', 'rtmr0', 'rtmr1', 'rtmr2', 'rtmr3'].map((name) => get(td, name))
  if (typeof mrTd !== 'string' || typeof rtmr0 !== 'string' || typeof rtmr1 !== 'string') return undefined
  if (typeof rtmr2 !== 'string' || typeof rtmr3 !== 'string') return undefined
  return { mrTd, rtmr0, rtmr1, rtmr2, rtmr3 }
}

function pemOf({ kind, certificate }: TrustAnchor): string {
  const lines = toBase64(certificate.der).match(/.{1,64}/g) ?? []
  return `Kind: ${kind}\n-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`
}

/** Text from evidence and from the command line stays inside its comment. */
function comment(line: string): string {
  return `# ${line.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, ' ')}\n`
}

function get(value: unknown, ...path: string[]): unknown {
  return path.reduce<unknown>((at, key) => (at as Record<string, unknown> | undefined)?.[key], value)
}
