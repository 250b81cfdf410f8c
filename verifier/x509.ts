/**
 * X.509 certificates and CRLs (RFC 5280 §4 and §5) as every vendor's chain uses them. Only importer of the X.509 library.
 *
 * Two readers look at the same bytes: `der.ts` refuses anything that is not canonical DER and yields the exact received
 * slices (signed part, names, key, extensions), and the library decodes what those slices mean. Refused: versions other
 * than 3 (certificates) and 2 (CRLs), an inner signature algorithm that differs from the outer one, an extension that
 * appears twice, oversized input. Parsing trusts nothing: who signed what is `signature.ts`.
 */
import 'reflect-metadata'
import { BasicConstraintsExtension, KeyUsageFlags, KeyUsagesExtension, Name, X509Certificate } from '@peculiar/x509'
import {
  childrenOf,
  type DerElement,
  expectTag,
  oidText,
  readDer,
  smallInteger,
  TAG,
  timeOf,
  wholeBits,
} from './der.js'
import { createMemory, type Memory } from './memory.js'
import { type Bytes, equalBytes, toHex } from './protocol/bytes.js'
import { FormatError } from './protocol/errors.js'
import { sha256 } from './protocol/hash.js'

export interface Extension {
  /** The whole Extension, as received. */
  readonly der: Bytes
  readonly critical: boolean
  /** The contents of extnValue: what the OCTET STRING wraps, as received. */
  readonly value: Bytes
}

/** What a certificate and a CRL have in common: bytes, and a signature over some of them. */
export interface Signed {
  /** Exactly the received bytes. */
  readonly der: Bytes
  /** Lower-case hex SHA-256 of `der`. */
  readonly sha256Hex: string
  /** The signed bytes, a slice of `der`. */
  readonly tbs: Bytes
  /** The AlgorithmIdentifier, as received. */
  readonly signatureAlgorithm: Bytes
  readonly signature: Bytes
}

export interface Certificate extends Signed {
  readonly serialHex: string
  /** DER of the Name. Names are compared byte for byte. */
  readonly issuer: Bytes
  readonly subject: Bytes
  readonly issuerCommonName: string | undefined
  readonly subjectCommonName: string | undefined
  readonly notBefore: Date
  readonly notAfter: Date
  /** DER of the SubjectPublicKeyInfo. */
  readonly spki: Bytes
  /** Lower-case hex SHA-256 of `spki`: what root pins name. */
  readonly spkiSha256Hex: string
  /** By dotted OID. No OID appears twice. */
  readonly extensions: ReadonlyMap<string, Extension>
  /** basicConstraints says CA. */
  readonly isCa: boolean
  readonly pathLength: number | undefined
  /** Undefined when there is no keyUsage extension, which restricts nothing (RFC 5280 §4.2.1.3). */
  readonly keyUsage: { readonly certSign: boolean; readonly crlSign: boolean } | undefined
}

export interface RevocationList extends Signed {
  readonly issuer: Bytes
  readonly issuerCommonName: string | undefined
  readonly thisUpdate: Date
  readonly nextUpdate: Date
  /** Lower-case hex contents of each revoked serial number. */
  readonly revokedSerials: ReadonlySet<string>
  readonly extensions: ReadonlyMap<string, Extension>
}

const OID = {
  commonName: '2.5.4.3',
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  basicConstraints: '2.5.29.19',
  authorityKeyIdentifier: '2.5.29.35',
} as const

const MAX_CERTIFICATE_BYTES = 64 * 1024
const MAX_CRL_BYTES = 2 * 1024 * 1024

/** @throws FormatError on anything but one strict DER version 3 certificate. */
export function parseCertificate(bytes: Uint8Array): Certificate {
  return remembered(certificates, bytes, MAX_CERTIFICATE_BYTES, 'certificate', readCertificate)
}

/** @throws FormatError on anything but one strict DER version 2 CRL with a nextUpdate. */
export function parseRevocationList(bytes: Uint8Array): RevocationList {
  return remembered(lists, bytes, MAX_CRL_BYTES, 'CRL', readRevocationList)
}

/** Whether these bytes are a CRL. Says nothing about what it claims. */
export function isCrl(bytes: Uint8Array): boolean {
  try {
    parseRevocationList(bytes)
    return true
  } catch {
    return false
  }
}

/** Whether `time` is inside the certificate's validity, both ends included. */
export function inValidity(certificate: Certificate, time: Date): boolean {
  return certificate.notBefore <= time && time <= certificate.notAfter
}

/** Whether the CRL is current at `time`, both ends included. */
export function inWindow(list: RevocationList, time: Date): boolean {
  return list.thisUpdate <= time && time <= list.nextUpdate
}

/** Whether the certificate's issuer is named exactly as `issuer`'s subject is. Says nothing about signatures. */
export function namesIssuer(certificate: Certificate, issuer: Certificate): boolean {
  return equalBytes(certificate.issuer, issuer.subject)
}

