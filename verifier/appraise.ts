/**
 * The recipe: from evidence bytes and a policy to an attestation result, one step a check, in plan order
 * (PROTOCOL.md §9). Hostile bytes never throw; they become failed checks.
 */
import { BUNDLE_CHECKS, claimChecks, endorsementAgeCheck, softwareCheck } from './bundle-checks.js'
import { type CheckDefinition, fail, pass, type Transcript } from './checks.js'
import * as claimed from './claims-appraisal.js'
import { conclude, type Findings } from './conclude.js'
import { type CpuFindings, type CpuVerifier, loadCpuVerifier } from './cpu.js'
import { describeClaims } from './describe.js'
import { detectEvidence } from './detect.js'
import { type EndorsementPool, mergePools, sortEndorsements } from './endorsements.js'
import { UsageError } from './errors.js'
import type { GpuFindings, GpuInput } from './gpu/verify.js'
import { transcriptOf } from './graces.js'
import type { AppraisalPolicy } from './policy.js'
import { type Bundle, parseBundle } from './protocol/bundle.js'
import { type Bytes, equalBytes, toHex } from './protocol/bytes.js'
import { MAX_EVIDENCE_LIFETIME_S, MEDIA_TYPE_TDX_QUOTE } from './protocol/constants.js'
import { FormatError } from './protocol/errors.js'
import { sha256 } from './protocol/hash.js'
import type { SignedKeyConfiguration } from './protocol/key-configuration.js'
import { type Claims, gpuNonceFor, parseClaims } from './protocol/statement.js'
import { releaseChecks } from './release/checks.js'
import type { SigstoreVerifier } from './release/logged.js'
import type { ReleaseFindings } from './release/verify.js'
import type { AttestationResult, VerifiedWorker } from './result.js'

export interface VerifyOptions {
  readonly policy: AppraisalPolicy
  /** Certificates, revocation lists and the like from files or the network: untrusted until verified. */
  readonly endorsements?: EndorsementPool
  /** The instant to judge by. For live evidence, the caller's own clock. */
  readonly now: Date
  /**
   * The 32-byte nonce this caller drew for this one question, and when it was sent on the caller's clock. Without it the
   * evidence may be a recording: the result is never live and carries no keys.
   */
  readonly live?: { readonly nonce: Bytes; readonly sentAt: Date }
  /** The evidence is a worker's answer: anything but a bundle is malformed. Implied by `live`. */
  readonly fromWorker?: boolean
  /** A nonce the evidence must contain, for archives: it proves inclusion, not freshness. */
  readonly nonce?: Bytes
  /** The nonce of OCSP requests the caller made itself, whose responses are among the endorsements. */
  readonly ocspNonce?: Bytes
  /** Judges Sigstore bundles, where a policy wants one: `verifySigstoreBundle` of `subrosa/sigstore`, in Node. */
  readonly sigstore?: SigstoreVerifier
  /** What REPORT_DATA must be; shorter values are padded with zeros and the tail is checked. Raw reports only. */
  readonly reportData?: Bytes
}

/** Appraises a bundle, or raw CPU or GPU evidence. Text encodings (hex, base64) are undone first. */
export async function verifyEvidence(evidence: Bytes, options: VerifyOptions): Promise<AttestationResult> {
  const detected = detectEvidence(evidence)
  refuseContradictions(detected.kind, options)
  // A worker owes a bundle: raw evidence, however genuine, says nothing about this worker's keys or this moment.
  if (detected.kind === 'bundle' || options.live !== undefined || options.fromWorker === true) {
    return verifyBundle(detected.bytes, options)
  }
  if (detected.kind === 'gpu') {
    const { verifyGpuEvidence } = await import('./appraise-gpu.js')
    return verifyGpuEvidence([detected.bytes], [], options)
  }
  return verifyRaw(await loadCpuVerifier(detected.kind), detected.bytes, options)
}

