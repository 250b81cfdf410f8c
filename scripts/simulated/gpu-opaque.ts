/**
 * The opaque data of a GPU or switch report, in both layouts: `type u16 ‖ size u16 ‖ value` in sequence (legacy), and
 * the `NVDAOD` header with a value type in each entry (versioned). Field order, sizes and padding are those of real
 * reports; every entry can be left out, repeated, replaced or given a false size.
 */
import type { Bytes } from '../../verifier/protocol/bytes.js'
import { alternativesOf, DEVICES, type DeviceFamily, range } from './gpu-facts.js'

/** Type numbers, the same in both layouts. */
export const OPAQUE = {
  driverVersion: 3,
  gpuInfo: 4,
  vbiosVersion: 6,
  nvdec0: 11,
  measurementCounts: 12,
  cprInfo: 13,
  boardId: 14,
  chipSku: 15,
  chipSkuModifier: 16,
  project: 17,
  projectSku: 18,
  projectSkuModifier: 19,
  fwid: 20,
  protectedPcie: 21,
  /** On a GPU the switches behind its links, on a switch its own. */
  switchPdis: 22,
  disabledPorts: 23,
  positionId: 24,
  lockStatus: 25,
  gpuPdis: 26,
  systemEnableStatus: 33,
  version: 34,
  chipInfo: 35,
  featureFlag: 36,
  fspMinimumSvn: 37,
} as const

export type OpaqueLayout = 'legacy' | 'versioned'
/** Feature flag 36: one GPU, several passed through, or a node whose switches attest too. */
export type GpuMode = 'SPT' | 'MPT' | 'PPCIe'

export interface OpaqueEntry {
  readonly type: number
  readonly value: Uint8Array
  /** Written in the versioned layout only; default: what real reports give the type, 0x82 otherwise. */
  readonly valueType?: number
  /** A size that is not the value's. */
  readonly statedSize?: number
}

/** One change to the entries. Edits apply in order. */
export type OpaqueEdit =
  | { readonly type: number; readonly omit: true }
  /** Repeats the entry directly after itself, with `value` or with the same value. */
  | { readonly type: number; readonly duplicate: true; readonly value?: Uint8Array }
  /** Replaces the entry in place; one that is not there is appended. */
  | OpaqueEntry

export interface OpaqueFields {
  readonly family: DeviceFamily
  /** Default legacy. */
  readonly layout?: OpaqueLayout
  /** 48 bytes, on GPUs only; null leaves it out, as firmware before driver 550 does. */
  readonly fwid?: Uint8Array | null
  readonly driverVersion?: string
  /** `96.00.9F.00.01`. */
  readonly vbiosVersion?: string
  /** Field 11. Default 0x55, disabled; 0xAA is enabled. */
  readonly nvdec0?: number
  /** Default SPT. */
  readonly mode?: GpuMode
  /** Field 34 in the legacy layout, default 1; null leaves out 34, 35 and 36, as firmware before version 1 does. */
  readonly opaqueVersion?: number | null
  /** Blackwell from version 1; default the family. */
  readonly chipInfo?: string
  readonly project?: string
  readonly projectSku?: string
  readonly chipSku?: string
  /** Field 37, versioned layout only; default 0. */
  readonly fspMinimumSvn?: number
  /** The own PDIs of the switches behind a GPU's 18 links, in link order; default none. Bytes are reversed in the report. */
  readonly linkedSwitches?: readonly Uint8Array[]
  /** A switch's own PDI, 8 bytes, and the PDIs of its GPUs. */
  readonly pdi?: Uint8Array
  readonly gpuPdis?: readonly Uint8Array[]
  readonly positionId?: number
  /** Default 1, locked. */
  readonly lockStatus?: number
}

/** The entries of a device in good order, as real reports order them. */
export function opaqueEntries(fields: OpaqueFields): OpaqueEntry[] {
  return fields.family === 'LS10' ? switchEntries(fields) : gpuEntries(fields)
}

