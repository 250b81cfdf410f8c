/**
 * The recipe: from evidence bytes and a policy to an attestation result, one step a check, in plan order
 * (PROTOCOL.md §9). Hostile bytes never throw; they become failed checks.
 */
import { BUNDLE_CHECKS, claimChecks, softwareCheck } from './bundle-checks.js'
import { type CheckDefinition, fail, pass, Transcript, waived } from './checks.js'
import * as claimed from './claims-appraisal.js'
import { type CpuFindings, type CpuVerifier, SNP, TDX } from './cpu.js'
import { describeClaims, describePolicy } from './describe.js'
import { detectEvidence } from './detect.js'
import { type EndorsementPool, mergePools, sortEndorsements } from './endorsements.js'
import type { AppraisalPolicy } from './policy.js'
import { type Bundle, parseBundle } from './protocol/bundle.js'
import { type Bytes, toHex } from './protocol/bytes.js'
import { MAX_EVIDENCE_LIFETIME_S, MEDIA_TYPE_TDX_QUOTE } from './protocol/constants.js'
import { FormatError } from './protocol/errors.js'
import { sha256 } from './protocol/hash.js'
import type { SignedKeyConfiguration } from './protocol/key-configuration.js'
import { type Claims, parseClaims } from './protocol/statement.js'
import { type AttestationResult, type NotProven, type VerifiedWorker, waiversOf } from './result.js'

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
  /** A nonce the evidence must contain, for archives: it proves inclusion, not freshness. */
  readonly nonce?: Bytes
  /** What REPORT_DATA must be; shorter values are padded with zeros and the tail is checked. Raw reports only. */
  readonly reportData?: Bytes
}

/** Appraises a bundle, or raw CPU evidence. Text encodings (hex, base64) are undone first. */
export async function verifyEvidence(evidence: Bytes, options: VerifyOptions): Promise<AttestationResult> {
  const detected = detectEvidence(evidence)
  if (detected.kind === 'bundle') return verifyBundle(detected.bytes, options)
  return verifyRaw(detected.kind === 'tdx' ? TDX : SNP, detected.bytes, options)
}

async function verifyRaw(vendor: CpuVerifier, evidence: Bytes, options: VerifyOptions): Promise<AttestationResult> {
  const { policy, now, reportData, nonce } = options
  const t = new Transcript([...vendor.plan(evidence, nonce !== undefined), softwareCheck(vendor.signatureCheck)])
  const cpu = await vendor.verify(t, {
    evidence,
    endorsements: options.endorsements ?? sortEndorsements([]),
    policy,
    now,
    ...(reportData === undefined ? {} : { reportData }),
    ...(nonce === undefined ? {} : { nonce }),
  })
  t.check('reference.measurement', () => claimed.matchSoftware(cpu, policy))
  return conclude(t, vendor, options, cpu, { kind: vendor.kind, platform: cpu?.platform ?? null, ...cpu?.described })
}

/** The plan for a bundle whose CPU evidence this vendor made, in order. */
export function bundlePlan(vendor: CpuVerifier): readonly CheckDefinition[] {
  // What REPORT_DATA must be is settled by `binding.report-data` here.
  const cpu = vendor.plan(new Uint8Array(), false).filter((check) => !check.id.endsWith('.report-data'))
  return [
    ...BUNDLE_CHECKS,
    ...cpu.map((check) => (check.needs === undefined ? { ...check, needs: ['bundle.parse'] } : check)),
    ...claimChecks(vendor.signatureCheck),
    softwareCheck(vendor.signatureCheck),
  ]
}

async function verifyBundle(bytes: Bytes, options: VerifyOptions): Promise<AttestationResult> {
  const { policy } = options
  const read = readBundle(bytes)
  const vendor = 'bundle' in read && read.bundle.cpu.type === MEDIA_TYPE_TDX_QUOTE ? TDX : SNP
  const t = new Transcript(bundlePlan(vendor))

  const bundle = t.check('bundle.parse', () => ('bundle' in read ? pass(read.bundle) : fail(read.reason)))
  const claims = bundle && t.check('claims.parse', () => pass(parseClaims(bundle.claims)))
  const cpu = bundle && (await verifyBundleCpu(t, vendor, bundle, options))
  const keys = bundle && claims && (await appraiseClaims(t, bundle, claims, cpu, options))
  t.check('reference.measurement', () => claimed.matchSoftware(cpu, policy))

  const evidence = {
    kind: 'bundle',
    sha256: toHex(sha256(bytes)),
    platform: cpu?.platform ?? null,
    ...(claims === undefined ? {} : describeClaims(claims)),
    ...(cpu === undefined ? {} : { cpu: cpu.described }),
    gpus: bundle?.gpus.length ?? 0,
  }
  const worker = claims && cpu && keys && liveWorker(t, claims, cpu, keys, options)
  return conclude(t, vendor, options, cpu, evidence, worker)
}