/** What nobody would look at must not look as if somebody had. @throws UsageError */
function refuseContradictions(kind: string, { now, live, nonce, reportData }: VerifyOptions): void {
  if (Number.isNaN(now.getTime()) || Number.isNaN(live?.sentAt.getTime() ?? 0)) {
    throw new UsageError('option.time', 'now and sentAt must be valid instants')
  }
  if (live !== undefined && nonce !== undefined && !equalBytes(live.nonce, nonce)) {
    throw new UsageError('option.nonce', 'live and nonce name two nonces; evidence holds one')
  }
  if (reportData !== undefined && (live !== undefined || kind === 'bundle' || kind === 'gpu')) {
    throw new UsageError(
      'option.report-data',
      kind === 'gpu'
        ? '--report-data is for raw CPU reports; a GPU answers a nonce'
        : '--report-data is for raw reports; a bundle’s REPORT_DATA is its claims',
    )
  }
}

async function verifyRaw(vendor: CpuVerifier, evidence: Bytes, options: VerifyOptions): Promise<AttestationResult> {
  const { policy, now, reportData, nonce } = options
  const plan = [
    ...vendor.plan(evidence, nonce !== undefined),
    ...releasePlan(vendor, policy),
    ...agePlan(vendor, policy),
    softwareCheck(vendor.signatureCheck),
  ]
  const t = transcriptOf(plan, policy.graces, now)
  const cpu = await vendor.verify(t, {
    evidence,
    endorsements: options.endorsements ?? sortEndorsements([]),
    policy,
    now,
    ...(reportData === undefined ? {} : { reportData }),
    ...(nonce === undefined ? {} : { nonce }),
  })
  const release = cpu && (await findRelease(t, cpu, options.endorsements ?? sortEndorsements([]), options))
  checkAges(t, [cpu, release], options)
  t.check('reference.measurement', () => claimed.matchSoftware(cpu, policy, release))
  return conclude(t, {
    ...options,
    authenticity: vendor.authenticity,
    findings: [cpu, release],
    evidence: { kind: vendor.kind, platform: cpu?.platform ?? null, ...cpu?.described, ...describeRelease(release) },
  })
}

/** Only under a policy that names releases. */
function releasePlan(vendor: CpuVerifier, { releases }: AppraisalPolicy): readonly CheckDefinition[] {
  return releases === undefined ? [] : releaseChecks(vendor.signatureCheck)
}

/** Only under a policy that limits the age of endorsements. */
function agePlan(vendor: CpuVerifier, { freshness }: AppraisalPolicy): readonly CheckDefinition[] {
  return freshness.endorsementSeconds === undefined ? [] : [endorsementAgeCheck(vendor.signatureCheck)]
}

function checkAges(t: Transcript, found: readonly (Findings | undefined)[], options: VerifyOptions): void {
  if (!t.plans('freshness.endorsements')) return
  const used = found.flatMap((findings) => findings?.endorsementsUsed ?? [])
  t.check('freshness.endorsements', () => claimed.matchEndorsementAge(used, options))
}

async function findRelease(
  t: Transcript,
  { measurements }: CpuFindings,
  pool: EndorsementPool,
  { policy: { releases }, sigstore }: VerifyOptions,
): Promise<ReleaseFindings | undefined> {
  if (releases === undefined) return undefined
  const { checkRelease } = await import('./release/verify.js')
  const judge = sigstore === undefined ? {} : { sigstore }
  return checkRelease(t, { policy: releases, measurements, pool, ...judge })
}

function describeRelease(release: ReleaseFindings | undefined): Readonly<Record<string, unknown>> {
  return release?.described === undefined ? {} : { release: release.described }
}

/** The plan for a bundle whose CPU evidence this vendor made, with the checks of its devices, in order. */
export function bundlePlan(
  vendor: CpuVerifier,
  devices: readonly CheckDefinition[],
  releases: readonly CheckDefinition[] = [],
  ages: readonly CheckDefinition[] = [],
): readonly CheckDefinition[] {
  // What REPORT_DATA must be is settled by `binding.report-data` here.
  const cpu = vendor.plan(new Uint8Array(), false).filter((check) => !check.id.endsWith('.report-data'))
  return [
    ...BUNDLE_CHECKS,
    ...cpu.map((check) => (check.needs === undefined ? { ...check, needs: ['bundle.parse'] } : check)),
    ...releases,
    ...claimChecks(vendor.signatureCheck),
    ...devices,
    ...ages,
    softwareCheck(vendor.signatureCheck),
  ]
}

