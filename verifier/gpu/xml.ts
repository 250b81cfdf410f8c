/**
 * A strict reader for the small part of XML 1.0 and Namespaces in XML 1.0 that signed reference manifests use.
 *
 * Read: elements, attributes, ASCII text, the five predefined entities. Refused: everything that lets two readers see
 * two documents in the same bytes, which is to say document types, comments, processing instructions, CDATA sections,
 * character references, a byte order mark, carriage returns, line breaks inside attribute values, `xml:` attributes,
 * undeclared or undeclaring prefixes, repeated attributes, ID attributes, and anything but white space around the one
 * root. Depth, sizes and counts are bounded before anything is built.
 */
import { FormatError } from '../protocol/errors.js'

export interface XmlAttribute {
  /** Empty for an attribute without prefix, which is in no namespace. */
  readonly namespace: string
  readonly prefix: string
  readonly local: string
  /** With entities resolved. */
  readonly value: string
}

export interface XmlElement {
  readonly namespace: string
  readonly prefix: string
  readonly local: string
  readonly attributes: readonly XmlAttribute[]
  /** What this element itself declares, prefix to URI; the default namespace has an empty prefix. */
  readonly declarations: ReadonlyMap<string, string>
  /** Elements and text, in order. No two strings are neighbours. */
  readonly children: readonly (XmlElement | string)[]
}

const MAX_CHARACTERS = 256 * 1024
const MAX_DEPTH = 12
const MAX_ATTRIBUTES = 64
const MAX_ELEMENTS = 4096

const NAME = /[A-Za-z_][A-Za-z0-9_.-]*(?::[A-Za-z_][A-Za-z0-9_.-]*)?/y
const SPACE = /[ \t\n]+/y
const TEXT = /[^<]+/y
const VALUE = /"([^"<]*)"|'([^'<]*)'/y
const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" }
/** Names that Namespaces in XML §3 reserves. */
const RESERVED_URIS = ['http://www.w3.org/XML/1998/namespace', 'http://www.w3.org/2000/xmlns/']

/** The root element. @throws FormatError on anything outside the subset. */
export function parseXml(text: string): XmlElement {
  if (text.length > MAX_CHARACTERS) throw refused(0, `more than ${MAX_CHARACTERS} characters`)
  const odd = /[^\x20-\x7e\t\n]/.exec(text)
  if (odd !== null) throw refused(odd.index, 'a character outside printable ASCII')
  const reader = new XmlReader(text)
  reader.skipSpace()
  const root = reader.element(new Map(), 0)
  reader.skipSpace()
  if (!reader.atEnd()) throw refused(reader.offset, 'content after the root element')
  return root
}

class XmlReader {
  readonly #text: string
  offset = 0
  #elements = 0

  constructor(text: string) {
    this.#text = text
  }

  atEnd(): boolean {
    return this.offset === this.#text.length
  }

  skipSpace(): boolean {
    return this.#match(SPACE) !== undefined
  }

  element(inherited: ReadonlyMap<string, string>, depth: number): XmlElement {
    if (depth >= MAX_DEPTH) throw refused(this.offset, `nested deeper than ${MAX_DEPTH}`)
    if (++this.#elements > MAX_ELEMENTS) throw refused(this.offset, `more than ${MAX_ELEMENTS} elements`)
    this.#expect('<')
    const name = this.#name()
    const { raw, declarations, empty } = this.#startTag()
    const scope = declarations.size === 0 ? inherited : new Map([...inherited, ...declarations])
    const attributes = this.#resolve(raw, scope)
    const [prefix, local] = splitName(name)
    const namespace = prefix === '' ? (scope.get('') ?? '') : this.#namespaceOf(prefix, scope)
    const children = empty ? [] : this.#content(name, scope, depth)
    return { namespace, prefix, local, attributes, declarations, children }
  }

  /** Everything between `<name` and `>` or `/>`, both included. */
  #startTag(): { raw: ReadonlyMap<string, string>; declarations: ReadonlyMap<string, string>; empty: boolean } {
    const raw = new Map<string, string>()
    const declarations = new Map<string, string>()
    for (;;) {
      const spaced = this.skipSpace()
      if (this.#accept('>')) return { raw, declarations, empty: false }
      if (this.#accept('/>')) return { raw, declarations, empty: true }
      if (!spaced) throw refused(this.offset, 'expected white space before an attribute')
      const name = this.#name()
      this.skipSpace()
      this.#expect('=')
      this.skipSpace()
      const value = this.#value()
      if (raw.size + declarations.size === MAX_ATTRIBUTES) throw refused(this.offset, 'too many attributes')
      if (name === 'xmlns' || name.startsWith('xmlns:')) this.#declare(declarations, name, value)
      else if (raw.has(name)) throw refused(this.offset, `attribute ${name} appears twice`)
      else raw.set(name, value)
    }
  }

  #declare(declarations: Map<string, string>, name: string, uri: string): void {
    const prefix = name === 'xmlns' ? '' : name.slice('xmlns:'.length)
    const bad = uri === '' || prefix === 'xml' || prefix === 'xmlns' || RESERVED_URIS.includes(uri)
    if (bad || declarations.has(prefix)) throw refused(this.offset, `namespace declaration ${name}`)
    declarations.set(prefix, uri)
  }

  #resolve(raw: ReadonlyMap<string, string>, scope: ReadonlyMap<string, string>): readonly XmlAttribute[] {
    const seen = new Set<string>()
    return [...raw].map(([name, value]) => {
      const [prefix, local] = splitName(name)
      // References by identifier are how a signature is made to point somewhere else than it is read from.
      if (local.toLowerCase() === 'id') throw refused(this.offset, `identifier attribute ${name}`)
      const namespace = prefix === '' ? '' : this.#namespaceOf(prefix, scope)
      const expanded = `${namespace} ${local}`
      if (seen.has(expanded)) throw refused(this.offset, `attribute ${name} appears twice`)
      seen.add(expanded)
      return { namespace, prefix, local, value }
    })
  }

