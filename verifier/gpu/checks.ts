/**
 * Every GPU check, in verification order: authentic first, acceptable second. Definitions only; `verify.ts`,
 * `rim-verify.ts` and `nras.ts` carry them out.
 */
import type { CheckDefinition } from '../checks.js'
import { authenticityChecks, measurementChecks } from './checks-device.js'
import { NRAS_CHECKS } from './checks-nras.js'
import { deviceRimChecks, RIM_CHECKS } from './checks-rim.js'

export { NRAS_CHECKS, RIM_CHECKS }

/** Revocation of every certificate the verdict rests on, devices’ and manifests’ alike. */
export const OCSP_CHECKS: readonly CheckDefinition[] = [
  {
    id: 'gpu.ocsp.present',
    title: 'an OCSP response about every certificate between leaf and root is at hand',
    spec: 'RFC 6960 §4.2; NVIDIA OCSP service',
    gain: 'Keys that were stolen and revoked would still be believed.',
    advice: 'ask the worker to staple OCSP responses, or fetch them; see --revocation for what giving this up means',
  },
  {
    id: 'gpu.ocsp.responder',
    title: 'every response is by the issuer, or by one the issuer certified for this',
    spec: 'RFC 6960 §4.2.2.2',
    gain: 'Anyone could declare anything good.',
  },
  {
    id: 'gpu.ocsp.signature',
    title: 'every response is signed by its responder',
    spec: 'RFC 6960 §3.2',
    gain: 'A revocation could be edited out.',
  },
  {
    id: 'gpu.ocsp.window',
    title: 'every response is in force at the time of appraisal',
    spec: 'RFC 6960 §4.2.2.1',
    gain: 'An answer from before the revocation could be shown for ever.',
    advice: 'fetch fresh responses',
  },
  {
    id: 'gpu.ocsp.age',
    title: 'no response is older than the policy allows',
    spec: 'RFC 6960 §4.2.2.1; PROTOCOL.md §9',
    gain: 'A responder’s generous window would decide how long a revocation goes unnoticed.',
    advice: 'fetch fresh responses',
  },
  {
    id: 'gpu.ocsp.nonce',
    title: 'a response answers the caller’s own request, where the policy wants one',
    spec: 'RFC 9654 §2.1',
    gain: 'Between you and the responder, an older answer could be put in.',
  },
  {
    id: 'gpu.ocsp.known',
    title: 'the issuer knows every certificate',
    spec: 'RFC 6960 §2.2',
    gain: 'A certificate its issuer never recorded could have been made with a stolen key.',
  },
  {
    id: 'gpu.ocsp.hold',
    title: 'no certificate is on hold',
    spec: 'RFC 5280 §5.3.1 certificateHold',
    gain: 'Firmware that NVIDIA withdrew, or never released, would be accepted.',
    advice: 'update the driver; NVIDIA puts the manifests of withdrawn versions on hold',
  },
  {
    id: 'gpu.ocsp.revoked',
    title: 'no certificate is revoked',
    spec: 'RFC 6960 §2.2',
    gain: 'A stolen key could go on signing.',
  },
]

/** Lists condemn and never acquit. */
export const CRL_CHECKS: readonly CheckDefinition[] = [
  {
    id: 'gpu.crl.signature',
    title: 'every revocation list in force at hand is by the issuer it names',
    spec: 'RFC 5280 §6.3.3',
    gain: 'A list could be edited, or made to condemn what its issuer never revoked.',
  },
  {
    id: 'gpu.crl.revoked',
    title: 'no revocation list in force at hand names a certificate the verdict rests on',
    spec: 'RFC 5280 §6.3.3',
    gain: 'A key known to be stolen could go on signing.',
  },
]

const POLICY = 'PROTOCOL.md §9'
const RELIABLE = ['gpu.opaque.parse']

