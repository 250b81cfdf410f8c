/**
 * A reader of manifests for tests of their writer: text to tree, and which parts of an XML signature hold by the letter of
 * the specification, however foolish the document. It refuses nothing but what is not XML, and is no model for a verifier.
 */
import { createHash, createPublicKey, type KeyObject, verify } from 'node:crypto'
import { RIM_ALGORITHM } from '../../scripts/simulated/gpu-rim.js'
import { canonicalizeXml, type XmlElement, type XmlNode } from '../../scripts/simulated/gpu-rim-xml.js'

const TOKEN =
  /<!--[\s\S]*?-->|<!\[CDATA\[([\s\S]*?)\]\]>|<\?[\s\S]*?\?>|<!DOCTYPE(?:[^[>]|\[[^\]]*\])*>|<(\/?)([\w:]+)((?:\s+[\w:]+="[^"<]*")*)\s*(\/?)>|[^<]+/y

/** @throws Error when the text is not well-formed, namespaces included. */
export function readXml(text: string): XmlElement {
  if (text.includes('\0')) throw new Error('NUL')
  if (/^<\?xml[^>]*encoding="UTF-16"/.test(text)) throw new Error('not UTF-16')
  const open: { element: XmlElement; children: XmlNode[]; scope: Record<string, string> }[] = []
  const roots: XmlElement[] = []
  const put = (node: XmlNode): void => {
    const top = open.at(-1)
    if (top !== undefined) top.children.push(node)
    else if (typeof node === 'string') {
      if (node.trim() !== '') throw new Error('text outside the document element')
    } else roots.push(node as XmlElement)
  }
  TOKEN.lastIndex = 0
  while (TOKEN.lastIndex < text.length) {
    const at = TOKEN.lastIndex
    const match = TOKEN.exec(text)
    if (match === null) throw new Error(`not XML at ${at}`)
    const [token, cdata, closing, name = '', written = '', empty] = match
    if (cdata !== undefined) put(cdata)
    else if (token.startsWith('<!--') || token.startsWith('<!DOCTYPE') || token.startsWith('<?xml ')) continue
    else if (token.startsWith('<?')) put({ raw: token, canonical: token })
    else if (!token.startsWith('<')) put(unescapeXml(token))
    else if (closing === '/') {
      const top = open.pop()
      if (top?.element.name !== name) throw new Error(`unexpected </${name}>`)
      put({ ...top.element, children: top.children })
    } else {
      const outer = open.at(-1)?.scope ?? { xml: 'http://www.w3.org/XML/1998/namespace' }
      const { element, scope } = startTag(name, written, outer)
      if (empty === '/') put(element)
      else open.push({ element, children: [], scope })
    }
  }
  const [root, ...more] = roots
  if (root === undefined || more.length > 0 || open.length > 0) throw new Error('expected one document element')
  return root
}

function startTag(
  name: string,
  written: string,
  outer: Record<string, string>,
): { element: XmlElement; scope: Record<string, string> } {
  const all = [...written.matchAll(/([\w:]+)="([^"]*)"/g)].map(
    ([, key = '', value = '']) => [key, unescapeXml(value)] as const,
  )
  const isDeclaration = ([key]: readonly [string, string]): boolean => key === 'xmlns' || key.startsWith('xmlns:')
  const namespaces = Object.fromEntries(all.filter(isDeclaration).map(([key, uri]) => [key.slice(6), uri]))
  const attributes = all.filter((attribute) => !isDeclaration(attribute))
  const scope = { ...outer, ...namespaces }
  const expanded = attributes.map(([key]) => {
    const [prefix = '', local] = key.includes(':') ? key.split(':') : ['', key]
    if (prefix !== '' && scope[prefix] === undefined) throw new Error(`unbound ${prefix}`)
    return `${prefix === '' ? '' : scope[prefix]} ${local}`
  })
  if (new Set(expanded).size < expanded.length) throw new Error('attribute twice')
  return { element: { name, namespaces, attributes }, scope }
}

