/**
 * The little XML that writing a reference integrity manifest takes: a tree, its text, and its Canonical XML 1.1 form
 * (inclusive, without comments; for documents with no `xml:` attributes the same as 1.0). Writing only: nothing here reads
 * XML, and the verifier has a reader and a canonicaliser of its own.
 */

export interface XmlElement {
  /** As written, with its prefix. */
  readonly name: string
  /** Declarations by prefix, the default namespace under ''. */
  readonly namespaces?: Readonly<Record<string, string>>
  /** In the order they are written. */
  readonly attributes?: readonly (readonly [name: string, value: string])[]
  readonly children?: readonly XmlNode[]
}

/** Markup with no place in the tree, and what canonicalisation makes of it: nothing of a comment, text of CDATA. */
export interface XmlRaw {
  readonly raw: string
  readonly canonical: string
}

export type XmlNode = XmlElement | XmlRaw | string

/** The element as text, in the style of NVIDIA's manifests: declarations first, empty elements closed in one tag. */
export function writeXml(node: XmlNode): string {
  if (typeof node === 'string') return escapeText(node)
  if ('raw' in node) return node.raw
  const { name, namespaces = {}, attributes = [], children = [] } = node
  const declarations = Object.entries(namespaces).map(([prefix, uri]) => ` ${declaration(prefix)}="${uri}"`)
  const written = attributes.map(([attribute, value]) => ` ${attribute}="${escapeAttribute(value)}"`)
  const start = `<${name}${declarations.join('')}${written.join('')}`
  return children.length === 0 ? `${start}/>` : `${start}>${children.map(writeXml).join('')}</${name}>`
}

/**
 * The canonical form of the element as the apex of what is signed.
 * @param inherited namespaces in scope from its ancestors, which a signed fragment writes out itself
 */
export function canonicalizeXml(element: XmlElement, inherited: Readonly<Record<string, string>> = {}): string {
  return canonicalize(element, inherited, {})
}

export function appendXml(element: XmlElement, ...nodes: readonly XmlNode[]): XmlElement {
  return { ...element, children: [...(element.children ?? []), ...nodes] }
}

export function prependXml(element: XmlElement, ...nodes: readonly XmlNode[]): XmlElement {
  return { ...element, children: [...nodes, ...(element.children ?? [])] }
}

export function withAttribute(element: XmlElement, name: string, value: string): XmlElement {
  return { ...element, attributes: [...(element.attributes ?? []), [name, value]] }
}

/** The tree with every element of this name changed, inner ones first. */
export function mapXml(element: XmlElement, name: string, change: (found: XmlElement) => XmlElement): XmlElement {
  const children = element.children?.map((child) =>
    typeof child === 'string' || 'raw' in child ? child : mapXml(child, name, change),
  )
  const mapped = children === undefined ? element : { ...element, children }
  return element.name === name ? change(mapped) : mapped
}

function canonicalize(
  node: XmlNode,
  inherited: Readonly<Record<string, string>>,
  rendered: Readonly<Record<string, string>>,
): string {
  if (typeof node === 'string') return escapeText(node)
  if ('raw' in node) return node.canonical
  const scope = { ...inherited, ...node.namespaces }
  const declarations = Object.entries(scope)
    .filter(([prefix, uri]) => rendered[prefix] !== uri)
    .sort(([a], [b]) => compare(a, b))
    .map(([prefix, uri]) => ` ${declaration(prefix)}="${escapeAttribute(uri)}"`)
  const attributes = (node.attributes ?? [])
    .map(([name, value]) => ({ name, value, key: attributeKey(name, scope) }))
    .sort((a, b) => compare(a.key.uri, b.key.uri) || compare(a.key.local, b.key.local))
    .map(({ name, value }) => ` ${name}="${escapeAttribute(value)}"`)
  const content = (node.children ?? []).map((child) => canonicalize(child, scope, scope))
  return `<${node.name}${declarations.join('')}${attributes.join('')}>${content.join('')}</${node.name}>`
}

/** An attribute without a prefix is in no namespace, which sorts first. */
function attributeKey(name: string, scope: Readonly<Record<string, string>>): { uri: string; local: string } {
  const colon = name.indexOf(':')
  return colon < 0
    ? { uri: '', local: name }
    : { uri: { xml: XML_NAMESPACE, ...scope }[name.slice(0, colon)] ?? '', local: name.slice(colon + 1) }
}

/** Bound to `xml` without a declaration (Namespaces in XML 1.0 §3). */
const XML_NAMESPACE = 'http://www.w3.org/XML/1998/namespace'

function declaration(prefix: string): string {
  return prefix === '' ? 'xmlns' : `xmlns:${prefix}`
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}

function escapeText(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('\r', '&#xD;')
}

function escapeAttribute(text: string): string {
  return text
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('"', '&quot;')
    .replaceAll('\t', '&#x9;')
    .replaceAll('\n', '&#xA;')
    .replaceAll('\r', '&#xD;')
}
