/**
 * Device families: which names NVIDIA's device certificates carry, which chip they stand for, and what its manifests are
 * called. One certificate authority signs GPUs, NVSwitches and security processors alike, so the family is a check of its
 * own: nothing but these names tells a switch's signature from a GPU's.
 */
import { childrenOf, expectTag, oidText, readDer, TAG } from '../der.js'
import { fromUtf8 } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import type { Certificate } from '../x509.js'

export type DeviceKind = 'gpu' | 'switch'
export type Architecture = 'HOPPER' | 'BLACKWELL' | 'LS10'

export interface Family {
  readonly kind: DeviceKind
  readonly architecture: Architecture
  /** commonName of the leaf; the first group is the chip as certificates spell it, the second its stepping. */
  readonly leafName: RegExp
  /** The middle of the BROM certificate's name. */
  readonly processor: 'GSP' | 'FSP'
  /** The chip as manifests spell it, from the certificates' spelling. */
  readonly product: (certificateChip: string) => string
}

export const FAMILIES: readonly Family[] = [
  {
    kind: 'gpu',
    architecture: 'HOPPER',
    leafName: /^(GH100) ([A-Z]\d\d) GSP FMC LF$/,
    processor: 'GSP',
    product: (chip) => chip,
  },
  {
    kind: 'gpu',
    architecture: 'BLACKWELL',
    leafName: /^(GB\d{3}) ([A-Z]\d\d) GSP FMC LF$/,
    processor: 'GSP',
    product: (chip) => chip,
  },
  {
    kind: 'switch',
    architecture: 'LS10',
    leafName: /^(LS_10) ([A-Z]\d\d) FSP FMC LF$/,
    processor: 'FSP',
    product: () => 'LS10',
  },
]

/** GPU_INFO's low word, as observed. Switches carry none. */
const ARCHITECTURE_CODES: Readonly<Record<number, Architecture>> = { 384: 'HOPPER', 416: 'BLACKWELL' }

export function architectureOfCode(code: number): Architecture | undefined {
  return ARCHITECTURE_CODES[code]
}

export interface CertifiedDevice {
  readonly family: Family
  /** GH100, GB100, LS10 …: what a manifest's product must be. */
  readonly product: string
  /** 8 bytes, upper-case hex, from the subjectAltName. */
  readonly deviceId: string
}

/**
 * What the chain says the device is, from the names of its certificates, leaf first. Undefined when they are no family's
 * or disagree with each other; `reason` says how.
 */
export function certifiedDevice(chain: readonly Certificate[]): CertifiedDevice | { readonly reason: string } {
  const [leaf, brom, provisioner] = chain
  const name = leaf?.subjectCommonName
  if (leaf === undefined || name === undefined) return { reason: 'the leaf has no name' }
  for (const family of FAMILIES) {
    const [, chip, stepping] = family.leafName.exec(name) ?? []
    if (chip === undefined) continue
    const wantedBrom = `${chip} ${stepping} ${family.processor} BROM`
    if (brom?.subjectCommonName !== wantedBrom) {
      return { reason: `${name} stands under ${brom?.subjectCommonName ?? 'no name'}, not ${wantedBrom}` }
    }
    if (provisioner?.subjectCommonName?.startsWith(`NVIDIA ${chip} Provisioner ICA `) !== true) {
      return {
        reason: `${name} stands under ${provisioner?.subjectCommonName ?? 'no name'}, no provisioner of ${chip}`,
      }
    }
    const device = deviceName(leaf)
    const [, namedChip, deviceId] = /^NVIDIA:([A-Z0-9_]+):([0-9A-F]{16})$/.exec(device ?? '') ?? []
    if (deviceId === undefined || namedChip !== chip) {
      return { reason: `${name} names the device ${device ?? 'not at all'}` }
    }
    return { family, product: family.product(chip), deviceId }
  }
  return { reason: `${name} is the leaf of no known GPU or NVSwitch` }
}

/** DSP0274 §"DMTF OID": the manufacturer, product and serial of the device, in an otherName of subjectAltName. */
const DEVICE_INFO = '1.3.6.1.4.1.412.274.1'
const SUBJECT_ALT_NAME = '2.5.29.17'

/** @throws FormatError on a malformed extension. */
function deviceName(leaf: Certificate): string | undefined {
  const extension = leaf.extensions.get(SUBJECT_ALT_NAME)
  if (extension === undefined) return undefined
  const names = childrenOf(readDer(extension.value, 'subjectAltName'), 'subjectAltName')
  const values = names.flatMap((item) => {
    if (item.tag !== 0xa0) return []
    const [type, wrapped, ...extra] = childrenOf(item, 'otherName')
    if (oidText(type, 'otherName') !== DEVICE_INFO) return []
    const [text, ...more] = childrenOf(expectTag(wrapped, 0xa0, 'otherName'), 'otherName')
    if (extra.length + more.length > 0) throw new FormatError('gpu.device-name', 'otherName: unexpected elements')
    return [fromUtf8(expectTag(text, TAG.utf8String, 'otherName').content)]
  })
  return values.length === 1 ? values[0] : undefined
}
