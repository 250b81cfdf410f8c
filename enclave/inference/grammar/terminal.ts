/**
 * Terminals: small automata over bytes, from which grammars are put together (`network.ts`).
 *
 * Every state but DEAD can still reach an accepting one. So a text that has not died can always be completed, and a
 * mask made of terminals never leads into a dead end.
 */

/** No text goes on from here. */
export const DEAD = -1

export interface Terminal {
  readonly start: number
  /** The state after one more byte, or DEAD. */
  step(state: number, byte: number): number
  /** Whether the text may end here. */
  accepts(state: number): boolean
  /**
   * A state that goes on alike for the next `reach` bytes: what is kept for one state then serves for many. Default: the
   * state itself.
   */
  alike?(state: number, reach: number): number
  /** Made once for all requests: what is kept for it tells nothing of any. */
  readonly shared?: boolean
  /**
   * The same terminal over texts without the characters that UTF-8 begins with one of these bytes; undefined where there are
   * none. Absent: it can always go on and end without them.
   */
  without?(leads: ReadonlySet<number>): Terminal | undefined
}

/** Exactly one of some texts. At least one; the longest are as long as the schema that names them. */
export function literalTerminal(texts: readonly Uint8Array[]): Terminal {
  const children: Map<number, number>[] = [new Map()]
  const accepting = new Set<number>()
  for (const text of texts) {
    let state = 0
    for (const byte of text) {
      const known = children[state]?.get(byte)
      const next = known ?? children.length
      if (known === undefined) {
        children.push(new Map())
        children[state]?.set(byte, next)
      }
      state = next
    }
    accepting.add(state)
  }
  return {
    start: 0,
    step: (state, byte) => children[state]?.get(byte) ?? DEAD,
    accepts: (state) => accepting.has(state),
    without(leads) {
      const kept = texts.filter((text) => !text.some((byte) => leads.has(byte)))
      return kept.length === 0 ? undefined : literalTerminal(kept)
    },
  }
}

/**
 * Any text up to a first `marker`: with `ends` the text that closes with it, without it the text that never has it. No
 * proper beginning of the marker may also be its end.
 */
export function freeTextTerminal(marker: Uint8Array, ends: boolean): Terminal {
  const first = marker[0]
  return {
    start: 0,
    step(state, byte) {
      if (state === marker.length) return DEAD
      // A marker whose first byte comes only once begins anew only there.
      const next = byte === marker[state] ? state + 1 : byte === first ? 1 : 0
      return next === marker.length && !ends ? DEAD : next
    },
    accepts: (state) => (ends ? state === marker.length : state < marker.length),
  }
}
