/**
 * HKDF-SHA256 (RFC 5869) by Node’s own HMAC, as the HPKE library calls it. The library’s own goes through WebCrypto, which takes
 * every hash of a hundred bytes to another thread and back. A test compares the bytes with @noble's.
 */
import { concat } from './bytes.js'
import type { NodeCrypto } from './node-crypto.js'

const HASH_BYTES = 32
const MAX_EXPANDED_BYTES = 255 * HASH_BYTES

export interface Hkdf {
  /** RFC 5869 §2.2. */
  Extract(salt: Uint8Array, ikm: Uint8Array): Promise<Uint8Array>
  /** RFC 5869 §2.3. @throws RangeError above 255 blocks. */
  Expand(prk: Uint8Array, info: Uint8Array, length: number): Promise<Uint8Array>
}

export function nodeHkdf(node: NodeCrypto): Hkdf {
  const hmac = (key: Uint8Array, data: Uint8Array): Uint8Array => {
    const mac = node.createHmac('sha256', key)
    mac.update(data)
    return new Uint8Array(mac.digest())
  }
  return {
    // HMAC pads its key with zeros, so an empty salt is the string of zeros that RFC 5869 asks for.
    Extract: async (salt, ikm) => hmac(salt, ikm),
    Expand: async (prk, info, length) => {
      if (length > MAX_EXPANDED_BYTES) throw new RangeError(`HKDF: at most ${MAX_EXPANDED_BYTES} bytes, got ${length}`)
      const out = new Uint8Array(length)
      let block: Uint8Array = new Uint8Array(0)
      for (let done = 0, counter = 1; done < length; done += HASH_BYTES, counter++) {
        block = hmac(prk, concat(block, info, Uint8Array.of(counter)))
        out.set(block.subarray(0, length - done), done)
      }
      return out
    },
  }
}
