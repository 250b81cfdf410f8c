/**
 * HPKE's identifiers and sizes (RFC 9180 §7, draft-ietf-hpke-pq §4), apart from the cryptography in `hpke.ts`: reading and
 * judging key configurations takes these and not the library.
 */
export const KEM_X25519_HKDF_SHA256 = 0x0020
export const KEM_MLKEM768_X25519 = 0x647a
export const KDF_HKDF_SHA256 = 0x0001
export const AEAD_AES_128_GCM = 0x0001
export const AEAD_AES_256_GCM = 0x0002
export const AEAD_CHACHA20_POLY1305 = 0x0003

export interface HpkeSuite {
  readonly kemId: number
  readonly kdfId: number
  readonly aeadId: number
}

/** Bytes in an encapsulation and in serialised keys (RFC 9180 §7.1, draft-ietf-hpke-pq §4). */
export const KEM_SIZES: ReadonlyMap<number, { readonly Nenc: number; readonly Npk: number; readonly Nsk: number }> =
  new Map([
    [KEM_X25519_HKDF_SHA256, { Nenc: 32, Npk: 32, Nsk: 32 }],
    [KEM_MLKEM768_X25519, { Nenc: 1120, Npk: 1216, Nsk: 32 }],
  ])

const AEAD_IDS: readonly number[] = [AEAD_AES_128_GCM, AEAD_AES_256_GCM, AEAD_CHACHA20_POLY1305]

export function isSupported(suite: HpkeSuite): boolean {
  return KEM_SIZES.has(suite.kemId) && suite.kdfId === KDF_HKDF_SHA256 && AEAD_IDS.includes(suite.aeadId)
}
