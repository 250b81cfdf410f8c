/**
 * NVIDIA evidence on its own: device reports, a manifest, or an answer of NVIDIA's remote verifier. It says what a GPU is,
 * never which VM it serves; only a worker's bundle binds the two.
 */
import { conclude } from './conclude.js'
import { type EndorsementPool, sortEndorsements } from './endorsements.js'
import { NRAS_CHECKS, RIM_PLAN } from './gpu/checks.js'
import { verifyNras } from './gpu/nras.js'
import { STRICT_GPU_POLICY } from './gpu/policy.js'
import { verifyRim } from './gpu/rim-verify.js'
import { type GpuInput, planFor, verifyGpus } from './gpu/verify.js'
import { transcriptOf } from './graces.js'
import type { AppraisalPolicy } from './policy.js'
import type { Bytes } from './protocol/bytes.js'
import type { AttestationResult } from './result.js'

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
  const plan = planFor({ devices, switches })
  const t = transcriptOf(plan, options.policy.graces, options.now)
  const found = await verifyGpus(t, { ...common(options), devices, switches, ...nonceOf(options) })
  const evidence = { kind: 'gpu', platform: 'NVIDIA GPU', gpus: found?.devices ?? [] }
  return conclude(t, { ...options, authenticity: plan, findings: [found], evidence })
}

/** Appraises one reference integrity manifest. */
export async function verifyRimFile(rim: Bytes, options: GpuOptions): Promise<AttestationResult> {
  const t = transcriptOf(RIM_PLAN, options.policy.graces, options.now)
  const found = await verifyRim(t, { ...common(options), rim })
  const evidence = {
    kind: 'gpu-rim',
    platform: 'NVIDIA manifest',
    ...(found === undefined ? {} : { role: found.rim.role, product: found.rim.product, version: found.rim.version }),
  }
  const findings = found === undefined ? undefined : { ...found, notProven: [] }
  return conclude(t, { ...options, authenticity: RIM_PLAN, findings: [findings], evidence })
}

/** Appraises an answer of NVIDIA's remote verifier; asking for it on purpose is what trusts it here. */
export async function verifyNrasResponse(response: Bytes, options: GpuOptions): Promise<AttestationResult> {
  const t = transcriptOf(NRAS_CHECKS, options.policy.graces, options.now)
  const found = await verifyNras(t, { ...common(options), response, ...nonceOf(options) })
  const evidence = { kind: 'gpu-nras', platform: 'NVIDIA remote verifier', devices: found?.devices ?? [] }
  const findings = found === undefined ? undefined : { ...found, endorsementsUsed: [] }
  return conclude(t, { ...options, authenticity: NRAS_CHECKS, findings: [findings], evidence })
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