/** The entries after the edits. */
export function editOpaque(entries: readonly OpaqueEntry[], edits: readonly OpaqueEdit[]): OpaqueEntry[] {
  let list = [...entries]
  for (const edit of edits) {
    if ('omit' in edit) {
      list = list.filter(({ type }) => type !== edit.type)
    } else if ('duplicate' in edit) {
      list = list.flatMap((entry) =>
        entry.type === edit.type ? [entry, { ...entry, value: edit.value ?? entry.value }] : [entry],
      )
    } else if (list.some(({ type }) => type === edit.type)) {
      list = list.map((entry) => (entry.type === edit.type ? edit : entry))
    } else {
      list.push(edit)
    }
  }
  return list
}

/** Header of the versioned layout. The real sample is profile 0, version 2.0.0. */
export interface OpaqueHeader {
  readonly profile?: number
  readonly major?: number
  readonly minor?: number
  readonly patch?: number
  readonly padding?: number
}

export function encodeOpaque(
  entries: readonly OpaqueEntry[],
  layout: OpaqueLayout = 'legacy',
  header: OpaqueHeader = {},
): Bytes {
  const { profile = 0, major = 2, minor = 0, patch = 0, padding = 0 } = header
  const head =
    layout === 'legacy'
      ? []
      : [Buffer.from('NVDAOD', 'latin1'), littleEndian(profile, 2), Buffer.of(major, minor, patch, padding)]
  const body = entries.flatMap(({ type, value, valueType, statedSize }) => [
    littleEndian(type, 2),
    ...(layout === 'legacy' ? [] : [littleEndian(valueType ?? VALUE_TYPE[type] ?? 0x82, 2)]),
    littleEndian(statedSize ?? value.length, 2),
    value,
  ])
  return new Uint8Array(Buffer.concat([...head, ...body]))
}

/** VBIOS version field: `96.00.9F.00.01` as bytes 3, 2, 1, 0, 4 of 8. */
export function encodeVbiosVersion(version: string): Bytes {
  const [b3 = 0, b2 = 0, b1 = 0, b0 = 0, b4 = 0] = version.split('.').map((part) => Number.parseInt(part, 16))
  return Uint8Array.of(b0, b1, b2, b3, b4, 0, 0, 0)
}

/** An integer of `size` bytes, least significant first, as everything in SPDM. */
export function littleEndian(value: number, size: number): Bytes {
  return new Uint8Array(range(0, size).map((byte) => Math.floor(value / 2 ** (8 * byte)) % 256))
}

/** Links of a GPU, and of them each switch takes 4 or 5. */
const LINKS = 18
/** As the real versioned sample has them. */
const VALUE_TYPE: Readonly<Record<number, number>> = {
  [OPAQUE.driverVersion]: 0x86,
  [OPAQUE.vbiosVersion]: 0x86,
  [OPAQUE.measurementCounts]: 0x84,
  [OPAQUE.cprInfo]: 0x83,
  [OPAQUE.fwid]: 0x01,
  [OPAQUE.protectedPcie]: 0x85,
  [OPAQUE.version]: 0x86,
  [OPAQUE.featureFlag]: 0x85,
  [OPAQUE.fspMinimumSvn]: 0x87,
}
const FEATURE_FLAG: Readonly<Record<GpuMode, number>> = { SPT: 0, MPT: 1, PPCIe: 2 }

