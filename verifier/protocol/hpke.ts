/**
 * HPKE (RFC 9180), base mode, and nothing else of it. Only importer of the HPKE library.
 *
 * KEMs: DHKEM(X25519, HKDF-SHA256) 0x0020 and MLKEM768-X25519 0x647a (draft-ietf-hpke-pq §4); KDF HKDF-SHA256 0x0001;
 * AEADs AES-128-GCM, AES-256-GCM, ChaCha20Poly1305. A KEM uses what is fastest of what the runtime has: Node's own
 * cryptography, else WebCrypto, else @noble; all give the same bytes. Refused: every other identifier, PSK and auth modes, and DeriveKeyPair, whose definition
 * for 0x647a changed between drafts: keys are generated, or imported from their 32-byte serialisation.
 */
import * as noble from '@panva/hpke-noble'
import * as hpke from 'hpke'
import { aesGcm } from './aes-gcm.js'
import { type Bytes, toBytes } from './bytes.js'
import { SubrosaError } from './errors.js'
import { nodeHkdf } from './hkdf-node.js'
import {
  AEAD_AES_128_GCM,
  AEAD_AES_256_GCM,
  AEAD_CHACHA20_POLY1305,
  type HpkeSuite,
  isSupported,
  KDF_HKDF_SHA256,
  KEM_MLKEM768_X25519,
  KEM_X25519_HKDF_SHA256,
} from './hpke-suites.js'
import { nodeCrypto } from './node-crypto.js'
import { mlKem768X25519 } from './x-wing.js'
import { nobleMlKem, noblePrimitives } from './x-wing-noble.js'
import { nodePrimitives, opensslMlKem } from './x-wing-node.js'

export type HpkeErrorCode =
  | 'hpke.suite-unsupported'
  | 'hpke.public-key'
  | 'hpke.private-key'
  | 'hpke.encap'
  | 'hpke.decap'
  | 'hpke.open'

/**
 * An HPKE operation failed. `hpke.open` and `hpke.decap` mean the bytes are not what that key's peer sealed.
 * What to do: discard the message; the same bytes will never open.
 */
export class HpkeError extends SubrosaError {
  declare readonly code: HpkeErrorCode
  constructor(code: HpkeErrorCode, message: string, options?: { cause?: unknown }) {
    super(code, message, options)
  }
}

export * from './hpke-suites.js'

/** An AEAD of RFC 9180 §7.3. `open` rejects with HpkeError `hpke.open`. */
export interface Aead {
  readonly Nk: number
  readonly Nn: number
  readonly Nt: number
  seal(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, plaintext: Uint8Array): Promise<Bytes>
  open(key: Uint8Array, nonce: Uint8Array, aad: Uint8Array, ciphertext: Uint8Array): Promise<Bytes>
}

/** A private key that only this module can use; drop every reference to it to forget it. */
export interface HpkePrivateKey {
  readonly kemId: number
  readonly keyPair: unknown
}

export interface SenderContext {
  /** The encapsulation, to be sent ahead of the first ciphertext. */
  readonly enc: Bytes
  /** RFC 9180 §5.2: each call uses the next sequence number. */
  seal(aad: Uint8Array, plaintext: Uint8Array): Promise<Bytes>
  /** RFC 9180 §5.3. */
  export(context: Uint8Array, length: number): Promise<Bytes>
}

export interface RecipientContext {
  /** @throws HpkeError `hpke.open`; the sequence number then does not advance. */
  open(aad: Uint8Array, ciphertext: Uint8Array): Promise<Bytes>
  export(context: Uint8Array, length: number): Promise<Bytes>
}

/** @throws HpkeError `hpke.suite-unsupported`. */
export async function generateKeyPair(kemId: number): Promise<{ publicKey: Bytes; privateKey: HpkePrivateKey }> {
  const kem = await kemFor(kemId)
  const keyPair = await kem.GenerateKeyPair(false)
  return { publicKey: toBytes(await kem.SerializePublicKey(keyPair.publicKey)), privateKey: { kemId, keyPair } }
}

