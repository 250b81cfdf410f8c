/**
 * Ends text at the first stop string, however it is cut into pieces. What could still become a stop string is held
 * back, so no part of one is ever emitted.
 */

export interface StopFilter {
  /** Text that can be emitted now, and whether a stop string was found. After that nothing more comes out. */
  push(piece: string): { readonly text: string; readonly stopped: boolean }
  /** Whether something is held back. */
  pending(): boolean
  /** What was held back, at the end of the answer. */
  flush(): string
}

/** `stop` strings must not be empty. */
export function createStopFilter(stop: readonly string[]): StopFilter {
  let held = ''
  let stopped = false

  return {
    push(piece: string): { readonly text: string; readonly stopped: boolean } {
      if (stopped) return { text: '', stopped }
      held += piece
      const at = firstOccurrence(held, stop)
      stopped = at >= 0
      const length = stopped ? at : held.length - openSuffixLength(held, stop)
      const text = held.slice(0, length)
      held = stopped ? '' : held.slice(length)
      return { text, stopped }
    },
    pending: () => held !== '',
    flush(): string {
      const text = held
      held = ''
      return text
    },
  }
}

/** Where the stop string begins that is complete first, which is the one met first however the text is cut; or -1. */
function firstOccurrence(text: string, stop: readonly string[]): number {
  const found = stop.map((candidate) => ({ at: text.indexOf(candidate), candidate })).filter(({ at }) => at >= 0)
  const ends = found.map(({ at, candidate }) => at + candidate.length)
  const first = found.filter((_, i) => ends[i] === Math.min(...ends))
  return first.length === 0 ? -1 : Math.min(...first.map(({ at }) => at))
}

/** Length of the longest end of `text` with which some stop string begins. */
function openSuffixLength(text: string, stop: readonly string[]): number {
  let longest = 0
  for (const candidate of stop) {
    for (let length = Math.min(candidate.length - 1, text.length); length > longest; length--) {
      if (text.endsWith(candidate.slice(0, length))) longest = length
    }
  }
  return longest
}
