/** Automata over Unicode code points: what the text of a JSON string may be, before it is written as JSON. */
import { DEAD } from './terminal.js'

/** As with terminals, every state but DEAD can still reach an accepting one. */
export interface Characters {
  readonly start: number
  /** The state after one more code point, or DEAD. */
  step(state: number, codePoint: number): number
  accepts(state: number): boolean
  /** Whether some code point from `low` to `high` goes on. */
  any(state: number, low: number, high: number): boolean
  /** A state that goes on alike for the next `reach` code points. Default: the state itself. */
  alike?(state: number, reach: number): number
  /**
   * The same texts but those with a code point that UTF-8 begins with one of these bytes; undefined where none is left. Absent:
   * letters of ASCII are enough to go on and end everywhere.
   */
  without?(leads: ReadonlySet<number>): Characters | undefined
}

export const MAX_CODE_POINT = 0x10ffff

/** Any text of `min` to `max` code points. */
export function countedCharacters(min: number, max: number | undefined): Characters {
  // Without an upper bound, what was counted beyond the lower one makes no difference.
  const next = (state: number): number =>
    max === undefined ? Math.min(state + 1, min) : state < max ? state + 1 : DEAD
  return {
    start: 0,
    step: next,
    accepts: (state) => state >= min,
    any: (state) => next(state) !== DEAD,
    alike(state, reach) {
      if (state >= min) return max === undefined || max - state >= reach ? min : state
      // So far from both bounds that neither shows.
      const far = min - state > reach && (max === undefined || max - state >= reach)
      return far ? 0 : state
    },
  }
}

/** Any text but these: the names of an object's other members. */
export function otherCharacters(names: readonly string[]): Characters {
  const children: Map<number, number>[] = [new Map(), new Map()]
  const taken = new Set<number>()
  // State 0 is off the names' common tree, and stays there.
  const root = 1
  for (const name of names) {
    let state = root
    for (const character of name) {
      const codePoint = character.codePointAt(0) ?? 0
      const known = children[state]?.get(codePoint)
      const next = known ?? children.length
      if (known === undefined) {
        children.push(new Map())
        children[state]?.set(codePoint, next)
      }
      state = next
    }
    taken.add(state)
  }
  return {
    start: root,
    step: (state, codePoint) => children[state]?.get(codePoint) ?? 0,
    accepts: (state) => !taken.has(state),
    any: () => true,
  }
}
