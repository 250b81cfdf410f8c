/**
 * What the signed opaque data says about a device, in the terms policies and manifests use. Values that are texts are
 * held to the few characters they can consist of, because manifest identifiers and messages are made from them.
 */
import { ByteReader, type Bytes, toHex } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { type Architecture, architectureOfCode, type DeviceKind } from './family.js'
import { OPAQUE, type OpaqueData } from './opaque.js'

/** `unreported`: the firmware predates the feature flag and says nothing beyond protected PCIe being off. */
export type GpuMode = 'spt' | 'mpt' | 'ppcie' | 'unreported'

export interface GpuFields {
  readonly kind: 'gpu'
  /** Undefined when GPU_INFO names none that is known. */
  readonly architecture: Architecture | undefined
  readonly driver: string
  /** `96.00.9F.00.01`. */
  readonly vbios: string
  readonly project: string
  readonly projectSku: string
  readonly chipSku: string
  /** Blackwell and later, newer firmware only: GB100 … */
  readonly chip: string | undefined
  readonly nvdec0Status: number
  /** 48 bytes; absent on firmware before driver 550. */
  readonly fwid: Bytes | undefined
  readonly featureFlag: number | undefined
  readonly protectedPcie: number | undefined
  readonly mode: GpuMode | undefined
  /** One for each NVLink, 8 bytes each; zeros for a disabled one. Byte order reversed against the switch's own. */
  readonly switchPdis: readonly Bytes[]
}

export interface SwitchFields {
  readonly kind: 'switch'
  readonly architecture: 'LS10'
  /** `96.10.55.00.01`. */
  readonly vbios: string
  /** Its own identity, 8 bytes. */
  readonly pdi: Bytes
  /** 8 bytes each, zeros for none. */
  readonly gpuPdis: readonly Bytes[]
  readonly lockStatus: number | undefined
  readonly fwid: Bytes | undefined
}

export type DeviceFields = GpuFields | SwitchFields

/** NVDEC0 status bytes. */
export const NVDEC0 = { enabled: 0xaa, disabled: 0x55 } as const
/** Protected PCIe status bytes. */
export const PPCIE = { on: 0xaa, off: 0x55 } as const
const MODES: Readonly<Record<number, GpuMode>> = { 0: 'spt', 1: 'mpt', 2: 'ppcie' }
const PDI_BYTES = 8
const GPUS_PER_SWITCH = 8
const VBIOS_TEXT = /^[0-9A-F]{2}(\.[0-9A-F]{2}){4}$/

/** @throws FormatError when a field that every device of the kind has is missing or is not what it must be. */
export function readDeviceFields(opaque: OpaqueData, kind: DeviceKind): DeviceFields {
  return kind === 'gpu' ? gpuFields(opaque) : switchFields(opaque)
}

function gpuFields(opaque: OpaqueData): GpuFields {
  const featureFlag = optional(opaque, OPAQUE.featureFlag, 2, 'feature flag')
  const flag = featureFlag === undefined ? undefined : new ByteReader(featureFlag, 'feature flag').u16le()
  const protectedPcie = optional(opaque, OPAQUE.protectedPcieStatus, 1, 'protected PCIe status')?.[0]
  const chip = opaque.fields.get(OPAQUE.chipInfo)
  const info = required(opaque, OPAQUE.gpuInfo, 'GPU info')
  return {
    kind: 'gpu',
    architecture: architectureOfCode(new ByteReader(info, 'GPU info').u16le()),
    driver: textField(opaque, OPAQUE.driverVersion, 'driver version', /^[0-9]+(\.[0-9]+){1,3}$/),
    vbios: vbiosOfBytes(required(opaque, OPAQUE.vbiosVersion, 'VBIOS version', 8)),
    project: textField(opaque, OPAQUE.project, 'project'),
    projectSku: textField(opaque, OPAQUE.projectSku, 'project SKU'),
    chipSku: textField(opaque, OPAQUE.chipSku, 'chip SKU'),
    chip: chip === undefined ? undefined : textField(opaque, OPAQUE.chipInfo, 'chip', /^[A-Z]{2}[0-9]{3}$/),
    nvdec0Status: required(opaque, OPAQUE.nvdec0Status, 'NVDEC0 status', 1)[0] ?? 0,
    fwid: optional(opaque, OPAQUE.fwid, 48, 'FWID'),
    featureFlag: flag,
    protectedPcie,
    mode: modeOf(flag, protectedPcie),
    switchPdis: pdis(opaque.fields.get(OPAQUE.switchPdis)?.value ?? new Uint8Array(0), 'switch PDIs'),
  }
}

