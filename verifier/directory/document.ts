/**
 * Directories (PROTOCOL.md §15): many providers' descriptors in one document that anybody may put together. Nobody signs it,
 * for it says nothing: each descriptor stands for itself, and what is left out of it can be had elsewhere.
 */
import * as v from 'valibot'
import { fromUtf8 } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { MAX_DESCRIPTOR_BYTES } from './descriptor.js'

export const DIRECTORY_SCHEMA = 'subrosa-directory/1'
export const MEDIA_TYPE_DIRECTORY = 'application/vnd.subrosa.directory+json'
export const PATH_DIRECTORY = '/.well-known/subrosa-directory'
/** Largest document read, in bytes. */
export const MAX_DIRECTORY_BYTES: number = 4 * 1024 * 1024
export const MAX_DESCRIPTORS = 1024

export interface DirectoryDocument {
  readonly schema: typeof DIRECTORY_SCHEMA
  /** Compact JWS, each to be verified. */
  readonly descriptors: readonly string[]
}

const documentSchema = v.strictObject({
  schema: v.literal(DIRECTORY_SCHEMA),
  descriptors: v.pipe(v.array(v.pipe(v.string(), v.maxLength(MAX_DESCRIPTOR_BYTES))), v.maxLength(MAX_DESCRIPTORS)),
})

/** @throws FormatError `directory.format` on anything but a directory within its bounds. What it lists is not looked at. */
export function parseDirectory(bytes: Uint8Array): DirectoryDocument {
  if (bytes.length > MAX_DIRECTORY_BYTES) {
    throw new FormatError('directory.format', `directory: more than ${MAX_DIRECTORY_BYTES} bytes`)
  }
  let value: unknown
  try {
    value = JSON.parse(fromUtf8(bytes))
  } catch (cause) {
    throw new FormatError('directory.format', 'directory: expected JSON in UTF-8', { cause })
  }
  const result = v.safeParse(documentSchema, value, { abortEarly: true })
  if (result.success) return result.output
  throw new FormatError(
    'directory.format',
    `directory: expected { "schema": "${DIRECTORY_SCHEMA}", "descriptors": [ … ] } with at most ${MAX_DESCRIPTORS} of at most ${MAX_DESCRIPTOR_BYTES} characters`,
  )
}

/** What a directory may say, for `verify-attestation schema directory`. */
export function directoryDocumentSchema(): object {
  return documentSchema
}
