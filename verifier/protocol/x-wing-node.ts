/**
 * MLKEM768-X25519 (draft-ietf-hpke-pq §4, the X-Wing of draft-connolly-cfrg-xwing-kem §5) over Node's own cryptography, as
 * a KEM for the HPKE library. Both halves and both hashes are libraries': X25519, SHA3-256 and SHAKE256 are OpenSSL's;
 * ML-KEM-768 is OpenSSL's where this Node has it, else @noble's. Here is only how X-Wing joins them.
 *
 * Why not the HPKE library's KEM: in Node 20 that is JavaScript throughout, expands the private key anew for each message
 * and multiplies curve points with big integers, which is most of what sealing adds to a first token; in newer Node it is
 * WebCrypto, which goes to other threads and back. All give the same bytes; a test compares them.
 *
 * The expanded private key lives as long as the key pair does. Refused: DeriveKeyPair, whose definition changed between
 * drafts; export of private keys; X25519 results that are all zero (OpenSSL throws).
 */
import { ml_kem768 } from '@noble/post-quantum/ml-kem.js'
import type * as hpke from 'hpke'
import { type Bytes, concat, fromHex, toBase64Url, toBytes, utf8 } from './bytes.js'
import { KEM_MLKEM768_X25519 } from './hpke-suites.js'
import type { NodeCrypto, NodeKey } from './node-crypto.js'

const NAME = 'MLKEM768-X25519'
/** Bytes: of a seed, of X25519's keys and secrets, and of ML-KEM-768's seed, public key and ciphertext (FIPS 203 table 3). */
const [SEED, CURVE, KEM_SEED, KEM_KEY, KEM_TEXT] = [32, 32, 64, 1184, 1088]
/** draft-connolly-cfrg-xwing-kem §5.3: XWingLabel. */
const LABEL = utf8('\\.//^\\')

/** One half of the hybrid, with keys of its own form. */
interface MlKem {
  /** `d ‖ z` of FIPS 203 algorithm 16, 64 bytes. */
  expand(seed: Uint8Array): { readonly secretKey: unknown; readonly publicKey: Bytes }
  /** The caller has checked the key (FIPS 203 §7.2): @noble does not. */
  encapsulate(publicKey: Uint8Array): { readonly secret: Uint8Array; readonly text: Uint8Array }
  decapsulate(text: Uint8Array, secretKey: unknown): Uint8Array
}

class PublicKey implements hpke.Key {
  readonly algorithm = { name: NAME }
  readonly extractable = true
  readonly type = 'public'
  /** ML-KEM's ‖ X25519's. */
  readonly bytes: Bytes
  constructor(bytes: Bytes) {
    this.bytes = bytes
  }
}

interface Halves {
  readonly mlKem: unknown
  readonly curve: NodeKey
}

class PrivateKey implements hpke.Key {
  readonly algorithm = { name: NAME }
  readonly extractable = false
  readonly type = 'private'
  readonly #halves: Halves
  readonly publicKey: PublicKey
  constructor(mlKem: unknown, curve: NodeKey, publicKey: PublicKey) {
    this.#halves = { mlKem, curve }
    this.publicKey = publicKey
  }
  static halvesOf(key: hpke.Key): Halves {
    return (key as PrivateKey).#halves
  }
}