/** Imports a serialised key pair. @throws HpkeError when either half has the wrong form. */
export async function importKeyPair(kemId: number, secret: Uint8Array, publicKey: Uint8Array): Promise<HpkePrivateKey> {
  const kem = await kemFor(kemId)
  const pkR = await deserializePublicKey(kem, publicKey)
  try {
    return { kemId, keyPair: { publicKey: pkR, privateKey: await kem.DeserializePrivateKey(toBytes(secret), false) } }
  } catch (cause) {
    throw new HpkeError('hpke.private-key', `private key: not one of KEM ${kemId}`, { cause })
  }
}

/** RFC 9180 §5.1.1 SetupBaseS. @throws HpkeError on an unsupported suite or an invalid public key. */
export async function setupBaseS(suite: HpkeSuite, publicKey: Uint8Array, info: Uint8Array): Promise<SenderContext> {
  const library = await cipherSuite(suite)
  const pkR = await deserializePublicKey(library, publicKey)
  try {
    const { encapsulatedSecret, ctx } = await library.SetupSender(pkR, { info })
    return {
      enc: toBytes(encapsulatedSecret),
      seal: async (aad, plaintext) => toBytes(await ctx.Seal(plaintext, aad)),
      export: async (context, length) => toBytes(await ctx.Export(context, length)),
    }
  } catch (cause) {
    throw new HpkeError('hpke.encap', 'encapsulation failed', { cause })
  }
}

/** RFC 9180 §5.1.1 SetupBaseR. @throws HpkeError on an unsupported suite or an encapsulation this key cannot open. */
export async function setupBaseR(
  suite: HpkeSuite,
  enc: Uint8Array,
  privateKey: HpkePrivateKey,
  info: Uint8Array,
): Promise<RecipientContext> {
  if (privateKey.kemId !== suite.kemId) throw new HpkeError('hpke.decap', `the key is not for KEM ${suite.kemId}`)
  const library = await cipherSuite(suite)
  const keyPair = privateKey.keyPair as hpke.KeyPair
  try {
    const ctx = await library.SetupRecipient(keyPair, toBytes(enc), { info })
    return {
      open: (aad, ciphertext) => openWith(() => ctx.Open(ciphertext, aad)),
      export: async (context, length) => toBytes(await ctx.Export(context, length)),
    }
  } catch (cause) {
    throw new HpkeError('hpke.decap', 'decapsulation failed', { cause })
  }
}

/** The AEAD with that identifier. @throws HpkeError `hpke.suite-unsupported`. */
export function aead(aeadId: number): Aead {
  const found = AEADS.get(aeadId)
  if (found === undefined) throw new HpkeError('hpke.suite-unsupported', `AEAD ${aeadId} is not supported`)
  return found
}

/** RFC 5869 §2.2 with SHA-256. */
export async function hkdfExtract(salt: Uint8Array, ikm: Uint8Array): Promise<Bytes> {
  return toBytes(await KDF().Extract(salt, ikm))
}

/** RFC 5869 §2.3 with SHA-256. */
export async function hkdfExpand(prk: Uint8Array, info: Uint8Array, length: number): Promise<Bytes> {
  return toBytes(await KDF().Expand(prk, info, length))
}

function aesGcmAead(Nk: number): Aead {
  const { seal, open } = aesGcm()
  return { Nk, Nn: 12, Nt: 16, seal, open: (...input) => openWith(() => open(...input)) }
}

function chaCha20Poly1305(): Aead {
  const library = noble.AEAD_ChaCha20Poly1305()
  return {
    Nk: 32,
    Nn: 12,
    Nt: 16,
    seal: async (key, nonce, aad, plaintext) => toBytes(await library.Seal(key, nonce, aad, plaintext)),
    open: (key, nonce, aad, ciphertext) => openWith(() => library.Open(key, nonce, aad, ciphertext)),
  }
}

/** In this thread: WebCrypto's answers wait for another one, which costs more than hashing a hundred bytes here. */
const KDF: hpke.KDFFactory = kdfFactory()

function kdfFactory(): hpke.KDFFactory {
  const node = nodeCrypto()
  if (node === undefined) return noble.KDF_HKDF_SHA256
  const kdf = { ...noble.KDF_HKDF_SHA256(), ...nodeHkdf(node) }
  return () => kdf
}

