/**
 * AES-GCM (NIST SP 800-38D) with 12-byte nonces and 16-byte tags, for the records of the channel. In Node by its own
 * synchronous cipher: WebCrypto takes every record to another thread and back, which for a record of one token costs
 * many times the encryption. Elsewhere by WebCrypto. Both give the same bytes; a test compares them.
 */
import { type Bytes, concat, toBytes } from './bytes.js'
import { type NodeCrypto, nodeCrypto } from './node-crypto.js'

const TAG_BYTES = 16

export interface AesGcm {
  seal(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): Promise<Bytes>
  /** Rejects unless every byte is authentic; nothing of the plaintext is given out before that is known. */
  open(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, ciphertext: Uint8Array): Promise<Bytes>
}

/** Whatever this platform is fastest with. The key has 16 or 32 bytes, and its length names the algorithm. */
export function aesGcm(): AesGcm {
  const node = nodeCrypto()
  return node === undefined ? webAesGcm() : nodeAesGcm(node)
}

export function nodeAesGcm(node: NodeCrypto): AesGcm {
  const nameFor = (key: Uint8Array): string => `aes-${8 * key.length}-gcm`
  const options = { authTagLength: TAG_BYTES }
  return {
    async seal(key, nonce, aad, plaintext) {
      const cipher = node.createCipheriv(nameFor(key), key, nonce, options)
      cipher.setAAD(aad)
      return concat(cipher.update(plaintext), cipher.final(), cipher.getAuthTag())
    },
    async open(key, nonce, aad, ciphertext) {
      const end = ciphertext.length - TAG_BYTES
      if (end < 0) throw new RangeError('ciphertext: shorter than its tag')
      const decipher = node.createDecipheriv(nameFor(key), key, nonce, options)
      decipher.setAAD(aad)
      decipher.setAuthTag(ciphertext.subarray(end))
      return concat(decipher.update(ciphertext.subarray(0, end)), decipher.final())
    },
  }
}

/** WebCrypto's CryptoKey, by a name that Node's and the browser's type libraries share. */
type AesKey = Awaited<ReturnType<typeof crypto.subtle.importKey>>

/** The imported key is remembered as long as its bytes are, so a stream imports it once. */
export function webAesGcm(): AesGcm {
  const imported = new WeakMap<Uint8Array, Promise<AesKey>>()
  const importKey = (key: Uint8Array): Promise<AesKey> => {
    const known = imported.get(key)
    if (known !== undefined) return known
    const fresh = crypto.subtle.importKey('raw', toBytes(key), 'AES-GCM', false, ['encrypt', 'decrypt'])
    imported.set(key, fresh)
    return fresh
  }
  const parameters = (iv: Uint8Array, aad: Uint8Array) => ({
    name: 'AES-GCM',
    iv: toBytes(iv),
    additionalData: toBytes(aad),
    tagLength: 8 * TAG_BYTES,
  })
  return {
    seal: async (key, nonce, aad, plaintext) =>
      new Uint8Array(await crypto.subtle.encrypt(parameters(nonce, aad), await importKey(key), toBytes(plaintext))),
    open: async (key, nonce, aad, ciphertext) =>
      new Uint8Array(await crypto.subtle.decrypt(parameters(nonce, aad), await importKey(key), toBytes(ciphertext))),
  }
}