function gpuEntries(fields: OpaqueFields): OpaqueEntry[] {
  const { family, layout = 'legacy', fwid, mode = 'SPT', linkedSwitches = [] } = fields
  const facts = DEVICES[family]
  const protectedPcie = Uint8Array.of(mode === 'PPCIe' ? 0xaa : 0x55)
  // The header speaks for the version in the versioned layout, where field 34 stays zero.
  const version = layout === 'versioned' ? 0 : fields.opaqueVersion === undefined ? 1 : fields.opaqueVersion
  return [
    { type: OPAQUE.vbiosVersion, value: encodeVbiosVersion(fields.vbiosVersion ?? facts.vbiosVersion) },
    { type: OPAQUE.boardId, value: littleEndian(facts.boardId, 4) },
    { type: OPAQUE.chipSku, value: padded(fields.chipSku ?? facts.chipSku, 9) },
    { type: OPAQUE.chipSkuModifier, value: padded(facts.chipSkuModifier, 5) },
    { type: OPAQUE.project, value: padded(fields.project ?? facts.project, 5) },
    { type: OPAQUE.projectSku, value: padded(fields.projectSku ?? facts.projectSku, 5) },
    { type: OPAQUE.projectSkuModifier, value: padded(facts.projectSkuModifier, 2) },
    { type: OPAQUE.driverVersion, value: Buffer.from(`${fields.driverVersion ?? facts.driverVersion}\0`, 'latin1') },
    { type: OPAQUE.gpuInfo, value: littleEndian(facts.gpuInfo, 8) },
    { type: OPAQUE.measurementCounts, value: measurementCounts(family, 64) },
    { type: OPAQUE.cprInfo, value: littleEndian(family === 'GB100' ? 0x40000 : 0x1c000, 4) },
    { type: OPAQUE.nvdec0, value: Uint8Array.of(fields.nvdec0 ?? 0x55) },
    ...(layout === 'versioned'
      ? [{ type: OPAQUE.fspMinimumSvn, value: littleEndian(fields.fspMinimumSvn ?? 0, 2) }]
      : []),
    ...(fwid === undefined || fwid === null ? [] : [{ type: OPAQUE.fwid, value: fwid }]),
    ...(family === 'GH100' ? [{ type: OPAQUE.protectedPcie, value: protectedPcie }] : []),
    ...(linkedSwitches.length === 0 ? [] : [{ type: OPAQUE.switchPdis, value: linkTable(linkedSwitches) }]),
    ...(family === 'GB100' ? [{ type: OPAQUE.systemEnableStatus, value: Uint8Array.of(7, 7) }] : []),
    ...(version === null ? [] : [{ type: OPAQUE.version, value: littleEndian(version, 2) }]),
    ...(version === null || family === 'GH100'
      ? []
      : [{ type: OPAQUE.chipInfo, value: Buffer.from(`${fields.chipInfo ?? family}\0`, 'latin1') }]),
    ...(version === null ? [] : [{ type: OPAQUE.featureFlag, value: littleEndian(FEATURE_FLAG[mode], 2) }]),
  ]
}

function switchEntries(fields: OpaqueFields): OpaqueEntry[] {
  const { pdi = new Uint8Array(8), gpuPdis = [], positionId = 0, lockStatus = 1 } = fields
  const { vbiosVersion } = DEVICES.LS10
  return [
    { type: OPAQUE.vbiosVersion, value: Buffer.from(fields.vbiosVersion ?? vbiosVersion, 'latin1') },
    { type: OPAQUE.switchPdis, value: pdi },
    { type: OPAQUE.measurementCounts, value: measurementCounts('LS10', 27) },
    { type: OPAQUE.gpuPdis, value: gpuTable(gpuPdis) },
    { type: OPAQUE.disabledPorts, value: Uint8Array.of(0xec, 0) },
    { type: OPAQUE.positionId, value: littleEndian(positionId, 2) },
    { type: OPAQUE.lockStatus, value: littleEndian(lockStatus, 2) },
  ]
}

/** 18 PDIs, one for each link, byte order reversed relative to the switch's own; links past the list are zero. */
function linkTable(switches: readonly Uint8Array[]): Bytes {
  const table = new Uint8Array(LINKS * 8)
  for (const link of range(0, LINKS))
    table.set(Uint8Array.from(switches[link] ?? new Uint8Array(8)).reverse(), link * 8)
  return table
}

/** 8 GPU PDIs as their certificates have them, then which GPU is behind each of 64 ports, 0xFF for none. */
function gpuTable(gpus: readonly Uint8Array[]): Bytes {
  const table = new Uint8Array(128).fill(0xff, 64)
  for (const [slot, pdi] of gpus.slice(0, 8).entries()) {
    table.set(pdi, slot * 8)
    table.fill(slot, 64 + slot * 4, 64 + slot * 4 + 4)
  }
  return table
}

function measurementCounts(family: DeviceFamily, words: number): Bytes {
  const { driverIndices, vbiosIndices } = DEVICES[family]
  const judged = new Set([...driverIndices, ...vbiosIndices])
  const counts = range(0, words).map((index) => (judged.has(index) ? alternativesOf(family, index) : 0))
  return new Uint8Array(Buffer.concat(counts.map((count) => littleEndian(count, 4))))
}

function padded(text: string, size: number): Bytes {
  const field = new Uint8Array(size)
  field.set(Buffer.from(text, 'latin1').subarray(0, size))
  return field
}
