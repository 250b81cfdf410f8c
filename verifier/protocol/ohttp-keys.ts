/**
 * OHTTP key configurations (RFC 9458 §3) and the application/ohttp-keys list (§3.2), plus the routing hint.
 *
 * A configuration says which public key to seal to and which symmetric algorithms go with it. Nothing here is trusted:
 * a client uses a configuration only after its hash was found in verified evidence. Refused: KEMs whose key length is
 * not known here, empty or ragged algorithm lists, trailing bytes.
 */
import { ByteReader, type Bytes, concat, toBase64Url } from './bytes.js'
import { FormatError } from './errors.js'
import { sha256 } from './hash.js'
import { type HpkeSuite, isSupported, KEM_MLKEM768_X25519, KEM_SIZES, KEM_X25519_HKDF_SHA256 } from './hpke-suites.js'

/** RFC 9458 §3.1: key_id u8 ‖ kem_id u16 ‖ public_key[Npk] ‖ length u16 ‖ (kdf_id u16 ‖ aead_id u16)… */
export interface KeyConfiguration {
  readonly keyId: number
  readonly kemId: number
  readonly publicKey: Bytes
  readonly algorithms: readonly { readonly kdfId: number; readonly aeadId: number }[]
  /** The exact bytes it was parsed from or encodes to. */
  readonly encoded: Bytes
}

/** Outer header with the routing hint: which key a request is sealed to. Unauthenticated, so only ever a hint. */
export const ROUTING_HINT_HEADER = 'subrosa-key'
/** Most algorithm pairs read from one configuration. */
export const MAX_ALGORITHMS = 16
/** Most configurations read from one list. */
export const MAX_CONFIGURATIONS = 64

/** @throws FormatError on anything but one whole configuration with a known KEM. */
export function parseKeyConfiguration(bytes: Uint8Array): KeyConfiguration {
  const reader = new ByteReader(bytes, 'key configuration')
  const keyId = reader.u8()
  const kemId = reader.u16be()
  const sizes = KEM_SIZES.get(kemId)
  if (sizes === undefined) throw new FormatError('ohttp-keys.kem', `key configuration: KEM ${kemId} is not supported`)
  const publicKey = reader.take(sizes.Npk)
  const length = reader.u16be()
  if (length === 0 || length % 4 !== 0 || length > 4 * MAX_ALGORITHMS) {
    throw new FormatError('ohttp-keys.algorithms', `key configuration: ${length} bytes of symmetric algorithms`)
  }
  const algorithms = Array.from({ length: length / 4 }, () => ({ kdfId: reader.u16be(), aeadId: reader.u16be() }))
  reader.end()
  return { keyId, kemId, publicKey, algorithms, encoded: new Uint8Array(bytes) }
}

/** @throws RangeError when a number does not fit its field or the key has the wrong length. */
export function encodeKeyConfiguration(fields: Omit<KeyConfiguration, 'encoded'>): KeyConfiguration {
  const { keyId, kemId, publicKey, algorithms } = fields
  if (!Number.isInteger(keyId) || keyId < 0 || keyId > 255) throw new RangeError('key id: expected 0 to 255')
  if (publicKey.length !== KEM_SIZES.get(kemId)?.Npk) throw new RangeError('public key: wrong length for its KEM')
  const pairs = algorithms.map(({ kdfId, aeadId }) => concat(u16(kdfId), u16(aeadId)))
  return { ...fields, encoded: concat(new Uint8Array([keyId]), u16(kemId), publicKey, u16(4 * pairs.length), ...pairs) }
}

/**
 * application/ohttp-keys: each configuration behind its u16 length. Configurations with a KEM unknown here are skipped,
 * as §3.2 intends; a malformed one makes the list malformed. @throws FormatError
 */
export function parseKeyConfigurations(bytes: Uint8Array): readonly KeyConfiguration[] {
  const reader = new ByteReader(bytes, 'key configuration list')
  const list: KeyConfiguration[] = []
  for (let count = 0; reader.remaining > 0; count++) {
    if (count === MAX_CONFIGURATIONS) throw new FormatError('ohttp-keys.count', 'key configuration list: too long')
    const item = reader.take(reader.u16be())
    try {
      list.push(parseKeyConfiguration(item))
    } catch (error) {
      if (!(error instanceof FormatError && error.code === 'ohttp-keys.kem')) throw error
    }
  }
  return list
}

export function encodeKeyConfigurations(list: readonly { readonly encoded: Uint8Array }[]): Bytes {
  return concat(...list.flatMap(({ encoded }) => [u16(encoded.length), encoded]))
}

/** SHA-256 of the exact configuration bytes: what evidence names. */
export function configurationHash(encoded: Uint8Array): Bytes {
  return sha256(encoded)
}

/** base64url of the first 16 bytes of the configuration hash: lets a router find the worker that holds the key. */
export function routingHint(encoded: Uint8Array): string {
  return toBase64Url(configurationHash(encoded).subarray(0, 16))
}

/** The first listed suite that is supported here; the worker's order decides. @throws FormatError when there is none. */
export function suiteOf(configuration: KeyConfiguration): HpkeSuite {
  for (const { kdfId, aeadId } of configuration.algorithms) {
    const suite = { kemId: configuration.kemId, kdfId, aeadId }
    if (isSupported(suite)) return suite
  }
  throw new FormatError('ohttp-keys.algorithms', 'key configuration: no supported symmetric algorithms')
}

/** The name a policy uses for the configuration's KEM (`channel.suites`). */
export function suiteNameOf(configuration: KeyConfiguration): 'MLKEM768-X25519' | 'X25519' | undefined {
  if (configuration.kemId === KEM_MLKEM768_X25519) return 'MLKEM768-X25519'
  if (configuration.kemId === KEM_X25519_HKDF_SHA256) return 'X25519'
  return undefined
}

function u16(value: number): Bytes {
  if (!Number.isInteger(value) || value < 0 || value > 0xffff) throw new RangeError(`u16: got ${value}`)
  return new Uint8Array([value >>> 8, value & 0xff])
}
