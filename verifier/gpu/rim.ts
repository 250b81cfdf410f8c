/**
 * Reference integrity manifests: what one says, and what its enveloped XML signature covers (TCG PC Client RIM, ISO/IEC
 * 19770-2 SWID; W3C xmldsig-core1).
 *
 * One signature profile is read, the one NVIDIA's manifests have: exactly one Signature, last child of the root, over the
 * whole document (`URI=""`) with the enveloped-signature and C14N 1.1 transforms in that order, SHA-384, ECDSA with
 * SHA-384, and a KeyInfo of certificates only. Contents are taken from direct children of the very root that was digested,
 * so there is no other element a signature could have been moved to. Nothing is verified here.
 */
import { type Bytes, fromBase64, fromHex, fromUtf8 } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { sha384 } from '../protocol/hash.js'
import { type Certificate, parseCertificate } from '../x509.js'
import { canonicalise } from './c14n.js'
import { attributeOf, elementsOf, parseXml, textOf, type XmlElement } from './xml.js'

export type RimRole = 'driver' | 'vbios' | 'switch'

export interface GoldenRecord {
  /** 0-based; the SPDM block of the same measurement has the next number. */
  readonly index: number
  readonly name: string
  /** 48 bytes each; any of them matches. All zeros is a value like any other. */
  readonly alternatives: readonly Bytes[]
}

/** A minimum for a numeric field of the versioned opaque data. */
export interface MinimumRecord {
  readonly type: number
  readonly name: string
  readonly minSvn: bigint
}

export interface RimSignature {
  /** Canonical octets of SignedInfo: what the signature is over. */
  readonly signedInfo: Bytes
  /** The DigestValue SignedInfo names. */
  readonly digest: Bytes
  /** r then s, 48 bytes each. */
  readonly value: Bytes
  /** Leaf first. */
  readonly certificates: readonly Certificate[]
}

export interface Rim {
  readonly role: RimRole
  /** GH100, GB100, LS10 … */
  readonly product: string
  /** The driver's or the VBIOS's version. */
  readonly version: string
  /** Active records by index. */
  readonly golden: ReadonlyMap<number, GoldenRecord>
  readonly minimums: readonly MinimumRecord[]
  readonly signature: RimSignature
  /** SHA-384 of the canonical document without its Signature. */
  readonly documentDigest: Bytes
}

const NS = {
  swid: 'http://standards.iso.org/iso/19770/-2/2015/schema.xsd',
  dsig: 'http://www.w3.org/2000/09/xmldsig#',
  sha384: 'http://www.w3.org/2001/04/xmlenc#sha384',
  opaque: 'https://docs.nvidia.com/attestation/specs/latest/opaque-data.html',
} as const

const ALGORITHM = {
  c14n: 'http://www.w3.org/2006/12/xml-c14n11',
  enveloped: 'http://www.w3.org/2000/09/xmldsig#enveloped-signature',
  signature: 'http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384',
  digest: 'http://www.w3.org/2001/04/xmldsig-more#sha384',
} as const

const DIGEST_BYTES = 48
const MAX_CERTIFICATES = 6
const MAX_ALTERNATIVES = 64
/** Records at this index and above are about opaque data: index minus this is the field's type. */
const OPAQUE_RECORDS = 0x1000
const HASH_RECORDS = 256

/** The document as a tree. @throws FormatError on anything but XML of the strict subset. */
export function parseRimXml(bytes: Bytes): XmlElement {
  return parseXml(fromUtf8(bytes))
}

