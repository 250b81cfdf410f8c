/**
 * JSON numbers (RFC 8259 §6) as terminals, within bounds where a schema sets them.
 *
 * A subset that every reader takes for the same value: at most 15 digits before the point and 12 behind it, an exponent
 * of at most two digits and only where there are no bounds. Bounds are compared as decimal fractions, exactly; where a
 * bound has more than 12 places it is drawn in to the next number that can be written.
 */
import { DEAD, type Terminal } from './terminal.js'

const MAX_WHOLE = 15
const MAX_PLACES = 12

export interface NumberBounds {
  readonly minimum?: number
  readonly exclusiveMinimum?: number
  readonly maximum?: number
  readonly exclusiveMaximum?: number
  /** A positive integer, for integers only. */
  readonly multipleOf?: number
}

/** Numbers without bounds. */
export function anyNumberTerminal(integer: boolean): Terminal {
  return textTerminal(
    (text) => (integer ? PARTIAL_INTEGER : PARTIAL_NUMBER).test(text),
    (text) => (integer ? WHOLE_INTEGER : WHOLE_NUMBER).test(text),
  )
}

const PARTIAL_INTEGER = /^(-|0|-?[1-9]\d{0,14})?$/
const WHOLE_INTEGER = /^(0|-?[1-9]\d{0,14})$/
const PARTIAL_NUMBER = /^(-|-?(0|[1-9]\d{0,14})(\.\d{0,12})?|-?(0|[1-9]\d{0,14})(\.\d{1,12})?[eE][+-]?\d{0,2})?$/
const WHOLE_NUMBER = /^-?(0|[1-9]\d{0,14})(\.\d{1,12})?([eE][+-]?\d{1,2})?$/

/** Undefined when no number of the subset is within the bounds. */
export function boundedNumberTerminal(integer: boolean, bounds: NumberBounds): Terminal | undefined {
  const places = integer ? 0 : MAX_PLACES
  const most = 10n ** BigInt(MAX_WHOLE + places) - 1n
  const low = largest(
    -most,
    scaled(bounds.minimum, places, 'up', 0n),
    scaled(bounds.exclusiveMinimum, places, 'down', 1n),
  )
  const high = smallest(
    most,
    scaled(bounds.maximum, places, 'down', 0n),
    scaled(bounds.exclusiveMaximum, places, 'up', -1n),
  )
  const step = BigInt(bounds.multipleOf ?? 1)

  /** Whether a wanted value lies from `from` to `to`. */
  const holds = (from: bigint, to: bigint): boolean => {
    const first = from > low ? from : low
    const last = to < high ? to : high
    return first <= last && floorDivide(last, step) * step >= first
  }
  const within = (negative: boolean, from: bigint, to: bigint): boolean =>
    negative ? holds(-to, -from) : holds(from, to)
  const unit = 10n ** BigInt(places)

  /** What can become of a text: any of the values that begin with it. */
  const goesOn = (text: string): boolean => {
    const parts = /^(-?)(0|[1-9]\d{0,14})?(?:(\.)(\d{0,12}))?$/.exec(text)
    if (parts === null) return false
    const [, sign, whole, point, fraction = ''] = parts
    const negative = sign === '-'
    if (whole === undefined) {
      return point === undefined && (negative ? within(true, integer ? 1n : 0n, most) : holds(-most, most))
    }
    if (integer && (point !== undefined || (negative && whole === '0'))) return false
    if (point !== undefined) {
      const rest = 10n ** BigInt(places - fraction.length)
      const from = BigInt(whole + fraction) * rest
      return within(negative, from, from + rest - 1n)
    }
    const more = whole === '0' ? 0 : MAX_WHOLE - whole.length
    for (let digits = 0; digits <= more; digits++) {
      const rest = unit * 10n ** BigInt(digits)
      const from = BigInt(whole) * rest
      if (within(negative, from, from + rest - 1n)) return true
    }
    return false
  }
  const isWhole = (text: string): boolean => {
    const parts = /^(-?)(0|[1-9]\d{0,14})(?:\.(\d{1,12}))?$/.exec(text)
    if (parts === null) return false
    const [, sign, whole = '', fraction = ''] = parts
    const value = BigInt(whole + fraction.padEnd(places, '0'))
    return within(sign === '-', value, value)
  }
  return goesOn('') ? textTerminal(goesOn, isWhole) : undefined
}

/** A terminal whose states are the texts themselves: numbers are short. `goesOn` of a text that died is never asked again. */
function textTerminal(goesOn: (text: string) => boolean, isWhole: (text: string) => boolean): Terminal {
  const texts: string[] = ['']
  const known = new Map<string, number>([['', 0]])
  const next = new Map<number, number>()
  return {
    start: 0,
    step(state, byte) {
      if (!'+-.0123456789Ee'.includes(String.fromCharCode(byte))) return DEAD
      const key = state * 256 + byte
      const seen = next.get(key)
      if (seen !== undefined) return seen
      const text = texts[state] + String.fromCharCode(byte)
      let after = known.get(text)
      if (after === undefined) {
        after = goesOn(text) ? texts.push(text) - 1 : DEAD
        known.set(text, after)
      }
      next.set(key, after)
      return after
    },
    accepts: (state) => isWhole(texts[state] ?? ''),
  }
}

/** The value times 10^places, rounded, then moved by `beyond` where rounding changed nothing. */
function scaled(value: number | undefined, places: number, round: 'up' | 'down', beyond: bigint): bigint | undefined {
  if (value === undefined) return undefined
  const [, sign = '', whole = '', fraction = '', exponent = '0'] =
    /^(-?)(\d+)(?:\.(\d+))?(?:e([+-]?\d+))?$/.exec(String(value)) ?? []
  const digits = BigInt(`${sign}${whole}${fraction}`)
  const shift = Number(exponent) - fraction.length + places
  if (shift >= 0) return digits * 10n ** BigInt(shift) + beyond
  const by = 10n ** BigInt(-shift)
  const down = floorDivide(digits, by)
  const exact = down * by === digits
  if (exact) return down + beyond
  // Exclusive bounds exclude nothing that the rounding did not.
  const inward = beyond > 0n || (beyond === 0n && round === 'up') ? down + 1n : down
  return inward
}

function floorDivide(value: bigint, by: bigint): bigint {
  const quotient = value / by
  return value % by < 0n ? quotient - 1n : quotient
}

function largest(first: bigint, ...others: readonly (bigint | undefined)[]): bigint {
  return others.reduce<bigint>((best, other) => (other !== undefined && other > best ? other : best), first)
}

function smallest(first: bigint, ...others: readonly (bigint | undefined)[]): bigint {
  return others.reduce<bigint>((best, other) => (other !== undefined && other < best ? other : best), first)
}
