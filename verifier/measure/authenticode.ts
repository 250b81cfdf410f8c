/**
 * Authenticode SHA-384 of a PE file ("Windows Authenticode Portable Executable Signature Format" 1.0, "Calculating the PE
 * Image Hash"): what firmware extends when it loads a kernel. Checksum and signatures are left out, so a signed and an
 * unsigned build of one kernel have one hash. PE32+ only.
 */
import type { Bytes } from '../protocol/bytes.js'
import { createSha384 } from '../protocol/hash.js'
import { malformed, parsePe } from './pe.js'

/** 48 bytes. @throws FormatError on anything but a whole PE32+ file. */
export function authenticodeSha384(file: Uint8Array): Bytes {
  const { checksumOffset, certificateEntryOffset, certificateBytes, headerBytes, sections } = parsePe(file)
  const hash = createSha384()
  hash.update(file.subarray(0, checksumOffset))
  hash.update(file.subarray(checksumOffset + 4, certificateEntryOffset))
  hash.update(file.subarray(certificateEntryOffset + 8, headerBytes))
  let hashed = headerBytes
  const present = sections.filter(({ fileBytes }) => fileBytes > 0).sort((a, b) => a.offset - b.offset)
  for (const { offset, fileBytes } of present) {
    hash.update(file.subarray(offset, offset + fileBytes))
    hashed += fileBytes
  }
  const rest = file.length - certificateBytes
  if (rest < hashed) throw malformed('its sections overlap or its signature is longer than what follows them')
  hash.update(file.subarray(hashed, rest))
  return hash.digest()
}