function unescapeXml(text: string): string {
  return text
    .replaceAll(/&#x([0-9a-fA-F]+);/g, (_, hex: string) => String.fromCodePoint(Number.parseInt(hex, 16)))
    .replaceAll('&lt;', '<')
    .replaceAll('&gt;', '>')
    .replaceAll('&quot;', '"')
    .replaceAll('&amp;', '&')
}

/** Every element below and including this one, with the namespaces in scope around it. */
export function* descend(
  element: XmlElement,
  inherited: Readonly<Record<string, string>> = {},
): Generator<{ element: XmlElement; inherited: Readonly<Record<string, string>> }> {
  yield { element, inherited }
  const scope = { ...inherited, ...element.namespaces }
  for (const child of elements(element)) yield* descend(child, scope)
}

export function elements(element: XmlElement, name?: string): XmlElement[] {
  return (element.children ?? []).filter(
    (child): child is XmlElement =>
      typeof child !== 'string' && 'name' in child && (name === undefined || child.name === name),
  )
}

export function attribute(element: XmlElement | undefined, name: string): string | undefined {
  return element?.attributes?.find(([key]) => key === name)?.[1]
}

export function textOf(element: XmlElement | undefined): string {
  return (element?.children ?? []).filter((child) => typeof child === 'string').join('')
}

/** What of the best Signature in the document holds under this key. */
export function whatHolds(xml: string, key: KeyObject): 'all' | 'signature' | 'none' {
  let root: XmlElement
  try {
    root = readXml(xml)
  } catch {
    return 'none'
  }
  const verdicts = [...descend(root)]
    .filter(({ element }) => element.name === 'ds:Signature')
    .map(({ element, inherited }) => judge(root, element, { ...inherited, ...element.namespaces }, key))
  return verdicts.includes('all') ? 'all' : verdicts.includes('signature') ? 'signature' : 'none'
}

const SIGNATURE_HASH: Readonly<Record<string, string>> = {
  [RIM_ALGORITHM.signature]: 'sha384',
  'http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256': 'sha256',
}
const DIGEST_HASH: Readonly<Record<string, string>> = {
  [RIM_ALGORITHM.digest]: 'sha384',
  'http://www.w3.org/2000/09/xmldsig#sha1': 'sha1',
}

function judge(
  root: XmlElement,
  signature: XmlElement,
  scope: Readonly<Record<string, string>>,
  key: KeyObject,
): 'all' | 'signature' | 'none' {
  const [info] = elements(signature, 'ds:SignedInfo')
  if (info === undefined) return 'none'
  const hash = SIGNATURE_HASH[attribute(elements(info, 'ds:SignatureMethod')[0], 'Algorithm') ?? '']
  const value = Buffer.from(textOf(elements(signature, 'ds:SignatureValue')[0]), 'base64')
  const signed = Buffer.from(canonicalizeXml(info, scope))
  if (hash === undefined || !verify(hash, signed, { key, dsaEncoding: 'ieee-p1363' }, value)) return 'none'
  const references = elements(info, 'ds:Reference')
  return references.length > 0 && references.every((reference) => digestHolds(root, signature, reference))
    ? 'all'
    : 'signature'
}

function digestHolds(root: XmlElement, signature: XmlElement, reference: XmlElement): boolean {
  const uri = attribute(reference, 'URI') ?? ''
  const targets = [...descend(root)].filter(({ element }) => uri === '' || attribute(element, 'Id') === uri.slice(1))
  const hash = DIGEST_HASH[attribute(elements(reference, 'ds:DigestMethod')[0], 'Algorithm') ?? '']
  const stated = textOf(elements(reference, 'ds:DigestValue')[0])
  const transforms = elements(elements(reference, 'ds:Transforms')[0] ?? reference, 'ds:Transform')
  const nothing = transforms.some((transform) => textOf(elements(transform, 'ds:XPath')[0]) === 'false()')
  const candidates = (uri === '' ? targets.slice(0, 1) : targets).map(({ element, inherited }) =>
    nothing ? '' : canonicalizeXml(without(element, signature), inherited),
  )
  return (
    hash !== undefined && candidates.some((canonical) => createHash(hash).update(canonical).digest('base64') === stated)
  )
}

/** The tree without one element. */
function without(element: XmlElement, gone: XmlElement): XmlElement {
  const children = (element.children ?? []).filter((child) => child !== gone)
  return {
    ...element,
    children: children.map((child) => (typeof child === 'string' || 'raw' in child ? child : without(child, gone))),
  }
}

/** The key of the first certificate that a manifest embeds. */
export function firstKey(root: XmlElement): KeyObject {
  const certificate = [...descend(root)].find(({ element }) => element.name === 'ds:X509Certificate')?.element
  return createPublicKey(`-----BEGIN CERTIFICATE-----\n${textOf(certificate)}-----END CERTIFICATE-----\n`)
}
