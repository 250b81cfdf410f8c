/**
 * The CPU's part of a bundle or a raw report, whichever vendor made it: one shape for what the rest of the recipe needs.
 */
import type { CheckDefinition, Transcript } from './checks.js'
import type { Findings } from './conclude.js'
import type { EndorsementPool } from './endorsements.js'
import type { AppraisalPolicy } from './policy.js'
import type { Bytes } from './protocol/bytes.js'

/** What a vendor's verifier found, reduced to what claims, keys and reference values are held against. */
export interface CpuFindings extends Findings {
  /** As people know it: `AMD SEV-SNP (Genoa)`. */
  readonly platform: string
  readonly reportData: Bytes
  /** The machine: CHIP_ID (SNP, 64 bytes) or PPID (TDX, 16 bytes); undefined where it is masked or unknown. */
  readonly platformId: Bytes | undefined
  /** HOST_DATA (SNP, 32 bytes) or MRCONFIGID (TDX, 48 bytes). */
  readonly configuration: { readonly field: string; readonly value: Bytes }
  /** What was launched, by the names references use: `measurement` (SNP); `mrTd`, `rtmr0` to `rtmr3` (TDX). Lower-case hex. */
  readonly measurements: Readonly<Record<string, string>>
  /** The measurement names a cloud's paravisor, never software of the guest's owner. */
  readonly paravisorMeasurement: boolean
  readonly validUntil: Date
  /** Every parsed field, JSON-ready. */
  readonly described: Readonly<Record<string, unknown>>
}

export interface CpuInput {
  readonly evidence: Bytes
  readonly endorsements: EndorsementPool
  readonly policy: AppraisalPolicy
  readonly now: Date
  readonly reportData?: Bytes
  readonly nonce?: Bytes
  readonly eventLog?: Bytes
}

/** A vendor's verifier, its checks, and which of them says that the evidence is signed. */
export interface CpuVerifier {
  readonly kind: 'snp' | 'tdx'
  readonly signatureCheck: string
  /** The checks that together say the evidence is authentic, whatever the policy makes of it. */
  readonly authenticity: readonly CheckDefinition[]
  /** Every check it can make, for registries. */
  readonly allChecks: readonly CheckDefinition[]
  plan(evidence: Uint8Array, withNonce: boolean): readonly CheckDefinition[]
  verify(t: Transcript, input: CpuInput): Promise<CpuFindings | undefined>
}

/** The vendor's verifier, loaded when evidence asks for it: nobody pays for a vendor they do not meet. */
export async function loadCpuVerifier(kind: CpuVerifier['kind']): Promise<CpuVerifier> {
  return kind === 'tdx' ? (await import('./cpu-tdx.js')).TDX : (await import('./cpu-snp.js')).SNP
}
