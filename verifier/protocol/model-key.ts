/**
 * The release of a weights key (PROTOCOL.md §8): what a model owner signs for one boot of one worker, and what the worker
 * takes apart. Signing is the owner's, checking is `enclave/model-key.ts`.
 */
import { FormatError } from './errors.js'

/** Inner path and media type of a release. */
export const PATH_MODEL_KEY = '/v1/model-key'
export const MEDIA_TYPE_MODEL_KEY = 'application/jose'
export const MODEL_KEY_TYPE = 'subrosa-model-key+jwt'
/** Longest time a release may be used after it was signed, in seconds. */
export const MAX_MODEL_KEY_LIFETIME_S = 300

/** Binary members are base64url without padding. */
export interface ModelKeyPayload {
  /** SHA-256(statement) of the one boot it is meant for, 32 bytes. */
  readonly stmt: string
  /** Weights root of the one model it is meant for, 32 bytes. */
  readonly weights: string
  /** Seconds since the epoch, on the owner's clock. */
  readonly iat: number
  readonly exp: number
  /** age identity (c2sp.org/age) that opens the weights. Secret. */
  readonly key: string
}

/** Age identities of the two native kinds; only its shape, nothing of its checksum. */
export const AGE_IDENTITY: RegExp = /^AGE-SECRET-KEY-(PQ-)?1[0-9A-Z]{40,4000}$/

/** @throws FormatError `model-key.payload` that quotes nothing, on anything but exactly these members. */
export function parseModelKeyPayload(value: unknown): ModelKeyPayload {
  const members = typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
  const { stmt, weights, iat, exp, key } = members
  const digest = /^[\w-]{43}$/
  if (
    Object.keys(members).length === 5 &&
    typeof stmt === 'string' &&
    digest.test(stmt) &&
    typeof weights === 'string' &&
    digest.test(weights) &&
    Number.isSafeInteger(iat) &&
    Number.isSafeInteger(exp) &&
    typeof key === 'string' &&
    AGE_IDENTITY.test(key)
  ) {
    return { stmt, weights, iat: Number(iat), exp: Number(exp), key }
  }
  throw new FormatError('model-key.payload', 'expected stmt, weights, iat, exp and an age identity, and nothing else')
}
