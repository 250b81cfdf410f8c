/** SHA-2 and HMAC, synchronous, the same in Node and in browsers. Only importer of the hash library. */
import { hmac } from '@noble/hashes/hmac.js'
import { sha256 as nobleSha256, sha384 as nobleSha384, sha512 as nobleSha512 } from '@noble/hashes/sha2.js'
import { type Bytes, toBytes } from './bytes.js'

/** FIPS 180-4 SHA-256: 32 bytes. */
export function sha256(data: Uint8Array): Bytes {
  return toBytes(nobleSha256(data))
}

/** FIPS 180-4 SHA-384: 48 bytes. */
export function sha384(data: Uint8Array): Bytes {
  return toBytes(nobleSha384(data))
}

/** FIPS 180-4 SHA-512: 64 bytes. */
export function sha512(data: Uint8Array): Bytes {
  return toBytes(nobleSha512(data))
}

/** A digest over data that comes in pieces; `digest` ends it and is called once. */
export interface HashStream {
  update(piece: Uint8Array): void
  digest(): Bytes
}

/** FIPS 180-4 SHA-384 in pieces: 48 bytes. */
export function createSha384(): HashStream {
  return streamOf(nobleSha384.create())
}

/** RFC 2104 HMAC with SHA-256: 32 bytes. */
export function hmacSha256(key: Uint8Array, data: Uint8Array): Bytes {
  return toBytes(hmac(nobleSha256, key, data))
}

/** HMAC-SHA256 in pieces: 32 bytes. */
export function createHmacSha256(key: Uint8Array): HashStream {
  return streamOf(hmac.create(nobleSha256, key))
}

function streamOf(state: { update(piece: Uint8Array): unknown; digest(): Uint8Array }): HashStream {
  return {
    update: (piece) => {
      state.update(piece)
    },
    digest: () => toBytes(state.digest()),
  }
}