async function verifyBundle(bytes: Bytes, options: VerifyOptions): Promise<AttestationResult> {
  const { policy } = options
  const read = readBundle(bytes)
  const vendor = await loadCpuVerifier(
    'bundle' in read && read.bundle.cpu.type === MEDIA_TYPE_TDX_QUOTE ? 'tdx' : 'snp',
  )
  const devices = 'bundle' in read && policy.gpu !== 'none' ? devicesIn(read.bundle) : undefined
  const gpu = devices && (await import('./gpu/verify.js'))
  const plan = bundlePlan(
    vendor,
    devices && gpu ? gpu.planFor(devices) : [],
    releasePlan(vendor, policy),
    agePlan(vendor, policy),
  )
  const t = transcriptOf(plan, policy.graces, options.now)

  const bundle = t.check('bundle.parse', () => ('bundle' in read ? pass(read.bundle) : fail(read.reason)))
  const claims = bundle && t.check('claims.parse', () => pass(parseClaims(bundle.claims)))
  const endorsements = bundle && poolFor(bundle, options)
  const cpu = endorsements && (await verifyBundleCpu(t, vendor, bundle, endorsements, options))
  const release = cpu && endorsements && (await findRelease(t, cpu, endorsements, options))
  const keys = bundle && claims && (await appraiseClaims(t, bundle, claims, { cpu, release }, options))
  const gpus =
    gpu && devices && claims && endorsements && policy.gpu !== 'none'
      ? await gpu.verifyGpus(t, {
          ...devices,
          form: 'container',
          // The GPU signed a nonce that names the enclave's keys; the claims name what the GPU signed (P-4.3).
          expectedNonce: gpuNonceFor(claims.core),
          endorsements,
          anchors: policy.trustAnchors.filter((anchor) => anchor.kind === 'nvidia'),
          now: options.now,
          revocation: policy.revocation,
          policy: policy.gpu,
          ...(options.ocspNonce === undefined ? {} : { ocspNonce: options.ocspNonce }),
        })
      : undefined
  checkAges(t, [cpu, gpus, release], options)
  t.check('reference.measurement', () => claimed.matchSoftware(cpu, policy, release))

  const evidence = {
    kind: 'bundle',
    sha256: toHex(sha256(bytes)),
    platform: cpu?.platform ?? null,
    ...(claims === undefined ? {} : describeClaims(claims)),
    ...(cpu === undefined ? {} : { cpu: cpu.described }),
    ...(gpus === undefined ? {} : { gpus: gpus.devices }),
    ...describeRelease(release),
  }
  const found = { cpu, gpus }
  const worker = claims && keys && liveWorker(t, claims, found, keys, options)
  return conclude(t, {
    ...options,
    authenticity: vendor.authenticity,
    findings: [cpu, gpus, release],
    evidence,
    notProven: claims === undefined ? [] : claimed.modelNotProven(claims, policy),
    worker,
  })
}

/** The plan depends on what is inside, so the bundle is read before there is a plan to report to. */
function readBundle(bytes: Bytes): { readonly bundle: Bundle } | { readonly reason: string } {
  try {
    return { bundle: parseBundle(bytes) }
  } catch (error) {
    if (error instanceof FormatError) return { reason: `not a bundle: ${error.message}` }
    throw error
  }
}

/** What the bundle staples, beside what the caller has. All of it untrusted until verified. */
function poolFor(bundle: Bundle, options: VerifyOptions): EndorsementPool {
  const items = bundle.endorsements.map((item, i) => ({ name: `endorsement.${i}`, bytes: item.bytes }))
  const stapled = sortEndorsements(items)
  return options.endorsements === undefined ? stapled : mergePools(options.endorsements, stapled)
}

