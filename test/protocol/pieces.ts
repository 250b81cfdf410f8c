/** Ways to cut the same bytes into a stream, and to collect one. */
import type { Bytes } from '../../verifier/protocol/bytes.js'

export async function* cut(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.slice(at, at + size)
}

/** Whole, odd pieces (with empty ones between them), and byte by byte. */
export const WAYS: Readonly<Record<string, (bytes: Uint8Array) => AsyncGenerator<Uint8Array>>> = {
  whole: (bytes) => cut(bytes, Math.max(1, bytes.length)),
  'odd pieces': async function* (bytes) {
    let at = 0
    for (let size = 1; at < bytes.length; size = (size * 3 + 1) % 17) {
      yield bytes.slice(at, at + size)
      at += size
    }
  },
  'byte by byte': (bytes) => cut(bytes, 1),
}

export async function collect(pieces: AsyncIterable<Uint8Array>): Promise<Bytes> {
  const all: Uint8Array[] = []
  for await (const piece of pieces) all.push(piece)
  return new Uint8Array(Buffer.concat(all))
}

/** The error an action rejects with, or undefined. */
export async function failureOf(action: () => Promise<unknown>): Promise<unknown> {
  try {
    await action()
    return undefined
  } catch (error) {
    return error
  }
}
