/**
 * MLKEM768-X25519 (draft-ietf-hpke-pq §4, the X-Wing of draft-connolly-cfrg-xwing-kem §5) as a KEM for the HPKE library.
 * Both halves and both hashes are libraries', from `x-wing-node.ts` or `x-wing-noble.ts`: here is only how X-Wing joins them.
 *
 * Why not the HPKE library's KEM: it expands the private key anew for each message and multiplies curve points with big
 * integers, which is most of what sealing adds to a first token, and it brings every other curve to the browser with it;
 * in newer Node it is WebCrypto, which goes to other threads and back. All give the same bytes; a test compares them.
 *
 * The expanded private key lives as long as the key pair does. Refused: DeriveKeyPair, whose definition changed between
 * drafts; export of private keys; X25519 results that are all zero and ML-KEM public keys out of range (the libraries throw).
 */
import type * as hpke from 'hpke'
import { type Bytes, concat, utf8 } from './bytes.js'
import { KEM_MLKEM768_X25519 } from './hpke-suites.js'

const NAME = 'MLKEM768-X25519'
/** Bytes: of a seed, of X25519's keys and secrets, and of ML-KEM-768's seed, public key and ciphertext (FIPS 203 table 3). */
const [SEED, CURVE, KEM_SEED, KEM_KEY, KEM_TEXT] = [32, 32, 64, 1184, 1088]
/** draft-connolly-cfrg-xwing-kem §5.3: XWingLabel. */
const LABEL = utf8('\\.//^\\')

/** ML-KEM-768, with private keys of its own form. */
export interface MlKem<Key> {
  /** `seed` is `d ‖ z` of FIPS 203 algorithm 16, 64 bytes. */
  expand(seed: Uint8Array): { readonly secretKey: Key; readonly publicKey: Bytes }
  /** @throws on a public key that fails the modulus check of FIPS 203 §7.2. */
  encapsulate(publicKey: Uint8Array): { readonly secret: Uint8Array; readonly text: Uint8Array }
  decapsulate(text: Uint8Array, secretKey: Key): Uint8Array
}

/** X25519, with private keys of its own form. */
export interface Curve<Key> {
  privateKey(raw: Uint8Array): Key
  publicOf(key: Key): Bytes
  /** @throws when the result would be all zero: RFC 7748 §6.1. */
  agree(privateKey: Key, publicKey: Uint8Array): Uint8Array
}

export interface Primitives<KemKey, CurveKey> {
  readonly mlKem: MlKem<KemKey>
  readonly curve: Curve<CurveKey>
  /** A new array. */
  shake256(data: Uint8Array, length: number): Bytes
  /** A new array. */
  sha3256(data: Uint8Array): Bytes
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

class PrivateKey<KemKey, CurveKey> implements hpke.Key {
  readonly algorithm = { name: NAME }
  readonly extractable = false
  readonly type = 'private'
  readonly publicKey: PublicKey
  readonly #mlKem: KemKey
  readonly #curve: CurveKey
  constructor(mlKem: KemKey, curve: CurveKey, publicKey: PublicKey) {
    this.#mlKem = mlKem
    this.#curve = curve
    this.publicKey = publicKey
  }
  /** Only this module sees them: nothing prints or copies a private field. */
  static halvesOf<K, C>(key: PrivateKey<K, C>): { readonly mlKem: K; readonly curve: C } {
    return { mlKem: key.#mlKem, curve: key.#curve }
  }
}

export function mlKem768X25519<KemKey, CurveKey>(primitives: Primitives<KemKey, CurveKey>): hpke.KEMFactory {
  const { mlKem, curve, shake256, sha3256 } = primitives

  /** Draft §5.2: expandDecapsulationKey. */
  const expand = (seed: Uint8Array): PrivateKey<KemKey, CurveKey> => {
    const expanded = shake256(seed, KEM_SEED + CURVE)
    const { secretKey, publicKey } = mlKem.expand(expanded.slice(0, KEM_SEED))
    const skX = curve.privateKey(expanded.slice(KEM_SEED))
    expanded.fill(0)
    return new PrivateKey(secretKey, skX, new PublicKey(concat(publicKey, curve.publicOf(skX))))
  }
  /** Draft §5.3. */
  const combine = (...parts: readonly [ssM: Uint8Array, ssX: Uint8Array, ctX: Uint8Array, pkX: Uint8Array]): Bytes =>
    sha3256(concat(...parts, LABEL))

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
      const mine = key as PrivateKey<KemKey, CurveKey>
      const halves = PrivateKey.halvesOf(mine)
      const [text, ctX] = [enc.subarray(0, KEM_TEXT), enc.subarray(KEM_TEXT)]
      const ssM = mlKem.decapsulate(text, halves.mlKem)
      return combine(ssM, curve.agree(halves.curve, ctX), ctX, mine.publicKey.bytes.subarray(KEM_KEY))
    },
  }
  return () => kem
}
