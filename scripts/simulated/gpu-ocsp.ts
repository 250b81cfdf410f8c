/**
 * OCSP responses (RFC 6960 §4.2) as NVIDIA's responder is reported to give them: one answer signed by a delegated
 * responder whose certificate comes along, valid for a day, the nonce among the response extensions. Written here and not
 * by `openssl ocsp`, which signs for the machine's clock only; the tests hold the two against each other. No real response
 * could be had, so the shape is RFC 6960's and OpenSSL's.
 */
import { createHash, type KeyObject, sign } from 'node:crypto'
import type { Bytes } from '../../verifier/protocol/bytes.js'
import { type DistinguishedName, type Extension, encodeExtensions, encodeName } from './certificate.js'
import {
  bitString,
  type DerNode,
  embed,
  encodeDer,
  enumerated,
  generalizedTime,
  integer,
  nullValue,
  octetString,
  oid,
  sequence,
  tagged,
  taggedPrimitive,
} from './der.js'
import { keyIdentifier } from './intel-extensions.js'
import type { IssuedCertificate, NvidiaAuthority, NvidiaHierarchy } from './nvidia.js'

/** `hold` is revoked with reason certificateHold, which NVIDIA uses for manifests that are withdrawn or not yet out. */
export type OcspStatus = 'good' | 'revoked' | 'hold' | 'unknown'
export type OcspHash = 'sha1' | 'sha256' | 'sha384'

export interface OcspAnswer {
  readonly serialNumber: bigint
  /** Who issued the certificate in question. */
  readonly issuer: { readonly name: DistinguishedName; readonly publicKey: KeyObject }
  readonly status: OcspStatus
  /** CertID hash; default SHA-256. */
  readonly hash?: OcspHash
  /** Default `thisUpdate`. */
  readonly revocationTime?: Date
  /** CRLReason; default 1 (keyCompromise) for revoked, 6 for hold; null leaves it out. */
  readonly reason?: number | null
  readonly thisUpdate: Date
  /** null leaves it out. */
  readonly nextUpdate: Date | null
  readonly extensions?: readonly Extension[]
}

export interface OcspResponder {
  readonly name: DistinguishedName
  readonly privateKey: KeyObject
  readonly publicKey: KeyObject
  readonly der: Uint8Array
}

export interface OcspFields {
  readonly answers: readonly OcspAnswer[]
  readonly producedAt: Date
  /** Echoed into the response extensions; default none, as stapled answers have. */
  readonly nonce?: Uint8Array
}

/** Ways to make a response wrong; what is named before signing leaves a signature that holds. */
export interface OcspBreak {
  /** Before signing: more response extensions. */
  readonly extensions?: readonly Extension[]
  /** Before signing: the responder as named by its key, as by another responder's name, or by the key of another. */
  readonly responderId?: 'key' | { readonly name: DistinguishedName } | { readonly key: KeyObject }
  /** Before signing: a version to state; absent means 1, and 0 is version 1 spelled out. */
  readonly version?: number
  /** Certificates that come along; default the responder's. */
  readonly certificates?: readonly Uint8Array[]
  readonly signWith?: KeyObject
  readonly hash?: 'sha256' | 'sha384' | 'sha512'
  /** Flips one bit of the signature. */
  readonly signature?: 'corrupt'
  /** Response type, default id-pkix-ocsp-basic. */
  readonly responseType?: string
  /** Response status beside the bytes, default 0 successful. */
  readonly responseStatus?: number
  readonly tail?: Uint8Array
}

export const OCSP_NONCE = '1.3.6.1.5.5.7.48.1.2'
const OCSP_BASIC = '1.3.6.1.5.5.7.48.1.1'

/** A successful response in DER. */
export function buildOcspResponse(fields: OcspFields, responder: OcspResponder, broken: OcspBreak = {}): Bytes {
  const extensions = [
    ...(fields.nonce === undefined ? [] : [nonceExtension(fields.nonce)]),
    ...(broken.extensions ?? []),
  ]
  const data = sequence(
    ...(broken.version === undefined ? [] : [tagged(0, integer(broken.version))]),
    responderId(responder, broken.responderId),
    generalizedTime(fields.producedAt),
    sequence(...fields.answers.map(singleResponse)),
    ...(extensions.length === 0 ? [] : [tagged(1, encodeExtensions(extensions))]),
  )
  const hash = broken.hash ?? 'sha384'
  const signature = sign(hash, encodeDer(data), broken.signWith ?? responder.privateKey)
  if (broken.signature === 'corrupt') signature[signature.length >> 1] = (signature[signature.length >> 1] ?? 0) ^ 0x01
  const certificates = (broken.certificates ?? [responder.der]).map(embed)
  const basic = sequence(
    data,
    sequence(oid(ECDSA_OID[hash])),
    bitString(signature),
    ...(certificates.length === 0 ? [] : [tagged(0, sequence(...certificates))]),
  )
  const bytes = tagged(0, sequence(oid(broken.responseType ?? OCSP_BASIC), octetString(encodeDer(basic))))
  const response = encodeDer(sequence(enumerated(broken.responseStatus ?? 0), bytes))
  return new Uint8Array(Buffer.concat([response, broken.tail ?? Buffer.alloc(0)]))
}

