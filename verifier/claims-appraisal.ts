/**
 * Each check on claims, binding, freshness, keys and reference values, as one function from what was parsed to a finding
 * (PROTOCOL.md §4, §5, §9). The order they run in is `appraise.ts`.
 */
import { type Finding, fail, pass, unavailable, waived } from './checks.js'
import type { CpuFindings } from './cpu.js'
import type { AppraisalPolicy, ReferenceMeasurement } from './policy.js'
import type { Bundle } from './protocol/bundle.js'
import { type Bytes, equalBytes, toHex } from './protocol/bytes.js'
import { CLOCK_SKEW_S, MAX_EVIDENCE_LIFETIME_S } from './protocol/constants.js'
import { sha256 } from './protocol/hash.js'
import {
  parseSignedKeyConfigurations,
  type SignedKeyConfiguration,
  verifyEd25519,
  verifyKeyConfiguration,
} from './protocol/key-configuration.js'
import { verifyInclusion } from './protocol/merkle.js'
import { parseKeyConfiguration, suiteNameOf } from './protocol/ohttp-keys.js'
import { operatorMessage, parseOperatorStatement } from './protocol/operator.js'
import { type Claims, reportDataFor } from './protocol/statement.js'
import type { ReleaseFindings } from './release/verify.js'
import type { EndorsementUse, NotProven } from './result.js'

/** What the caller knows of time and nonce. */
export interface Circumstances {
  readonly policy: AppraisalPolicy
  readonly now: Date
  readonly live?: { readonly nonce: Bytes; readonly sentAt: Date }
  readonly nonce?: Bytes
}

export function matchReportData(cpu: CpuFindings, bundle: Bundle): Finding {
  const expected = reportDataFor(bundle.claims)
  if (equalBytes(cpu.reportData, expected)) return pass()
  return fail('REPORT_DATA is not SHA-512 of these claims', {
    expected: toHex(expected),
    actual: toHex(cpu.reportData),
  })
}

export function matchConfiguration(cpu: CpuFindings, claims: Claims): Finding {
  const { configDigest } = claims.statement
  if (equalBytes(cpu.configuration.value, configDigest)) return pass()
  return fail(`the configuration digest in the claims is not ${cpu.configuration.field}`, {
    expected: toHex(cpu.configuration.value),
    actual: toHex(configDigest),
  })
}

export function requireGpu(bundle: Bundle, policy: AppraisalPolicy): Finding {
  if (policy.gpu === 'none') return waived('gpu: none; nothing is known of what computes outside the CPU')
  return bundle.gpus.length > 0 ? pass() : fail('no GPU evidence; your policy requires it')
}

export function matchGpuEvidence(bundle: Bundle, claims: Claims): Finding {
  const actual = [...bundle.gpus, ...bundle.switches].map(sha256)
  const same = actual.length === claims.gpuEvidenceDigests.length
  if (same && actual.every((digest, i) => equalBytes(digest, claims.gpuEvidenceDigests[i] ?? new Uint8Array()))) {
    return pass()
  }
  return fail('the GPU evidence carried is not the evidence the claims commit to', {
    expected: claims.gpuEvidenceDigests.map(toHex).join(' ') || 'none',
    actual: actual.map(toHex).join(' ') || 'none',
  })
}

export function matchNonce(bundle: Bundle, claims: Claims, options: Circumstances): Finding {
  const expected = options.live?.nonce ?? options.nonce
  const proof = bundle.nonceProof
  if (expected === undefined) {
    return waived('an archive without a nonce of yours: time and freshness asserted, not proven')
  }
  if (proof === undefined) return fail('the bundle carries no nonce', { expected: toHex(expected) })
  if (!equalBytes(proof.nonce, expected)) {
    return fail('the evidence answers another nonce', { expected: toHex(expected), actual: toHex(proof.nonce) })
  }
  return verifyInclusion(expected, proof, claims.fresh.nonceRoot)
    ? pass()
    : fail('the nonce is not in the batch the report covers')
}

