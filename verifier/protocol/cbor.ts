/**
 * Deterministic CBOR (RFC 8949 §4.2.1), both ways. Only importer of cbor-x.
 *
 * The subset: unsigned and negative integers, byte and text strings, arrays, maps with integer or text keys, false,
 * true, null. Refused: floats, tags, other simple values, indefinite lengths, non-minimal heads, repeated or unsorted
 * keys, trailing bytes, more than `MAX_DEPTH` levels or `MAX_ITEMS` items, more than `maxBytes`.
 *
 * cbor-x alone accepts most of what is refused here and overflows the stack on deep nesting, so its decoder only ever
 * sees input whose heads were walked first, and its result must encode to the very bytes that came.
 */
import { Encoder } from 'cbor-x'
import { type Bytes, equalBytes, fromUtf8, toBytes, utf8 } from './bytes.js'
import { FormatError } from './errors.js'

export type CborKey = number | string
export type CborMap = ReadonlyMap<CborKey, CborValue>
/** Integers beyond 2^53 − 1 in magnitude are `bigint`; all others are `number`. */
export type CborValue = number | bigint | string | Uint8Array | boolean | null | readonly CborValue[] | CborMap

export const MAX_DEPTH = 16
/** Keys, values and containers of one encoded item together: an empty map of one byte takes hundreds in memory. */
const MAX_ITEMS = 16_384
/** Default bound on one encoded item, in bytes. */
export const MAX_CBOR_BYTES: number = 16 * 1024 * 1024

const codec = new Encoder({
  useRecords: false,
  mapsAsObjects: false,
  tagUint8Array: false,
  variableMapSize: true,
  int64AsNumber: false,
} as ConstructorParameters<typeof Encoder>[0])

/** The one deterministic encoding of `value`. @throws TypeError on a value outside the subset: a caller's mistake. */
export function encodeCbor(value: CborValue): Bytes {
  return new Uint8Array(codec.encode(prepare(value)))
}

/**
 * Decodes exactly one deterministically encoded item.
 * @throws FormatError on anything else, including input larger than `maxBytes`.
 */
export function decodeCbor(bytes: Uint8Array, maxBytes: number = MAX_CBOR_BYTES): CborValue {
  if (bytes.length > maxBytes) {
    throw new FormatError('cbor.too-large', `expected at most ${maxBytes} bytes of CBOR, got ${bytes.length}`)
  }
  walk(bytes)
  let value: CborValue
  try {
    value = normalise(codec.decode(toBytes(bytes)))
  } catch (error) {
    if (error instanceof FormatError) throw error
    throw new FormatError('cbor.invalid', 'expected well-formed CBOR', { cause: error })
  }
  if (!equalBytes(encodeCbor(value), bytes)) {
    throw new FormatError('cbor.not-deterministic', 'expected deterministic CBOR (RFC 8949 section 4.2)')
  }
  return value
}

/** Walks every head without recursion: bounds, depth, count, and no major type outside the subset. */
function walk(bytes: Uint8Array): void {
  const pending: number[] = [1]
  let offset = 0
  let items = 0
  while (pending.length > 0) {
    const left = pending.pop() ?? 0
    if (left === 0) continue
    pending.push(left - 1)
    if (offset >= bytes.length) throw new FormatError('cbor.truncated', 'CBOR ends in the middle of an item')
    if (++items > MAX_ITEMS) throw new FormatError('cbor.too-many', `CBOR has more than ${MAX_ITEMS} items`)
    const initial = bytes[offset] ?? 0
    const major = initial >> 5
    const { value, size } = readArgument(bytes, offset)
    offset += size
    if (major === 2 || major === 3) {
      if (value > bytes.length - offset) throw new FormatError('cbor.truncated', 'CBOR string runs past the end')
      if (major === 3) fromUtf8(bytes.subarray(offset, offset + value))
      offset += value
    } else if (major === 4 || major === 5) {
      const inside = major === 5 ? 2 * value : value
      // Each item takes at least one byte: a count beyond what is left is refused before anything is allocated.
      if (inside > bytes.length - offset) throw new FormatError('cbor.truncated', 'CBOR container runs past the end')
      if (pending.length >= MAX_DEPTH) throw new FormatError('cbor.too-deep', `CBOR nests deeper than ${MAX_DEPTH}`)
      pending.push(inside)
    } else if (major === 6) {
      throw new FormatError('cbor.unsupported', 'CBOR tags are not used here')
    } else if (major === 7 && (initial < 0xf4 || initial > 0xf6)) {
      throw new FormatError(
        'cbor.unsupported',
        'expected false, true or null; CBOR floats and other values are not used',
      )
    }
  }
  if (offset !== bytes.length) {
    throw new FormatError('cbor.trailing', `${bytes.length - offset} bytes follow the CBOR item`)
  }
}

function readArgument(bytes: Uint8Array, offset: number): { value: number; size: number } {
  const info = (bytes[offset] ?? 0) & 0x1f
  if (info < 24) return { value: info, size: 1 }
  if (info > 27) throw new FormatError('cbor.unsupported', 'CBOR indefinite lengths are not used here')
  const width = 2 ** (info - 24)
  if (offset + 1 + width > bytes.length) throw new FormatError('cbor.truncated', 'CBOR ends in the middle of a head')
  let value = 0
  for (let i = 1; i <= width; i++) value = value * 256 + (bytes[offset + i] ?? 0)
  return { value, size: 1 + width }
}

