/**
 * GGUF files, versions 2 and 3 (ggml's docs/gguf.md): metadata and where each tensor lies. The header is read once,
 * bounded; tensors are read one at a time. Every count and length is checked before anything is allocated for it.
 */
import type { FileHandle } from 'node:fs/promises'
import { GGML_TYPES, type GgmlType } from './gguf-blocks.js'
import { broken, readPart } from './model-file.js'
import { expectApart } from './source.js'

/** Vocabularies of 250,000 words with their merges take about 20 MiB. */
const MAX_HEADER_BYTES = 128 * 1024 * 1024
const MAX_ENTRIES = 65_536
const MAX_DIMENSIONS = 4
/** Texts and lists of all lists together: each takes some ten bytes of the file, and several times that in memory. */
const MAX_LISTED = 2 ** 22

type Scalar = number | bigint | boolean
export type GgufValue = Scalar | string | GgufNumbers | readonly GgufValue[]

/** A list of numbers, left as it lies in the file. */
export interface GgufNumbers {
  readonly length: number
  /** Undefined behind the last one. */
  at(index: number): Scalar | undefined
}

export interface GgufTensor {
  readonly name: string
  readonly type: GgmlType
  /** Fastest first: [columns, rows]. */
  readonly shape: readonly number[]
  /** From the beginning of the file. */
  readonly offset: number
  readonly bytes: number
}

export interface GgufHeader {
  readonly metadata: ReadonlyMap<string, GgufValue>
  readonly tensors: ReadonlyMap<string, GgufTensor>
}

/** @throws ModelFileError for anything that is not a whole, well-formed file of known types. */
export async function readGgufHeader(file: FileHandle): Promise<GgufHeader> {
  const { size } = await file.stat()
  const reader = createReader(await readPart(file, 0, Math.min(size, MAX_HEADER_BYTES), 'the header'))
  if (reader.take(4).toString('latin1') !== 'GGUF') throw broken('expected a GGUF file')
  const version = reader.u32()
  if (version !== 2 && version !== 3) throw broken(`expected GGUF version 2 or 3, got ${version}`)
  const tensorCount = reader.count(MAX_ENTRIES, 'tensors')
  const metadataCount = reader.count(MAX_ENTRIES, 'metadata entries')
  const metadata = new Map<string, GgufValue>()
  for (let i = 0; i < metadataCount; i++) {
    const key = reader.text()
    if (metadata.has(key)) throw broken('a metadata key is there twice')
    metadata.set(key, readValue(reader, reader.u32(), 0))
  }
  const entries: Omit<GgufTensor, 'bytes'>[] = []
  for (let i = 0; i < tensorCount; i++) entries.push(readTensor(reader))
  const alignment = metadata.get('general.alignment') ?? 32
  if (typeof alignment !== 'number' || alignment < 8 || alignment > 65_536 || alignment % 8 !== 0) {
    throw broken('general.alignment: expected a small multiple of 8')
  }
  const start = Math.ceil(reader.at() / alignment) * alignment
  const tensors = new Map<string, GgufTensor>()
  for (const entry of entries) {
    const elements = entry.shape.reduce((product, dimension) => product * dimension, 1)
    const { blockElements, blockBytes } = GGML_TYPES[entry.type]
    if (!Number.isSafeInteger(elements) || (entry.shape[0] ?? 0) % blockElements !== 0) {
      throw broken(`${entry.name}: its shape does not fit its type`)
    }
    const length = (elements / blockElements) * blockBytes
    if (entry.offset % alignment !== 0 || start + entry.offset + length > size) {
      throw broken(`${entry.name}: lies outside the file, which may be cut short`)
    }
    if (tensors.has(entry.name)) throw broken(`${entry.name}: is there twice`)
    tensors.set(entry.name, { ...entry, offset: start + entry.offset, bytes: length })
  }
  expectApart('the file', tensors.values())
  return { metadata, tensors }
}