/** @throws FormatError on a document outside the profile. */
export function readRim(root: XmlElement): Rim {
  if (root.namespace !== NS.swid || root.local !== 'SoftwareIdentity') throw outside('expected a SoftwareIdentity')
  const children = elementsOf(root)
  const only = (local: string, namespace: string): XmlElement => {
    const [found, ...extra] = children.filter((child) => child.local === local && child.namespace === namespace)
    if (found === undefined || extra.length > 0) throw outside(`expected exactly one ${local}`)
    return found
  }
  only('Entity', NS.swid)
  const meta = only('Meta', NS.swid)
  const payload = only('Payload', NS.swid)
  const signature = only('Signature', NS.dsig)
  if (children.length !== 4) throw outside('expected Entity, Meta, Payload and Signature alone')
  if (root.children.at(-1) !== signature) throw outside('expected the Signature to come last')
  if (elementsOf(meta).length > 0) throw outside('expected an empty Meta')
  const product = attribute(meta, 'product', /^[A-Z]{2}[0-9]{2,3}$/)
  const version = attribute(meta, 'colloquialVersion', /^[0-9A-Fa-f]+(\.[0-9A-Fa-f]+){1,5}$/)
  return {
    role: roleOf(attribute(meta, 'edition', /^(GPU|SWITCH)$/), version),
    product,
    version,
    ...readPayload(payload),
    signature: readSignature(signature, root),
    documentDigest: sha384(canonicalise(root, new Map(), new Set([signature]))),
  }
}

/** VBIOS versions are five pairs of hexadecimal digits; driver versions are decimal and never have five parts. */
function roleOf(edition: string, version: string): RimRole {
  const firmware = /^[0-9A-F]{2}(\.[0-9A-F]{2}){4}$/i.test(version)
  if (edition === 'SWITCH') {
    if (!firmware) throw outside('expected a BIOS version')
    return 'switch'
  }
  if (firmware) return 'vbios'
  if (!/^[0-9]+(\.[0-9]+){1,3}$/.test(version)) throw outside('expected the version of a driver or a VBIOS')
  return 'driver'
}

function readPayload(payload: XmlElement): Pick<Rim, 'golden' | 'minimums'> {
  const golden = new Map<number, GoldenRecord>()
  const minimums: MinimumRecord[] = []
  const seen = new Set<number>()
  for (const resource of elementsOf(payload)) {
    if (resource.namespace !== NS.swid || resource.local !== 'Resource') throw outside('expected Resources alone')
    if (attributeOf(resource, 'type') !== 'Measurement') throw outside('a Resource that is no Measurement')
    if (elementsOf(resource).length > 0) throw outside('expected an empty Resource')
    const index = decimal(resource, 'index')
    if (seen.has(index)) throw outside(`index ${index} occurs twice`)
    seen.add(index)
    const active = attribute(resource, 'active', /^(True|False)$/) === 'True'
    if (index >= OPAQUE_RECORDS) {
      if (active) minimums.push(readMinimum(resource, index - OPAQUE_RECORDS))
    } else if (index < HASH_RECORDS) {
      const record = readGolden(resource, index)
      if (active) golden.set(index, record)
    } else {
      throw outside(`index ${index} is of no known kind`)
    }
  }
  return { golden, minimums }
}

function readGolden(resource: XmlElement, index: number): GoldenRecord {
  const count = decimal(resource, 'alternatives')
  if (count < 1 || count > MAX_ALTERNATIVES) throw outside(`index ${index}: ${count} alternatives`)
  if (decimal(resource, 'size') !== DIGEST_BYTES) throw outside(`index ${index}: expected values of 48 bytes`)
  const hashes = resource.attributes.filter((item) => item.namespace === NS.sha384)
  // A value that is there but not counted would be read by one verifier and not by the next.
  if (hashes.length !== count) throw outside(`index ${index}: ${hashes.length} values for ${count} alternatives`)
  if (resource.attributes.some((item) => item.namespace !== '' && item.namespace !== NS.sha384)) {
    throw outside(`index ${index}: attributes of an unknown kind`)
  }
  const alternatives = Array.from({ length: count }, (_, i) =>
    fromHex(attribute(resource, `Hash${i}`, /^[0-9a-fA-F]{96}$/, NS.sha384)),
  )
  return { index, name: attributeOf(resource, 'name') ?? '', alternatives }
}

