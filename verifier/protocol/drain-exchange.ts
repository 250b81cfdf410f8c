/**
 * How a worker asks a relay on its host whether it is to leave (PROTOCOL.md §14): the frames of the endorsement exchange around
 * a question that names one boot and an answer of yes or no.
 *
 * Nobody is authenticated. A boot id stands in evidence that everybody is shown, and a host can end its guests anyhow.
 */
import type { Bytes } from './bytes.js'
import { CborFields, type CborKey, type CborValue, decodeCbor, encodeCbor } from './cbor.js'
import { FormatError } from './errors.js'

const QUESTION_SCHEMA = 'subrosa-drain-request/1'
const ANSWER_SCHEMA = 'subrosa-drain/1'
/** Of the statement, in bytes. */
export const BOOT_ID_BYTES = 32
/** Largest question, in bytes. */
const MAX_QUESTION_BYTES = 128
/** Largest answer, in bytes. */
export const MAX_DRAIN_ANSWER_BYTES = 64

/** @throws RangeError unless the boot id has 32 bytes */
export function encodeDrainQuestion(bootId: Bytes): Bytes {
  if (bootId.length !== BOOT_ID_BYTES) {
    throw new RangeError(`boot id: expected ${BOOT_ID_BYTES} bytes, got ${bootId.length}`)
  }
  return encodeCbor(
    new Map<CborKey, CborValue>([
      ['schema', QUESTION_SCHEMA],
      ['boot', bootId],
    ]),
  )
}

/** The boot that asks, 32 bytes; undefined when this is another question. @throws FormatError when it is none at all */
export function parseDrainQuestion(bytes: Uint8Array): Bytes | undefined {
  if (bytes.length > MAX_QUESTION_BYTES) return undefined
  const f = new CborFields(decodeCbor(bytes, MAX_QUESTION_BYTES), 'drain question')
  if (f.text('schema') !== QUESTION_SCHEMA) return undefined
  const bootId = f.bytes('boot', BOOT_ID_BYTES)
  f.end()
  return bootId
}

export function encodeDrainAnswer(drain: boolean): Bytes {
  return encodeCbor(
    new Map<CborKey, CborValue>([
      ['schema', ANSWER_SCHEMA],
      ['drain', drain],
    ]),
  )
}

/** Whether to leave. @throws FormatError on anything but one answer */
export function parseDrainAnswer(bytes: Uint8Array): boolean {
  const f = new CborFields(decodeCbor(bytes, MAX_DRAIN_ANSWER_BYTES), 'drain answer')
  const drain = f.raw('drain')
  if (f.text('schema') !== ANSWER_SCHEMA || typeof drain !== 'boolean') {
    throw new FormatError('drain-exchange', 'drain answer: expected yes or no')
  }
  f.end()
  return drain
}
