/**
 * GPU and NVSwitch attestation reports: SPDM 1.1 GET_MEASUREMENTS request ‖ MEASUREMENTS response ‖ signature (DMTF
 * DSP0274 1.1.0 §10.11) as the GPU returns them, with every relation that a verifier checks breakable on its own. A field
 * is broken before the report is signed, so that only the check under test can object.
 */
import { type KeyObject, randomBytes, sign } from 'node:crypto'
import type { Bytes } from '../../verifier/protocol/bytes.js'
import { type DeviceFamily, simulatedMeasurements } from './gpu-facts.js'
import {
  editOpaque,
  encodeOpaque,
  littleEndian,
  type OpaqueEdit,
  type OpaqueFields,
  type OpaqueHeader,
  opaqueEntries,
} from './gpu-opaque.js'

export interface GpuReportFields extends OpaqueFields {
  /** The requester nonce, 32 bytes: the challenge. Another length is written as it is. */
  readonly nonce: Uint8Array
  /** Default random. */
  readonly responderNonce?: Uint8Array
  /** The values of blocks 1 to N; default `simulatedMeasurements`. */
  readonly measurements?: readonly Uint8Array[]
}

/** Ways to make a block wrong; the measurement record's length follows the bytes, not the statements. */
export interface BlockBreak {
  readonly index?: number
  readonly specification?: number
  /** Size of type, value size and value. */
  readonly size?: number
  readonly valueType?: number
  readonly valueSize?: number
}

export interface GpuReportBreak {
  readonly request?: {
    readonly version?: number
    readonly code?: number
    readonly param1?: number
    readonly param2?: number
    readonly slot?: number
  }
  readonly response?: {
    readonly version?: number
    readonly code?: number
    readonly param1?: number
    readonly param2?: number
    readonly blockCount?: number
    readonly recordLength?: number
    readonly opaqueLength?: number
  }
  /** By 1-based block index. */
  readonly blocks?: Readonly<Record<number, BlockBreak>>
  readonly opaque?: readonly OpaqueEdit[]
  readonly opaqueHeader?: OpaqueHeader
  /** Bytes after the last opaque entry, counted in the opaque length. */
  readonly opaqueTail?: Uint8Array
  /** The whole opaque data, in place of everything above. */
  readonly opaqueBytes?: Uint8Array
  /** Signs with this key, of any curve, in place of the device's. */
  readonly signWith?: KeyObject
  /** Hash in place of SHA-384. */
  readonly hash?: 'sha256' | 'sha384' | 'sha512'
  /** `der` writes the ASN.1 form; `corrupt` flips one bit; `zero` is all zeros; `swapped` is s before r. */
  readonly signature?: 'der' | 'corrupt' | 'zero' | 'swapped'
  /** Bytes after the signature, not signed. */
  readonly tail?: Uint8Array
  /** Cuts the finished report to this length. */
  readonly truncate?: number
}

export const REQUEST_BYTES = 37
export const SIGNATURE_BYTES = 96

/** A report signed by the device's leaf key. */
export function buildGpuReport(fields: GpuReportFields, privateKey: KeyObject, broken: GpuReportBreak = {}): Bytes {
  const transcript = buildTranscript(fields, broken)
  const signature = signTranscript(transcript, broken.signWith ?? privateKey, broken)
  const report = Buffer.concat([transcript, signature, broken.tail ?? Buffer.alloc(0)])
  return new Uint8Array(broken.truncate === undefined ? report : report.subarray(0, broken.truncate))
}

/** Where the regions of a well-formed report begin, for tests that flip bytes. */
export interface GpuReportOffsets {
  readonly nonce: number
  readonly response: number
  readonly record: number
  readonly responderNonce: number
  readonly opaque: number
  readonly signature: number
  readonly end: number
}

export function gpuReportOffsets(report: Uint8Array): GpuReportOffsets {
  const bytes = Buffer.from(report)
  const record = REQUEST_BYTES + 8
  const responderNonce = record + bytes.readUIntLE(REQUEST_BYTES + 5, 3)
  const opaque = responderNonce + 34
  const signature = opaque + bytes.readUInt16LE(responderNonce + 32)
  return {
    nonce: 4,
    response: REQUEST_BYTES,
    record,
    responderNonce,
    opaque,
    signature,
    end: signature + SIGNATURE_BYTES,
  }
}