  #namespaceOf(prefix: string, scope: ReadonlyMap<string, string>): string {
    const uri = scope.get(prefix)
    if (uri === undefined) throw refused(this.offset, `undeclared prefix ${prefix}`)
    return uri
  }

  #content(name: string, scope: ReadonlyMap<string, string>, depth: number): readonly (XmlElement | string)[] {
    const children: (XmlElement | string)[] = []
    for (;;) {
      const text = this.#match(TEXT)
      if (text !== undefined) {
        if (text.includes(']]>')) throw refused(this.offset, 'the end of a CDATA section')
        children.push(this.#unescape(text))
      }
      if (this.atEnd()) throw refused(this.offset, `${name} is not closed`)
      if (this.#accept('</')) {
        if (this.#name() !== name) throw refused(this.offset, `expected the end of ${name}`)
        this.skipSpace()
        this.#expect('>')
        return children
      }
      children.push(this.element(scope, depth + 1))
    }
  }

  #value(): string {
    const quoted = this.#match(VALUE)
    if (quoted === undefined) throw refused(this.offset, 'expected a quoted attribute value')
    const inner = quoted.slice(1, -1)
    // Attribute-value normalisation would turn these into spaces.
    if (/[\t\n]/.test(inner)) throw refused(this.offset, 'a line break or tab in an attribute value')
    return this.#unescape(inner)
  }

  #unescape(text: string): string {
    if (!text.includes('&')) return text
    return text.replace(/&([^;&]{0,8};?)/g, (_, reference: string) => {
      const character = reference.endsWith(';') ? ENTITIES[reference.slice(0, -1)] : undefined
      if (character === undefined) throw refused(this.offset, 'an entity other than the five predefined ones')
      return character
    })
  }

  #name(): string {
    const name = this.#match(NAME)
    if (name === undefined) throw refused(this.offset, 'expected a name')
    return name
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.offset
    const [found] = pattern.exec(this.#text) ?? []
    if (found !== undefined) this.offset += found.length
    return found
  }

  #accept(token: string): boolean {
    if (!this.#text.startsWith(token, this.offset)) return false
    this.offset += token.length
    return true
  }

  #expect(token: string): void {
    if (!this.#accept(token)) throw refused(this.offset, `expected ${token}`)
  }
}

function splitName(name: string): [prefix: string, local: string] {
  const colon = name.indexOf(':')
  return colon < 0 ? ['', name] : [name.slice(0, colon), name.slice(colon + 1)]
}

function refused(offset: number, what: string): FormatError {
  return new FormatError('xml.refused', `XML at character ${offset}: ${what}`)
}

/** The value of an attribute by namespace URI and local name, never by prefix. */
export function attributeOf(element: XmlElement, local: string, namespace = ''): string | undefined {
  return element.attributes.find((item) => item.local === local && item.namespace === namespace)?.value
}

/** The child elements, where nothing but white space may stand between them. @throws FormatError on other text. */
export function elementsOf(element: XmlElement): readonly XmlElement[] {
  return element.children.filter((child): child is XmlElement => {
    if (typeof child !== 'string') return true
    if (/[^ \t\n]/.test(child)) throw new FormatError('xml.text', `${element.local}: unexpected text`)
    return false
  })
}

/** The text of an element without children. @throws FormatError when it has child elements. */
export function textOf(element: XmlElement): string {
  return element.children
    .map((child) => {
      if (typeof child !== 'string') throw new FormatError('xml.text', `${element.local}: unexpected element`)
      return child
    })
    .join('')
}