/** Converts to what cbor-x encodes minimally: sorted maps, plain byte arrays, bigint for integers beyond 32 bits. */
function prepare(value: CborValue): unknown {
  if (value === null || typeof value === 'boolean' || typeof value === 'string') return value
  if (typeof value === 'number') {
    if (!Number.isSafeInteger(value)) throw new TypeError(`CBOR integers only, got ${value}`)
    const argument = value < 0 ? -1 - value : value
    return argument > 0xffffffff ? BigInt(value) : value
  }
  if (typeof value === 'bigint') {
    const argument = value < 0n ? -1n - value : value
    if (argument > 0xffffffffffffffffn) throw new TypeError('CBOR integers have at most 64 bits')
    return argument <= 0xffffffffn ? Number(value) : value
  }
  if (value instanceof Uint8Array) return new Uint8Array(value)
  if (value instanceof Map) {
    const entries = [...value].map(([key, item]): [CborKey, Bytes, unknown] => [key, encodeKey(key), prepare(item)])
    entries.sort((a, b) => compareBytes(a[1], b[1]))
    return new Map(entries.map(([key, , item]) => [prepare(key), item]))
  }
  if (Array.isArray(value)) return value.map(prepare)
  throw new TypeError('not a CBOR value of this subset')
}

function encodeKey(key: CborKey): Bytes {
  if (typeof key !== 'number' && typeof key !== 'string') throw new TypeError('CBOR map keys are integers or text here')
  return new Uint8Array(codec.encode(prepare(key)))
}

function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length)
  for (let i = 0; i < length; i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0)
    if (difference !== 0) return difference
  }
  return a.length - b.length
}

function normalise(value: unknown): CborValue {
  if (value === null || typeof value === 'boolean' || typeof value === 'string' || typeof value === 'number') {
    return value
  }
  if (typeof value === 'bigint') {
    const number = Number(value)
    return Number.isSafeInteger(number) ? number : value
  }
  if (value instanceof Uint8Array) return new Uint8Array(value)
  if (Array.isArray(value)) return value.map(normalise)
  if (value instanceof Map) {
    const out = new Map<CborKey, CborValue>()
    for (const [key, item] of value) {
      const normalised = normalise(key)
      if (typeof normalised !== 'number' && typeof normalised !== 'string') {
        throw new FormatError('cbor.unsupported', 'expected CBOR map keys to be integers or text')
      }
      out.set(normalised, normalise(item))
    }
    return out
  }
  throw new FormatError('cbor.unsupported', 'CBOR value outside the subset used here')
}

/** Reads the members of a CBOR map by name, each exactly once; what is left over is refused by `end`. */
export class CborFields {
  readonly #map: CborMap
  readonly #what: string
  readonly #seen = new Set<CborKey>()

  /** @throws FormatError unless `value` is a map. */
  constructor(value: CborValue | undefined, what: string) {
    if (!(value instanceof Map)) throw new FormatError('cbor.type', `${what}: expected a map`)
    this.#map = value
    this.#what = what
  }

  has(key: CborKey): boolean {
    return this.#map.has(key)
  }

  raw(key: CborKey): CborValue {
    const value = this.#map.get(key)
    if (value === undefined) throw new FormatError('cbor.missing', `${this.#what}: ${key} is missing`)
    this.#seen.add(key)
    return value
  }

  bytes(key: CborKey, length?: number): Bytes {
    return expectBytes(this.raw(key), `${this.#what}: ${key}`, length)
  }

  text(key: CborKey): string {
    const value = this.raw(key)
    if (typeof value !== 'string') throw new FormatError('cbor.type', `${this.#what}: ${key} must be text`)
    return value
  }

  /** A non-negative integer up to 2^53 − 1. */
  uint(key: CborKey): number {
    const value = this.raw(key)
    if (typeof value !== 'number' || value < 0) {
      throw new FormatError('cbor.type', `${this.#what}: ${key} must be an unsigned integer`)
    }
    return value
  }

  array(key: CborKey): readonly CborValue[] {
    return expectArray(this.raw(key), `${this.#what}: ${key}`)
  }

  map(key: CborKey): CborFields {
    return new CborFields(this.raw(key), `${this.#what}: ${key}`)
  }

  /** @throws FormatError naming the first member nobody asked for: nothing is accepted because it was not looked at. */
  end(): void {
    for (const key of this.#map.keys()) {
      if (!this.#seen.has(key)) throw new FormatError('cbor.unknown', `${this.#what}: unknown member ${key}`)
    }
  }
}

export function expectBytes(value: CborValue | undefined, what: string, length?: number): Bytes {
  if (!(value instanceof Uint8Array)) throw new FormatError('cbor.type', `${what} must be a byte string`)
  if (length !== undefined && value.length !== length) {
    throw new FormatError('cbor.length', `${what}: expected ${length} bytes, got ${value.length}`)
  }
  return toBytes(value)
}

/** @throws FormatError unless `value` is an array, of `length` items where one is given. */
export function expectArray(value: CborValue | undefined, what: string, length?: number): readonly CborValue[] {
  if (!Array.isArray(value)) throw new FormatError('cbor.type', `${what} must be an array`)
  if (length !== undefined && value.length !== length) {
    throw new FormatError('cbor.length', `${what}: expected ${length} items, got ${value.length}`)
  }
  return value
}

/** A domain-separation prefix: the ASCII label and one zero byte. */
export function domain(label: string): Bytes {
  const text = utf8(label)
  const out = new Uint8Array(text.length + 1)
  out.set(text)
  return out
}
