/**
 * The protobuf wire format, as far as ONNX files need it: varints, fixed32, fixed64 and length-delimited fields
 * (protobuf.dev/programming-guides/encoding). Groups are refused. The reader copies nothing and never reads past its
 * bytes; depth is bounded by its callers, which know the messages they expect.
 */
import { concat } from '../../../verifier/protocol/bytes.js'
import { FormatError } from '../../../verifier/protocol/errors.js'

/** One field of a message: `bytes` for wire type 2, `value` for the others. */
export interface WireField {
  readonly number: number
  /** 0 a varint, 1 eight bytes, 2 as many as it says, 5 four bytes. */
  readonly wireType: 0 | 1 | 2 | 5
  readonly bytes: Uint8Array | undefined
  readonly value: bigint
}

/** The fields of one message, in order. @throws FormatError `onnx.wire`. */
export function* readFields(message: Uint8Array): Generator<WireField> {
  const view = new DataView(message.buffer, message.byteOffset, message.byteLength)
  let at = 0
  const varint = (): bigint => {
    let value = 0n
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = message[at++]
      if (byte === undefined) throw malformed('a number runs past the end')
      value |= BigInt(byte & 0x7f) << shift
      if (byte < 0x80) return BigInt.asIntN(64, value)
    }
    throw malformed('a number has more than ten bytes')
  }
  const take = (length: number): number => {
    const start = at
    if (length > message.length - at) throw malformed('a field runs past the end')
    at += length
    return start
  }
  while (at < message.length) {
    const tag = varint()
    const number = Number(tag >> 3n)
    if (number < 1) throw malformed('a field has no number')
    switch (Number(tag & 7n)) {
      case 0:
        yield { number, wireType: 0, bytes: undefined, value: varint() }
        break
      case 1:
        yield { number, wireType: 1, bytes: undefined, value: view.getBigInt64(take(8), true) }
        break
      case 2: {
        const length = varint()
        if (length < 0n || length > BigInt(message.length)) throw malformed('a field runs past the end')
        const start = take(Number(length))
        yield { number, wireType: 2, bytes: message.subarray(start, at), value: 0n }
        break
      }
      case 5:
        yield { number, wireType: 5, bytes: undefined, value: BigInt(view.getUint32(take(4), true)) }
        break
      default:
        throw malformed('a field has a wire type that is not in use')
    }
  }
}

function malformed(what: string): FormatError {
  return new FormatError('onnx.wire', `expected an ONNX file, got bytes in which ${what}`)
}

/** Puts one message together, field by field. */
export interface WireWriter {
  int(field: number, value: number | bigint): WireWriter
  float(field: number, value: number): WireWriter
  bytes(field: number, value: Uint8Array | string): WireWriter
  message(field: number, value: WireWriter): WireWriter
  finish(): Uint8Array<ArrayBuffer>
}

export function createWireWriter(): WireWriter {
  const parts: Uint8Array[] = []
  const writer: WireWriter = {
    int(field, value) {
      parts.push(varintBytes(BigInt(field) << 3n), varintBytes(BigInt(value)))
      return writer
    },
    float(field, value) {
      parts.push(varintBytes((BigInt(field) << 3n) | 5n), new Uint8Array(Float32Array.of(value).buffer))
      return writer
    },
    bytes(field, value) {
      const content = typeof value === 'string' ? new TextEncoder().encode(value) : value
      parts.push(varintBytes((BigInt(field) << 3n) | 2n), varintBytes(BigInt(content.length)), content)
      return writer
    },
    message: (field, value) => writer.bytes(field, value.finish()),
    finish: () => concat(...parts),
  }
  return writer
}

function varintBytes(value: bigint): Uint8Array {
  const bytes: number[] = []
  let rest = BigInt.asUintN(64, value)
  do {
    const low = Number(rest & 0x7fn)
    rest >>= 7n
    bytes.push(rest === 0n ? low : low | 0x80)
  } while (rest !== 0n)
  return Uint8Array.from(bytes)
}
