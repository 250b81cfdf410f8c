/**
 * Who may answer (RFC 6960 §4.2.2.2, authorised responders): the issuer of the certificate asked about, or one that issuer
 * certified directly and for this purpose. Whether a delegated responder has been revoked itself is not asked (SECURITY.md).
 */
import { childrenOf, oidText, readDer, TAG, wholeBits } from '../der.js'
import { type Bytes, equalBytes } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { isSignedBy } from '../signature.js'
import { type Certificate, inValidity, namesIssuer } from '../x509.js'
import { unknownCritical } from '../x509-extensions.js'
import { maySignData } from './chain.js'
import type { CertId, OcspResponse } from './ocsp.js'

/** A certificate and the one that issued it. */
export interface Subject {
  readonly certificate: Certificate
  readonly issuer: Certificate
}

/** Each once: machines share what stands above their devices. */
export function distinctSubjects(subjects: readonly Subject[]): readonly Subject[] {
  const idOf = ({ certificate, issuer }: Subject) => `${certificate.sha256Hex} ${issuer.sha256Hex}`
  return [...new Map(subjects.map((subject) => [idOf(subject), subject])).values()]
}

export interface Signer {
  /** Why nobody authorised this signer, when nobody did. */
  readonly stranger: string | undefined
  readonly signed: boolean
}

const EXTENDED_KEY_USAGE = '2.5.29.37'
const OCSP_SIGNING = '1.3.6.1.5.5.7.3.9'

/** As `signer`; a certificate that cannot be read authorises nobody. */
export async function signerOf(response: OcspResponse, issuer: Certificate, now: Date): Promise<Signer> {
  try {
    return await signer(response, issuer, now)
  } catch (error) {
    if (error instanceof FormatError) return { stranger: error.message, signed: false }
    throw error
  }
}

/** RFC 6960 §4.2.2.2: the issuer itself, or one it certified directly for this. */
async function signer(response: OcspResponse, issuer: Certificate, now: Date): Promise<Signer> {
  const named = [issuer, ...response.certificates]
  let responder: Certificate | undefined
  for (const candidate of named) {
    if (await isResponder(response, candidate)) {
      responder = candidate
      break
    }
  }
  if (responder === undefined) return { stranger: 'the responder’s certificate is not at hand', signed: false }
  const signed = await isSignedBy(response, responder, 'ecdsa-p384-sha384')
  if (responder.spkiSha256Hex === issuer.spkiSha256Hex) return { stranger: undefined, signed }
  return { stranger: await strangeness(responder, issuer, now), signed }
}

async function strangeness(responder: Certificate, issuer: Certificate, now: Date): Promise<string | undefined> {
  const name = responder.subjectCommonName ?? 'the responder'
  if (!namesIssuer(responder, issuer) || !(await isSignedBy(responder, issuer, 'ecdsa-p384-sha384'))) {
    return `${name} was not certified by the issuer it speaks for`
  }
  if (!mayAnswer(responder)) return `${name} may not sign OCSP responses`
  if (unknownCritical(responder, ['2.5.29.15', '2.5.29.19', EXTENDED_KEY_USAGE]).length > 0) {
    return `${name} has critical extensions nobody here understands`
  }
  return inValidity(responder, now) ? undefined : `${name} is outside its validity`
}

function mayAnswer(responder: Certificate): boolean {
  const extension = responder.extensions.get(EXTENDED_KEY_USAGE)
  if (extension === undefined || responder.isCa || !maySignData(responder)) return false
  const purposes = childrenOf(readDer(extension.value, 'extendedKeyUsage'), 'extendedKeyUsage')
  return purposes.some((purpose) => oidText(purpose, 'extendedKeyUsage') === OCSP_SIGNING)
}

async function isResponder({ responder }: OcspResponse, candidate: Certificate): Promise<boolean> {
  if ('name' in responder) return equalBytes(responder.name, candidate.subject)
  const key = publicKeyBits(candidate)
  return key !== undefined && equalBytes(responder.keyHash, await digest('SHA-1', key))
}

export type CertIdHashes = Pick<CertId, 'issuerNameHash' | 'issuerKeyHash'>

/** How a CertID names an issuer (RFC 6960 §4.1.1): digests of its name and of its key's bits, by WebCrypto's name of a hash. */
export async function certIdHashes(issuer: Certificate, hash: string): Promise<CertIdHashes> {
  // A key that is none has a digest nobody's CertID has: no response is then about its certificates.
  const key = publicKeyBits(issuer) ?? new Uint8Array()
  return { issuerNameHash: await digest(hash, issuer.subject), issuerKeyHash: await digest(hash, key) }
}

async function digest(hash: string, bytes: Bytes): Promise<Bytes> {
  return new Uint8Array(await globalThis.crypto.subtle.digest(hash, bytes))
}

/** The BIT STRING of a SubjectPublicKeyInfo, without tag, length and unused bits; undefined in a malformed one. */
function publicKeyBits(certificate: Certificate): Bytes | undefined {
  const what = 'subjectPublicKeyInfo'
  const [, bits] = childrenOf(readDer(certificate.spki, what), what)
  return bits?.tag === TAG.bitString && bits.content[0] === 0 ? wholeBits(bits, what) : undefined
}