/** The bundle's devices, where it has any: without them the GPU verifier is not even loaded. */
function devicesIn({ gpus, switches }: Bundle): Pick<GpuInput, 'devices' | 'switches'> | undefined {
  return gpus.length + switches.length === 0 ? undefined : { devices: gpus, switches }
}

async function verifyBundleCpu(
  t: Transcript,
  vendor: CpuVerifier,
  { cpu, eventLog }: Bundle,
  endorsements: EndorsementPool,
  { policy, now }: VerifyOptions,
): Promise<CpuFindings | undefined> {
  const log = eventLog === undefined ? {} : { eventLog }
  return vendor.verify(t, { evidence: cpu.evidence, endorsements, policy, now, ...log })
}

/** Everything the claims say, held against the report and the policy. Returns the keys of an accepted suite. */
async function appraiseClaims(
  t: Transcript,
  bundle: Bundle,
  claims: Claims,
  { cpu, release }: Pick<Found, 'cpu' | 'release'>,
  options: VerifyOptions,
): Promise<readonly SignedKeyConfiguration[] | undefined> {
  const { policy } = options
  if (cpu !== undefined) {
    t.check('binding.report-data', () => claimed.matchReportData(cpu, bundle))
    t.check('binding.configuration', () => claimed.matchConfiguration(cpu, claims))
  }
  t.check('gpu.present', () => claimed.requireGpu(bundle, policy))
  t.check('binding.gpu-evidence', () => claimed.matchGpuEvidence(bundle, claims))
  t.check('binding.nonce', () => claimed.matchNonce(bundle, claims, options))
  t.check('freshness.window', () => claimed.matchWindow(claims, options))
  const keys = t.check('keys.parse', () => pass(claimed.readKeys(bundle)))
  t.check('keys.bound', () => claimed.matchKeys(keys ?? [], claims))
  await t.checkAsync('keys.signature', () => claimed.verifyKeys(keys ?? [], claims))
  t.check('keys.window', () => claimed.matchKeyWindows(keys ?? [], claims, options))
  const accepted = t.check('keys.suite', () => claimed.matchSuites(keys ?? [], options))
  t.check('serving.padding', () => claimed.matchPadding(claims, policy))
  t.check('serving.isolation', () => claimed.matchIsolation(claims, policy))
  t.check('image.digest', () => claimed.matchImage(claims, policy, release))
  t.check('model.digest', () => claimed.matchModel(claims, policy, release))
  await t.checkAsync('operator.match', () => claimed.matchOperator(bundle, claims, cpu, options))
  return accepted
}

/** What the vendors' verifiers found, as far as they got. */
interface Found {
  readonly cpu: CpuFindings | undefined
  readonly gpus?: GpuFindings | undefined
  readonly release?: ReleaseFindings | undefined
}

function liveWorker(
  t: Transcript,
  claims: Claims,
  { cpu, gpus }: Found,
  keys: readonly SignedKeyConfiguration[],
  options: VerifyOptions,
): VerifiedWorker | undefined {
  // Keys leave only with a live answer; unidentified software gets none unless the hardware is private anyway.
  if (cpu === undefined || options.live === undefined || t.verdict() !== 'accepted') return undefined
  if (options.policy.measurements === 'any' && !cpu.privateAnchor) return undefined
  const now = options.now.getTime() / 1000
  const lifetime = Math.min(
    claims.fresh.expiresAt - claims.fresh.issuedAt,
    options.policy.freshness.evidenceSeconds,
    MAX_EVIDENCE_LIFETIME_S,
  )
  const ends = [options.live.sentAt.getTime() + lifetime * 1000, cpu.validUntil.getTime()]
  if (gpus !== undefined) ends.push(gpus.validUntil.getTime())
  return {
    statement: claims.statement,
    statementDigest: claims.statementDigest,
    keyConfigurations: keys.filter((signed) => claimed.isCurrent(signed, now)),
    validUntil: new Date(Math.min(...ends)),
  }
}
