/**
 * Signatures over received bytes, by exactly the algorithm the caller requires (RFC 5280 §4.1.1.2, RFC 4055 §3.1,
 * RFC 5758 §3.2). The algorithm an item names is compared with the required one and never chosen from: a signer does
 * not get to pick how it is checked.
 *
 * Refused: any other AlgorithmIdentifier or PSS parameters, RSA keys below 2048 bits, keys on another curve, ECDSA
 * values outside 1..2^n. WebCrypto does the arithmetic.
 */
import { childrenOf, type DerElement, expectTag, oidText, readDer, smallInteger, TAG } from './der.js'
import { createMemory, type Memory } from './memory.js'
import { type Bytes, concat, isZero, toHex } from './protocol/bytes.js'
import { FormatError } from './protocol/errors.js'
import type { Certificate, Signed } from './x509.js'

export type SignatureScheme =
  | 'rsassa-pss-sha384'
  | 'rsassa-pkcs1-sha256'
  | 'ecdsa-p256-sha256'
  | 'ecdsa-p384-sha256'
  | 'ecdsa-p384-sha384'

const OID = {
  sha256WithRsa: '1.2.840.113549.1.1.11',
  rsassaPss: '1.2.840.113549.1.1.10',
  mgf1: '1.2.840.113549.1.1.8',
  sha384: '2.16.840.1.101.3.4.2.2',
  ecdsaWithSha256: '1.2.840.10045.4.3.2',
  ecdsaWithSha384: '1.2.840.10045.4.3.3',
} as const

type Subtle = typeof globalThis.crypto.subtle
/** WebCrypto's key handle, named so that both the Node and the DOM typings provide it. */
export type VerifyKey = Awaited<ReturnType<Subtle['importKey']>>

interface SchemeParameters {
  readonly key: { readonly name: string; readonly hash?: string; readonly namedCurve?: string }
  readonly verify: { readonly name: string; readonly saltLength?: number; readonly hash?: string }
  /** Bytes of each ECDSA value. */
  readonly coordinate?: number
}

