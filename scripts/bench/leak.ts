/**
 * What the sizes of sealed records tell the network about an answer: the entropy of a record's size, given what everyone
 * can see anyway, namely whether it is the first, one of the middle, the one before the last or the last.
 */
import { decodeVarint, varintLength } from '../../verifier/protocol/varint.js'

/** AES-256-GCM: max(Nk, Nn). */
const RESPONSE_NONCE_BYTES = 32

/** Sizes of the sealed records of one encapsulated response, length prefixes included, the final one last. */
export function recordSizes(response: Uint8Array): number[] {
  const sizes: number[] = []
  for (let at = RESPONSE_NONCE_BYTES; at < response.length; ) {
    const prefix = varintLength(response[at] ?? 0)
    const length = decodeVarint(response.slice(at, at + prefix))
    const end = length === 0 ? response.length : at + prefix + length
    sizes.push(end - at)
    at = end
  }
  return sizes
}

export interface Leak {
  readonly bitsPerRecord: number
  /** Of those of the middle alone, which carry the answer. */
  readonly bitsPerBodyRecord: number
  readonly records: number
  readonly bytes: number
}

/** Over the encapsulated responses to several requests. */
export function leakOf(responses: readonly Uint8Array[]): Leak {
  const places = new Map<string, number[]>()
  for (const response of responses) {
    const sizes = recordSizes(response)
    for (const [i, size] of sizes.entries()) {
      const fromEnd = sizes.length - 1 - i
      const place = i === 0 ? 'head' : fromEnd === 0 ? 'final' : fromEnd === 1 ? 'trailers' : 'body'
      places.set(place, [...(places.get(place) ?? []), size])
    }
  }
  const all = [...places.values()]
  const records = all.reduce((sum, { length }) => sum + length, 0)
  return {
    bitsPerRecord: all.reduce((sum, sizes) => sum + sizes.length * entropy(sizes), 0) / records,
    bitsPerBodyRecord: entropy(places.get('body') ?? []),
    records,
    bytes: responses.reduce((sum, { length }) => sum + length, 0),
  }
}

/** Shannon entropy of the sizes as they occurred, in bits. */
function entropy(sizes: readonly number[]): number {
  const counts = new Map<number, number>()
  for (const size of sizes) counts.set(size, (counts.get(size) ?? 0) + 1)
  let bits = 0
  for (const count of counts.values()) bits -= (count / sizes.length) * Math.log2(count / sizes.length)
  return bits
}
