/**
 * Streaming decode: text as tokens arrive, never a part of a character.
 *
 * Byte-level tokens may end inside a UTF-8 sequence, which decodes to U+FFFD until the rest arrives. So a trailing run
 * of up to three U+FFFD is held back: three bytes are the most an unfinished character can have. Decoding everything
 * again for each token would be quadratic; instead a window is decoded, which restarts at the newest token whenever the
 * text is whole. The pieces always add up to the full decode.
 */

export interface Detokenizer {
  /** Text the token completed; may be empty. */
  push(tokenId: number): string
  /** Whether something is held back. */
  pending(): boolean
  /** What is still held back, at the end of the answer. An unfinished character becomes U+FFFD, as in a full decode. */
  flush(): string
}

/** `decode` must be deterministic, and must accept any non-empty list of token ids. */
export function createDetokenizer(decode: (tokenIds: readonly number[]) => string): Detokenizer {
  let window: number[] = []
  /** How much of the window's text has been handed out. */
  let emitted = 0
  let pending = false

  return {
    push(tokenId: number): string {
      window.push(tokenId)
      const text = decode(window)
      const whole = text.replace(/\uFFFD{1,3}$/, '')
      pending = whole.length < text.length
      const piece = whole.slice(emitted)
      emitted = Math.max(emitted, whole.length)
      if (!pending && text.length > 0 && window.length > 1) {
        // The newest token stays as context: some decoders treat the first token of a text differently.
        window = [tokenId]
        emitted = decode(window).length
      }
      return piece
    },
    pending: () => pending,
    flush(): string {
      pending = false
      if (window.length === 0) return ''
      const piece = decode(window).slice(emitted)
      window = []
      emitted = 0
      return piece
    },
  }
}