export function matchWindow(claims: Claims, options: Circumstances): Finding {
  const { issuedAt, expiresAt } = claims.fresh
  const now = options.now.getTime() / 1000
  const limit = Math.min(options.policy.freshness.evidenceSeconds, MAX_EVIDENCE_LIFETIME_S)
  const detail = {
    expected: `issued within ${limit} s before ${options.now.toISOString()}, and not expired`,
    actual: `issued ${instant(issuedAt)}, expires ${instant(expiresAt)}`,
  }
  if (expiresAt - issuedAt > MAX_EVIDENCE_LIFETIME_S) return fail('the evidence claims too long a life', detail)
  if (issuedAt > now + CLOCK_SKEW_S) return fail('the evidence was issued in the future', detail)
  if (expiresAt <= now || issuedAt + limit <= now) return fail('the evidence has expired', detail)
  return pass(undefined, { actual: detail.actual })
}

export interface ReadKey {
  readonly signed: SignedKeyConfiguration
  readonly suite: string
}

export function readKeys(bundle: Bundle): readonly ReadKey[] {
  return parseSignedKeyConfigurations(bundle.keys).map((signed) => ({
    signed,
    suite: suiteNameOf(parseKeyConfiguration(signed.configuration)) ?? 'unknown suite',
  }))
}

export function matchKeys(keys: readonly ReadKey[], claims: Claims): Finding {
  const stray = keys.find(({ signed }) => {
    const digest = sha256(signed.configuration)
    return !claims.fresh.keyConfigurations.some((known) => equalBytes(known, digest))
  })
  if (stray === undefined) return pass()
  return fail('a key configuration is not among those the report covers', {
    expected: claims.fresh.keyConfigurations.map(toHex).join(' '),
    actual: toHex(sha256(stray.signed.configuration)),
  })
}

export async function verifyKeys(keys: readonly ReadKey[], claims: Claims): Promise<Finding> {
  for (const { signed } of keys) {
    if (!(await verifyKeyConfiguration(claims.statement.keys.identity, claims.statementDigest, signed))) {
      return fail('a key configuration is not signed by the attested identity key')
    }
  }
  return pass()
}

export function matchKeyWindows(keys: readonly ReadKey[], claims: Claims, options: Circumstances): Finding {
  const now = options.now.getTime() / 1000
  const limit = Math.min(options.policy.freshness.keySeconds, claims.statement.serving.keyLifetimeS)
  for (const { signed } of keys) {
    if (signed.notAfter - signed.notBefore > limit) {
      return fail('a key configuration lives longer than allowed', {
        expected: `at most ${limit} s`,
        actual: `${signed.notAfter - signed.notBefore} s`,
      })
    }
  }
  const current = keys.filter(({ signed }) => isCurrent(signed, now))
  if (current.length > 0) return pass()
  return fail('no key configuration is current', {
    expected: options.now.toISOString(),
    actual: keys.map(({ signed }) => `${instant(signed.notBefore)} to ${instant(signed.notAfter)}`).join(', '),
  })
}

export function isCurrent(signed: SignedKeyConfiguration, now: number): boolean {
  return signed.notBefore <= now + CLOCK_SKEW_S && now < signed.notAfter
}

export function matchSuites(
  keys: readonly ReadKey[],
  { policy, now }: Circumstances,
): Finding<readonly SignedKeyConfiguration[]> {
  const current = keys.filter((key) => isCurrent(key.signed, now.getTime() / 1000))
  const accepted = policy.channel.suites.flatMap((suite) => current.filter((key) => key.suite === suite))
  const detail = { expected: policy.channel.suites.join(' or '), actual: keys.map((key) => key.suite).join(', ') }
  if (accepted.length === 0) return fail('no key configuration has an accepted suite', detail)
  return pass(
    accepted.map((key) => key.signed),
    { actual: accepted.map((key) => key.suite).join(', ') },
  )
}

export function matchPadding(claims: Claims, policy: AppraisalPolicy): Finding {
  const { padding } = claims.statement.serving
  const detail = { expected: policy.channel.padding.join(' or '), actual: padding }
  return policy.channel.padding.includes(padding)
    ? pass(undefined, { actual: padding })
    : fail('padding is not accepted', detail)
}

