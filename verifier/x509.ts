/**
 * X.509 certificates and CRLs (RFC 5280 §4 and §5) as every vendor's chain uses them.
 *
 * `der.ts` refuses anything that is not canonical DER and yields the exact received slices; this file holds them to
 * RFC 5280's shape, element by element. Refused: versions other than 3 (certificates) and 2 (CRLs), an inner signature
 * algorithm that differs from the outer one, an extension that appears twice, a default that is written out, a path length of
 * what is no authority, serial numbers below zero or of more than 20 octets, critical extensions of CRL entries, oversized
 * input. Parsing trusts nothing: who signed what is `signature.ts`.
 *
 * Why no library: those at hand read BER and forgive, so a strict reader stood beside @peculiar/x509 anyway and left it
 * three fields to decode, at 63 kB gzipped of a browser's bundle (its schemas alone, 32 kB; asn1js alone, 17 kB). The
 * library is the tests' second reader (`test/x509/`): whatever is accepted here it accepts too and reads alike.
 */
import {
  childrenOf,
  type DerElement,
  expectOrder,
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
import {
  type Extensions,
  type KeyUsage,
  readBasicConstraints,
  readExtensionList,
  readExtensions,
  readKeyUsage,
} from './x509-extensions.js'
import { readName } from './x509-name.js'

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
  readonly extensions: Extensions
  /** basicConstraints says CA. */
  readonly isCa: boolean
  readonly pathLength: number | undefined
  /** Undefined when there is no keyUsage extension, which restricts nothing (RFC 5280 §4.2.1.3). */
  readonly keyUsage: KeyUsage | undefined
}

export interface RevocationList extends Signed {
  readonly issuer: Bytes
  readonly issuerCommonName: string | undefined
  readonly thisUpdate: Date
  readonly nextUpdate: Date
  /** Lower-case hex contents of each revoked serial number. */
  readonly revokedSerials: ReadonlySet<string>
  readonly extensions: Extensions
}

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

function readCertificate(bytes: Bytes, sha256Hex: string): Certificate {
  const { parts, signed } = readSigned(bytes, 'certificate', sha256Hex)
  const [version, serial, algorithm, issuerName, validity, subjectName, spki, ...optional] = parts
  requireVersion(expectTag(version, 0xa0, 'certificate version'))
  checkInnerAlgorithm(algorithm, signed, 'certificate')
  const issuer = readName(issuerName, 'issuer')
  const [notBefore, notAfter] = expectParts(validity, 2, 'validity')
  const subject = readName(subjectName, 'subject')
  const key = readPublicKey(spki)
  expectOrder(optional, /^(81)?(82)?(a3)?$/, 'certificate')
  for (const id of optional.filter(({ tag }) => tag !== 0xa3)) checkUniqueId(id)
  const extensions = readExtensions(optional.find((part) => part.tag === 0xa3))
  return {
    ...signed,
    serialHex: readSerial(serial, 'serialNumber'),
    issuer: issuer.der,
    subject: subject.der,
    issuerCommonName: issuer.commonName,
    subjectCommonName: subject.commonName,
    notBefore: timeOf(notBefore, 'notBefore'),
    notAfter: timeOf(notAfter, 'notAfter'),
    spki: key,
    spkiSha256Hex: toHex(sha256(key)),
    extensions,
    ...readBasicConstraints(extensions),
    keyUsage: readKeyUsage(extensions),
  }
}

function requireVersion(tagged: DerElement): void {
  const [version, ...extra] = childrenOf(tagged, 'version')
  if (smallInteger(version, 'version') !== 2 || extra.length > 0) {
    throw new FormatError('x509.version', 'certificate: expected version 3')
  }
}

/** SubjectPublicKeyInfo (RFC 5280 §4.1.2.7). Whether it is a key of any use is for whoever verifies with it. */
function readPublicKey(element: DerElement | undefined): Bytes {
  const [algorithm, bits] = expectParts(element, 2, 'subjectPublicKeyInfo')
  checkAlgorithm(algorithm, 'subjectPublicKeyInfo')
  wholeBits(bits, 'subjectPublicKey')
  return expectTag(element, TAG.sequence, 'subjectPublicKeyInfo').bytes
}

/** RFC 5280 §4.1.2.8: an implicitly tagged BIT STRING, which nobody reads. */
function checkUniqueId({ content }: DerElement): void {
  if ((content[0] ?? 8) > 7) throw new FormatError('x509.unique-id', 'unique identifier: malformed bit string')
}

