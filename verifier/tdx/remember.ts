/**
 * Remembering what bytes mean, by their SHA-256: the same bytes always mean the same thing, so it trusts nothing new and
 * only saves reading them again. A failure is not remembered.
 */
import { createMemory } from '../memory.js'
import { type Bytes, toHex } from '../protocol/bytes.js'
import { sha256 } from '../protocol/hash.js'

/** `read` gets a copy of its own, so that nobody who holds the input can change what was read and remembered. */
export function remembering<T>(limit: number, read: (bytes: Bytes) => T): (bytes: Bytes) => T {
  const memory = createMemory<T>(limit)
  return (bytes) => {
    const id = toHex(sha256(bytes))
    const known = memory.recall(id)
    if (known !== undefined) return known
    const value = read(new Uint8Array(bytes))
    memory.keep(id, value)
    return value
  }
}