export function matchIsolation(claims: Claims, policy: AppraisalPolicy): Finding {
  const { isolation: actual } = claims.statement.serving
  const detail = { expected: policy.serving.isolation.join(' or '), actual }
  return policy.serving.isolation.includes(actual)
    ? pass(undefined, { actual })
    : fail('isolation is not accepted', detail)
}

export function matchImage(claims: Claims, policy: AppraisalPolicy, release: ReleaseFindings | undefined): Finding {
  const { imageDigest } = claims.statement.runtime
  const actual = imageDigest === undefined ? 'none' : toHex(imageDigest)
  if (policy.image === 'release') {
    if (release?.holds !== true) return unavailable('no acceptable release is at hand to name an image')
    const expected = release.manifest.image.digest
    return expected === actual
      ? pass(undefined, { actual })
      : fail('the image is not its release’s', { expected, actual })
  }
  if (policy.image === 'any' || policy.image.digests.includes(actual)) return pass(undefined, { actual })
  return fail('the image is none your policy names', { expected: policy.image.digests.join(' or '), actual })
}

/** Certificates and manifests are as old as they are; what says something of the present is not to be. */
export function matchEndorsementAge(used: readonly EndorsementUse[], { policy, now }: Circumstances): Finding {
  const limit = policy.freshness.endorsementSeconds ?? Number.POSITIVE_INFINITY
  const dated = used.filter(({ kind }) => /^(CRL |TCB info|QE identity|ocsp$|release-index$)/.test(kind))
  const ageOf = ({ issuedAt }: EndorsementUse) =>
    issuedAt === null ? Number.POSITIVE_INFINITY : Math.floor((now.getTime() - new Date(issuedAt).getTime()) / 1000)
  const oldest = dated.reduce<EndorsementUse | undefined>(
    (a, b) => (a === undefined || ageOf(b) > ageOf(a) ? b : a),
    undefined,
  )
  if (oldest === undefined) return unavailable('nothing at hand says anything of the present')
  const detail = { expected: `at most ${limit} s`, actual: `${oldest.kind}: ${ageOf(oldest)} s` }
  return ageOf(oldest) <= limit ? pass(undefined, detail) : fail('an endorsement is too old', detail)
}

/**
 * A digest in a policy names a package by its manifest, which fixes every file, or its weights alone. A release names both, and
 * both are to hold of one entry.
 */
export function matchModel(claims: Claims, policy: AppraisalPolicy, release: ReleaseFindings | undefined): Finding {
  const { weights, manifest } = modelDigests(claims)
  if (policy.model === 'release') {
    if (release?.holds !== true) return unavailable('no acceptable release is at hand to name models')
    const { models } = release.manifest
    if (models.some((named) => named.weights === weights && named.manifest === manifest)) {
      return pass(undefined, { actual: manifest })
    }
    if (models.some((named) => named.weights === weights)) {
      const expected = models.map((named) => named.manifest).join(' or ')
      return fail('the weights are its release’s, and the rest of the model package is not', {
        expected,
        actual: manifest,
      })
    }
    const expected = models.map((named) => named.weights).join(' or ') || 'none'
    return fail('the model is none its release names', { expected, actual: weights })
  }
  if (policy.model === 'any') return waived(`model: any; the worker serves ${weights.slice(0, 16)}…`)
  const { digests } = policy.model
  if (digests.includes(manifest)) return pass(undefined, { actual: manifest })
  if (digests.includes(weights)) return pass(undefined, { actual: weights })
  if (digests.length === 0) return fail('no model is named in your policy', { actual: manifest })
  return fail('the model is none your policy names', { expected: digests.join(' or '), actual: manifest })
}

/** What stays open where a policy names a model's weights and not its manifest. */
export function modelNotProven(claims: Claims, { model }: AppraisalPolicy): readonly NotProven[] {
  if (typeof model === 'string') return []
  const { weights, manifest } = modelDigests(claims)
  if (model.digests.includes(manifest) || !model.digests.includes(weights)) return []
  return [
    {
      id: 'model.package',
      text: 'that tokenizer, chat template and settings are the ones you expect: your policy names the model’s weights, and not its manifest, which fixes the whole package',
    },
  ]
}

