/**
 * Extensions of certificates, CRLs and CRL entries (RFC 5280 §4.2, §5.2, §5.3): the list, and the four this verifier reads
 * from any issuer. None may appear twice. What the others mean is for whoever knows them; `unknownCritical` says which
 * may not be passed over.
 */
import { childrenOf, type DerElement, expectOrder, expectTag, oidText, readDer, smallInteger, TAG } from './der.js'
import type { Bytes } from './protocol/bytes.js'
import { FormatError } from './protocol/errors.js'

export interface Extension {
  readonly critical: boolean
  /** The contents of extnValue: what the OCTET STRING wraps, as received. */
  readonly value: Bytes
}

/** By dotted OID. */
export type Extensions = ReadonlyMap<string, Extension>

const OID = {
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  basicConstraints: '2.5.29.19',
  authorityKeyIdentifier: '2.5.29.35',
} as const

/** The list inside the explicit tag that certificates and CRLs put around it; empty where there is no tag. @throws FormatError */
export function readExtensions(wrapper: DerElement | undefined): Extensions {
  if (wrapper === undefined) return new Map()
  const [list, ...extra] = childrenOf(wrapper, 'extensions')
  if (list === undefined || extra.length > 0) throw new FormatError('x509.extensions', 'extensions: malformed')
  return readExtensionList(list)
}

/** @throws FormatError on a malformed list or key identifier, and when an OID appears twice. */
export function readExtensionList(list: DerElement): Extensions {
  const out = new Map<string, Extension>()
  for (const item of childrenOf(expectTag(list, TAG.sequence, 'extensions'), 'extensions')) {
    const parts = childrenOf(expectTag(item, TAG.sequence, 'extension'), 'extension')
    const oid = oidText(parts[0], 'extension')
    const critical = parts.length === 3 && writtenTrue(parts[1], oid)
    const value = expectTag(parts.length === 3 ? parts[2] : parts[1], TAG.octetString, oid).content
    if (parts.length > 3) throw new FormatError('x509.extensions', `extension ${oid}: malformed`)
    if (out.has(oid)) throw new FormatError('x509.extension-twice', `extension ${oid} appears twice`)
    out.set(oid, { critical, value })
  }
  // Read once here, so that comparing key identifiers later cannot fail on what a sender wrote.
  subjectKeyId({ extensions: out })
  authorityKeyId({ extensions: out })
  return out
}

/** RFC 5280 §4.2.1.9. Without the extension, no authority. @throws FormatError when malformed. */
export function readBasicConstraints(extensions: Extensions): {
  readonly isCa: boolean
  readonly pathLength: number | undefined
} {
  const what = 'basicConstraints'
  const extension = extensions.get(OID.basicConstraints)
  if (extension === undefined) return { isCa: false, pathLength: undefined }
  const parts = childrenOf(expectTag(readDer(extension.value, what), TAG.sequence, what), what)
  const [ca, pathLength, ...extra] = parts
  if (extra.length > 0) throw new FormatError('x509.extensions', `${what}: malformed`)
  // A path length without cA would come first, and would be no boolean.
  return {
    isCa: ca !== undefined && writtenTrue(ca, what),
    pathLength: pathLength === undefined ? undefined : smallInteger(pathLength, what),
  }
}

/** BOOLEAN DEFAULT FALSE where it is written: DER leaves a default out (X.690 §11.5), so it is TRUE. @throws FormatError otherwise. */
function writtenTrue(element: DerElement | undefined, what: string): true {
  if (expectTag(element, TAG.boolean, what).content[0] === 0xff) return true
  throw new FormatError('der.default', `${what}: a default that is written out`)
}

/** What a key may sign, as far as paths are concerned. */
export interface KeyUsage {
  readonly certSign: boolean
  readonly crlSign: boolean
}

/** RFC 5280 §4.2.1.3: a BIT STRING of nine named bits, the first in the highest place. */
const KEY_USAGE = { certSign: 0x80 >> 5, crlSign: 0x80 >> 6, maxOctets: 2 } as const

/** Undefined without the extension, which restricts nothing (RFC 5280 §4.2.1.3). @throws FormatError when malformed. */
export function readKeyUsage(extensions: Extensions): KeyUsage | undefined {
  const extension = extensions.get(OID.keyUsage)
  if (extension === undefined) return undefined
  const { content } = expectTag(readDer(extension.value, 'keyUsage'), TAG.bitString, 'keyUsage')
  // Before the bits, an octet counts the unused ones.
  const bits = content.subarray(1)
  if (bits.length > KEY_USAGE.maxOctets) throw new FormatError('x509.extensions', 'keyUsage: more bits than have names')
  const [first = 0] = bits
  return { certSign: (first & KEY_USAGE.certSign) !== 0, crlSign: (first & KEY_USAGE.crlSign) !== 0 }
}

/** The subjectKeyIdentifier of a parsed certificate, when it has one; parsing refused a malformed one. */
export function subjectKeyId(certificate: { readonly extensions: Extensions }): Bytes | undefined {
  const extension = certificate.extensions.get(OID.subjectKeyIdentifier)
  if (extension === undefined) return undefined
  return expectTag(readDer(extension.value, 'subjectKeyIdentifier'), TAG.octetString, 'subjectKeyIdentifier').content
}

/**
 * The key identifier of a parsed item's authorityKeyIdentifier, when there is one; parsing refused a malformed one. The
 * issuer and serial number that may stand beside it are not read (RFC 5280 §4.2.1.1).
 */
export function authorityKeyId(item: { readonly extensions: Extensions }): Bytes | undefined {
  const what = 'authorityKeyIdentifier'
  const extension = item.extensions.get(OID.authorityKeyIdentifier)
  if (extension === undefined) return undefined
  const parts = childrenOf(expectTag(readDer(extension.value, what), TAG.sequence, what), what)
  expectOrder(parts, /^(80)?(a1)?(82)?$/, what)
  return parts.find((part) => part.tag === 0x80)?.content
}

/** Critical extensions that are none of `known`: RFC 5280 §4.2 says to reject what carries one. */
export function unknownCritical(
  item: { readonly extensions: Extensions },
  known: readonly string[] = [OID.basicConstraints, OID.keyUsage],
): readonly string[] {
  return [...item.extensions].filter(([oid, { critical }]) => critical && !known.includes(oid)).map(([oid]) => oid)
}

/** issuingDistributionPoint and deltaCRLIndicator (RFC 5280 §5.2.4, §5.2.5), which are to be critical and might not be. */
const SCOPE_OF_LISTS: readonly string[] = ['2.5.29.27', '2.5.29.28']

/** Extensions for which a list is not one of everything its issuer revoked, or may not be. */
export function listRestrictions(list: { readonly extensions: Extensions }): readonly string[] {
  return [...list.extensions].flatMap(([oid, { critical }]) => (critical || SCOPE_OF_LISTS.includes(oid) ? [oid] : []))
}
