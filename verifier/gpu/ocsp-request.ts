/**
 * An OCSP request about one certificate (RFC 6960 §4.1) with a nonce (RFC 9654 §2.1). Written out here: one fixed shape of
 * a few dozen bytes, for which a DER library would weigh more than the rest of the GPU verifier's readers.
 */
import { type Bytes, concat, fromHex } from '../protocol/bytes.js'
import { certIdHashes, type Subject } from './ocsp-responder.js'

const SEQUENCE = 0x30
const OCTET_STRING = 0x04
const INTEGER = 0x02
/** [2] EXPLICIT: requestExtensions. */
const REQUEST_EXTENSIONS = 0xa2
/** AlgorithmIdentifier of SHA-256 with NULL parameters. */
const SHA256 = fromHex('300d06096086480165030402010500')
const OID_NONCE = fromHex('06092b0601050507300102')

export const OCSP_NONCE_BYTES = 32

/** `nonce` is 1 to 128 bytes the caller drew for this verification. */
export async function encodeOcspRequest(subject: Subject, nonce: Bytes): Promise<Bytes> {
  const { issuerNameHash, issuerKeyHash } = await certIdHashes(subject.issuer, 'SHA-256')
  const issuer = [der(OCTET_STRING, issuerNameHash), der(OCTET_STRING, issuerKeyHash)]
  const serial = fromHex(subject.certificate.serialHex)
  const certId = der(SEQUENCE, SHA256, ...issuer, der(INTEGER, serial))
  const extension = der(SEQUENCE, OID_NONCE, der(OCTET_STRING, der(OCTET_STRING, nonce)))
  const list = der(SEQUENCE, der(SEQUENCE, certId))
  return der(SEQUENCE, der(SEQUENCE, list, der(REQUEST_EXTENSIONS, der(SEQUENCE, extension))))
}

/** DER of up to 65,535 bytes of contents. */
function der(tag: number, ...contents: readonly Uint8Array[]): Bytes {
  const body = concat(...contents)
  const { length } = body
  if (length < 0x80) return concat(new Uint8Array([tag, length]), body)
  const size = length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff]
  return concat(new Uint8Array([tag, ...size]), body)
}
