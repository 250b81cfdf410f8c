/**
 * How few tokens a text can be, at a few nanoseconds a byte: what cannot fit into a context is refused before it is read.
 *
 * For tokenizers that write every byte of a text, and known to: BPE with bytes or byte fallback, behind a normalizer that
 * composes characters (NFC) or marks spaces, and splits that leave nothing out. Of any other nothing is known.
 */
import { utf8 } from '../../verifier/protocol/bytes.js'

/** A lower bound on the tokens of a text, exact or not; above `most` any number above it. */
export type FewestTokens = (text: string, most: number) => number

interface AddedToken {
  readonly content: string
  readonly lstrip?: boolean
  readonly rstrip?: boolean
}

/**
 * @param definition tokenizer.json as an object.
 * @param tokens What each token writes, those added included, control tokens by their spelling.
 * @returns Undefined where a text may have fewer tokens than its bytes say.
 */
export function createFewestTokens(
  definition: object,
  tokens: Iterable<Uint8Array>,
  added: readonly AddedToken[],
): FewestTokens | undefined {
  const { normalizer, pre_tokenizer: splitter } = definition as Record<string, unknown>
  if (!partsOf(normalizer, 'normalizers').every(keepsBytes) || !partsOf(splitter, 'pretokenizers').every(keepsText)) {
    return undefined
  }
  if (added.some(({ lstrip, rstrip }) => lstrip === true || rstrip === true)) return undefined
  const composes = partsOf(normalizer, 'normalizers').some((part) => isOfType(part, 'NFC'))
  const written = [...tokens]
  const single = new Uint8Array(256)
  for (const bytes of written) if (bytes.length === 1) single[bytes[0] ?? 0] = 1
  /** Without what has no token of its own, which may be left out of a text. */
  const kept = (bytes: Uint8Array): Uint8Array => {
    let length = 0
    for (let i = 0; i < bytes.length; i++) {
      const byte = bytes[i] ?? 0
      bytes[length] = byte
      length += single[byte] ?? 0
    }
    return bytes.subarray(0, length)
  }
  /** Bytes of the longest token that begins with each two. */
  const longest = new Uint16Array(2 ** 16).fill(1)
  for (const token of written) {
    const bytes = kept(token.slice())
    if (bytes.length < 2) continue
    const start = ((bytes[0] ?? 0) << 8) | (bytes[1] ?? 0)
    longest[start] = Math.max(longest[start] ?? 1, Math.min(bytes.length, 0xffff))
  }
  return (text, most) => {
    const spaced = text.replaceAll('\u2581', ' ')
    const bytes = kept(utf8(composes ? spaced.normalize('NFC') : spaced))
    let [count, end, furthest] = [0, 0, 0]
    for (let i = 0; end < bytes.length && count <= most; i++) {
      const start = ((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0)
      furthest = Math.max(furthest, i + (i + 1 < bytes.length ? (longest[start] ?? 1) : 1))
      if (i < end) continue
      count += 1
      end = furthest
    }
    return count
  }
}

function partsOf(part: unknown, inner: string): readonly unknown[] {
  if (part === null || part === undefined) return []
  if (!isOfType(part, 'Sequence')) return [part]
  const parts = (part as Record<string, unknown>)[inner]
  return Array.isArray(parts) ? parts.flatMap((own) => partsOf(own, inner)) : [undefined]
}

function isOfType(part: unknown, type: string): boolean {
  return typeof part === 'object' && part !== null && 'type' in part && part.type === type
}

function keepsBytes(part: unknown): boolean {
  if (isOfType(part, 'NFC') || isOfType(part, 'Prepend')) return true
  const { pattern, content } = (part ?? {}) as { pattern?: { String?: unknown }; content?: unknown }
  return isOfType(part, 'Replace') && pattern?.String === ' ' && content === '\u2581'
}

function keepsText(part: unknown): boolean {
  if (['ByteLevel', 'Digits', 'Metaspace'].some((type) => isOfType(part, type))) return true
  const { behavior, invert } = (part ?? {}) as { behavior?: unknown; invert?: unknown }
  return (
    isOfType(part, 'Split') && invert !== true && typeof behavior === 'string' && behavior.toLowerCase() !== 'removed'
  )
}
