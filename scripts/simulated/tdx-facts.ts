/**
 * What the simulated TDX machine looks like: the identity in its PCK certificate, the security version of each part, and
 * Intel's constants for quotes and quoting enclaves. Levels resemble a patched machine of 2026; the family code is
 * made up.
 */
import { createHash } from 'node:crypto'
import type { Bytes } from '../../verifier/protocol/bytes.js'

/** The TCB of one machine, as PCK certificate, TD report and collateral each see a part of it. */
export interface SimulatedTdxTcb {
  /** SGX COMP01 to COMP16 SVN. */
  readonly components: readonly number[]
  readonly pceSvn: number
  /** TEE_TCB_SVN: module ISV SVN, module version id, late microcode update, then zeros. */
  readonly teeTcbSvn: readonly number[]
  /** ISVSVN of the quoting enclave. */
  readonly qeIsvSvn: number
}

export const SIMULATED_TDX_TCB = {
  components: [5, 5, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0],
  pceSvn: 13,
  teeTcbSvn: [7, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
  qeIsvSvn: 7,
} as const satisfies SimulatedTdxTcb

/** Members of the SGX extension when a request names none. */
export const SIMULATED_PCK = {
  ppid: hex('53494d554c4154454420505049442e2e'),
  components: SIMULATED_TDX_TCB.components,
  pceSvn: SIMULATED_TDX_TCB.pceSvn,
  pceId: hex('0000'),
  fmspc: hex('f0f0f0000000'),
  sgxType: 1,
  platformInstanceId: hex('53494d554c4154454420504c4154462e'),
  configuration: { dynamicPlatform: true, cachedKeys: true, smtEnabled: true },
} as const

/** QE vendor id of every Intel quote, 16 bytes. */
export const INTEL_QE_VENDOR_ID: Bytes = hex('939a7233f79c4ca9940a0db3957f0607')
/** MRSIGNER of Intel's TD quoting enclave, 32 bytes. */
export const INTEL_QE_MR_SIGNER: Bytes = hex('dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5')
/** ISVPRODID of Intel's TD quoting enclave. */
export const INTEL_TD_QE_PRODUCT = 2

/** SHA-384 of "subrosa simulated TD": an MRTD that no image has. */
export const SIMULATED_MR_TD: Bytes = sha384('subrosa simulated TD')
/** An MRSEAM that no module has. */
export const SIMULATED_MR_SEAM: Bytes = sha384('subrosa simulated TDX module')

export function sha384(data: string | Uint8Array): Bytes {
  return new Uint8Array(createHash('sha384').update(data).digest())
}

function hex(text: string): Bytes {
  return new Uint8Array(Buffer.from(text, 'hex'))
}