const AEADS: ReadonlyMap<number, Aead> = new Map([
  [AEAD_AES_128_GCM, aesGcmAead(16)],
  [AEAD_AES_256_GCM, aesGcmAead(32)],
  [AEAD_CHACHA20_POLY1305, chaCha20Poly1305()],
])

async function openWith(open: () => Promise<Uint8Array>): Promise<Bytes> {
  try {
    return toBytes(await open())
  } catch (cause) {
    throw new HpkeError('hpke.open', 'the ciphertext does not open under this key', { cause })
  }
}

const KEMS: ReadonlyMap<number, { readonly native: hpke.KEMFactory; readonly portable: hpke.KEMFactory }> = new Map([
  [
    KEM_X25519_HKDF_SHA256,
    {
      native: hpke.KEM_DHKEM_X25519_HKDF_SHA256 as unknown as hpke.KEMFactory,
      portable: noble.KEM_DHKEM_X25519_HKDF_SHA256,
    },
  ],
  [KEM_MLKEM768_X25519, { native: hpke.KEM_MLKEM768_X25519, portable: mlKem768X25519(noblePrimitives()) }],
])

/** Node's own cryptography, without the ways to other threads and back that WebCrypto takes. */
function nodeKem(kemId: number): hpke.KEMFactory | undefined {
  const node = kemId === KEM_MLKEM768_X25519 ? nodeCrypto() : undefined
  if (node === undefined) return undefined
  const openssl = opensslMlKem(node)
  return openssl === undefined
    ? mlKem768X25519(nodePrimitives(node, nobleMlKem()))
    : mlKem768X25519(nodePrimitives(node, openssl))
}

const chosenKems = new Map<number, Promise<hpke.KEMFactory>>()

/** Node's, else native when one key can be generated natively, else portable; decided once per process, so keys never mix. */
async function kemFactory(kemId: number): Promise<hpke.KEMFactory> {
  const known = chosenKems.get(kemId)
  if (known !== undefined) return known
  const choices = KEMS.get(kemId)
  if (choices === undefined) throw new HpkeError('hpke.suite-unsupported', `KEM ${kemId} is not supported`)
  const ownOfNode = nodeKem(kemId)
  const choice =
    ownOfNode !== undefined
      ? Promise.resolve(ownOfNode)
      : new hpke.CipherSuite(choices.native, KDF, hpke.AEAD_AES_128_GCM).GenerateKeyPair(false).then(
          () => choices.native,
          () => choices.portable,
        )
  chosenKems.set(kemId, choice)
  return choice
}

/** The library's suite, over our AEADs. @throws HpkeError `hpke.suite-unsupported`. */
async function cipherSuite(suite: HpkeSuite): Promise<hpke.CipherSuite> {
  if (!isSupported(suite)) {
    throw new HpkeError(
      'hpke.suite-unsupported',
      `suite ${suite.kemId}/${suite.kdfId}/${suite.aeadId} is not supported`,
    )
  }
  const { Nk, Nn, Nt, seal, open } = aead(suite.aeadId)
  const factory: hpke.AEADFactory = () => ({
    id: suite.aeadId,
    type: 'AEAD',
    name: `AEAD ${suite.aeadId}`,
    Nk,
    Nn,
    Nt,
    Seal: seal,
    Open: open,
  })
  return new hpke.CipherSuite(await kemFactory(suite.kemId), KDF, factory)
}

/** Key operations do not depend on KDF and AEAD, so any suite with that KEM does. */
async function kemFor(kemId: number): Promise<hpke.CipherSuite> {
  return cipherSuite({ kemId, kdfId: KDF_HKDF_SHA256, aeadId: AEAD_AES_128_GCM })
}

async function deserializePublicKey(library: hpke.CipherSuite, publicKey: Uint8Array): Promise<hpke.Key> {
  try {
    return await library.DeserializePublicKey(toBytes(publicKey))
  } catch (cause) {
    throw new HpkeError('hpke.public-key', `public key: not one of KEM ${library.KEM.id}`, { cause })
  }
}