function readTensor(reader: Reader): Omit<GgufTensor, 'bytes'> {
  const name = reader.text()
  if (!/^[A-Za-z0-9._-]{1,128}$/.test(name)) throw broken('a tensor has a name that is not plain')
  const rank = reader.u32()
  if (rank < 1 || rank > MAX_DIMENSIONS)
    throw broken(`${name}: expected 1 to ${MAX_DIMENSIONS} dimensions, got ${rank}`)
  const shape = Array.from({ length: rank }, () => reader.size('a dimension'))
  if (shape.some((dimension) => dimension < 1)) throw broken(`${name}: has an empty dimension`)
  const code = reader.u32()
  const type = (Object.keys(GGML_TYPES) as GgmlType[]).find((key) => GGML_TYPES[key].code === code)
  if (type === undefined) {
    throw broken(
      `${name}: tensor type ${code} is not one of ${Object.keys(GGML_TYPES).join(', ')}; convert the file to one of them`,
    )
  }
  return { name, type, shape, offset: reader.size('an offset') }
}

interface Reader {
  take(length: number): Buffer
  u32(): number
  u64(): bigint
  size(what: string): number
  count(most: number, what: string): number
  text(): string
  at(): number
  left(): number
  /** Takes so many from what all lists may have together. */
  list(count: number): void
}

function createReader(bytes: Buffer): Reader {
  let at = 0
  let listed = 0
  const reader: Reader = {
    take(length) {
      if (length > bytes.length - at) {
        throw broken(`expected a header of at most ${MAX_HEADER_BYTES} bytes, and the file to hold all of it`)
      }
      at += length
      return bytes.subarray(at - length, at)
    },
    u32: () => reader.take(4).readUInt32LE(),
    u64: () => reader.take(8).readBigUInt64LE(),
    size(what) {
      const value = reader.u64()
      if (value > BigInt(Number.MAX_SAFE_INTEGER)) throw broken(`${what} is impossibly large`)
      return Number(value)
    },
    count(most, what) {
      const value = reader.size(what)
      if (value > most) throw broken(`expected at most ${most} ${what}, got ${value}`)
      return value
    },
    text: () => reader.take(reader.size('a text')).toString('utf8'),
    at: () => at,
    left: () => bytes.length - at,
    list(count) {
      listed += count
      if (listed > MAX_LISTED) throw broken(`expected at most ${MAX_LISTED} texts and lists in the header`)
    },
  }
  return reader
}

/** Types of metadata values: bytes of the fixed ones, and how each is read. */
const SCALARS: Readonly<Record<number, readonly [number, (bytes: Buffer) => Scalar]>> = {
  0: [1, (b) => b.readUInt8()],
  1: [1, (b) => b.readInt8()],
  2: [2, (b) => b.readUInt16LE()],
  3: [2, (b) => b.readInt16LE()],
  4: [4, (b) => b.readUInt32LE()],
  5: [4, (b) => b.readInt32LE()],
  6: [4, (b) => b.readFloatLE()],
  7: [1, (b) => b.readUInt8() !== 0],
  10: [8, (b) => b.readBigUInt64LE()],
  11: [8, (b) => b.readBigInt64LE()],
  12: [8, (b) => b.readDoubleLE()],
}
const STRING = 8
const ARRAY = 9

function readValue(reader: Reader, type: number, depth: number): GgufValue {
  if (type === STRING) return reader.text()
  const scalar = SCALARS[type]
  if (scalar !== undefined) return scalar[1](reader.take(scalar[0]))
  if (type !== ARRAY) throw broken(`a metadata value is of unknown type ${type}`)
  if (depth >= 2) throw broken('metadata is nested too deeply')
  const inner = reader.u32()
  const count = reader.size('a list')
  // Each element takes at least this much, so that a count is believed only as far as the bytes go.
  const least = SCALARS[inner]?.[0] ?? (inner === STRING ? 8 : 12)
  if (count * least > reader.left()) throw broken('a list is longer than the file')
  const kind = SCALARS[inner]
  if (kind !== undefined) return numbers(reader.take(count * kind[0]), count, kind)
  reader.list(count)
  return Array.from({ length: count }, () => readValue(reader, inner, depth + 1))
}

function numbers(
  bytes: Buffer,
  length: number,
  [size, read]: readonly [number, (bytes: Buffer) => Scalar],
): GgufNumbers {
  return {
    length,
    at: (index) => (index < length ? read(bytes.subarray(index * size, (index + 1) * size)) : undefined),
  }
}
