/**
 * The bytes of every token, as a tree: what a mask is computed over.
 *
 * Two families of tokenizers are known: byte-level ones (GPT-2's table of bytes and letters), and those with `▁` for a space
 * and `<0xNN>` for a byte. Control tokens are left out, so that no constrained answer has any but the end of its turn.
 */
import { utf8 } from '../../../verifier/protocol/bytes.js'

/** A tree in preorder: node 0 is the root, and the nodes under node `i` are those from `i + 1` to `ends[i] - 1`. */
export interface Vocabulary {
  /** Tokens of the model, those without bytes included. */
  readonly size: number
  readonly bytes: Uint8Array
  readonly depths: Uint8Array
  readonly ends: Uint32Array
  /** The tokens that end at each node: `tokens` from `firsts[i]` to `firsts[i + 1] - 1`. */
  readonly firsts: Uint32Array
  readonly tokens: Uint32Array
  /** Undefined: not a token that writes text. */
  readonly bytesOf: readonly (Uint8Array | undefined)[]
  /** Bytes of the longest token. */
  readonly longest: number
  /**
   * Bytes that UTF-8 begins some character with, and that have no token of their own: a text could begin such a character and
   * nothing could finish it, or could need one and nothing could begin it.
   */
  readonly unwritable: ReadonlySet<number>
}

/** Longer tokens are never chosen: states are kept for each byte of a token. */
const MAX_TOKEN_BYTES = 255

const bytesFrom = (first: number, last: number): readonly number[] =>
  Array.from({ length: last - first + 1 }, (_, i) => first + i)
/** What JSON, and calls of tools, are made of; with it any text can be written, escaped where need be, that is in ASCII. */
const NEEDED: readonly number[] = [0x0a, ...bytesFrom(0x20, 0x7e)]
/** The bytes that characters beyond those begin with, and go on with (RFC 3629 §4). */
const LEADS: readonly number[] = [0x7f, ...bytesFrom(0xc2, 0xf4)]
const CONTINUATIONS: readonly number[] = bytesFrom(0x80, 0xbf)

/** Undefined where a character of ASCII that JSON needs has no token of its own. */
export function createVocabulary(size: number, bytesOf: readonly (Uint8Array | undefined)[]): Vocabulary | undefined {
  const singles = new Set(bytesOf.flatMap((bytes) => (bytes?.length === 1 ? [...bytes] : [])))
  if (!NEEDED.every((byte) => singles.has(byte))) return undefined
  const finishes = CONTINUATIONS.every((byte) => singles.has(byte))
  const unwritable = new Set(LEADS.filter((byte) => !singles.has(byte) || (byte >= 0x80 && !finishes)))
  const entries = bytesOf.flatMap((bytes, token) =>
    bytes === undefined || bytes.length === 0 || bytes.length > MAX_TOKEN_BYTES
      ? []
      : [{ bytes, token, order: Buffer.from(bytes).toString('latin1') }],
  )
  // Text is compared faster than bytes, and in the same order.
  entries.sort((a, b) => (a.order < b.order ? -1 : a.order > b.order ? 1 : a.token - b.token))
  const bytes = [0]
  const depths = [0]
  const ends: number[] = [0]
  const firsts = [0]
  const tokens: number[] = []
  const path: number[] = [0]
  let previous: Uint8Array = new Uint8Array()
  const close = (depth: number): void => {
    while (path.length > depth + 1) ends[path.pop() ?? 0] = bytes.length
  }
  for (const entry of entries) {
    let shared = 0
    while (shared < previous.length && previous[shared] === entry.bytes[shared]) shared++
    close(shared)
    for (let i = shared; i < entry.bytes.length; i++) {
      path.push(bytes.length)
      bytes.push(entry.bytes[i] ?? 0)
      depths.push(i + 1)
      ends.push(0)
      firsts.push(tokens.length)
    }
    tokens.push(entry.token)
    previous = entry.bytes
  }
  close(0)
  ends[0] = bytes.length
  firsts.push(tokens.length)
  return {
    size,
    bytes: Uint8Array.from(bytes),
    depths: Uint8Array.from(depths),
    ends: Uint32Array.from(ends),
    firsts: Uint32Array.from(firsts),
    tokens: Uint32Array.from(tokens),
    bytesOf,
    longest: entries.reduce((most, { bytes: own }) => Math.max(most, own.length), 0),
    unwritable,
  }
}

/** The bytes a token of each family writes; undefined where the decoder is of neither. */
export function tokenBytes(decoder: unknown): ((token: string) => Uint8Array | undefined) | undefined {
  const kinds = decoderKinds(decoder)
  if (kinds.includes('ByteLevel')) return byteLevelBytes
  return kinds.includes('ByteFallback') ? byteFallbackBytes : undefined
}

function decoderKinds(decoder: unknown): string[] {
  if (typeof decoder !== 'object' || decoder === null) return []
  const own = 'type' in decoder && typeof decoder.type === 'string' ? [decoder.type] : []
  const inner = 'decoders' in decoder && Array.isArray(decoder.decoders) ? decoder.decoders : []
  return [...own, ...inner.flatMap(decoderKinds)]
}

/** GPT-2's letters: printable bytes stand for themselves, the others for the letters from U+0100 on, in order. */
const LETTER_BYTES: ReadonlyMap<string, number> = (() => {
  const printable = (byte: number): boolean =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff)
  let next = 0x100
  return new Map(
    Array.from({ length: 256 }, (_, byte) => [String.fromCodePoint(printable(byte) ? byte : next++), byte] as const),
  )
})()

function byteLevelBytes(token: string): Uint8Array | undefined {
  const bytes = [...token].map((letter) => LETTER_BYTES.get(letter))
  return bytes.every((byte) => byte !== undefined) ? Uint8Array.from(bytes) : undefined
}

function byteFallbackBytes(token: string): Uint8Array {
  const byte = /^<0x([0-9A-F]{2})>$/.exec(token)?.[1]
  return byte === undefined ? utf8(token.replaceAll('\u2581', ' ')) : Uint8Array.of(Number.parseInt(byte, 16))
}