/** `mlKem` is for tests, which compare both. */
export function nodeMlKem768X25519(
  node: NodeCrypto,
  mlKem: MlKem = opensslMlKem(node) ?? nobleMlKem(),
): hpke.KEMFactory {
  const curve = x25519(node)

  /** Draft §5.2: expandDecapsulationKey. */
  const expand = (seed: Uint8Array): PrivateKey => {
    const expanded = node
      .createHash('shake256', { outputLength: KEM_SEED + CURVE })
      .update(seed)
      .digest()
    const { secretKey, publicKey } = mlKem.expand(expanded.subarray(0, KEM_SEED))
    const skX = curve.privateKey(expanded.subarray(KEM_SEED))
    expanded.fill(0)
    return new PrivateKey(secretKey, skX, new PublicKey(concat(publicKey, curve.publicOf(skX))))
  }
  /** Draft §5.3. */
  const combine = (...parts: readonly [ssM: Uint8Array, ssX: Uint8Array, ctX: Uint8Array, pkX: Uint8Array]): Bytes =>
    new Uint8Array(
      node
        .createHash('sha3-256')
        .update(concat(...parts, LABEL))
        .digest(),
    )

  const kem: hpke.KEM = {
    id: KEM_MLKEM768_X25519,
    type: 'KEM',
    name: NAME,
    Nsecret: 32,
    Nenc: KEM_TEXT + CURVE,
    Npk: KEM_KEY + CURVE,
    Nsk: SEED,
    async DeriveKeyPair() {
      throw new TypeError('DeriveKeyPair is not offered for MLKEM768-X25519')
    },
    async GenerateKeyPair() {
      const privateKey = expand(crypto.getRandomValues(new Uint8Array(SEED)))
      return { privateKey, publicKey: privateKey.publicKey }
    },
    async SerializePublicKey(key) {
      return (key as PublicKey).bytes.slice()
    },
    async DeserializePublicKey(bytes) {
      return new PublicKey(bytes.slice() as Bytes)
    },
    async SerializePrivateKey() {
      throw new TypeError('private keys are not exported')
    },
    async DeserializePrivateKey(seed) {
      return expand(seed)
    },
    async Encap(key) {
      const { bytes } = key as PublicKey
      const pkX = bytes.subarray(KEM_KEY)
      const { secret, text } = mlKem.encapsulate(bytes.subarray(0, KEM_KEY))
      const ephemeral = curve.privateKey(crypto.getRandomValues(new Uint8Array(CURVE)))
      const ctX = curve.publicOf(ephemeral)
      return { shared_secret: combine(secret, curve.agree(ephemeral, pkX), ctX, pkX), enc: concat(text, ctX) }
    },
    async Decap(enc, key) {
      const halves = PrivateKey.halvesOf(key)
      const ctX = enc.subarray(KEM_TEXT)
      const pkX = (key as PrivateKey).publicKey.bytes.subarray(KEM_KEY)
      return combine(
        mlKem.decapsulate(enc.subarray(0, KEM_TEXT), halves.mlKem),
        curve.agree(halves.curve, ctX),
        ctX,
        pkX,
      )
    },
  }
  return () => kem
}

/** DER before the raw bytes of a key: RFC 8410 §4 and §7; draft-ietf-lamps-kyber-certificates §4 and §6, the seed form. */
const DER = {
  x25519Private: '302e020100300506032b656e04220420',
  mlKemPrivate: '3054020100300b060960864801650304040204428040',
  mlKemPublic: '308204b2300b0609608648016503040402038204a100',
} as const

interface Curve {
  privateKey(raw: Uint8Array): NodeKey
  publicOf(key: NodeKey): Bytes
  /** @throws when the result would be all zero: RFC 7748 §6.1. */
  agree(privateKey: NodeKey, publicKey: Uint8Array): Uint8Array
}

function x25519(node: NodeCrypto): Curve {
  return {
    privateKey: (raw) =>
      node.createPrivateKey({ key: concat(fromHex(DER.x25519Private), raw), format: 'der', type: 'pkcs8' }),
    publicOf: (key) => toBytes(node.createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-CURVE)),
    // A JWK, which Node reads many times faster than DER.
    agree: (privateKey, raw) => {
      const key = { kty: 'OKP', crv: 'X25519', x: toBase64Url(raw) } as const
      return node.diffieHellman({ privateKey, publicKey: node.createPublicKey({ key, format: 'jwk' }) })
    },
  }
}

/** Undefined where this Node has no ML-KEM. */
export function opensslMlKem(node: NodeCrypto): MlKem | undefined {
  const { encapsulate, decapsulate } = node
  if (encapsulate === undefined || decapsulate === undefined) return undefined
  return {
    expand(seed) {
      const key = concat(fromHex(DER.mlKemPrivate), seed)
      const secretKey = node.createPrivateKey({ key, format: 'der', type: 'pkcs8' })
      key.fill(0)
      const spki = node.createPublicKey(secretKey).export({ format: 'der', type: 'spki' })
      return { secretKey, publicKey: toBytes(spki.subarray(-KEM_KEY)) }
    },
    encapsulate(raw) {
      const key = concat(fromHex(DER.mlKemPublic), raw)
      const { sharedKey, ciphertext } = encapsulate(node.createPublicKey({ key, format: 'der', type: 'spki' }))
      return { secret: sharedKey, text: ciphertext }
    },
    decapsulate: (text, secretKey) => decapsulate(secretKey as NodeKey, text),
  }
}

export function nobleMlKem(): MlKem {
  return {
    expand(seed) {
      const { secretKey, publicKey } = ml_kem768.keygen(seed)
      return { secretKey, publicKey: toBytes(publicKey) }
    },
    encapsulate(publicKey) {
      const { sharedSecret, cipherText } = ml_kem768.encapsulate(publicKey)
      return { secret: sharedSecret, text: cipherText }
    },
    decapsulate: (text, secretKey) => ml_kem768.decapsulate(text, secretKey as Uint8Array),
  }
}
