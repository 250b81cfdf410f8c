/**
 * Distinguished names (RFC 5280 §4.1.2.4): their shape, and the one attribute that says whose key it is.
 *
 * A common name is read from the two string types that RFC 5280 has authorities use, PrintableString and UTF8String. In
 * any other type it is as if absent, and so are two of them: readers that disagree must not be told a name each. One with
 * control characters is refused.
 */
import { childrenOf, type DerElement, expectTag, oidText, TAG } from './der.js'
import { type Bytes, fromUtf8 } from './protocol/bytes.js'
import { FormatError } from './protocol/errors.js'

export interface DistinguishedName {
  /** The whole Name, as received. Names are compared byte for byte. */
  readonly der: Bytes
  /** Undefined unless there is exactly one, in a type that is read. */
  readonly commonName: string | undefined
}

const COMMON_NAME = '2.5.4.3'

/** @throws FormatError on anything but a Name: a SEQUENCE of non-empty SETs of attributes, each a type and one value. */
export function readName(element: DerElement | undefined, what: string): DistinguishedName {
  const name = expectTag(element, TAG.sequence, what)
  const attributes = childrenOf(name, what).flatMap((part) => readAttributes(part, what))
  const [commonName, ...more] = attributes.filter(({ type }) => type === COMMON_NAME)
  return {
    der: name.bytes,
    commonName: commonName === undefined || more.length > 0 ? undefined : textOf(commonName.value, what),
  }
}

interface Attribute {
  readonly type: string
  readonly value: DerElement
}

function readAttributes(relative: DerElement, what: string): readonly Attribute[] {
  const attributes = childrenOf(expectTag(relative, TAG.set, what), what)
  if (attributes.length === 0) throw new FormatError('x509.name', `${what}: a part without attributes`)
  return attributes.map((attribute) => {
    const [type, value, ...extra] = childrenOf(expectTag(attribute, TAG.sequence, what), what)
    if (value === undefined || extra.length > 0) {
      throw new FormatError('x509.name', `${what}: expected a type and one value`)
    }
    return { type: oidText(type, what), value }
  })
}

function textOf({ tag, content }: DerElement, what: string): string | undefined {
  if (tag !== TAG.utf8String && tag !== TAG.printableString) return undefined
  if (tag === TAG.printableString && content.some((byte) => byte >= 0x80)) {
    throw new FormatError('x509.name', `${what}: expected ASCII in a PrintableString`)
  }
  const text = fromUtf8(content)
  if (UNPRINTABLE.test(text)) throw new FormatError('x509.name', `${what}: control characters in the common name`)
  return text
}

/** What makes a name look like another: no authority writes any of them. */
const UNPRINTABLE = /[\p{Cc}\p{Bidi_Control}\u2028\u2029]/u
