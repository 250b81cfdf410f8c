/**
 * What X-Wing is made of, by Node's own cryptography: X25519, SHA3-256 and SHAKE256 by OpenSSL, and ML-KEM-768 where this
 * Node has it (from 24.7 on), which in Node 20 it has not.
 */
import { type Bytes, concat, fromHex, toBase64Url, toBytes } from './bytes.js'
import type { NodeCrypto, NodeKey } from './node-crypto.js'
import type { Curve, MlKem, Primitives } from './x-wing.js'

/** DER before the raw bytes of a key: RFC 8410 §4 and §7; draft-ietf-lamps-kyber-certificates §4 and §6, the seed form. */
const DER = {
  x25519Private: '302e020100300506032b656e04220420',
  mlKemPrivate: '3054020100300b060960864801650304040204428040',
  mlKemPublic: '308204b2300b0609608648016503040402038204a100',
} as const

/** With the given ML-KEM. */
export function nodePrimitives<KemKey>(node: NodeCrypto, mlKem: MlKem<KemKey>): Primitives<KemKey, NodeKey> {
  const hashed = (name: string, data: Uint8Array, options?: { outputLength: number }): Bytes =>
    new Uint8Array(node.createHash(name, options).update(data).digest())
  return {
    mlKem,
    curve: x25519(node),
    shake256: (data, outputLength) => hashed('shake256', data, { outputLength }),
    sha3256: (data) => hashed('sha3-256', data),
  }
}

function x25519(node: NodeCrypto): Curve<NodeKey> {
  const raw = (key: Uint8Array): NodeKey =>
    node.createPublicKey({ key, format: 'raw-public', asymmetricKeyType: 'x25519' })
  // Where it knows no raw keys, which it reads fastest: a JWK, which it reads many times faster than DER.
  const jwk = (key: Uint8Array): NodeKey =>
    node.createPublicKey({ key: { kty: 'OKP', crv: 'X25519', x: toBase64Url(key) }, format: 'jwk' })
  const publicKey = readsRawKeys(raw) ? raw : jwk
  return {
    privateKey: (raw) =>
      node.createPrivateKey({ key: concat(fromHex(DER.x25519Private), raw), format: 'der', type: 'pkcs8' }),
    publicOf: (key) => toBytes(node.createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-32)),
    agree: (privateKey, raw) => node.diffieHellman({ privateKey, publicKey: publicKey(raw) }),
  }
}

function readsRawKeys(read: (key: Uint8Array) => NodeKey): boolean {
  try {
    return read(new Uint8Array(32).fill(9)) !== undefined
  } catch {
    return false
  }
}

/** Undefined where this Node has no ML-KEM. */
export function opensslMlKem(node: NodeCrypto): MlKem<NodeKey> | undefined {
  const { encapsulate, decapsulate } = node
  if (encapsulate === undefined || decapsulate === undefined) return undefined
  return {
    expand(seed) {
      const key = concat(fromHex(DER.mlKemPrivate), seed)
      const secretKey = node.createPrivateKey({ key, format: 'der', type: 'pkcs8' })
      key.fill(0)
      const spki = node.createPublicKey(secretKey).export({ format: 'der', type: 'spki' })
      return { secretKey, publicKey: toBytes(spki.subarray(-1184)) }
    },
    encapsulate(raw) {
      const key = concat(fromHex(DER.mlKemPublic), raw)
      const { sharedKey, ciphertext } = encapsulate(node.createPublicKey({ key, format: 'der', type: 'spki' }))
      return { secret: sharedKey, text: ciphertext }
    },
    decapsulate: (text, secretKey) => decapsulate(secretKey, text),
  }
}
