/**
 * Tells calls from the rest of an answer, piece by piece, as `grammar/answers.ts` writes them. What could still become the
 * beginning of a call is held back.
 */
import type { CallPiece } from './engine.js'
import { CALL_ARGUMENTS, CALL_CLOSE, CALL_NAME, CALL_NEXT, CALL_OPEN } from './grammar/answers.js'

export interface CallReader {
  push(piece: string): { readonly text: string; readonly calls: readonly CallPiece[] }
  /** Whether something is held back. */
  pending(): boolean
  /** Text that was held back, at the end of the answer; the rest of a call that was cut off is dropped. */
  flush(): string
  /** Calls that were begun. */
  count(): number
}

export function createCallReader(): CallReader {
  /** What comes next: text, the name of a tool, its arguments, or what stands between two calls. */
  let part: 'text' | 'name' | 'arguments' | 'between' = 'text'
  let held = ''
  let count = 0
  let depth = 0
  let quoted = false
  let escaped = false

  /** The length of the arguments in `text` up to the brace that closes them, or undefined where it has not come. */
  function endOfArguments(text: string): number | undefined {
    for (let i = 0; i < text.length; i++) {
      const character = text[i]
      if (escaped) escaped = false
      else if (quoted) {
        if (character === '\\') escaped = true
        else if (character === '"') quoted = false
      } else if (character === '"') quoted = true
      else if (character === '{' || character === '[') depth++
      else if (character === '}' || character === ']') {
        depth--
        if (depth === 0) return i + 1
      }
    }
    return undefined
  }

  return {
    push(piece) {
      held += piece
      let text = ''
      const calls: CallPiece[] = []
      for (;;) {
        if (part === 'text') {
          const at = held.indexOf(CALL_OPEN)
          const upTo = at < 0 ? held.length - openSuffix(held, CALL_OPEN) : at
          text += held.slice(0, upTo)
          held = held.slice(at < 0 ? upTo : at + CALL_OPEN.length)
          if (at < 0) return { text, calls }
          part = 'name'
        } else if (part === 'name') {
          const end = held.indexOf(CALL_ARGUMENTS)
          if (end < 0) return { text, calls }
          calls.push({ index: count, name: held.slice(CALL_NAME.length, end), arguments: '' })
          count++
          held = held.slice(end + CALL_ARGUMENTS.length)
          part = 'arguments'
        } else if (part === 'arguments') {
          const end = endOfArguments(held)
          const own = held.slice(0, end)
          if (own !== '') calls.push({ index: count - 1, arguments: own })
          held = held.slice(own.length)
          if (end === undefined) return { text, calls }
          part = 'between'
        } else {
          const next = CALL_CLOSE + CALL_NEXT + CALL_OPEN
          if (!held.startsWith(next)) return { text, calls }
          held = held.slice(next.length)
          part = 'name'
        }
      }
    },
    pending: () => part === 'text' && held !== '',
    flush() {
      const rest = part === 'text' ? held : ''
      held = ''
      return rest
    },
    count: () => count,
  }
}

/** Length of the longest end of `text` with which `marker` begins. */
function openSuffix(text: string, marker: string): number {
  for (let length = Math.min(marker.length - 1, text.length); length > 0; length--) {
    if (text.endsWith(marker.slice(0, length))) return length
  }
  return 0
}
