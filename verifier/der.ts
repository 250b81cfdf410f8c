/**
 * Strict DER (ITU-T X.690 §8 and §10): the element reader under certificates, CRLs and their signatures.
 *
 * Only what X.509 uses: low tag numbers, the universal types below, definite minimal lengths, minimal INTEGERs and object
 * identifiers, canonical BOOLEANs, BIT STRINGs whose unused bits are zero, well-formed text and times, no trailing bytes,
 * bounded depth. Anything else is refused, so two readers of the same bytes cannot disagree about where an element ends
 * or what it says. Elements are views of the received bytes; nothing is ever encoded again.
 */
import { type Bytes, fromUtf8, toBytes } from './protocol/bytes.js'
import { FormatError } from './protocol/errors.js'

/** The universal types X.509 uses, in the form that DER gives them (X.690 §8.9.1, §8.11.1, §10.2). */
export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  enumerated: 0x0a,
  utf8String: 0x0c,
  numericString: 0x12,
  printableString: 0x13,
  teletexString: 0x14,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  visibleString: 0x1a,
  universalString: 0x1c,
  bmpString: 0x1e,
  sequence: 0x30,
  set: 0x31,
} as const

export interface DerElement {
  /** The identifier octet: class, constructed bit and number. */
  readonly tag: number
  /** The whole element, header included, as received. */
  readonly bytes: Bytes
  /** The contents octets, as received. */
  readonly content: Bytes
}

const MAX_DEPTH = 24
/** More than any list within its bound of bytes has: elements of two bytes would cost many times their bytes to look at. */
const MAX_ELEMENTS = 320_000
const CONSTRUCTED = 0x20

/**
 * The one element these bytes are, checked for canonical form all the way down.
 * @throws FormatError on anything but exactly one strict DER element.
 */
export function readDer(bytes: Uint8Array, what: string): DerElement {
  const element = elementAt(toBytes(bytes), 0, what)
  if (element.bytes.length !== bytes.length) throw new FormatError('der.trailing', `${what}: bytes after the element`)
  checkCanonical(element, what, 0, { left: MAX_ELEMENTS })
  return element
}

/**
 * Tags of the element that these bytes begin with, of the first one in it, and of the first in that: what it may be, before anything is
 * known of the rest. @throws FormatError when one of the three runs past the end.
 */
export function leadingTags(bytes: Uint8Array, what: string): readonly number[] {
  const tags: number[] = []
  for (let at = toBytes(bytes); tags.length < 3 && at.length > 0; ) {
    const { tag, content } = elementAt(at, 0, what)
    tags.push(tag)
    if ((tag & CONSTRUCTED) === 0) break
    at = content
  }
  return tags
}

/** The elements inside a constructed one. @throws FormatError when it is not constructed. */
export function childrenOf(parent: DerElement, what: string): readonly DerElement[] {
  if ((parent.tag & CONSTRUCTED) === 0)
    throw new FormatError('der.primitive', `${what}: expected a constructed element`)
  const out: DerElement[] = []
  for (let offset = 0; offset < parent.content.length; ) {
    const child = elementAt(parent.content, offset, what)
    out.push(child)
    offset += child.bytes.length
  }
  return out
}

/** The element, once its tag is the expected one. @throws FormatError otherwise, and when it is absent. */
export function expectTag(element: DerElement | undefined, tag: number, what: string): DerElement {
  if (element === undefined) throw new FormatError('der.missing', `${what}: missing`)
  if (element.tag !== tag) {
    throw new FormatError('der.tag', `${what}: expected tag 0x${tag.toString(16)}, found 0x${element.tag.toString(16)}`)
  }
  return element
}

/** Optional elements, by their tags in hex: in their order, each at most once, and nothing else. @throws FormatError otherwise. */
export function expectOrder(parts: readonly DerElement[], tags: RegExp, what: string): void {
  const found = parts.map((part) => part.tag.toString(16).padStart(2, '0')).join('')
  if (!tags.test(found)) throw new FormatError('der.order', `${what}: unexpected, repeated or misplaced elements`)
}

/** A non-negative INTEGER of at most 31 bits. @throws FormatError otherwise. */
export function smallInteger(element: DerElement | undefined, what: string): number {
  const { content } = expectTag(element, TAG.integer, what)
  if (((content[0] ?? 0) & 0x80) !== 0 || content.length > 4) {
    throw new FormatError('der.integer', `${what}: expected a small non-negative integer`)
  }
  return content.reduce((value, byte) => value * 256 + byte, 0)
}

/** The bits of a BIT STRING whose length is a whole number of bytes. @throws FormatError otherwise. */
export function wholeBits(element: DerElement | undefined, what: string): Bytes {
  const { content } = expectTag(element, TAG.bitString, what)
  if (content[0] !== 0) throw new FormatError('der.bits', `${what}: expected a bit string of whole bytes`)
  return content.subarray(1)
}

/** Dotted form of an OBJECT IDENTIFIER. @throws FormatError on a malformed one or an arc above 2^31 - 1. */
export function oidText(element: DerElement | undefined, what: string): string {
  const { content } = expectTag(element, TAG.oid, what)
  const arcs: number[] = []
  let arc = 0
  let fresh = true
  for (const byte of content) {
    if (fresh && byte === 0x80) throw new FormatError('der.oid', `${what}: padded object identifier`)
    arc = arc * 128 + (byte & 0x7f)
    if (arc > 0x7fffffff) throw new FormatError('der.oid', `${what}: object identifier arc out of range`)
    fresh = (byte & 0x80) === 0
    if (fresh) {
      arcs.push(arc)
      arc = 0
    }
  }
  const [first] = arcs
  if (first === undefined || !fresh) throw new FormatError('der.oid', `${what}: truncated object identifier`)
  const root = Math.min(2, Math.floor(first / 40))
  return [root, first - 40 * root, ...arcs.slice(1)].join('.')
}

