/**
 * Who may answer, and about what (RFC 6960 §4.1.1 CertID, §4.2.2.2 authorised responders): the issuer of the certificate
 * asked about, or one that issuer certified directly and for this purpose.
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

const HASHES: Readonly<Record<string, string>> = {
  '1.3.14.3.2.26': 'SHA-1',
  '2.16.840.1.101.3.4.2.1': 'SHA-256',
  '2.16.840.1.101.3.4.2.2': 'SHA-384',
}

/** RFC 6960 §4.1.1 CertID. The hashes only look the issuer up: who signs is what counts, so SHA-1 does no harm here. */
export async function isAbout(id: CertId, { certificate, issuer }: Subject): Promise<boolean> {
  const hash = HASHES[id.hash]
  if (hash === undefined || id.serialHex !== certificate.serialHex) return false
  const { nameHash, keyHash } = await certIdHashes(issuer, hash)
  return equalBytes(id.issuerNameHash, nameHash) && equalBytes(id.issuerKeyHash, keyHash)
}

/** How a CertID names an issuer: digests of its name and of its key's bits. */
export async function certIdHashes(
  issuer: Certificate,
  hash: string,
): Promise<{ readonly nameHash: Bytes; readonly keyHash: Bytes }> {
  // A key that is none has a digest nobody's CertID has: no response is then about its certificates.
  const key = publicKeyBits(issuer) ?? new Uint8Array()
  return { nameHash: await digest(hash, issuer.subject), keyHash: await digest(hash, key) }
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