/** The plan depends on what is inside, so the bundle is read before there is a plan to report to. */
function readBundle(bytes: Bytes): { readonly bundle: Bundle } | { readonly reason: string } {
  try {
    return { bundle: parseBundle(bytes) }
  } catch (error) {
    if (error instanceof FormatError) return { reason: error.message }
    throw error
  }
}

async function verifyBundleCpu(
  t: Transcript,
  vendor: CpuVerifier,
  bundle: Bundle,
  options: VerifyOptions,
): Promise<CpuFindings | undefined> {
  const { policy, now } = options
  const stapled = sortEndorsements(
    bundle.endorsements.map((item, i) => ({ name: `endorsement.${i}`, bytes: item.bytes })),
  )
  const endorsements = options.endorsements === undefined ? stapled : mergePools(options.endorsements, stapled)
  const { cpu, eventLog } = bundle
  const log = eventLog === undefined ? {} : { eventLog }
  return vendor.verify(t, { evidence: cpu.evidence, endorsements, policy, now, ...log })
}

/** Everything the claims say, held against the report and the policy. Returns the keys of an accepted suite. */
async function appraiseClaims(
  t: Transcript,
  bundle: Bundle,
  claims: Claims,
  cpu: CpuFindings | undefined,
  options: VerifyOptions,
): Promise<readonly SignedKeyConfiguration[] | undefined> {
  const { policy } = options
  if (cpu !== undefined) {
    t.check('binding.report-data', () => claimed.matchReportData(cpu, bundle))
    t.check('binding.configuration', () => claimed.matchConfiguration(cpu, claims))
  }
  t.check('gpu.present', () => claimed.requireGpu(bundle, policy))
  t.check('binding.gpu-evidence', () => claimed.matchGpuEvidence(bundle, claims))
  t.check('gpu.appraisal', () => claimed.appraiseGpu(bundle, policy))
  t.check('binding.nonce', () => claimed.matchNonce(bundle, claims, options))
  t.check('freshness.window', () => claimed.matchWindow(claims, options))
  const keys = t.check('keys.parse', () => pass(claimed.readKeys(bundle)))
  t.check('keys.bound', () => claimed.matchKeys(keys ?? [], claims))
  await t.checkAsync('keys.signature', () => claimed.verifyKeys(keys ?? [], claims))
  t.check('keys.window', () => claimed.matchKeyWindows(keys ?? [], claims, options))
  const accepted = t.check('keys.suite', () => claimed.matchSuites(keys ?? [], policy))
  t.check('serving.padding', () => claimed.matchPadding(claims, policy))
  t.check('model.digest', () => claimed.matchModel(claims, policy))
  t.check('operator.match', () => waived('operator: any; the seal ends in the enclave, whoever owns the machine'))
  return accepted
}

function liveWorker(
  t: Transcript,
  claims: Claims,
  cpu: CpuFindings,
  keys: readonly SignedKeyConfiguration[],
  options: VerifyOptions,
): VerifiedWorker | undefined {
  // Keys leave only with a live answer; unidentified software gets none unless the hardware is private anyway.
  if (options.live === undefined || t.verdict() !== 'accepted') return undefined
  if (options.policy.measurements === 'any' && !cpu.privateAnchor) return undefined
  const now = options.now.getTime() / 1000
  const lifetime = Math.min(
    claims.fresh.expiresAt - claims.fresh.issuedAt,
    options.policy.freshness.evidenceSeconds,
    MAX_EVIDENCE_LIFETIME_S,
  )
  const byEvidence = options.live.sentAt.getTime() + lifetime * 1000
  return {
    statement: claims.statement,
    statementDigest: claims.statementDigest,
    keyConfigurations: keys.filter((signed) => claimed.isCurrent(signed, now)),
    validUntil: new Date(Math.min(byEvidence, cpu.validUntil.getTime())),
  }
}

function conclude(
  t: Transcript,
  vendor: CpuVerifier,
  options: VerifyOptions,
  cpu: CpuFindings | undefined,
  evidence: AttestationResult['evidence'],
  worker?: VerifiedWorker,
): AttestationResult {
  const verdict = t.verdict()
  const base = {
    checks: t.checks(),
    authentic: vendor.authenticity.every((check) => t.satisfied(check.id)),
    waived: t.waivers().map((check) => check.id),
    evidence,
    notProven: [...labels(cpu), ...waiversOf(t), ...(cpu?.notProven ?? []), ...ALWAYS_OPEN],
    endorsements: cpu?.endorsementsUsed ?? [],
    policy: describePolicy(options.policy),
    evaluatedAt: options.now,
  }
  if (verdict !== 'accepted') return { ...base, verdict }
  return {
    ...base,
    verdict,
    ...(worker === undefined ? {} : { worker }),
    endorsementBytes: cpu?.endorsementBytes ?? [],
  }
}

function labels(cpu: CpuFindings | undefined): NotProven[] {
  if (cpu?.privateAnchor !== true) return []
  return [
    {
      id: 'hardware.private-root',
      text: 'SIMULATED OR PRIVATE hardware: its root is one you supplied, not the vendor’s; nothing here proves a real confidential VM',
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