function modelDigests({ statement: { model } }: Claims): { readonly weights: string; readonly manifest: string } {
  return { weights: toHex(model.weightsRoot), manifest: toHex(model.manifestDigest) }
}

/** An operator statement may be this old, in seconds. */
const MAX_OPERATOR_AGE_S = 86_400

export async function matchOperator(
  bundle: Bundle,
  claims: Claims,
  cpu: CpuFindings | undefined,
  { policy, now }: Circumstances,
): Promise<Finding> {
  if (policy.operator === 'any') {
    return waived('operator: any; the seal ends in the enclave, whoever owns the machine')
  }
  if (bundle.operator === undefined) return fail('no operator vouches for this machine')
  const statement = parseOperatorStatement(bundle.operator)
  const detail = { expected: policy.operator.keys.join(' or '), actual: toHex(statement.key) }
  if (!policy.operator.keys.includes(detail.actual)) return fail('the operator is none your policy names', detail)
  if (!equalBytes(statement.identity, claims.statement.keys.identity)) {
    return fail('the operator vouches for another boot’s identity key')
  }
  if (cpu?.platformId === undefined || !equalBytes(statement.platform, cpu.platformId)) {
    return fail('the operator vouches for another machine')
  }
  const age = now.getTime() / 1000 - statement.issuedAt
  if (age > MAX_OPERATOR_AGE_S || age < -CLOCK_SKEW_S) {
    return fail('the operator’s word is not of the last 24 hours', { actual: instant(statement.issuedAt) })
  }
  return (await verifyEd25519(statement.key, statement.signature, operatorMessage(statement)))
    ? pass(undefined, detail)
    : fail('the operator’s signature does not verify')
}

export function matchSoftware(
  cpu: CpuFindings | undefined,
  policy: AppraisalPolicy,
  release: ReleaseFindings | undefined,
): Finding {
  if (cpu === undefined) return fail('the launch digest is not known')
  const actual = describeMeasurements(cpu.measurements)
  if (policy.measurements === 'any') return waived('measurements: any; the software is not identified')
  if (cpu.paravisorMeasurement) {
    return fail('software not identified: MEASUREMENT names the cloud’s paravisor, not the software inside', { actual })
  }
  if (policy.releases !== undefined) {
    if (release?.holds !== true)
      return fail('software not identified: no acceptable release names this launch', { actual })
    return pass(undefined, { actual: `release ${release.manifest.version} (${actual})` })
  }
  if (policy.measurements.length === 0) {
    return fail('software not identified: no reference values are given', { actual })
  }
  const match = policy.measurements.find((reference) => matchesReference(cpu.measurements, reference))
  if (match === undefined) {
    return fail('software not identified: the launch digest is none you listed', {
      expected: policy.measurements.map((reference) => describeMeasurements(fieldsOf(reference))).join(' or '),
      actual,
    })
  }
  return pass(undefined, { actual: match.name === undefined ? actual : `${match.name} (${actual})` })
}

/** Every value the reference names is the one that was launched; a reference for another kind of hardware names none. */
function matchesReference(actual: Readonly<Record<string, string>>, reference: ReferenceMeasurement): boolean {
  return Object.entries(fieldsOf(reference)).every(([field, value]) => actual[field] === value)
}

function fieldsOf(reference: ReferenceMeasurement): Readonly<Record<string, string>> {
  if ('digest' in reference) return { measurement: reference.digest }
  const { name: _, ...fields } = reference
  return fields
}

function describeMeasurements(fields: Readonly<Record<string, string>>): string {
  const { measurement } = fields
  return (
    measurement ??
    Object.entries(fields)
      .map(([field, value]) => `${field} ${value}`)
      .join(', ')
  )
}

function instant(seconds: number): string {
  const date = new Date(seconds * 1000)
  return Number.isNaN(date.getTime()) ? `${seconds} s` : date.toISOString()
}
