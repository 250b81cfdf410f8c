/**
 * Builds and signs TDX quotes, format 4 and 5 (Intel "TDX DCAP Quoting Library API"), with a throw-away quoting enclave:
 * a fresh attestation key, bound into a QE report that a PCK key signs. Every relation between the parts can be broken by
 * itself, and every size can be stated wrongly.
 */
import { createHash, createPublicKey, type KeyObject, sign } from 'node:crypto'
import { type Bytes, concat } from '../../verifier/protocol/bytes.js'
import { generateEcKeys, type KeyPair } from './amd.js'
import type { SgxExtensionFields } from './intel-extensions.js'
import {
  buildQeReport,
  buildTdBody,
  buildTdxHeader,
  layoutBytes,
  littleEndian,
  type QeReportFields,
  TD_BODY_10_LAYOUT,
  TD_BODY_15_LAYOUT,
  TDX_HEADER_LAYOUT,
  type TdBodyFields,
  type TdxHeaderFields,
} from './tdx-report.js'

/** One relation to break; everything else stays consistent. */
export type TdxQuoteBreak =
  /** The QE report binds another attestation key. */
  | 'binding'
  /** The last byte of the QE report's REPORTDATA is 1. */
  | 'binding-tail'
  /** One bit of the QE report signature is flipped. */
  | 'qe-signature'
  /** One bit of the quote signature is flipped. */
  | 'quote-signature'
  /** The QE report is altered after signing, in a byte that nothing else reads (CPUSVN). */
  | 'qe-report-altered'
  /** The TD report body is altered after signing (last byte of REPORTDATA). */
  | 'body-altered'
  /** The header is altered after signing (last byte of user data). */
  | 'header-altered'
  /** The attestation key is a point that is not on the curve; the binding holds. */
  | 'attestation-key'

export interface TdxQuoteFields {
  /** Default 4. Another version is written as it is and otherwise treated as 5 when above 4. */
  readonly version?: number
  /** Version 5 only: 2 (TD 1.0) or 3 (TD 1.5, the default); another is stated over a TD 1.5 body. */
  readonly bodyType?: number
  readonly header?: Omit<TdxHeaderFields, 'version'>
  readonly body?: TdBodyFields
  /** `reportData` replaces the binding altogether. */
  readonly qe?: QeReportFields
  /** Signs the QE report: the PCK key. */
  readonly pckPrivateKey: KeyObject
  /** Inner certification data of type 5: `IntelHierarchy.pckChain`. */
  readonly pckChain: Uint8Array
  /** Replaces the inner certification data; see `certificationData`. */
  readonly inner?: CertificationData
  /** Default a fresh P-256 key. */
  readonly attestationKey?: KeyPair
  /** Default the 32 bytes 00 to 1f, as in every real quote of newer enclaves. */
  readonly authData?: Uint8Array
  /** After the quote; unsigned and outside every length. */
  readonly padding?: Uint8Array
  /** Zeros up to this total length. */
  readonly paddedTo?: number
  readonly broken?: readonly TdxQuoteBreak[]
  /** Outer certification data type; default 6. The data stays what it is. */
  readonly certificationType?: number
  /** Instead of everything that belongs into the outer certification data. */
  readonly certificationData?: Uint8Array
  /** Inside the type 6 data, after the inner certification data. */
  readonly afterInner?: Uint8Array
  /** Inside the signature data, after the outer certification data. */
  readonly afterCertification?: Uint8Array
  /** Sizes to state instead of the true ones. */
  readonly stated?: {
    readonly bodyBytes?: number
    readonly signatureDataBytes?: number
    readonly certificationBytes?: number
    readonly authDataBytes?: number
    readonly innerBytes?: number
  }
}

export interface CertificationData {
  readonly type: number
  readonly data: Uint8Array
}

/**
 * A signed quote.
 * @throws RangeError when a value does not fit its field, or `paddedTo` is less than the quote.
 */