/** The subjectKeyIdentifier of a parsed certificate, when it has one; parsing refused a malformed one. */
export function subjectKeyId(certificate: Pick<Certificate, 'extensions'>): Bytes | undefined {
  const extension = certificate.extensions.get(OID.subjectKeyIdentifier)
  if (extension === undefined) return undefined
  return expectTag(readDer(extension.value, 'subjectKeyIdentifier'), TAG.octetString, 'subjectKeyIdentifier').content
}

/** The key identifier of a parsed item's authorityKeyIdentifier, when there is one; parsing refused a malformed one. */
export function authorityKeyId(item: Pick<Certificate, 'extensions'>): Bytes | undefined {
  const extension = item.extensions.get(OID.authorityKeyIdentifier)
  if (extension === undefined) return undefined
  const parts = childrenOf(readDer(extension.value, 'authorityKeyIdentifier'), 'authorityKeyIdentifier')
  return parts.find((part) => part.tag === 0x80)?.content
}

/** Critical extensions that are none of `known`: RFC 5280 §4.2 says to reject what carries one. */
export function unknownCritical(
  item: { readonly extensions: ReadonlyMap<string, Extension> },
  known: readonly string[] = [OID.basicConstraints, OID.keyUsage],
): readonly string[] {
  return [...item.extensions].filter(([oid, { critical }]) => critical && !known.includes(oid)).map(([oid]) => oid)
}

function readCertificate(bytes: Bytes, sha256Hex: string): Certificate {
  const { parts, signed } = readSigned(bytes, 'certificate', sha256Hex)
  const [version, ...rest] = parts
  expectTag(version, 0xa0, 'certificate version')
  if (smallInteger(childrenOf(version as DerElement, 'version')[0], 'version') !== 2) {
    throw new FormatError('x509.version', 'certificate: expected version 3')
  }
  const [serial, algorithm, issuer, validity, subject, spki, ...optional] = rest
  checkInnerAlgorithm(algorithm, signed, 'certificate')
  expectShape(optional, /^(81|a1)?(82|a2)?(a3)?$/, 'certificate')
  const extensions = readExtensions(optional.find((part) => part.tag === 0xa3))
  const times = childrenOf(expectTag(validity, TAG.sequence, 'validity'), 'validity')

  const decoded = new X509Certificate(bytes)
  // Both readers must have seen the same certificate.
  if (!equalBytes(new Uint8Array(decoded.signature), signed.signature)) {
    throw new FormatError('x509.ambiguous', 'certificate: two readings disagree')
  }
  const constraints = extensions.get(OID.basicConstraints)
  const usage = extensions.get(OID.keyUsage)
  const basic = constraints === undefined ? undefined : new BasicConstraintsExtension(constraints.der)
  const usages = usage === undefined ? undefined : new KeyUsagesExtension(usage.der).usages
  const key = expectTag(spki, TAG.sequence, 'subjectPublicKeyInfo').bytes
  return {
    ...signed,
    serialHex: toHex(expectTag(serial, TAG.integer, 'serialNumber').content),
    issuer: expectTag(issuer, TAG.sequence, 'issuer').bytes,
    subject: expectTag(subject, TAG.sequence, 'subject').bytes,
    issuerCommonName: onlyCommonName(decoded.issuerName),
    subjectCommonName: onlyCommonName(decoded.subjectName),
    notBefore: timeOf(times[0], 'notBefore'),
    notAfter: timeOf(times[1], 'notAfter'),
    spki: key,
    spkiSha256Hex: toHex(sha256(key)),
    extensions,
    isCa: basic?.ca ?? false,
    pathLength: basic?.pathLength,
    keyUsage:
      usages === undefined
        ? undefined
        : {
            certSign: (usages & KeyUsageFlags.keyCertSign) !== 0,
            crlSign: (usages & KeyUsageFlags.cRLSign) !== 0,
          },
  }
}

function readRevocationList(bytes: Bytes, sha256Hex: string): RevocationList {
  const { parts, signed } = readSigned(bytes, 'CRL', sha256Hex)
  const [version, algorithm, issuer, thisUpdate, nextUpdate, ...rest] = parts
  if (smallInteger(version, 'CRL version') !== 1) throw new FormatError('x509.version', 'CRL: expected version 2')
  checkInnerAlgorithm(algorithm, signed, 'CRL')
  expectShape(rest, /^(30)?(a0)?$/, 'CRL')
  const name = expectTag(issuer, TAG.sequence, 'CRL issuer')
  const entries = rest.find((part) => part.tag === TAG.sequence)
  const revoked = entries === undefined ? [] : childrenOf(entries, 'revokedCertificates')
  return {
    ...signed,
    issuer: name.bytes,
    issuerCommonName: onlyCommonName(new Name(name.bytes)),
    thisUpdate: timeOf(thisUpdate, 'thisUpdate'),
    nextUpdate: timeOf(nextUpdate, 'nextUpdate'),
    revokedSerials: new Set(revoked.map(revokedSerial)),
    extensions: readExtensions(rest.find((part) => part.tag === 0xa0)),
  }
}

