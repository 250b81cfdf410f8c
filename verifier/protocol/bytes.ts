/**
 * Byte strings: hex, base64, comparison, and a bounds-checked reader. Nothing here knows a format.
 *
 * `Bytes` is the ArrayBuffer-backed Uint8Array that WebCrypto and the X.509 library require.
 */
import { FormatError } from './errors.js'

export type Bytes = Uint8Array<ArrayBuffer>

/** An ArrayBuffer-backed copy, unless the view already is one. */
export function toBytes(view: Uint8Array): Bytes {
  return view.buffer instanceof ArrayBuffer ? (view as Bytes) : new Uint8Array(view)
}

export function concat(...parts: readonly Uint8Array[]): Bytes {
  let length = 0
  for (const part of parts) length += part.length
  const out = new Uint8Array(length)
  let offset = 0
  for (const part of parts) {
    out.set(part, offset)
    offset += part.length
  }
  return out
}

const encoder = new TextEncoder()
const strictDecoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

export function utf8(text: string): Bytes {
  return toBytes(encoder.encode(text))
}

/** @throws FormatError when the bytes are not well-formed UTF-8. */
export function fromUtf8(bytes: Uint8Array): string {
  try {
    return strictDecoder.decode(bytes)
  } catch {
    throw new FormatError('utf8.invalid', 'expected well-formed UTF-8')
  }
}

const HEX = Array.from({ length: 256 }, (_, value) => value.toString(16).padStart(2, '0'))

/** Lower-case hexadecimal, two digits a byte, in byte order. */
export function toHex(bytes: Uint8Array): string {
  let out = ''
  for (const byte of bytes) out += HEX[byte]
  return out
}

/** @throws FormatError on an odd number of digits or any other character. Either case is read. */
export function fromHex(text: string): Bytes {
  if (text.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(text)) {
    throw new FormatError('hex.invalid', 'expected an even number of hexadecimal digits')
  }
  const out = new Uint8Array(text.length / 2)
  for (let i = 0; i < out.length; i++) out[i] = Number.parseInt(text.slice(2 * i, 2 * i + 2), 16)
  return out
}

/** Bytes to text, one character each: what a byte is, is the character's code. */
export function toCharacters(bytes: Uint8Array): string {
  let out = ''
  for (let i = 0; i < bytes.length; i += 0x2000) {
    // As one list of arguments, which a spread would go through byte by byte.
    out += String.fromCharCode.apply(null, bytes.subarray(i, i + 0x2000) as unknown as number[])
  }
  return out
}

/** RFC 4648 §4 with padding. */
export function toBase64(bytes: Uint8Array): string {
  return btoa(toCharacters(bytes))
}

/** RFC 4648 §5 without padding. */
export function toBase64Url(bytes: Uint8Array): string {
  return toBase64(bytes).replaceAll('+', '-').replaceAll('/', '_').replace(/=+$/, '')
}

/** RFC 4648 §4, padding required, no white space. @throws FormatError otherwise, and on non-canonical trailing bits. */
export function fromBase64(text: string): Bytes {
  if (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text)) {
    throw new FormatError('base64.invalid', 'expected base64 with padding and no white space')
  }
  const binary = atob(text)
  const out = new Uint8Array(binary.length)
  for (let i = 0; i < binary.length; i++) out[i] = binary.charCodeAt(i)
  if (toBase64(out) !== text) throw new FormatError('base64.invalid', 'expected canonical base64')
  return out
}

/** RFC 4648 §5, no padding. @throws FormatError on anything else. */
export function fromBase64Url(text: string): Bytes {
  if (!/^[A-Za-z0-9_-]*$/.test(text) || text.length % 4 === 1) {
    throw new FormatError('base64url.invalid', 'expected base64url without padding')
  }
  const padded = text.replaceAll('-', '+').replaceAll('_', '/')
  return fromBase64(padded + '='.repeat((4 - (padded.length % 4)) % 4))
}

/**
 * Whether two byte strings are equal, in time that depends on their lengths only as far as JavaScript can promise
 * (SECURITY.md says how far that is). Different lengths are simply unequal.
 */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false
  let difference = 0
  for (let i = 0; i < a.length; i++) difference |= (a[i] ?? 0) ^ (b[i] ?? 0)
  return difference === 0
}

/** Whether `needle`, at least one byte, stands somewhere in the bytes. Takes a time that tells where: for what is no secret. */
export function includesBytes(bytes: Uint8Array, needle: Uint8Array): boolean {
  const first = needle[0]
  if (first === undefined) return false
  const last = bytes.length - needle.length
  for (let start = bytes.indexOf(first); start >= 0 && start <= last; start = bytes.indexOf(first, start + 1)) {
    let i = 1
    while (i < needle.length && bytes[start + i] === needle[i]) i++
    if (i === needle.length) return true
  }
  return false
}

export function isZero(bytes: Uint8Array): boolean {
  return bytes.every((byte) => byte === 0)
}

/** Sequential, bounds-checked reads over a buffer; every read past the end is a FormatError naming `what`. */
export class ByteReader {
  readonly #bytes: Uint8Array
  readonly #what: string
  #offset = 0

  constructor(bytes: Uint8Array, what: string) {
    this.#bytes = bytes
    this.#what = what
  }

  get offset(): number {
    return this.#offset
  }

  get remaining(): number {
    return this.#bytes.length - this.#offset
  }

  /** The next `length` bytes, as a copy. */
  take(length: number): Bytes {
    if (!Number.isSafeInteger(length) || length < 0 || length > this.remaining) {
      throw new FormatError(
        'bytes.truncated',
        `${this.#what}: expected ${length} bytes at offset ${this.#offset}, ${this.remaining} left`,
      )
    }
    const out = new Uint8Array(this.#bytes.subarray(this.#offset, this.#offset + length))
    this.#offset += length
    return out
  }

  u8(): number {
    return this.take(1)[0] ?? 0
  }

  u16le(): number {
    const b = this.take(2)
    return new DataView(b.buffer).getUint16(0, true)
  }

  u16be(): number {
    const b = this.take(2)
    return new DataView(b.buffer).getUint16(0, false)
  }

  u32le(): number {
    const b = this.take(4)
    return new DataView(b.buffer).getUint32(0, true)
  }

  u32be(): number {
    const b = this.take(4)
    return new DataView(b.buffer).getUint32(0, false)
  }

  u64le(): bigint {
    const b = this.take(8)
    return new DataView(b.buffer).getBigUint64(0, true)
  }

  /** @throws FormatError when bytes are left over. */
  end(): void {
    if (this.remaining !== 0) {
      throw new FormatError(
        'bytes.trailing',
        `${this.#what}: ${this.remaining} unexpected bytes at offset ${this.#offset}`,
      )
    }
  }
}