/** These carry a number instead of hashes; a hash beside it would be ignored, so it is refused. */
function readMinimum(resource: XmlElement, type: number): MinimumRecord {
  if (type > 0xffff) throw outside(`record for opaque type ${type}`)
  if (resource.attributes.some((item) => item.namespace === NS.sha384)) throw outside('a minimum that also has hashes')
  const minSvn = BigInt(attribute(resource, 'minSvn', /^(0|[1-9][0-9]{0,18})$/, NS.opaque))
  return { type, name: attributeOf(resource, 'name') ?? '', minSvn }
}

function readSignature(signature: XmlElement, root: XmlElement): RimSignature {
  const [signedInfo, value, keyInfo] = exactly(signature, ['SignedInfo', 'SignatureValue', 'KeyInfo'])
  const [method, algorithm, reference] = exactly(signedInfo, ['CanonicalizationMethod', 'SignatureMethod', 'Reference'])
  names(method, ALGORITHM.c14n)
  names(algorithm, ALGORITHM.signature)
  if (reference.attributes.length !== 1 || attributeOf(reference, 'URI') !== '') throw outside('expected URI=""')
  const [transforms, digestMethod, digestValue] = exactly(reference, ['Transforms', 'DigestMethod', 'DigestValue'])
  const [enveloped, c14n] = exactly(transforms, ['Transform', 'Transform'])
  names(enveloped, ALGORITHM.enveloped)
  names(c14n, ALGORITHM.c14n)
  names(digestMethod, ALGORITHM.digest)
  for (const element of [signature, signedInfo, value, keyInfo, transforms, digestValue]) plain(element)

  const [data] = exactly(keyInfo, ['X509Data'])
  plain(data)
  const certificates = elementsOf(data).map((element) => {
    if (element.namespace !== NS.dsig || element.local !== 'X509Certificate') throw outside('KeyInfo of another kind')
    plain(element)
    return parseCertificate(base64Text(element))
  })
  if (certificates.length < 2 || certificates.length > MAX_CERTIFICATES) {
    throw outside(`${certificates.length} certificates in KeyInfo`)
  }
  const inherited = new Map([...root.declarations, ...signature.declarations])
  return {
    signedInfo: canonicalise(signedInfo, inherited),
    digest: sized(base64Text(digestValue), DIGEST_BYTES, 'DigestValue'),
    value: sized(base64Text(value), 2 * DIGEST_BYTES, 'SignatureValue'),
    certificates,
  }
}

/** The children, which must be these elements of the signature's namespace in this order. */
function exactly<const T extends readonly string[]>(element: XmlElement, names: T): { [K in keyof T]: XmlElement } {
  const children = elementsOf(element)
  const same =
    children.length === names.length &&
    children.every((child, i) => child.namespace === NS.dsig && child.local === names[i])
  if (!same) throw outside(`expected ${element.local} to hold ${names.join(', ')}`)
  return children as { [K in keyof T]: XmlElement }
}

/** An element that says nothing but which algorithm. */
function names(element: XmlElement, algorithm: string): void {
  const right = element.attributes.length === 1 && attributeOf(element, 'Algorithm') === algorithm
  if (!right || element.children.length > 0) throw outside(`expected ${element.local} ${algorithm}`)
}

function plain(element: XmlElement): void {
  if (element.attributes.length > 0) throw outside(`unexpected attributes of ${element.local}`)
}

function base64Text(element: XmlElement): Bytes {
  return fromBase64(textOf(element).replace(/[ \t\n]/g, ''))
}

function sized(bytes: Bytes, size: number, what: string): Bytes {
  if (bytes.length !== size) throw outside(`${what}: expected ${size} bytes, got ${bytes.length}`)
  return bytes
}

function attribute(element: XmlElement, local: string, form: RegExp, namespace = ''): string {
  const value = attributeOf(element, local, namespace)
  if (value === undefined || value.length > 128 || !form.test(value)) {
    throw outside(`${element.local}: ${local} is missing or not what it must be`)
  }
  return value
}

function decimal(element: XmlElement, local: string): number {
  return Number(attribute(element, local, /^(0|[1-9][0-9]{0,5})$/))
}

function outside(what: string): FormatError {
  return new FormatError('rim.profile', `manifest: ${what}`)
}