export function buildTdxQuote(fields: TdxQuoteFields): Bytes {
  const { stated = {} } = fields
  const broken = new Set(fields.broken)
  const version = fields.version ?? 4
  const header = buildTdxHeader({ ...fields.header, version })
  const described = version > 4
  const bodyType = fields.bodyType ?? 3
  const body = buildTdBody(described && bodyType !== 2 ? '1.5' : '1.0', fields.body)
  const descriptor = described
    ? concat(littleEndian(bodyType, 2), littleEndian(stated.bodyBytes ?? body.length, 4))
    : new Uint8Array()

  const attestation = fields.attestationKey ?? generateEcKeys('P-256')
  const quoteSignature = signP256(concat(header, descriptor, body), attestation.privateKey)
  const publicKey = publicPoint(attestation.publicKey)
  if (broken.has('attestation-key')) flip(publicKey, 63)

  const authData = fields.authData ?? Uint8Array.from({ length: 32 }, (_, index) => index)
  const bound = createHash('sha256').update(publicKey).update(authData)
  if (broken.has('binding')) bound.update('another')
  const binding = new Uint8Array(64)
  binding.set(bound.digest())
  if (broken.has('binding-tail')) flip(binding, 63)
  const qeReport = buildQeReport({ reportData: binding, ...fields.qe })
  const qeSignature = signP256(qeReport, fields.pckPrivateKey)

  if (broken.has('header-altered')) flip(header, header.length - 1)
  if (broken.has('body-altered')) flip(body, 0x247)
  if (broken.has('qe-report-altered')) flip(qeReport, 15)
  if (broken.has('qe-signature')) flip(qeSignature, 40)
  if (broken.has('quote-signature')) flip(quoteSignature, 40)

  const inner = fields.inner ?? { type: 5, data: fields.pckChain }
  const certification =
    fields.certificationData ??
    concat(
      qeReport,
      qeSignature,
      littleEndian(stated.authDataBytes ?? authData.length, 2),
      authData,
      littleEndian(inner.type, 2),
      littleEndian(stated.innerBytes ?? inner.data.length, 4),
      inner.data,
      fields.afterInner ?? new Uint8Array(),
    )
  const signatureData = concat(
    quoteSignature,
    publicKey,
    littleEndian(fields.certificationType ?? 6, 2),
    littleEndian(stated.certificationBytes ?? certification.length, 4),
    certification,
    fields.afterCertification ?? new Uint8Array(),
  )
  const quote = concat(
    header,
    descriptor,
    body,
    littleEndian(stated.signatureDataBytes ?? signatureData.length, 4),
    signatureData,
    fields.padding ?? new Uint8Array(),
  )
  if (fields.paddedTo === undefined) return quote
  if (fields.paddedTo < quote.length) throw new RangeError(`paddedTo: the quote has ${quote.length} bytes`)
  return concat(quote, new Uint8Array(fields.paddedTo - quote.length))
}

/** Where the parts of a quote start, for tests that alter single bytes. */
export interface TdxQuoteOffsets {
  /** First byte of the TD report body. */
  readonly body: number
  /** u32 length of the signature data. */
  readonly signatureDataBytes: number
  readonly quoteSignature: number
  readonly attestationKey: number
  readonly certificationType: number
  readonly qeReport: number
  readonly qeSignature: number
  /** u16 length of the authentication data, which the data follow. */
  readonly authDataBytes: number
}

export function tdxQuoteOffsets(version: 4 | 5, bodyType: 2 | 3 = 3): TdxQuoteOffsets {
  const body = layoutBytes(TDX_HEADER_LAYOUT) + (version === 5 ? 6 : 0)
  const revision = version === 5 && bodyType === 3 ? TD_BODY_15_LAYOUT : TD_BODY_10_LAYOUT
  const signatureDataBytes = body + layoutBytes(revision)
  const quoteSignature = signatureDataBytes + 4
  const qeReport = quoteSignature + 134
  return {
    body,
    signatureDataBytes,
    quoteSignature,
    attestationKey: quoteSignature + 64,
    certificationType: quoteSignature + 128,
    qeReport,
    qeSignature: qeReport + 384,
    authDataBytes: qeReport + 384 + 64,
  }
}

/**
 * Certification data of the other types: 1 plain PPID, 2 and 3 PPID encrypted with RSA-2048 or RSA-3072 (all
 * zeros here), 4 PCK certificate, 7 platform manifest (opaque).
 */
export function certificationData(
  type: 1 | 2 | 3 | 4 | 7,
  pck: { readonly pem: string; readonly sgx: SgxExtensionFields },
): CertificationData {
  const { ppid, cpuSvn, pceSvn, pceId } = pck.sgx
  if (type === 4) return { type, data: Buffer.from(pck.pem, 'latin1') }
  if (type === 7) return { type, data: Buffer.from('SIMULATED platform manifest', 'latin1') }
  const shown = { 1: ppid, 2: new Uint8Array(256), 3: new Uint8Array(384) }[type]
  return { type, data: concat(shown, cpuSvn, littleEndian(pceSvn, 2), pceId) }
}

/** X then Y, 32 bytes each, big-endian; of a P-384 key the first 32 bytes of each. */
function publicPoint(key: KeyObject): Bytes {
  const { x = '', y = '' } = (key.type === 'private' ? createPublicKey(key) : key).export({ format: 'jwk' })
  const coordinate = (text: string): Uint8Array => Buffer.from(text, 'base64url').subarray(0, 32)
  return concat(coordinate(x), coordinate(y))
}

/** R then S, big-endian, cut to 64 bytes when a test signs with a longer curve. */
function signP256(message: Uint8Array, key: KeyObject): Bytes {
  return new Uint8Array(sign('sha256', message, { key, dsaEncoding: 'ieee-p1363' }).subarray(0, 64))
}

function flip(bytes: Uint8Array, index: number): void {
  bytes[index] = (bytes[index] ?? 0) ^ 0x01
}
