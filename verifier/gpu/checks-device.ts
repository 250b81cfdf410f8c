/**
 * Checks of devices' evidence, in verification order. GPUs and NVSwitches go through the same ones where the rule is the
 * same; every id covers all devices of its kind, and the reason says which device it is about.
 */
import type { CheckDefinition } from '../checks.js'
import type { DeviceKind } from './family.js'

const SPDM = 'DMTF DSP0274 1.1 MEASUREMENTS'
const OPAQUE = 'NVIDIA SPDM opaque data'
const CHAIN = 'NVIDIA device identity certificates'

/** `gpu.report.signature`, `gpu.switch-report.signature`. */
export function deviceCheckId(kind: DeviceKind, area: string, thing: string): string {
  return kind === 'gpu' ? `gpu.${area}.${thing}` : `gpu.switch-${area}.${thing}`
}

/** Form, chain and signature. */
export function authenticityChecks(kind: DeviceKind): readonly CheckDefinition[] {
  const id = (area: string, thing: string) => deviceCheckId(kind, area, thing)
  const device = kind === 'gpu' ? 'GPU' : 'NVSwitch'
  const parsed = [id('report', 'parse')]
  const read = [id('opaque', 'parse')]
  const chained = [id('chain', 'present')]
  return [
    {
      id: id('evidence', 'parse'),
      title: `the ${device} evidence is in a form this verifier reads`,
      spec: 'PROTOCOL.md §4, §6; NVIDIA evidence JSON',
      gain: 'Bytes around a report could be read as part of it.',
      advice: 'pass the raw report, the bundle’s container, or the JSON of NVIDIA’s tools',
      malformed: true,
    },
    {
      id: id('report', 'parse'),
      title: `every ${device} report is a measurement transcript whose lengths add up`,
      spec: SPDM,
      gain: 'Lengths that disagree let two readers see different measurements under one signature.',
      needs: [id('evidence', 'parse')],
      malformed: true,
    },
    {
      id: id('report', 'exact'),
      title: `nothing follows the ${device} report’s signature`,
      spec: SPDM,
      gain: 'Bytes nobody vouches for could travel with a genuine report.',
      advice: 'copy exactly as many bytes as the driver says the report has',
      needs: parsed,
    },
    {
      id: id('report', 'form'),
      title: `the ${device} was asked for all measurements, signed, over SPDM 1.1`,
      spec: `${SPDM}, GET_MEASUREMENTS`,
      gain: 'A transcript of another exchange could pass for a full set of measurements.',
      needs: parsed,
    },
    {
      id: id('report', 'blocks'),
      title: `the ${device} measurements are digests numbered from 1 without gaps`,
      spec: `${SPDM} measurement block`,
      gain: 'A repeated number would let one of two values be the one that is compared.',
      needs: parsed,
    },
    {
      id: id('opaque', 'parse'),
      title: `the ${device}’s signed opaque data is well formed and says what every device says`,
      spec: OPAQUE,
      gain: 'Versions and identities could be read from something that is not there.',
      needs: parsed,
    },
    {
      id: id('opaque', 'version'),
      title: `the ${device}’s opaque data is of a version this verifier knows`,
      spec: OPAQUE,
      gain: 'Fields whose meaning changed would be read in their old one.',
      advice: 'update the verifier',
      needs: read,
    },
    ...(kind === 'gpu'
      ? [
          {
            id: 'gpu.opaque.mode',
            title: 'the GPU’s feature flag and protected-PCIe status agree',
            spec: `${OPAQUE} 21, 36`,
            gain: 'A GPU could claim one confidentiality mode to one reader and another to the next.',
            needs: read,
          },
        ]
      : []),
    {
      id: id('nonce', 'match'),
      title: `every ${device} answers the challenge that was expected`,
      spec: 'PROTOCOL.md P-4.3; DSP0274 requester nonce',
      gain: 'A recorded report, or one made for another worker’s keys, could be played back.',
      advice: 'ask again; if old evidence comes back, do not use this worker',
      needs: parsed,
    },
    {
      id: id('nonce', 'claimed'),
      title: `the nonce written beside the ${device} evidence is the one it signed`,
      spec: 'NVIDIA evidence JSON',
      gain: 'A caller who reads the nonce beside the evidence would be told of another than was signed.',
      needs: parsed,
    },
    {
      id: id('nonce', 'same'),
      title: `all ${device} reports answer one challenge`,
      spec: 'PROTOCOL.md P-4.3',
      gain: 'Reports of different days could be put together into one machine.',
      needs: parsed,
    },
    {
      id: id('chain', 'present'),
      title: `the ${device}’s certificates are at hand and readable`,
      spec: CHAIN,
      gain: 'A signature would be taken on faith.',
      advice: 'pass the device’s certificate chain along with its report',
      needs: parsed,
    },
    {
      id: id('chain', 'root'),
      title: `the ${device}’s chain ends in the pinned device root key, or in one your policy adds`,
      spec: `${CHAIN}, NVIDIA Device Identity CA`,
      gain: 'Anyone could make a hierarchy with NVIDIA’s names and sign any report.',
      advice: 'never work around this; for simulated hardware, add its root with --trust-anchor',
      needs: chained,
    },
    {
      id: id('chain', 'shape'),
      title: `the ${device}’s chain is leaf, boot ROM, provisioner, identity and root, each naming the next`,
      spec: `${CHAIN}; RFC 5280 §6.1`,
      gain: 'Certificates of other purposes could be slipped into the chain.',
      needs: chained,
    },
    {
      id: id('chain', 'signatures'),
      title: `every certificate of the ${device}’s chain is signed by the next one`,
      spec: 'RFC 5280 §6.1, RFC 5758 §3.2',
      gain: 'A forged certificate could stand beside a genuine root.',
      needs: chained,
    },
    {
      id: id('chain', 'authority'),
      title: `the ${device}’s leaf may sign and not certify, and everything above it may certify`,
      spec: 'RFC 5280 §4.2.1.3, §4.2.1.9',
      gain: 'One device’s own key could certify others.',
      needs: chained,
    },
    {
      id: id('chain', 'extensions'),
      title: `no certificate of the ${device} has a critical extension nobody here understands`,
      spec: 'RFC 5280 §4.2',
      gain: 'A restriction the authority made would be ignored.',
      needs: chained,
    },
    {
      id: id('chain', 'validity'),
      title: `every certificate of the ${device} is valid at the time of appraisal`,
      spec: 'RFC 5280 §4.1.2.5',
      gain: 'Certificates that were given up could be used again.',
      needs: chained,
    },
    {
      id: id('chain', 'family'),
      title:
        kind === 'gpu'
          ? 'the certificates are a GPU’s, of the architecture its report names'
          : 'the certificates are an NVSwitch’s',
      spec: `${CHAIN}: subject and subjectAltName`,
      gain: 'Switches, security processors and GPUs share an authority: one could pose as another.',
      needs: [...chained, ...read],
    },
    {
      id: id('report', 'signature'),
      title: `the leaf’s key signed the ${device} report as received`,
      spec: `${SPDM} Signature, ECDSA P-384 with SHA-384`,
      gain: 'Anyone could write a report.',
      advice: 'do not use this worker: its report was altered, or stands beside another device’s certificates',
      needs: chained,
    },
    {
      id: id('fwid', 'match'),
      title: `the firmware identity the ${device} reports, if it does, is the one its boot ROM certified`,
      spec: `${OPAQUE} 20; TCG DICE FWID`,
      gain: 'Other firmware than the certified one could speak for the device.',
      needs: [...chained, ...read],
    },
  ]
}

