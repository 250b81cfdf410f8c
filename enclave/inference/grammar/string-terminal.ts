/**
 * A JSON string (RFC 8259 §7) as a terminal, quotes included, over an automaton that says which text it may hold.
 *
 * Written as UTF-8 (RFC 3629 §4), with the short escapes, and with `\u00` and two digits for control characters: every
 * text can be written, and neither surrogates nor overlong forms ever are.
 */
import { type Characters, MAX_CODE_POINT } from './characters.js'
import { DEAD, type Terminal } from './terminal.js'

const QUOTE = 0x22
const BACKSLASH = 0x5c
/** What a backslash and this byte stand for. */
const ESCAPES: ReadonlyMap<number, number> = new Map(
  [...'""\\\\//b\bf\fn\nr\rt\t'.matchAll(/(.)(.)/gsu)].map(([, letter = '', meant = '']) => [
    letter.charCodeAt(0),
    meant.charCodeAt(0),
  ]),
)
const MEANT: readonly number[] = [...ESCAPES.values()]

// Where in a string the text stands: before it, in it, behind a backslash, before one of the four digits, inside a
// character of several bytes, or behind it.
const [OPEN, BODY, ESCAPE, DIGIT_1, DIGIT_2, DIGIT_3, DIGIT_4, INSIDE, DONE] = [0, 1, 2, 3, 4, 5, 6, 7, 8] as const

// A state is one number: characters × 2^24 + where × 2^20 + detail.
const WHERE = 2 ** 20
const CHARACTERS = 2 ** 24

/** `unwritable`: bytes that no character of the text may begin with in UTF-8, and that `characters` can do without. */
export function stringTerminal(characters: Characters, unwritable: ReadonlySet<number> = new Set()): Terminal {
  const at = (own: number, where: number, detail = 0): number => own * CHARACTERS + where * WHERE + detail
  const taken = (own: number, codePoint: number): number => {
    const next = characters.step(own, codePoint)
    return next === DEAD ? DEAD : at(next, BODY)
  }
  const some = (own: number, low: number, high: number): boolean => low <= high && characters.any(own, low, high)

  function inBody(own: number, byte: number): number {
    if (byte === QUOTE) return characters.accepts(own) ? at(own, DONE) : DEAD
    if (byte === BACKSLASH) {
      const escapable = some(own, 0, 0x1f) || MEANT.some((codePoint) => some(own, codePoint, codePoint))
      return escapable ? at(own, ESCAPE) : DEAD
    }
    if (byte < 0x20 || unwritable.has(byte)) return DEAD
    if (byte < 0x80) return taken(own, byte)
    if (byte < 0xc2 || byte > 0xf4) return DEAD
    const length = byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4
    return inside(own, length, length - 1, byte & (0x7f >> length))
  }

  /** `bits` of a character of `length` bytes, of which `left` are to come. */
  function inside(own: number, length: number, left: number, bits: number): number {
    if (left === 0) return taken(own, bits)
    const span = 2 ** (6 * left)
    const low = Math.max(bits * span, length === 2 ? 0x80 : length === 3 ? 0x800 : 0x10000)
    const high = Math.min(bits * span + span - 1, MAX_CODE_POINT)
    const open = some(own, low, Math.min(high, 0xd7ff)) || some(own, Math.max(low, 0xe000), high)
    return open ? at(own, INSIDE, length * 2 ** 17 + left * 2 ** 15 + bits) : DEAD
  }

  return {
    start: at(characters.start, OPEN),
    step(state, byte) {
      const own = Math.floor(state / CHARACTERS)
      const detail = state % WHERE
      switch (Math.floor(state / WHERE) % 16) {
        case OPEN:
          return byte === QUOTE ? at(own, BODY) : DEAD
        case BODY:
          return inBody(own, byte)
        case ESCAPE: {
          if (byte === 0x75) return some(own, 0, 0x1f) ? at(own, DIGIT_1) : DEAD
          const meant = ESCAPES.get(byte)
          return meant === undefined ? DEAD : taken(own, meant)
        }
        case DIGIT_1:
        case DIGIT_2: {
          const where = Math.floor(state / WHERE) % 16
          return byte === 0x30 ? at(own, where + 1) : DEAD
        }
        case DIGIT_3: {
          const high = digit(byte)
          return high < 2 && some(own, high * 16, high * 16 + 15) ? at(own, DIGIT_4, high) : DEAD
        }
        case DIGIT_4: {
          const low = digit(byte)
          return low < 16 ? taken(own, detail * 16 + low) : DEAD
        }
        case INSIDE: {
          if (byte < 0x80 || byte > 0xbf) return DEAD
          const length = Math.floor(detail / 2 ** 17)
          const left = Math.floor(detail / 2 ** 15) % 4
          return inside(own, length, left - 1, (detail % 2 ** 15) * 64 + (byte & 0x3f))
        }
        default:
          return DEAD
      }
    },
    accepts: (state) => Math.floor(state / WHERE) % 16 === DONE,
    alike(state, reach) {
      const own = Math.floor(state / CHARACTERS)
      return characters.alike === undefined ? state : (characters.alike(own, reach) - own) * CHARACTERS + state
    },
    without(leads) {
      const rest = characters.without === undefined ? characters : characters.without(leads)
      return rest && stringTerminal(rest, leads)
    },
  }
}

/** The value of a hexadecimal digit, or 16. */
function digit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30
  const letter = byte | 0x20
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : 16
}
