/**
 * The opaque data of a report: type, length, value entries inside the signed response, in two layouts. The legacy one is
 * a bare sequence; the versioned one begins with `NVDAOD` and gives each entry a value type.
 *
 * Types nobody knows are kept, since firmware adds some; a type that occurs twice is refused, since readers would differ
 * about which one counts. What fields mean is `device-fields.ts`.
 */
import { ByteReader, type Bytes, utf8 } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'

export interface OpaqueField {
  readonly value: Bytes
  /** Versioned layout only. */
  readonly valueType?: number
}

export interface OpaqueData {
  readonly layout: 'legacy' | 'versioned'
  /** Field 34 of the legacy layout, 0 when it is absent; the header's major version otherwise. */
  readonly version: number
  readonly fields: ReadonlyMap<number, OpaqueField>
}

/** Entry types, by the names of NVIDIA's verifier. */
export const OPAQUE = {
  driverVersion: 3,
  gpuInfo: 4,
  vbiosVersion: 6,
  nvdec0Status: 11,
  measurementCounts: 12,
  chipSku: 15,
  project: 17,
  projectSku: 18,
  fwid: 20,
  protectedPcieStatus: 21,
  switchPdis: 22,
  lockStatus: 25,
  gpuPdis: 26,
  dataVersion: 34,
  chipInfo: 35,
  featureFlag: 36,
} as const

/** Value type of the versioned layout: a minimum security version number, compared as a number with a manifest's record. */
export const MIN_SVN_VALUE = 0x87

/** The newest versions whose fields are known here. */
export const KNOWN_OPAQUE_VERSION = { legacy: 1, versioned: 2 } as const

const MAGIC = utf8('NVDAOD')

/** @throws FormatError on an entry that runs past the end, a repeated type, or an unknown profile. */
export function parseOpaqueData(bytes: Bytes): OpaqueData {
  const reader = new ByteReader(bytes, 'opaque data')
  const versioned = bytes.length >= MAGIC.length && MAGIC.every((byte, i) => bytes[i] === byte)
  let major = 0
  if (versioned) {
    reader.take(MAGIC.length)
    const profile = reader.u16le()
    if (profile !== 0) throw new FormatError('opaque.profile', `opaque data: unknown profile ${profile}`)
    major = reader.u8()
    reader.take(3)
  }
  const fields = new Map<number, OpaqueField>()
  while (reader.remaining > 0) {
    const type = reader.u16le()
    const valueType = versioned ? reader.u16le() : undefined
    const value = reader.take(reader.u16le())
    if (fields.has(type)) throw new FormatError('opaque.repeated', `opaque data: type ${type} occurs twice`)
    fields.set(type, valueType === undefined ? { value } : { value, valueType })
  }
  if (versioned) return { layout: 'versioned', version: major, fields }
  return { layout: 'legacy', version: legacyVersion(fields.get(OPAQUE.dataVersion)), fields }
}

function legacyVersion(field: OpaqueField | undefined): number {
  if (field === undefined) return 0
  const reader = new ByteReader(field.value, 'opaque data version')
  const version = reader.u16le()
  reader.end()
  return version
}