/** Measurements against the manifests. */
export function measurementChecks(kind: DeviceKind, present: readonly string[]): readonly CheckDefinition[] {
  const id = (thing: string) => deviceCheckId(kind, 'measurements', thing)
  const device = kind === 'gpu' ? 'GPU' : 'NVSwitch'
  const genuine = [deviceCheckId(kind, 'report', 'signature'), deviceCheckId(kind, 'report', 'blocks')]
  return [
    ...(kind === 'gpu'
      ? [
          {
            id: id('conflict'),
            title: 'no measurement has golden values in both the driver’s and the VBIOS’s manifest',
            spec: 'NVIDIA RIM comparison',
            gain: 'Which of two golden values counts would be anybody’s choice.',
            needs: present,
          },
          {
            id: id('nvdec0'),
            title: 'the GPU says whether its video decoder is on or off',
            spec: `${OPAQUE} 11`,
            gain: 'An odd value could be used to leave a measurement out.',
            needs: ['gpu.opaque.parse'],
          },
        ]
      : []),
    {
      id: id('match'),
      title: `every golden value is met by what the ${device} measured`,
      spec: 'NVIDIA RIM comparison: record i against block i + 1',
      gain: 'A genuine device could run altered firmware and say so under a genuine signature.',
      advice: 'do not use this device; compare the indices with NVIDIA’s newest manifest for the version',
      needs: genuine,
    },
    {
      id: id('minimum'),
      title: `every security version number a manifest names is reached by the ${device}`,
      spec: 'NVIDIA opaque data records, minSvn',
      gain: 'Firmware with known holes could still be run.',
      needs: [...present, deviceCheckId(kind, 'report', 'signature')],
    },
  ]
}
