/**
 * Signed HPKE key configurations: the last rung of the key ladder (PROTOCOL.md §5). The identity key of an attested
 * statement vouches for one RFC 9458 key configuration between two instants.
 *
 * WebCrypto Ed25519. A signature that verifies says who signed, not that the window includes now: callers check both.
 */
import { type Bytes, concat, toBytes } from './bytes.js'
import { CborFields, type CborKey, type CborValue, decodeCbor, domain, encodeCbor, expectArray } from './cbor.js'
import { DOMAIN_KEY_CONFIGURATION } from './constants.js'
import { FormatError } from './errors.js'

export interface SignedKeyConfiguration {
  /** The exact bytes of one RFC 9458 §3 key configuration. */
  readonly configuration: Bytes
  /** Seconds since the epoch, inclusive. */
  readonly notBefore: number
  /** Seconds since the epoch, exclusive. */
  readonly notAfter: number
  /** Ed25519, 64 bytes. */
  readonly signature: Bytes
}

/** What is signed: label ‖ 0x00 ‖ CBOR [SHA-256(statement), configuration, notBefore, notAfter]. */
export function keyConfigurationMessage(
  statementDigest: Uint8Array,
  signed: Pick<SignedKeyConfiguration, 'configuration' | 'notBefore' | 'notAfter'>,
): Bytes {
  return concat(
    domain(DOMAIN_KEY_CONFIGURATION),
    encodeCbor([statementDigest, signed.configuration, signed.notBefore, signed.notAfter]),
  )
}

/** Whether the identity key of that statement signed exactly this configuration and window. Never throws on bad bytes. */
export async function verifyKeyConfiguration(
  identityKey: Uint8Array,
  statementDigest: Uint8Array,
  signed: SignedKeyConfiguration,
): Promise<boolean> {
  return verifyEd25519(identityKey, signed.signature, keyConfigurationMessage(statementDigest, signed))
}

/** RFC 8032 Ed25519 over the message; false on any malformed key or signature. */
export async function verifyEd25519(
  publicKey: Uint8Array,
  signature: Uint8Array,
  message: Uint8Array,
): Promise<boolean> {
  if (publicKey.length !== 32 || signature.length !== 64) return false
  try {
    const key = await crypto.subtle.importKey('raw', toBytes(publicKey), { name: 'Ed25519' }, false, ['verify'])
    return await crypto.subtle.verify('Ed25519', key, toBytes(signature), toBytes(message))
  } catch {
    return false
  }
}

/** The list a worker publishes and a bundle carries: CBOR array of maps, newest first. */
export function encodeSignedKeyConfigurations(list: readonly SignedKeyConfiguration[]): Bytes {
  return encodeCbor(
    list.map(
      (item) =>
        new Map<CborKey, CborValue>([
          ['configuration', item.configuration],
          ['not_before', item.notBefore],
          ['not_after', item.notAfter],
          ['signature', item.signature],
        ]),
    ),
  )
}

/** @throws FormatError on anything but one to four entries with windows in order. */
export function parseSignedKeyConfigurations(bytes: Uint8Array): readonly SignedKeyConfiguration[] {
  const items = expectArray(decodeCbor(bytes, 64 * 1024), 'key configurations')
  if (items.length < 1 || items.length > 4) {
    throw new FormatError('keys.count', `key configurations: expected 1 to 4, got ${items.length}`)
  }
  return items.map((item) => {
    const f = new CborFields(item, 'key configuration')
    const signed = {
      configuration: f.bytes('configuration'),
      notBefore: f.uint('not_before'),
      notAfter: f.uint('not_after'),
      signature: f.bytes('signature', 64),
    }
    f.end()
    if (signed.notAfter <= signed.notBefore) throw new FormatError('keys.window', 'key configuration: window is empty')
    return signed
  })
}
