/** What X-Wing is made of, by @noble: where there is no Node, and for ML-KEM in a Node that has none. */
import { x25519 } from '@noble/curves/ed25519.js'
import { sha3_256, shake256 } from '@noble/hashes/sha3.js'
import { ml_kem768 } from '@noble/post-quantum/ml-kem.js'
import { toBytes } from './bytes.js'
import type { MlKem, Primitives } from './x-wing.js'

export function nobleMlKem(): MlKem<Uint8Array> {
  return {
    expand(seed) {
      const { secretKey, publicKey } = ml_kem768.keygen(seed)
      return { secretKey, publicKey: toBytes(publicKey) }
    },
    encapsulate(publicKey) {
      const { sharedSecret, cipherText } = ml_kem768.encapsulate(publicKey)
      return { secret: sharedSecret, text: cipherText }
    },
    decapsulate: (text, secretKey) => ml_kem768.decapsulate(text, secretKey),
  }
}

export function noblePrimitives(): Primitives<Uint8Array, Uint8Array> {
  return {
    mlKem: nobleMlKem(),
    curve: {
      privateKey: (raw) => raw,
      publicOf: (key) => toBytes(x25519.getPublicKey(key)),
      agree: (privateKey, publicKey) => x25519.getSharedSecret(privateKey, publicKey),
    },
    shake256: (data, dkLen) => toBytes(shake256(data, { dkLen })),
    sha3256: (data) => toBytes(sha3_256(data)),
  }
}
