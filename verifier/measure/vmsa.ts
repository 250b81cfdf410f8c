/**
 * The initial register state of a vCPU as the secure processor measures it (AMD APM vol. 2, appendix B, "VMSA"): one page
 * of 4096 bytes, zero but for what KVM or a cloud's hypervisor sets. Every value is the hypervisor's choice and not AMD's,
 * so the layout is per hypervisor. EC2 and GCE rows come from one published calculator and are not checked against hardware.
 */

import { UsageError } from '../errors.js'
import type { Bytes } from '../protocol/bytes.js'
import { PAGE_BYTES } from './firmware.js'

export type Hypervisor = 'qemu' | 'ec2' | 'gce'

/** CPUID leaf 1 EAX of QEMU's vCPU models; a name with a version behind it has its model's. */
const SIGNATURES: Readonly<Record<string, number | undefined>> = {
  EPYC: signature(23, 1, 2),
  'EPYC-Rome': signature(23, 49, 0),
  'EPYC-Milan': signature(25, 1, 1),
  'EPYC-Genoa': signature(25, 17, 0),
  'EPYC-Turin': signature(26, 0, 0),
}

/** The models that can be named. */
export const VCPU_TYPES: readonly string[] = Object.keys(SIGNATURES)

/** @throws UsageError on an unknown model. */
export function vcpuSignature(type: string): number {
  const found = SIGNATURES[type.replace(/-v[0-9]+$/, '')]
  if (found !== undefined) return found
  throw new UsageError('measure.vcpu-type', `unknown vCPU type ${type}; expected one of ${VCPU_TYPES.join(', ')}`)
}

/** AMD CPUID Specification 25481, leaf 1 EAX. */
function signature(family: number, model: number, stepping: number): number {
  const extended = Math.max(family - 15, 0)
  return (extended << 20) | ((model >> 4) << 16) | (Math.min(family, 15) << 8) | ((model & 0xf) << 4) | stepping
}

/** EIP of the boot vCPU: the x86 reset vector. */
export const BOOT_EIP = 0xffff_fff0

export interface VmsaInput {
  readonly hypervisor: Hypervisor
  /** Where this vCPU starts. */
  readonly eip: number
  readonly signature: number
  /** SEV_FEATURES, 64 bits: 0x1 with upstream QEMU and KVM. */
  readonly guestFeatures: bigint
}

/** Where a segment stands, and its attributes; all have limit 0xFFFF and base 0 but CS. */
const SEGMENTS: readonly (readonly [offset: number, attributes: number])[] = [
  [0x000, 0x93], // ES
  [0x020, 0x93], // SS
  [0x030, 0x93], // DS
  [0x040, 0x93], // FS
  [0x050, 0x93], // GS
  [0x060, 0x00], // GDTR
  [0x070, 0x82], // LDTR
  [0x080, 0x00], // IDTR
  [0x090, 0x8b], // TR
]

export function vmsaPage({ hypervisor, eip, signature: cpuid, guestFeatures }: VmsaInput): Bytes {
  const page = new Uint8Array(PAGE_BYTES)
  const view = new DataView(page.buffer)
  const segment = (offset: number, selector: number, attributes: number, base: number): void => {
    view.setUint16(offset, selector, true)
    view.setUint16(offset + 2, attributes, true)
    view.setUint32(offset + 4, 0xffff, true)
    view.setUint32(offset + 8, base, true)
  }
  for (const [offset, attributes] of SEGMENTS) segment(offset, 0, attributes, 0)
  segment(0x010, 0xf000, 0x9b, (eip & 0xffff_0000) >>> 0) // CS
  view.setUint32(0x0d0, 0x1000, true) // EFER
  view.setUint32(0x148, 0x40, true) // CR4
  view.setUint32(0x158, 0x10, true) // CR0
  view.setUint32(0x160, 0x400, true) // DR7
  view.setUint32(0x168, 0xffff_0ff0, true) // DR6
  view.setUint32(0x170, 0x2, true) // RFLAGS
  view.setUint32(0x178, eip & 0xffff, true) // RIP
  view.setBigUint64(0x268, hypervisor === 'gce' ? 0x0007_0106n : 0x0007_0406_0007_0406n, true) // G_PAT
  view.setUint32(0x310, hypervisor === 'qemu' ? cpuid : 0x600, true) // RDX
  view.setBigUint64(0x3b0, guestFeatures, true) // SEV_FEATURES
  view.setUint32(0x3e8, 1, true) // XCR0
  if (hypervisor === 'qemu') {
    view.setUint32(0x408, 0x1f80, true) // MXCSR
    view.setUint16(0x410, 0x037f, true) // x87 FCW
  }
  if (hypervisor === 'ec2') {
    segment(0x020, 0, 0x92, 0) // SS
    segment(0x090, 0, 0x83, 0) // TR
    if (eip === BOOT_EIP) segment(0x010, 0xf000, 0x9a, 0xffff_0000) // CS
  }
  return page
}