function switchFields(opaque: OpaqueData): SwitchFields {
  const vbios = asciiOf(required(opaque, OPAQUE.vbiosVersion, 'BIOS version', 14)).toUpperCase()
  if (!VBIOS_TEXT.test(vbios)) throw new FormatError('gpu.field', 'BIOS version: not a version')
  const locked = optional(opaque, OPAQUE.lockStatus, 2, 'lock status')
  const table = required(opaque, OPAQUE.gpuPdis, 'GPU PDIs')
  if (table.length < GPUS_PER_SWITCH * PDI_BYTES) throw new FormatError('gpu.field', 'GPU PDIs: table too short')
  return {
    kind: 'switch',
    architecture: 'LS10',
    vbios,
    pdi: required(opaque, OPAQUE.switchPdis, 'switch PDI', PDI_BYTES),
    gpuPdis: pdis(table.slice(0, GPUS_PER_SWITCH * PDI_BYTES), 'GPU PDIs'),
    lockStatus: locked === undefined ? undefined : new ByteReader(locked, 'lock status').u16le(),
    fwid: optional(opaque, OPAQUE.fwid, 48, 'FWID'),
  }
}

/** The two fields must agree where both are there (flag 2 exactly when protected PCIe is on); undefined when they do not. */
function modeOf(flag: number | undefined, protectedPcie: number | undefined): GpuMode | undefined {
  if (protectedPcie !== undefined && protectedPcie !== PPCIE.on && protectedPcie !== PPCIE.off) return undefined
  const on = protectedPcie === PPCIE.on
  if (flag === undefined) return on ? 'ppcie' : 'unreported'
  const mode = MODES[flag]
  return (mode === 'ppcie') === on ? mode : undefined
}

/** Five bytes: the first four are a little-endian word. */
function vbiosOfBytes(bytes: Bytes): string {
  return [3, 2, 1, 0, 4]
    .map((i) => toHex(bytes.subarray(i, i + 1)))
    .join('.')
    .toUpperCase()
}

function pdis(bytes: Bytes, what: string): readonly Bytes[] {
  if (bytes.length % PDI_BYTES !== 0) throw new FormatError('gpu.field', `${what}: not a whole number of identities`)
  return Array.from({ length: bytes.length / PDI_BYTES }, (_, i) => bytes.slice(i * PDI_BYTES, (i + 1) * PDI_BYTES))
}

function optional(opaque: OpaqueData, type: number, size: number, what: string): Bytes | undefined {
  const value = opaque.fields.get(type)?.value
  if (value !== undefined && value.length !== size) {
    throw new FormatError('gpu.field', `${what}: expected ${size} bytes, got ${value.length}`)
  }
  return value
}

function required(opaque: OpaqueData, type: number, what: string, size?: number): Bytes {
  const value = opaque.fields.get(type)?.value
  if (value === undefined) throw new FormatError('gpu.field', `${what}: missing`)
  if (size !== undefined && value.length !== size) {
    throw new FormatError('gpu.field', `${what}: expected ${size} bytes, got ${value.length}`)
  }
  return value
}

/** Texts end in NULs. What manifest names allow: capitals, digits and dots, 16 at most. */
function textField(opaque: OpaqueData, type: number, what: string, form: RegExp = /^[0-9A-Z.]+$/): string {
  const text = asciiOf(required(opaque, type, what)).replace(/\0+$/, '')
  if (text.length > 16 || !form.test(text))
    throw new FormatError('gpu.field', `${what}: unexpected characters or length`)
  return text
}

function asciiOf(bytes: Bytes): string {
  return String.fromCharCode(...bytes.subarray(0, 64))
}