/** A copy of the report with a new signature over its changed bytes: for edits nothing above foresees. */
export function resignGpuReport(report: Uint8Array, privateKey: KeyObject): Bytes {
  const { signature } = gpuReportOffsets(report)
  const transcript = report.subarray(0, signature)
  return new Uint8Array(Buffer.concat([transcript, signTranscript(transcript, privateKey, {})]))
}

function buildTranscript(fields: GpuReportFields, broken: GpuReportBreak): Buffer {
  const { request = {}, response = {} } = broken
  const measurements = fields.measurements ?? simulatedMeasurements(fields.family)
  const record = Buffer.concat(
    measurements.map((value, position) => buildBlock(position + 1, value, broken.blocks?.[position + 1])),
  )
  const entries = editOpaque(opaqueEntries(fields), broken.opaque ?? [])
  const encoded = broken.opaqueBytes ?? encodeOpaque(entries, fields.layout ?? 'legacy', broken.opaqueHeader)
  const opaque = Buffer.concat([encoded, broken.opaqueTail ?? Buffer.alloc(0)])
  return Buffer.concat([
    // The request
    Buffer.of(
      request.version ?? SPDM_VERSION,
      request.code ?? GET_MEASUREMENTS,
      request.param1 ?? SIGNATURE_REQUESTED,
      request.param2 ?? ALL_BLOCKS,
    ),
    fields.nonce,
    Buffer.of(request.slot ?? 0),
    // The response
    Buffer.of(
      response.version ?? SPDM_VERSION,
      response.code ?? MEASUREMENTS,
      response.param1 ?? 0,
      response.param2 ?? 0,
      response.blockCount ?? measurements.length,
    ),
    littleEndian(response.recordLength ?? record.length, 3),
    record,
    fields.responderNonce ?? randomBytes(32),
    littleEndian(response.opaqueLength ?? opaque.length, 2),
    opaque,
  ])
}

const SPDM_VERSION = 0x11
const GET_MEASUREMENTS = 0xe0
const MEASUREMENTS = 0x60
const SIGNATURE_REQUESTED = 0x01
const ALL_BLOCKS = 0xff
/** Measurement specification 1; value type 1, immutable ROM by the letter, what NVIDIA writes for every block. */
const DMTF = 1
const DIGEST = 1

function buildBlock(index: number, value: Uint8Array, broken: BlockBreak = {}): Buffer {
  return Buffer.concat([
    Buffer.of(broken.index ?? index, broken.specification ?? DMTF),
    littleEndian(broken.size ?? value.length + 3, 2),
    Buffer.of(broken.valueType ?? DIGEST),
    littleEndian(broken.valueSize ?? value.length, 2),
    value,
  ])
}

/** SPDM 1.1 signs request ‖ response with no prefix; r ‖ s, big-endian. */
function signTranscript(transcript: Uint8Array, key: KeyObject, broken: GpuReportBreak): Buffer {
  const { hash = 'sha384', signature: form } = broken
  const dsaEncoding = form === 'der' ? 'der' : 'ieee-p1363'
  const signature = sign(hash, transcript, { key, dsaEncoding })
  const half = signature.length >> 1
  switch (form) {
    case 'zero':
      return Buffer.alloc(signature.length)
    case 'swapped':
      return Buffer.concat([signature.subarray(half), signature.subarray(0, half)])
    case 'corrupt':
      signature[half] = (signature[half] ?? 0) ^ 0x01
      return signature
    default:
      return signature
  }
}

/** Blocks with the values of some 0-based indices replaced. */
export function withMeasurements(
  family: DeviceFamily,
  replaced: Readonly<Record<number, Uint8Array>>,
): readonly Uint8Array[] {
  return simulatedMeasurements(family).map((value, index) => replaced[index] ?? value)
}
