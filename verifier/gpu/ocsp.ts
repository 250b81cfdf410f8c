/**
 * OCSP responses (RFC 6960 §4.2): the reader. Basic responses only, strict DER, with the signed bytes as received.
 *
 * Refused: critical extensions, versions other than 1, responses without a single answer, oversized ones. What is signed
 * by whom, and whether it is current, is `ocsp-verify.ts`.
 */
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
} from '../der.js'
import { type Bytes, toHex } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { sha256 } from '../protocol/hash.js'
import { type Certificate, parseCertificate, type Signed } from '../x509.js'
import { type Extensions, readExtensionList } from '../x509-extensions.js'

export interface CertId {
  /** Dotted OID of the hash both digests are made with. */
  readonly hash: string
  readonly issuerNameHash: Bytes
  readonly issuerKeyHash: Bytes
  /** As in certificates: lower-case hex of the INTEGER's contents. */
  readonly serialHex: string
}

export type OcspStatus =
  | { readonly kind: 'good' }
  | { readonly kind: 'unknown' }
  /** `reason` 6 is certificateHold (RFC 5280 §5.3.1): it may be lifted or become final. */
  | { readonly kind: 'revoked'; readonly at: Date; readonly reason: number | undefined }

export interface OcspAnswer {
  readonly certId: CertId
  readonly status: OcspStatus
  readonly thisUpdate: Date
  /** Absent means that newer information is always available, which nothing stapled can be. */
  readonly nextUpdate: Date | undefined
}

export interface OcspResponse extends Signed {
  readonly responder: { readonly name: Bytes } | { readonly keyHash: Bytes }
  readonly producedAt: Date
  readonly answers: readonly OcspAnswer[]
  /** The nonce extension's value, as its OCTET STRING holds it. */
  readonly nonce: Bytes | undefined
  readonly certificates: readonly Certificate[]
}

const OID = {
  basic: '1.3.6.1.5.5.7.48.1.1',
  nonce: '1.3.6.1.5.5.7.48.1.2',
} as const

/** RFC 6960 §4.2.1 OCSPResponseStatus. */
const STATUSES = ['successful', 'malformedRequest', 'internalError', 'tryLater', '', 'sigRequired', 'unauthorized']
const MAX_RESPONSE_BYTES = 64 * 1024
const MAX_ANSWERS = 64
const MAX_CERTIFICATES = 4
export const CERTIFICATE_HOLD = 6

/** @throws FormatError on anything but one successful basic response. */
export function parseOcspResponse(bytes: Bytes): OcspResponse {
  if (bytes.length > MAX_RESPONSE_BYTES) throw malformed(`${bytes.length} bytes, at most ${MAX_RESPONSE_BYTES}`)
  const der = new Uint8Array(bytes)
  const [status, wrapped, ...extra] = sequence(readDer(der, 'OCSP response'))
  const code = expectTag(status, TAG.enumerated, 'OCSP response status').content
  if (code.length !== 1 || code[0] !== 0) throw malformed(`the responder answered ${STATUSES[code[0] ?? 4] ?? 'oddly'}`)
  const [responseBytes, ...more] = childrenOf(expectTag(wrapped, 0xa0, 'OCSP response'), 'OCSP response')
  const [type, body, ...rest] = sequence(responseBytes)
  if (extra.length + more.length + rest.length > 0) throw malformed('unexpected elements')
  if (oidText(type, 'OCSP response type') !== OID.basic) throw malformed('not a basic response')
  const basic = readDer(expectTag(body, TAG.octetString, 'OCSP response').content, 'basic OCSP response')
  return parseBasic(basic, der)
}

function parseBasic(basic: DerElement, der: Bytes): OcspResponse {
  const [data, algorithm, signature, wrappedCertificates, ...extra] = sequence(basic)
  if (extra.length > 0) throw malformed('unexpected elements')
  const tbs = expectTag(data, TAG.sequence, 'OCSP response data')
  const certificates =
    wrappedCertificates === undefined
      ? []
      : sequence(onlyChild(expectTag(wrappedCertificates, 0xa0, 'OCSP certificates')))
  if (certificates.length > MAX_CERTIFICATES) throw malformed(`${certificates.length} certificates`)
  return {
    der,
    sha256Hex: toHex(sha256(der)),
    tbs: tbs.bytes,
    signatureAlgorithm: expectTag(algorithm, TAG.sequence, 'OCSP signature algorithm').bytes,
    signature: wholeBits(signature, 'OCSP signature'),
    ...parseData(tbs),
    certificates: certificates.map((certificate) => parseCertificate(certificate.bytes)),
  }
}