const SCHEMES: Readonly<Record<SignatureScheme, SchemeParameters>> = {
  'rsassa-pss-sha384': {
    key: { name: 'RSA-PSS', hash: 'SHA-384' },
    verify: { name: 'RSA-PSS', saltLength: 48 },
  },
  'rsassa-pkcs1-sha256': {
    key: { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' },
    verify: { name: 'RSASSA-PKCS1-v1_5' },
  },
  'ecdsa-p256-sha256': {
    key: { name: 'ECDSA', namedCurve: 'P-256' },
    verify: { name: 'ECDSA', hash: 'SHA-256' },
    coordinate: 32,
  },
  'ecdsa-p384-sha256': {
    key: { name: 'ECDSA', namedCurve: 'P-384' },
    verify: { name: 'ECDSA', hash: 'SHA-256' },
    coordinate: 48,
  },
  'ecdsa-p384-sha384': {
    key: { name: 'ECDSA', namedCurve: 'P-384' },
    verify: { name: 'ECDSA', hash: 'SHA-384' },
    coordinate: 48,
  },
}

const MIN_RSA_BITS = 2048

/**
 * Whether `signed` carries a signature by `issuer`'s key in exactly this scheme. Says nothing about names, roles,
 * validity or revocation. Never throws on hostile bytes: whatever is malformed did not sign anything.
 *
 * Results are remembered by the exact bytes of both sides, so a chain met before costs no arithmetic; an answer that
 * depends on nothing but those bytes cannot be made wrong by remembering it.
 */
export function isSignedBy(signed: Signed, issuer: Certificate, scheme: SignatureScheme): Promise<boolean> {
  const id = `${scheme} ${signed.sha256Hex} ${issuer.spkiSha256Hex}`
  return remembered(answers, id, () => answerFor(signed, issuer, scheme))
}

/**
 * The issuer's or leaf's key for this scheme.
 * @throws FormatError when the key is of another kind, on another curve, or too short.
 */
export function importVerifyKey(certificate: Certificate, scheme: SignatureScheme): Promise<VerifyKey> {
  return remembered(keys, `${scheme} ${certificate.spkiSha256Hex}`, () => importSpki(certificate.spki, scheme))
}

/** Whether the P1363 signature (R then S) over the message holds under an imported ECDSA P-384 key. */
export function verifyP384(key: VerifyKey, signature: Bytes, message: Bytes): Promise<boolean> {
  return holds('ecdsa-p384-sha384', key, signature, message)
}

/** A P-256 public key from X then Y, 64 bytes big-endian; undefined when that is no point of the curve. */
export async function importP256Point(point: Bytes): Promise<VerifyKey | undefined> {
  if (point.length !== 64) return undefined
  const { key } = SCHEMES['ecdsa-p256-sha256']
  return globalThis.crypto.subtle
    .importKey('raw', concat(Uint8Array.of(4), point), key, false, ['verify'])
    .catch(() => undefined)
}

/** Whether the P1363 signature (R then S) over the message holds under an imported ECDSA P-256 key. */
export function verifyP256(key: VerifyKey, signature: Bytes, message: Bytes): Promise<boolean> {
  return holds('ecdsa-p256-sha256', key, signature, message)
}

/**
 * Whether the P1363 signature over the message is by this certificate's P-256 key. Remembered like `isSignedBy`; `messageSha256Hex`
 * is the message's own digest. A key of another kind did not sign anything.
 */
export function isMessageSignedBy(
  message: Bytes,
  messageSha256Hex: string,
  signature: Bytes,
  certificate: Certificate,
): Promise<boolean> {
  const scheme = 'ecdsa-p256-sha256'
  const id = `${scheme} ${messageSha256Hex} ${toHex(signature)} ${certificate.spkiSha256Hex}`
  return remembered(answers, id, async () => {
    try {
      return await verifyP256(await importVerifyKey(certificate, scheme), signature, message)
    } catch (error) {
      if (error instanceof FormatError) return false
      throw error
    }
  })
}

async function answerFor(signed: Signed, issuer: Certificate, scheme: SignatureScheme): Promise<boolean> {
  try {
    requireAlgorithm(signed.signatureAlgorithm, scheme)
    const { coordinate } = SCHEMES[scheme]
    const signature = coordinate === undefined ? signed.signature : ecdsaP1363(signed.signature, coordinate)
    const key = await importVerifyKey(issuer, scheme)
    return await holds(scheme, key, signature, signed.tbs)
  } catch (error) {
    if (error instanceof FormatError) return false
    throw error
  }
}

/** Runtimes disagree on whether an impossible key or signature is an error or merely wrong: nothing was signed either way. */
function holds(scheme: SignatureScheme, key: VerifyKey, signature: Bytes, message: Bytes): Promise<boolean> {
  return globalThis.crypto.subtle.verify(SCHEMES[scheme].verify, key, signature, message).catch(() => false)
}

async function importSpki(spki: Bytes, scheme: SignatureScheme): Promise<VerifyKey> {
  const key = await globalThis.crypto.subtle
    .importKey('spki', spki, SCHEMES[scheme].key, false, ['verify'])
    .catch((cause: unknown) => {
      throw new FormatError('signature.key', `key is not usable for ${scheme}`, { cause })
    })
  const { modulusLength } = key.algorithm as { readonly modulusLength?: number }
  if (modulusLength !== undefined && modulusLength < MIN_RSA_BITS) {
    throw new FormatError('signature.key', `RSA key of ${modulusLength} bits, at least ${MIN_RSA_BITS}`)
  }
  return key
}

function requireAlgorithm(identifier: Bytes, scheme: SignatureScheme): void {
  const [oid, parameters, ...extra] = childrenOf(readDer(identifier, 'signature algorithm'), 'signature algorithm')
  const named = oidText(oid, 'signature algorithm')
  if (scheme === 'rsassa-pss-sha384') {
    if (named !== OID.rsassaPss || extra.length > 0) throw wrongAlgorithm(scheme, named)
    requirePssParameters(parameters)
    return
  }
  if (scheme === 'rsassa-pkcs1-sha256') {
    // RFC 4055 §5: the parameters are NULL.
    const absent = parameters?.tag !== TAG.null
    if (named !== OID.sha256WithRsa || absent || extra.length > 0) throw wrongAlgorithm(scheme, named)
    return
  }
  const wanted = scheme === 'ecdsa-p384-sha384' ? OID.ecdsaWithSha384 : OID.ecdsaWithSha256
  // RFC 5758 §3.2: the parameters are absent.
  if (named !== wanted || parameters !== undefined) throw wrongAlgorithm(scheme, named)
}

/**
 * RFC 4055 §3.1 with SHA-384 throughout, salt 48 and trailer 1. The trailer is the default and DER would leave it out; AMD's
 * own ASK and ARK certificates write it (seen), so both forms are read.
 */
function requirePssParameters(parameters: DerElement | undefined): void {
  const what = 'RSASSA-PSS parameters'
  const fields = new Map<number, DerElement>()
  for (const field of childrenOf(expectTag(parameters, TAG.sequence, what), what)) {
    const [inner, ...extra] = childrenOf(field, what)
    if (fields.has(field.tag) || inner === undefined || extra.length > 0) throw new FormatError('signature.pss', what)
    fields.set(field.tag, inner)
  }
  const trailer = fields.get(0xa3)
  const mgf = childrenOf(expectTag(fields.get(0xa1), TAG.sequence, what), what)
  const known = [...fields.keys()].every((tag) => tag >= 0xa0 && tag <= 0xa3)
  const right =
    known &&
    isSha384(fields.get(0xa0)) &&
    mgf.length === 2 &&
    oidText(mgf[0], what) === OID.mgf1 &&
    isSha384(mgf[1]) &&
    smallInteger(fields.get(0xa2), what) === 48 &&
    (trailer === undefined || smallInteger(trailer, what) === 1)
  if (!right) throw new FormatError('signature.pss', `${what}: expected SHA-384, MGF1 with SHA-384, salt 48, trailer 1`)
}

function isSha384(identifier: DerElement | undefined): boolean {
  const [oid, parameters, ...extra] = childrenOf(expectTag(identifier, TAG.sequence, 'hash'), 'hash')
  return (
    oidText(oid, 'hash') === OID.sha384 &&
    (parameters === undefined || parameters.tag === TAG.null) &&
    extra.length === 0
  )
}

/** ECDSA-Sig-Value (RFC 3279 §2.2.3) as IEEE P1363: both values left-padded to the size of the curve. */
function ecdsaP1363(signature: Bytes, coordinate: number): Bytes {
  const what = 'ECDSA signature'
  const values = childrenOf(expectTag(readDer(signature, what), TAG.sequence, what), what)
  if (values.length !== 2) throw new FormatError('signature.ecdsa', `${what}: expected two integers`)
  const out = new Uint8Array(2 * coordinate)
  values.forEach((value, index) => {
    const { content } = expectTag(value, TAG.integer, what)
    const unsigned = content[0] === 0 ? content.subarray(1) : content
    const negative = ((content[0] ?? 0) & 0x80) !== 0
    if (negative || unsigned.length > coordinate || isZero(unsigned)) {
      throw new FormatError('signature.ecdsa', `${what}: value out of range`)
    }
    out.set(unsigned, (index + 1) * coordinate - unsigned.length)
  })
  return out
}

function wrongAlgorithm(wanted: SignatureScheme, named: string): FormatError {
  return new FormatError('signature.algorithm', `expected ${wanted}, found algorithm ${named}`)
}

const MAX_REMEMBERED = 256
const answers = createMemory<Promise<boolean>>(MAX_REMEMBERED)
const keys = createMemory<Promise<VerifyKey>>(MAX_REMEMBERED)

/** A failure to compute is not remembered. */
function remembered<T>(memory: Memory<Promise<T>>, id: string, compute: () => Promise<T>): Promise<T> {
  const known = memory.recall(id)
  if (known !== undefined) return known
  const answer = compute()
  memory.keep(id, answer)
  answer.catch(() => memory.forget(id))
  return answer
}