/** An entry's critical extension could mean "issued by someone else" (indirect CRLs): not ours to interpret. */
function revokedSerial(entry: DerElement): string {
  const [serial, date, extensions] = childrenOf(expectTag(entry, TAG.sequence, 'CRL entry'), 'CRL entry')
  timeOf(date, 'revocationDate')
  if (extensions !== undefined) {
    const critical = [...readExtensionList(extensions)].find(([, extension]) => extension.critical)
    if (critical !== undefined) throw new FormatError('x509.critical', `CRL entry: critical extension ${critical[0]}`)
  }
  return toHex(expectTag(serial, TAG.integer, 'revoked serial').content)
}

function readSigned(bytes: Bytes, what: string, sha256Hex: string): { parts: readonly DerElement[]; signed: Signed } {
  const outer = childrenOf(expectTag(readDer(bytes, what), TAG.sequence, what), what)
  if (outer.length !== 3) throw new FormatError('x509.shape', `${what}: expected three elements`)
  const tbs = expectTag(outer[0], TAG.sequence, `${what} body`)
  const algorithm = expectTag(outer[1], TAG.sequence, `${what} signature algorithm`)
  const signature = wholeBits(outer[2], `${what} signature`)
  return {
    parts: childrenOf(tbs, what),
    signed: { der: bytes, sha256Hex, tbs: tbs.bytes, signatureAlgorithm: algorithm.bytes, signature },
  }
}

/** Optional elements at the end of a signed part: in their order, each at most once, and nothing else. */
function expectShape(parts: readonly DerElement[], tags: RegExp, what: string): void {
  const found = parts.map((part) => part.tag.toString(16).padStart(2, '0')).join('')
  if (!tags.test(found)) throw new FormatError('x509.shape', `${what}: unexpected elements after the fixed ones`)
}

/** RFC 5280 §4.1.1.2: the algorithm under the signature is the one beside it. */
function checkInnerAlgorithm(inner: DerElement | undefined, signed: Signed, what: string): void {
  const element = expectTag(inner, TAG.sequence, `${what} algorithm`)
  if (!equalBytes(element.bytes, signed.signatureAlgorithm)) {
    throw new FormatError('x509.algorithm', `${what}: inner and outer signature algorithm differ`)
  }
}

function readExtensions(wrapper: DerElement | undefined): ReadonlyMap<string, Extension> {
  if (wrapper === undefined) return new Map()
  const [list, ...extra] = childrenOf(wrapper, 'extensions')
  if (list === undefined || extra.length > 0) throw new FormatError('x509.extensions', 'extensions: malformed')
  return readExtensionList(list)
}

function readExtensionList(list: DerElement): ReadonlyMap<string, Extension> {
  const out = new Map<string, Extension>()
  for (const item of childrenOf(expectTag(list, TAG.sequence, 'extensions'), 'extensions')) {
    const parts = childrenOf(expectTag(item, TAG.sequence, 'extension'), 'extension')
    const oid = oidText(parts[0], 'extension')
    const critical = parts.length === 3 && expectTag(parts[1], TAG.boolean, oid).content[0] === 0xff
    const value = expectTag(parts.length === 3 ? parts[2] : parts[1], TAG.octetString, oid).content
    if (parts.length > 3) throw new FormatError('x509.extensions', `extension ${oid}: malformed`)
    if (out.has(oid)) throw new FormatError('x509.extension-twice', `extension ${oid} appears twice`)
    out.set(oid, { der: item.bytes, critical, value })
  }
  // Read once here, so that comparing key identifiers later cannot fail on what a sender wrote.
  subjectKeyId({ extensions: out })
  authorityKeyId({ extensions: out })
  return out
}

/** A Name's commonName, when there is exactly one: two would let readers disagree. */
function onlyCommonName(name: Name): string | undefined {
  const names = name.getField(OID.commonName)
  return names.length === 1 ? names[0] : undefined
}

/**
 * What was parsed before, by SHA-256 of the exact bytes: the same bytes always mean the same thing, so remembering
 * trusts nothing new.
 */
const MAX_REMEMBERED = 128
const certificates = createMemory<Certificate>(MAX_REMEMBERED)
const lists = createMemory<RevocationList>(MAX_REMEMBERED)

function remembered<T>(
  memory: Memory<T>,
  input: Uint8Array,
  maxBytes: number,
  what: string,
  read: (bytes: Bytes, sha256Hex: string) => T,
): T {
  if (input.length > maxBytes) throw new FormatError('x509.size', `${what}: ${input.length} bytes, at most ${maxBytes}`)
  const sha256Hex = toHex(sha256(input))
  const known = memory.recall(sha256Hex)
  if (known !== undefined) return known
  // A copy, so that nobody who holds the input can change what was parsed and remembered.
  const parsed = guarded(what, () => read(new Uint8Array(input), sha256Hex))
  memory.keep(sha256Hex, parsed)
  return parsed
}

/** The library throws errors of its own on malformed input; hostile bytes may only raise a FormatError. */
function guarded<T>(what: string, read: () => T): T {
  try {
    return read()
  } catch (error) {
    if (error instanceof FormatError) throw error
    throw new FormatError('x509.malformed', `${what}: malformed`, { cause: error })
  }
}