/** A response without an answer: 1 malformed request, 2 internal error, 3 try later, 5 signature wanted, 6 unauthorized. */
export function buildOcspError(status: 1 | 2 | 3 | 5 | 6): Bytes {
  return encodeDer(sequence(enumerated(status)))
}

export interface StapleRequest extends Partial<Omit<OcspAnswer, 'serialNumber' | 'issuer'>> {
  readonly producedAt?: Date
  readonly nonce?: Uint8Array
  /** The responder to answer with; default one delegated by the certificate's issuer, made once. */
  readonly responder?: OcspResponder
  readonly broken?: OcspBreak
}

export interface OcspService {
  /**
   * A response about one certificate; good, from the hierarchy's `notBefore` to its `notAfter`, unless told otherwise.
   * @throws RangeError for a root or a device's leaf, which NVIDIA's responder does not answer for either
   */
  staple(certificate: IssuedCertificate, request?: StapleRequest): Bytes
  /** The delegated responder of an authority. */
  responder(authority: NvidiaAuthority): IssuedCertificate
}

/** Answers for every certificate of the hierarchy. */
export function createOcspService(nvidia: NvidiaHierarchy): OcspService {
  const responders = new Map<NvidiaAuthority, IssuedCertificate>()
  const responderOf = (authority: NvidiaAuthority): IssuedCertificate => {
    const responder = responders.get(authority) ?? nvidia.issueResponder({ issuer: authority })
    responders.set(authority, responder)
    return responder
  }
  return {
    responder: responderOf,
    staple: (certificate, request = {}) => {
      const { producedAt, nonce, responder, broken, ...answer } = request
      if (certificate.issuer === undefined) throw new RangeError('expected a certificate that an authority issued')
      const single = {
        status: 'good',
        thisUpdate: nvidia.notBefore,
        nextUpdate: nvidia.notAfter,
        ...answer,
        serialNumber: certificate.serialNumber,
        issuer: nvidia.authorities[certificate.issuer],
      } as const
      const fields = { answers: [single], producedAt: producedAt ?? single.thisUpdate }
      return buildOcspResponse(
        nonce === undefined ? fields : { ...fields, nonce },
        responder ?? responderOf(certificate.issuer),
        broken,
      )
    },
  }
}

/** The nonce extension (RFC 8954): an OCTET STRING in the extension's OCTET STRING. */
export function nonceExtension(nonce: Uint8Array): Extension {
  return { oid: OCSP_NONCE, critical: false, value: encodeDer(octetString(nonce)) }
}

const ECDSA_OID = {
  sha256: '1.2.840.10045.4.3.2',
  sha384: '1.2.840.10045.4.3.3',
  sha512: '1.2.840.10045.4.3.4',
} as const

const CERT_ID_HASH: Readonly<Record<OcspHash, string>> = {
  sha1: '1.3.14.3.2.26',
  sha256: '2.16.840.1.101.3.4.2.1',
  sha384: '2.16.840.1.101.3.4.2.2',
}

function singleResponse(answer: OcspAnswer): DerNode {
  return sequence(
    certId(answer),
    certStatus(answer),
    generalizedTime(answer.thisUpdate),
    ...(answer.nextUpdate === null ? [] : [tagged(0, generalizedTime(answer.nextUpdate))]),
    ...(answer.extensions === undefined ? [] : [tagged(1, encodeExtensions(answer.extensions))]),
  )
}

/** Name and key of the issuer as digests, then the serial number; the key's digest is over the bit string's content. */
function certId({ issuer, serialNumber, hash = 'sha256' }: OcspAnswer): DerNode {
  const digest = (bytes: Uint8Array): DerNode => octetString(createHash(hash).update(bytes).digest())
  return sequence(
    sequence(oid(CERT_ID_HASH[hash]), nullValue()),
    digest(encodeDer(encodeName(issuer.name))),
    digest(publicPoint(issuer.publicKey)),
    integer(serialNumber),
  )
}

function certStatus({ status, revocationTime, reason, thisUpdate }: OcspAnswer): DerNode {
  switch (status) {
    case 'good':
      return taggedPrimitive(0, new Uint8Array())
    case 'unknown':
      return taggedPrimitive(2, new Uint8Array())
    case 'revoked':
    case 'hold': {
      const code = reason === undefined ? (status === 'hold' ? 6 : 1) : reason
      const time = generalizedTime(revocationTime ?? thisUpdate)
      return tagged(1, time, ...(code === null ? [] : [tagged(0, enumerated(code))]))
    }
  }
}

function responderId(responder: OcspResponder, broken: OcspBreak['responderId']): DerNode {
  if (broken === undefined) return tagged(1, encodeName(responder.name))
  if (broken === 'key') return tagged(2, octetString(keyIdentifier(responder.publicKey)))
  return 'name' in broken ? tagged(1, encodeName(broken.name)) : tagged(2, octetString(keyIdentifier(broken.key)))
}

/** An uncompressed point; every simulated key is on a curve. */
function publicPoint(key: KeyObject): Buffer {
  const { x = '', y = '' } = key.export({ format: 'jwk' })
  return Buffer.concat([Buffer.of(4), Buffer.from(x, 'base64url'), Buffer.from(y, 'base64url')])
}
