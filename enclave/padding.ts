/**
 * How the worker hides the sizes of answers inside the encryption (PROTOCOL.md P-7.7). Under `tick` every record and
 * every unstreamed body is a multiple of 512 bytes: records by server-sent-event comments, bodies by trailing spaces.
 */
import { type Bytes, utf8 } from '../verifier/protocol/bytes.js'
import type { PaddingMode } from '../verifier/protocol/statement.js'

export const PADDING_BLOCK_BYTES = 512
/** How long records are coalesced under `tick`. */
export const TICK_MS = 40

/** One unstreamed body. JSON allows white space at its end. */
export function padBody(mode: PaddingMode, text: string): Bytes {
  const bytes = utf8(text)
  return mode === 'off' ? bytes : withFiller(bytes, missing(bytes.length), ' ')
}

/** One streamed record: whole events, then one comment line where bytes are missing. */
export function padRecord(mode: PaddingMode, events: string): Bytes {
  const bytes = utf8(events)
  if (mode === 'off') return bytes
  const gap = missing(bytes.length)
  // The shortest comment line has two bytes.
  const length = gap === 1 ? gap + PADDING_BLOCK_BYTES : gap
  return length === 0 ? bytes : withFiller(bytes, length, `:${' '.repeat(length - 2)}\n`)
}

function missing(length: number): number {
  return (PADDING_BLOCK_BYTES - (length % PADDING_BLOCK_BYTES)) % PADDING_BLOCK_BYTES
}

function withFiller(bytes: Bytes, length: number, filler: string): Bytes {
  const out = new Uint8Array(bytes.length + length)
  out.set(bytes)
  out.set(utf8(filler.length === 1 ? filler.repeat(length) : filler), bytes.length)
  return out
}