/** UTCTime or GeneralizedTime as RFC 5280 §4.1.2.5 profiles them: seconds present, `Z`. @throws FormatError otherwise. */
export function timeOf(element: DerElement | undefined, what: string): Date {
  if (element === undefined) throw new FormatError('der.missing', `${what}: missing`)
  const text = String.fromCharCode(...element.content.subarray(0, 16))
  const match =
    element.tag === TAG.utcTime
      ? /^()(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(text)
      : element.tag === TAG.generalizedTime
        ? /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(text)
        : null
  if (match === null) throw new FormatError('der.time', `${what}: expected a time in seconds, UTC`)
  const [century, year, month, day, hour, minute, second] = match.slice(1).map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
  ]
  const fullYear = element.tag === TAG.utcTime ? year + (year < 50 ? 2000 : 1900) : century * 100 + year
  const date = new Date(0)
  date.setUTCFullYear(fullYear, month - 1, day)
  date.setUTCHours(hour, minute, second)
  const same =
    date.getUTCFullYear() === fullYear &&
    date.getUTCMonth() === month - 1 &&
    date.getUTCDate() === day &&
    date.getUTCHours() === hour &&
    date.getUTCMinutes() === minute &&
    date.getUTCSeconds() === second
  if (!same) throw new FormatError('der.time', `${what}: no such time`)
  return date
}

function elementAt(bytes: Bytes, start: number, what: string): DerElement {
  const tag = bytes[start]
  const first = bytes[start + 1]
  if (tag === undefined || first === undefined) throw new FormatError('der.truncated', `${what}: truncated element`)
  if ((tag & 0x1f) === 0x1f) throw new FormatError('der.tag', `${what}: high tag numbers are not used here`)
  let header = 2
  let length = first
  if (first >= 0x80) {
    const octets = first & 0x7f
    if (octets === 0 || octets > 4) throw new FormatError('der.length', `${what}: indefinite or oversized length`)
    length = 0
    for (let i = 0; i < octets; i++) length = length * 256 + (bytes[start + 2 + i] ?? 0)
    header += octets
    const minimal = length >= 0x80 && (octets === 1 || length >= 256 ** (octets - 1))
    if (!minimal) throw new FormatError('der.length', `${what}: length not in its shortest form`)
  }
  const end = start + header + length
  if (end > bytes.length) throw new FormatError('der.truncated', `${what}: element runs past the end`)
  return { tag, bytes: bytes.subarray(start, end), content: bytes.subarray(start + header, end) }
}

const CLASS = 0xc0
const UNIVERSAL: ReadonlySet<number> = new Set(Object.values(TAG))

function checkCanonical(element: DerElement, what: string, depth: number, budget: { left: number }): void {
  const { tag, content } = element
  if (budget.left-- === 0) throw new FormatError('der.elements', `${what}: more than ${MAX_ELEMENTS} elements`)
  if (depth > MAX_DEPTH) throw new FormatError('der.depth', `${what}: nested too deeply`)
  if ((tag & CLASS) === 0) {
    if (!UNIVERSAL.has(tag)) throw new FormatError('der.tag', `${what}: tag 0x${tag.toString(16)} is not used here`)
    checkPrimitive(element, what)
  }
  if ((tag & CONSTRUCTED) === 0) return
  for (let offset = 0; offset < content.length; ) {
    const child = elementAt(content, offset, what)
    checkCanonical(child, what, depth + 1, budget)
    offset += child.bytes.length
  }
}

/** The contents of a universal primitive type, where it has a canonical form. */
function checkPrimitive(element: DerElement, what: string): void {
  const { tag, content } = element
  const first = content[0]
  const second = content[1]
  switch (tag) {
    case TAG.integer:
    case TAG.enumerated: {
      const padded = second !== undefined && ((first === 0x00 && second < 0x80) || (first === 0xff && second >= 0x80))
      if (first === undefined || padded) {
        throw new FormatError('der.integer', `${what}: integer not in its shortest form`)
      }
      return
    }
    case TAG.boolean:
      if (content.length !== 1 || (first !== 0x00 && first !== 0xff)) {
        throw new FormatError('der.boolean', `${what}: boolean that is neither 00 nor FF`)
      }
      return
    case TAG.null:
      if (content.length !== 0) throw new FormatError('der.null', `${what}: null with contents`)
      return
    case TAG.bitString: {
      const last = content.length > 1 ? (content.at(-1) ?? 0) : 0
      // X.690 §8.6.2, §11.2.1: up to seven bits of the last octet are unused, and those are zero.
      const allowed = content.length > 1 ? 7 : 0
      if (first === undefined || first > allowed || (last & ((1 << first) - 1)) !== 0) {
        throw new FormatError('der.bits', `${what}: malformed bit string`)
      }
      return
    }
    case TAG.oid: {
      const padded = content.some((byte, i) => byte === 0x80 && (i === 0 || (content[i - 1] ?? 0) < 0x80))
      if (padded || (content.at(-1) ?? 0x80) >= 0x80) {
        throw new FormatError('der.oid', `${what}: malformed object identifier`)
      }
      return
    }
    case TAG.utf8String:
      fromUtf8(content)
      return
    case TAG.bmpString:
    case TAG.universalString:
      if (content.length % (tag === TAG.bmpString ? 2 : 4) !== 0) {
        throw new FormatError('der.text', `${what}: text that ends inside a character`)
      }
      return
    case TAG.utcTime:
    case TAG.generalizedTime:
      timeOf(element, what)
  }
}
