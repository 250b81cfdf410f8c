/**
 * QUIC variable-length integers (RFC 9000 §16), as used by RFC 9292 and draft-ietf-ohai-chunked-ohttp.
 *
 * The two high bits of the first byte give the length: 1, 2, 4 or 8 bytes. Longer encodings than needed are legal and
 * read. Refused: values above 2^53 − 1, which no length here can have and JavaScript cannot hold.
 */
import type { Bytes } from './bytes.js'
import { FormatError } from './errors.js'

/** The shortest encoding of a non-negative safe integer. @throws RangeError on any other number (a caller's error). */
export function encodeVarint(value: number): Bytes {
  if (!Number.isSafeInteger(value) || value < 0) throw new RangeError(`varint: expected 0 to 2^53 - 1, got ${value}`)
  if (value < 0x40) return new Uint8Array([value])
  if (value < 0x4000) return new Uint8Array([0x40 | (value >>> 8), value & 0xff])
  const out = new Uint8Array(value < 0x4000_0000 ? 4 : 8)
  const view = new DataView(out.buffer)
  if (out.length === 4) view.setUint32(0, (0x8000_0000 | value) >>> 0)
  else view.setBigUint64(0, 0xc000_0000_0000_0000n | BigInt(value))
  return out
}

/** Bytes in the varint that starts with this byte: 1, 2, 4 or 8. */
export function varintLength(firstByte: number): number {
  return 1 << (firstByte >>> 6)
}

/** Decodes exactly one varint filling `bytes`. @throws FormatError on a wrong length or a value above 2^53 − 1. */
export function decodeVarint(bytes: Uint8Array): number {
  const first = bytes[0]
  if (first === undefined || bytes.length !== varintLength(first)) {
    throw new FormatError('varint.length', `varint: ${bytes.length} bytes do not match the length prefix`)
  }
  if (bytes.length === 1) return first
  if (bytes.length === 2) return ((first & 0x3f) << 8) | (bytes[1] ?? 0)
  let value = BigInt(first & 0x3f)
  for (const byte of bytes.subarray(1)) value = (value << 8n) | BigInt(byte)
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw new FormatError('varint.range', 'varint: value above 2^53 - 1')
  return Number(value)
}
