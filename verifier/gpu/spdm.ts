/**
 * SPDM measurement transcripts as NVIDIA devices sign them (DMTF DSP0274 1.1, GET_MEASUREMENTS and MEASUREMENTS):
 * request ‖ response ‖ signature, little-endian lengths.
 *
 * Only the lengths and the shape are judged here; what the fields say is for the checks. Sizes come from the transcript's
 * own length fields and must use up the measurement record exactly. Bytes after the signature are counted, not read.
 */
import type { Bytes } from '../protocol/bytes.js'
import { ByteReader } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'

/** DSP0274 1.1 tables of GET_MEASUREMENTS and MEASUREMENTS. */
export const SPDM = {
  version: 0x11,
  getMeasurements: 0xe0,
  measurements: 0x60,
  /** Request param1: a signature is wanted. */
  signatureRequested: 0x01,
  /** Request param2: every measurement block. */
  allBlocks: 0xff,
} as const

const REQUEST_BYTES = 37
const NONCE_BYTES = 32
const SIGNATURE_BYTES = 96
const MAX_REPORT_BYTES = 64 * 1024

export interface MeasurementBlock {
  /** 1-based. */
  readonly index: number
  /** 1: the DMTF format. */
  readonly specification: number
  /** DMTFSpecMeasurementValueType; bit 7 says the value is raw rather than a digest. */
  readonly valueType: number
  readonly value: Bytes
}

export interface SpdmReport {
  readonly request: {
    readonly version: number
    readonly code: number
    readonly param1: number
    readonly param2: number
    /** The challenge. */
    readonly nonce: Bytes
    readonly slot: number
  }
  readonly response: {
    readonly version: number
    readonly code: number
    readonly param1: number
    readonly param2: number
    /** Drawn by the device; it answers no challenge. */
    readonly nonce: Bytes
    readonly opaque: Bytes
  }
  /** As many as the response says there are. */
  readonly blocks: readonly MeasurementBlock[]
  /** What the signature covers: request ‖ response without signature. */
  readonly signed: Bytes
  /** r then s, 48 bytes each, big-endian. */
  readonly signature: Bytes
  /** Bytes after the signature that nobody signed. */
  readonly trailingBytes: number
}

/** @throws FormatError when a length runs past the end, or the record is not used up by its blocks. */
export function parseSpdmReport(bytes: Bytes): SpdmReport {
  if (bytes.length > MAX_REPORT_BYTES) {
    throw new FormatError('spdm.size', `report: ${bytes.length} bytes, at most ${MAX_REPORT_BYTES}`)
  }
  const reader = new ByteReader(bytes, 'report')
  const request = {
    version: reader.u8(),
    code: reader.u8(),
    param1: reader.u8(),
    param2: reader.u8(),
    nonce: reader.take(NONCE_BYTES),
    slot: reader.u8(),
  }
  const head = { version: reader.u8(), code: reader.u8(), param1: reader.u8(), param2: reader.u8() }
  const count = reader.u8()
  const recordBytes = reader.u16le() + reader.u8() * 0x10000
  const blocks = parseBlocks(reader.take(recordBytes), count)
  const nonce = reader.take(NONCE_BYTES)
  const opaque = reader.take(reader.u16le())
  const signed = new Uint8Array(bytes.subarray(0, reader.offset))
  const signature = reader.take(SIGNATURE_BYTES)
  return {
    request,
    response: { ...head, nonce, opaque },
    blocks,
    signed,
    signature,
    trailingBytes: reader.remaining,
  }
}

/** Whether the bytes begin as a transcript does. Says nothing about the rest. */
export function looksLikeSpdmReport(bytes: Uint8Array): boolean {
  return bytes[0] === SPDM.version && bytes[1] === SPDM.getMeasurements && bytes.length > REQUEST_BYTES
}

function parseBlocks(record: Bytes, count: number): readonly MeasurementBlock[] {
  const reader = new ByteReader(record, 'measurement record')
  const blocks: MeasurementBlock[] = []
  for (let i = 0; i < count; i++) {
    const index = reader.u8()
    const specification = reader.u8()
    const size = reader.u16le()
    const valueType = reader.u8()
    const valueSize = reader.u16le()
    if (size !== valueSize + 3) {
      throw new FormatError('spdm.block', `measurement block ${index}: size ${size} around a value of ${valueSize}`)
    }
    blocks.push({ index, specification, valueType, value: reader.take(valueSize) })
  }
  reader.end()
  return blocks
}