/** What the policy asks of authentic GPUs. */
const APPRAISAL_CHECKS: readonly CheckDefinition[] = [
  {
    id: 'gpu.devices.distinct',
    title: 'every GPU is another device',
    spec: `${POLICY}; leaf serial number, key and device id`,
    gain: 'One GPU’s evidence could be shown several times while the others go unattested.',
    needs: ['gpu.chain.present'],
  },
  {
    id: 'gpu.devices.count',
    title: 'the evidence is of as many GPUs as the policy expects',
    spec: POLICY,
    gain: 'A host could leave out the GPU it tampered with.',
    needs: ['gpu.evidence.parse'],
  },
  {
    id: 'gpu.devices.allowed',
    title: 'every GPU is one the policy lists',
    spec: POLICY,
    gain: 'A genuine GPU in somebody else’s hands could relay its reports.',
    needs: ['gpu.chain.present'],
  },
  {
    id: 'gpu.fwid.present',
    title: 'every GPU reports the identity of the firmware that signs',
    spec: 'NVIDIA SPDM opaque data 20; TCG DICE FWID',
    gain: 'Firmware that predates the field cannot be tied to the firmware the boot ROM certified.',
    advice: 'update the GPU driver to 550 or later, or accept it with --allow-missing-fwid',
    needs: RELIABLE,
  },
  {
    id: 'gpu.product.allowed',
    title: 'every GPU is of a product the policy accepts',
    spec: POLICY,
    gain: 'A product with weaker protection could stand in.',
    needs: ['gpu.chain.family'],
  },
  {
    id: 'gpu.mode.allowed',
    title: 'every GPU is in a mode the policy accepts',
    spec: `${POLICY}; NVIDIA SPDM opaque data 36`,
    gain: 'NVLink traffic could run in the clear where it was meant not to.',
    needs: ['gpu.opaque.mode'],
  },
  {
    id: 'gpu.mode.same',
    title: 'all GPUs are in one mode',
    spec: 'NVIDIA multi-GPU attestation',
    gain: 'A GPU that trusts its neighbours could be put next to one that nobody protects.',
    needs: ['gpu.opaque.mode'],
  },
  {
    id: 'gpu.mode.switches',
    title: 'GPUs in protected-PCIe mode come with the evidence of their NVSwitches',
    spec: 'NVIDIA protected PCIe',
    gain: 'In this mode NVLink is not encrypted: a switch nobody attested reads and changes what passes.',
    advice: 'pass the switches’ evidence with --switch',
    needs: ['gpu.opaque.mode'],
  },
  {
    id: 'gpu.driver.same',
    title: 'all GPUs run one driver version',
    spec: 'NVIDIA multi-GPU attestation',
    gain: 'Reports of several machines could be put together into one.',
    needs: RELIABLE,
  },
  {
    id: 'gpu.driver.minimum',
    title: 'every driver is at least the policy’s oldest',
    spec: POLICY,
    gain: 'Known holes of old drivers could be used.',
    needs: RELIABLE,
  },
  {
    id: 'gpu.driver.denied',
    title: 'no driver is one the policy refuses',
    spec: POLICY,
    gain: 'A driver known to be unsafe could be used.',
    needs: RELIABLE,
  },
  {
    id: 'gpu.vbios.minimum',
    title: 'every VBIOS is at least the policy’s oldest for its product',
    spec: POLICY,
    gain: 'Known holes of old firmware could be used.',
    needs: ['gpu.chain.family'],
  },
]

const SIGNED_GPU = ['gpu.report.signature', 'gpu.opaque.parse', 'gpu.chain.family']
const SIGNED_SWITCH = ['gpu.switch-report.signature', 'gpu.switch-opaque.parse', 'gpu.switch-chain.family']

const GPU_DEVICE_CHECKS: readonly CheckDefinition[] = [
  ...authenticityChecks('gpu'),
  ...deviceRimChecks('driver-rim', 'the driver’s manifest', SIGNED_GPU),
  ...deviceRimChecks('vbios-rim', 'the VBIOS’s manifest', SIGNED_GPU),
  ...measurementChecks('gpu', ['gpu.driver-rim.present', 'gpu.vbios-rim.present']),
  ...APPRAISAL_CHECKS,
]

/** What GPU evidence goes through, revocation included. */
export const GPU_CHECKS: readonly CheckDefinition[] = [...GPU_DEVICE_CHECKS, ...OCSP_CHECKS, ...CRL_CHECKS]