function parseData(tbs: DerElement): Pick<OcspResponse, 'responder' | 'producedAt' | 'answers' | 'nonce'> {
  const parts = [...sequence(tbs)]
  if (parts[0]?.tag === 0xa0) {
    // DER leaves the default out, but a written version 1 says the same.
    const [version] = childrenOf(parts.shift() as DerElement, 'OCSP version')
    if (smallInteger(version, 'OCSP version') !== 0) throw malformed('not version 1')
  }
  const [responder, producedAt, responses, extensions, ...extra] = parts
  const list = sequence(responses)
  if (extra.length > 0) throw malformed('unexpected elements')
  if (list.length === 0 || list.length > MAX_ANSWERS) throw malformed(`${list.length} answers`)
  return {
    responder: parseResponder(responder),
    producedAt: timeOf(expectTag(producedAt, TAG.generalizedTime, 'producedAt'), 'producedAt'),
    answers: list.map(parseAnswer),
    nonce: extensions === undefined ? undefined : findNonce(extensions),
  }
}

function parseResponder(element: DerElement | undefined): OcspResponse['responder'] {
  if (element === undefined || (element.tag !== 0xa1 && element.tag !== 0xa2)) throw malformed('no responder')
  const [inner, ...extra] = childrenOf(element, 'OCSP responder')
  if (extra.length > 0) throw malformed('more than one responder')
  if (element.tag === 0xa1) return { name: expectTag(inner, TAG.sequence, 'OCSP responder').bytes }
  return { keyHash: expectTag(inner, TAG.octetString, 'OCSP responder').content }
}

function parseAnswer(element: DerElement): OcspAnswer {
  const [id, status, thisUpdate, ...optional] = sequence(element)
  const [algorithm, nameHash, keyHash, serial, ...extra] = sequence(id)
  if (extra.length > 0) throw malformed('unexpected elements')
  const next = optional.find((part) => part.tag === 0xa0)
  const extensions = optional.find((part) => part.tag === 0xa1)
  if (optional.length > Number(next !== undefined) + Number(extensions !== undefined)) throw malformed('odd answer')
  if (extensions !== undefined) readExtensionsOf(extensions)
  return {
    certId: {
      hash: oidText(sequence(algorithm)[0], 'OCSP hash'),
      issuerNameHash: expectTag(nameHash, TAG.octetString, 'issuerNameHash').content,
      issuerKeyHash: expectTag(keyHash, TAG.octetString, 'issuerKeyHash').content,
      serialHex: toHex(expectTag(serial, TAG.integer, 'serialNumber').content),
    },
    status: parseStatus(status),
    thisUpdate: timeOf(expectTag(thisUpdate, TAG.generalizedTime, 'thisUpdate'), 'thisUpdate'),
    nextUpdate: next === undefined ? undefined : timeOf(onlyChild(next), 'nextUpdate'),
  }
}

function parseStatus(element: DerElement | undefined): OcspStatus {
  if (element?.tag === 0x80 && element.content.length === 0) return { kind: 'good' }
  if (element?.tag === 0x82 && element.content.length === 0) return { kind: 'unknown' }
  if (element?.tag !== 0xa1) throw malformed('no known status')
  const [at, reason, ...extra] = childrenOf(element, 'OCSP revocation')
  if (extra.length > 0) throw malformed('unexpected elements')
  const code =
    reason === undefined ? undefined : expectTag(onlyChild(expectTag(reason, 0xa0, 'reason')), 0x0a, 'reason')
  if (code !== undefined && code.content.length !== 1) throw malformed('no known reason')
  return {
    kind: 'revoked',
    at: timeOf(expectTag(at, TAG.generalizedTime, 'revocationTime'), 'revocationTime'),
    reason: code?.content[0],
  }
}

/** The nonce, whatever else is there. @throws FormatError on a critical extension or a repeated one. */
function findNonce(extensions: DerElement): Bytes | undefined {
  const nonce = readExtensionsOf(extensions).get(OID.nonce)
  if (nonce === undefined) return undefined
  // RFC 8954: the extension's value is itself an OCTET STRING.
  return expectTag(readDer(nonce.value, 'OCSP nonce'), TAG.octetString, 'OCSP nonce').content
}

function readExtensionsOf(extensions: DerElement): Extensions {
  const list = readExtensionList(onlyChild(expectTag(extensions, 0xa1, 'OCSP extensions')))
  const strange = [...list].find(([oid, { critical }]) => critical && oid !== OID.nonce)
  if (strange !== undefined) throw malformed(`critical extension ${strange[0]}`)
  return list
}

function onlyChild(element: DerElement): DerElement {
  const [child, ...extra] = childrenOf(element, 'OCSP response')
  if (child === undefined || extra.length > 0) throw malformed('expected one element')
  return child
}

function sequence(element: DerElement | undefined): readonly DerElement[] {
  return childrenOf(expectTag(element, TAG.sequence, 'OCSP response'), 'OCSP response')
}

function malformed(what: string): FormatError {
  return new FormatError('ocsp.malformed', `OCSP response: ${what}`)
}
