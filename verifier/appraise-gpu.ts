/**
 * NVIDIA evidence on its own: device reports, a manifest, or an answer of NVIDIA's remote verifier. It says what a GPU is,
 * never which VM it serves; only a worker's bundle binds the two.
 */
import { endorsementAgeCheck } from './bundle-checks.js'
import type { CheckDefinition, Transcript } from './checks.js'
import { matchEndorsementAge } from './claims-appraisal.js'
import { conclude } from './conclude.js'
import { type EndorsementPool, sortEndorsements } from './endorsements.js'
import { UsageError } from './errors.js'
import { NRAS_CHECKS, RIM_PLAN } from './gpu/checks.js'
import { verifyNras } from './gpu/nras.js'
import { expecting, type GpuPolicy, STRICT_GPU_POLICY } from './gpu/policy.js'
import { verifyRim } from './gpu/rim-verify.js'
import { type GpuInput, planFor, verifyGpus } from './gpu/verify.js'
import { transcriptOf } from './graces.js'
import type { AppraisalPolicy } from './policy.js'
import type { Bytes } from './protocol/bytes.js'
import type { AttestationResult, EndorsementUse } from './result.js'

export interface GpuOptions {
  readonly policy: AppraisalPolicy
  readonly endorsements?: EndorsementPool
  readonly now: Date
  /** SPDM nonce, 32 bytes. Omitting it lets a recorded report pass: the check is then waived. */
  readonly nonce?: Bytes
  /** The nonce of OCSP requests the caller made itself, whose responses are among the endorsements. */
  readonly ocspNonce?: Bytes
}

/** Appraises devices by their own evidence, GPUs and switches apart. */
export async function verifyGpuEvidence(
  devices: readonly Bytes[],
  switches: readonly Bytes[],
  options: GpuOptions,
): Promise<AttestationResult> {
  // Nothing to hold them against would be nothing to fail.
  if (devices.length === 0) refuseUnlooked(options, ['count', 'devices'], 'switches alone show no GPU')
  const plan = [...planFor({ devices, switches }), ...agePlan(options)]
  const t = transcriptOf(plan, options.policy.graces, options.now)
  const found = await verifyGpus(t, { ...common(options), devices, switches, ...nonceOf(options) })
  checkAge(t, found, options)
  const evidence = { kind: 'gpu', platform: 'NVIDIA GPU', gpus: found?.devices ?? [] }
  return conclude(t, { ...options, authenticity: plan, findings: [found], evidence })
}

/** Appraises one reference integrity manifest. */
export async function verifyRimFile(rim: Bytes, options: GpuOptions): Promise<AttestationResult> {
  refuseUnlooked(options, ['products', 'minDriver', 'deniedDrivers', 'minVbios'], 'they are of devices, not manifests')
  const plan = [...RIM_PLAN, ...agePlan(options)]
  const t = transcriptOf(plan, options.policy.graces, options.now)
  const found = await verifyRim(t, { ...common(options), rim })
  checkAge(t, found, options)
  const evidence = {
    kind: 'gpu-rim',
    platform: 'NVIDIA manifest',
    ...(found === undefined ? {} : { role: found.rim.role, product: found.rim.product, version: found.rim.version }),
  }
  const findings = found === undefined ? undefined : { ...found, notProven: [] }
  return conclude(t, { ...options, authenticity: plan, findings: [findings], evidence })
}

/** Appraises an answer of NVIDIA's remote verifier; asking for it on purpose is what trusts it here. */
export async function verifyNrasResponse(response: Bytes, options: GpuOptions): Promise<AttestationResult> {
  refuseUnlooked(
    options,
    ['products', 'devices', 'minDriver', 'deniedDrivers', 'minVbios', 'modes'],
    'the remote verifier judges by its own policy',
  )
  const t = transcriptOf(NRAS_CHECKS, options.policy.graces, options.now)
  const found = await verifyNras(t, { ...common(options), response, ...nonceOf(options) })
  const evidence = { kind: 'gpu-nras', platform: 'NVIDIA remote verifier', devices: found?.devices ?? [] }
  const findings = found === undefined ? undefined : { ...found, endorsementsUsed: [] }
  return conclude(t, { ...options, authenticity: NRAS_CHECKS, findings: [findings], evidence })
}

/** @throws UsageError on expectations that this evidence cannot meet or miss, rather than leave them unlooked at. */
function refuseUnlooked({ policy }: GpuOptions, members: readonly (keyof GpuPolicy)[], why: string): void {
  const [member] = policy.gpu === 'none' ? [] : expecting(policy.gpu, members)
  if (member !== undefined) {
    throw new UsageError('policy.unlooked', `gpu.${member}: ${why}; leave it out of the policy for this`)
  }
}

function agePlan({ policy }: GpuOptions): readonly CheckDefinition[] {
  return policy.freshness.endorsementSeconds === undefined ? [] : [endorsementAgeCheck('gpu.ocsp.signature')]
}

function checkAge(
  t: Transcript,
  found: { readonly endorsementsUsed: readonly EndorsementUse[] } | undefined,
  options: GpuOptions,
): void {
  if (!t.plans('freshness.endorsements')) return
  t.check('freshness.endorsements', () => matchEndorsementAge(found?.endorsementsUsed ?? [], options))
}

/** What every GPU verification takes of the options. */
export function common({ policy, endorsements, now, ocspNonce }: GpuOptions): Omit<GpuInput, 'devices' | 'switches'> {
  return {
    endorsements: endorsements ?? sortEndorsements([]),
    anchors: policy.trustAnchors.filter((anchor) => anchor.kind === 'nvidia'),
    now,
    revocation: policy.revocation,
    policy: policy.gpu === 'none' ? STRICT_GPU_POLICY : policy.gpu,
    ...(ocspNonce === undefined ? {} : { ocspNonce }),
  }
}

function nonceOf({ nonce }: GpuOptions): { readonly expectedNonce?: Bytes } {
  return nonce === undefined ? {} : { expectedNonce: nonce }
}
