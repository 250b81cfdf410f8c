/**
 * How the worker hides the sizes of answers inside the encryption (PROTOCOL.md P-7.7). Under `tick` every streamed record
 * has the same size, filled up by a server-sent-event comment, every unstreamed body is a multiple of 512 bytes, filled
 * up by trailing spaces, and so is the last piece of every message, filled up by the zeros Binary HTTP allows.
 */
import { type Bytes, toBytes, utf8 } from '../verifier/protocol/bytes.js'
import type { PaddingMode } from '../verifier/protocol/statement.js'

export const PADDING_BLOCK_BYTES = 512
/** Every streamed record under `tick`: three events of the usual size and some room. */
export const RECORD_BYTES = 1024
/** Records leave at multiples of this, counted from the start of the answer. */
export const TICK_MS = 40
/** A record that is not full yet waits for this many ticks at most. */
export const HOLD_TICKS = 4

/** What the last piece of a message is a multiple of, in bytes. */
export function lastPieceBlock(mode: PaddingMode): number {
  return mode === 'off' ? 1 : PADDING_BLOCK_BYTES
}

/** One unstreamed body. JSON allows white space at its end. */
export function padBody(mode: PaddingMode, text: string): Bytes {
  const bytes = utf8(text)
  if (mode === 'off') return bytes
  const out = new Uint8Array(Math.ceil(bytes.length / PADDING_BLOCK_BYTES) * PADDING_BLOCK_BYTES).fill(0x20)
  out.set(bytes)
  return out
}

/**
 * Takes one record off the events that wait: as many whole ones as fit, then a comment line. An event too large for any
 * record goes on in the next.
 */
export function takeRecord(waiting: Bytes[], recordBytes: number = RECORD_BYTES): Bytes {
  const out = new Uint8Array(recordBytes)
  let used = 0
  for (let event = waiting[0]; event !== undefined; event = waiting[0]) {
    const left = recordBytes - used
    // The shortest comment line has two bytes, so one byte must not be left over.
    if (event.length !== left && event.length > left - 2 && used > 0) break
    out.set(event.subarray(0, left), used)
    used += Math.min(event.length, left)
    if (event.length > left) waiting[0] = toBytes(event.subarray(left))
    else waiting.shift()
    if (used === recordBytes) return out
  }
  out.set(utf8(filler(recordBytes - used)), used)
  return out
}

/** An empty line between events means nothing either. */
function filler(length: number): string {
  return length === 1 ? '\n' : `:${' '.repeat(length - 2)}\n`
}