function readRevocationList(bytes: Bytes, sha256Hex: string): RevocationList {
  const { parts, signed } = readSigned(bytes, 'CRL', sha256Hex)
  const [version, algorithm, issuerName, thisUpdate, nextUpdate, ...rest] = parts
  if (smallInteger(version, 'CRL version') !== 1) throw new FormatError('x509.version', 'CRL: expected version 2')
  checkInnerAlgorithm(algorithm, signed, 'CRL')
  expectOrder(rest, /^(30)?(a0)?$/, 'CRL')
  const issuer = readName(issuerName, 'CRL issuer')
  const entries = rest.find((part) => part.tag === TAG.sequence)
  const revoked = entries === undefined ? [] : childrenOf(entries, 'revokedCertificates')
  return {
    ...signed,
    issuer: issuer.der,
    issuerCommonName: issuer.commonName,
    thisUpdate: timeOf(thisUpdate, 'thisUpdate'),
    nextUpdate: timeOf(nextUpdate, 'nextUpdate'),
    revokedSerials: new Set(revoked.map(revokedSerial)),
    extensions: readExtensions(rest.find((part) => part.tag === 0xa0)),
  }
}

/** An entry's critical extension could mean "issued by someone else" (indirect CRLs): not ours to interpret. */
function revokedSerial(entry: DerElement): string {
  const [serial, date, extensions, ...extra] = childrenOf(expectTag(entry, TAG.sequence, 'CRL entry'), 'CRL entry')
  timeOf(date, 'revocationDate')
  if (extra.length > 0) throw new FormatError('x509.shape', 'CRL entry: expected at most three elements')
  if (extensions !== undefined) {
    const critical = [...readExtensionList(extensions)].find(([, extension]) => extension.critical)
    if (critical !== undefined) throw new FormatError('x509.critical', `CRL entry: critical extension ${critical[0]}`)
  }
  return readSerial(serial, 'revoked serial')
}

const MAX_SERIAL_OCTETS = 20

/**
 * RFC 5280 §4.1.2.2: a positive number of at most 20 octets, without the one before it that may say that it is positive.
 * Zero is read too: AMD's VCEK and VLEK certificates all have it (seen). @throws FormatError on any other.
 */
function readSerial(element: DerElement | undefined, what: string): string {
  const { content } = expectTag(element, TAG.integer, what)
  const [first = 0] = content
  const octets = first === 0 ? content.length - 1 : content.length
  if (first >= 0x80 || octets > MAX_SERIAL_OCTETS) {
    throw new FormatError('x509.serial', `${what}: expected at most ${MAX_SERIAL_OCTETS} octets, and none below zero`)
  }
  return toHex(content)
}

function readSigned(bytes: Bytes, what: string, sha256Hex: string): { parts: readonly DerElement[]; signed: Signed } {
  const [body, algorithm, bits] = expectParts(readDer(bytes, what), 3, what)
  const tbs = expectTag(body, TAG.sequence, `${what} body`)
  return {
    parts: childrenOf(tbs, what),
    signed: {
      der: bytes,
      sha256Hex,
      tbs: tbs.bytes,
      signatureAlgorithm: checkAlgorithm(algorithm, `${what} signature algorithm`),
      signature: wholeBits(bits, `${what} signature`),
    },
  }
}

/** The elements of a SEQUENCE that has exactly so many. @throws FormatError otherwise. */
function expectParts(element: DerElement | undefined, count: number, what: string): readonly DerElement[] {
  const parts = childrenOf(expectTag(element, TAG.sequence, what), what)
  if (parts.length !== count) throw new FormatError('x509.shape', `${what}: expected ${count} elements`)
  return parts
}

/** AlgorithmIdentifier (RFC 5280 §4.1.1.2) as received: an OID, and parameters or none. */
function checkAlgorithm(element: DerElement | undefined, what: string): Bytes {
  const algorithm = expectTag(element, TAG.sequence, what)
  const [oid, , ...extra] = childrenOf(algorithm, what)
  oidText(oid, what)
  if (extra.length > 0) throw new FormatError('x509.algorithm', `${what}: more than parameters after the algorithm`)
  return algorithm.bytes
}

/** RFC 5280 §4.1.1.2: the algorithm under the signature is the one beside it. */
function checkInnerAlgorithm(inner: DerElement | undefined, signed: Signed, what: string): void {
  const element = expectTag(inner, TAG.sequence, `${what} algorithm`)
  if (!equalBytes(element.bytes, signed.signatureAlgorithm)) {
    throw new FormatError('x509.algorithm', `${what}: inner and outer signature algorithm differ`)
  }
}

/**
 * What was parsed before, by SHA-256 of the exact bytes: the same bytes always mean the same thing, so remembering
 * trusts nothing new.
 */
const MAX_REMEMBERED = 128
const certificates = createMemory<Certificate>(MAX_REMEMBERED)
/** As many as all makers together have; each may hold a hundred thousand serial numbers of a stranger's. */
const lists = createMemory<RevocationList>(16)

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
  const parsed = read(new Uint8Array(input), sha256Hex)
  memory.keep(sha256Hex, parsed)
  return parsed
}
