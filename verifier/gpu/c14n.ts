/**
 * Canonical XML (inclusive; W3C xml-c14n11 §2, equal to version 1.0 where no `xml:` attributes occur) for what `xml.ts`
 * reads: no comments, no processing instructions, no document type, so only elements, attributes, namespace declarations
 * and text remain to be written.
 */
import { type Bytes, utf8 } from '../protocol/bytes.js'
import type { XmlAttribute, XmlElement } from './xml.js'

type Scope = ReadonlyMap<string, string>

/**
 * Octets of the subtree under `apex`. `inherited` are the declarations in scope above it, which an inclusive
 * canonicalisation of a subtree writes at its apex. Children in `omit` are left out with everything below them, which is
 * all the enveloped-signature transform does.
 */
export function canonicalise(apex: XmlElement, inherited: Scope, omit: ReadonlySet<XmlElement> = new Set()): Bytes {
  const out: string[] = []
  const scope = new Map([...inherited, ...apex.declarations])
  write(apex, scope, new Map(), omit, out)
  return utf8(out.join(''))
}

/** `rendered` is what the nearest written ancestor has in scope. */
function write(
  element: XmlElement,
  declared: Scope,
  rendered: Scope,
  omit: ReadonlySet<XmlElement>,
  out: string[],
): void {
  const name = element.prefix === '' ? element.local : `${element.prefix}:${element.local}`
  const fresh = [...declared].filter(([prefix, uri]) => rendered.get(prefix) !== uri)
  const scope = fresh.length === 0 ? rendered : new Map([...rendered, ...fresh])
  out.push('<', name)
  for (const [prefix, uri] of fresh.sort(([a], [b]) => compare(a, b))) {
    out.push(prefix === '' ? ' xmlns="' : ` xmlns:${prefix}="`, escapeAttribute(uri), '"')
  }
  for (const attribute of [...element.attributes].sort(byExpandedName)) {
    const qualified = attribute.prefix === '' ? attribute.local : `${attribute.prefix}:${attribute.local}`
    out.push(' ', qualified, '="', escapeAttribute(attribute.value), '"')
  }
  out.push('>')
  for (const child of element.children) {
    if (typeof child === 'string') out.push(escapeText(child))
    else if (!omit.has(child)) write(child, child.declarations, scope, omit, out)
  }
  out.push('</', name, '>')
}

/** By namespace URI, then local name; attributes in no namespace come first. */
function byExpandedName(a: XmlAttribute, b: XmlAttribute): number {
  return compare(a.namespace, b.namespace) || compare(a.local, b.local)
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

function escapeText(text: string): string {
  return /[&<>]/.test(text) ? text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;') : text
}

function escapeAttribute(text: string): string {
  return /[&<"]/.test(text) ? text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;') : text
}