/** What NVSwitch evidence goes through, without revocation. */
export const SWITCH_CHECKS: readonly CheckDefinition[] = [
  ...authenticityChecks('switch'),
  ...deviceRimChecks('switch-rim', 'the switch BIOS’s manifest', SIGNED_SWITCH),
  ...measurementChecks('switch', ['gpu.switch-rim.present']),
  {
    id: 'gpu.switch-devices.distinct',
    title: 'every NVSwitch is another device',
    spec: `${POLICY}; leaf serial number, key and device id`,
    gain: 'One switch’s evidence could be shown several times while the others go unattested.',
    needs: ['gpu.switch-chain.present'],
  },
  {
    id: 'gpu.switch-devices.locked',
    title: 'every NVSwitch is locked',
    spec: 'NVIDIA SPDM opaque data 25',
    gain: 'An unlocked switch can still be reconfigured by the host.',
    needs: ['gpu.switch-opaque.parse'],
  },
]

/** How GPUs and switches hang together (NVIDIA protected PCIe), tied to certified identities. */
export const TOPOLOGY_CHECKS: readonly CheckDefinition[] = [
  {
    id: 'gpu.topology.nonce',
    title: 'GPUs and NVSwitches answer one challenge',
    spec: 'PROTOCOL.md P-4.3',
    gain: 'Switches of another day could be put beside these GPUs.',
    needs: ['gpu.nonce.same', 'gpu.switch-nonce.same'],
  },
  {
    id: 'gpu.topology.count',
    title: 'there are eight GPUs and four NVSwitches, all in protected-PCIe mode',
    spec: 'NVIDIA protected PCIe',
    gain: 'A part of the board could go unattested.',
    needs: ['gpu.opaque.mode', 'gpu.switch-opaque.parse'],
  },
  {
    id: 'gpu.topology.identity',
    title: 'every NVSwitch’s own identity is the one its boot ROM is certified under',
    spec: 'NVIDIA SPDM opaque data 22; boot ROM certificate serial number',
    gain: 'A switch could answer to another one’s name.',
    needs: ['gpu.switch-chain.present', 'gpu.switch-opaque.parse'],
  },
  {
    id: 'gpu.topology.gpu-links',
    title: 'every GPU is linked to exactly the NVSwitches that were attested',
    spec: 'NVIDIA SPDM opaque data 22',
    gain: 'An unattested switch could sit between attested GPUs.',
    needs: ['gpu.switch-chain.present', 'gpu.opaque.parse'],
  },
  {
    id: 'gpu.topology.switch-links',
    title: 'every NVSwitch is linked to exactly the GPUs that were attested',
    spec: 'NVIDIA SPDM opaque data 26; boot ROM certificate serial numbers',
    gain: 'An unattested GPU could listen on the same fabric.',
    needs: ['gpu.chain.present', 'gpu.switch-opaque.parse'],
  },
]

/** The plan for so many GPUs and NVSwitches. Switches on their own need no GPU. */
export function gpuPlan(gpus: number, switches: number): readonly CheckDefinition[] {
  if (switches === 0) return GPU_CHECKS
  if (gpus === 0) return [...SWITCH_CHECKS, ...OCSP_CHECKS, ...CRL_CHECKS]
  return [...GPU_DEVICE_CHECKS, ...SWITCH_CHECKS, ...TOPOLOGY_CHECKS, ...OCSP_CHECKS, ...CRL_CHECKS]
}

/** The plan for a manifest on its own. */
export const RIM_PLAN: readonly CheckDefinition[] = [...RIM_CHECKS, ...OCSP_CHECKS, ...CRL_CHECKS]

/** Every GPU check there is, for registries. */
export const ALL_GPU_CHECKS: readonly CheckDefinition[] = [
  ...GPU_DEVICE_CHECKS,
  ...SWITCH_CHECKS,
  ...TOPOLOGY_CHECKS,
  ...OCSP_CHECKS,
  ...CRL_CHECKS,
  ...RIM_CHECKS,
  ...NRAS_CHECKS,
]
