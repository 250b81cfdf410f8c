/**
 * Certificates a quote and its collateral stand on (Intel "SGX PCK Certificate and CRL Profile" 1.5 §3): the three of the
 * PCK chain, and the TCB Signing certificate beside it.
 *
 * Each function judges one property, so that each can be a check of its own. A name never makes anything trusted: only
 * the root's key does.
 */
import { type Finding, fail, pass, unavailable } from '../checks.js'
import { type EndorsementPool, preferCertificates } from '../endorsements.js'
import { equalBytes } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { findPinnedRoot } from '../roots.js'
import { isSignedBy } from '../signature.js'
import type { TrustAnchor } from '../trust-anchors.js'
import { type Certificate, inValidity, namesIssuer } from '../x509.js'
import { unknownCritical } from '../x509-extensions.js'
import { readCertificateChain } from './certification-data.js'
import type { TdxQuote } from './quote.js'

export interface PckChain {
  readonly leaf: Certificate
  readonly intermediate: Certificate
  readonly root: Certificate
}

const SCHEME = 'ecdsa-p256-sha256'
const ROOT_NAME = 'Intel SGX Root CA'
const LEAF_NAME = 'Intel SGX PCK Certificate'
const SIGNER_NAME = 'Intel SGX TCB Signing'
/** The authorities that issue PCK certificates: for multi-package and for single-package machines. */
export const PCK_AUTHORITIES: readonly string[] = ['Intel SGX PCK Platform CA', 'Intel SGX PCK Processor CA']

/** More candidates than any honest pool has for one role; bounds what hostile pools can cost. */
const MAX_CANDIDATES = 16

/** @throws FormatError unless the inner certification data are exactly three certificates. */
export function readPckChain(quote: TdxQuote): PckChain {
  const [leaf, intermediate, root, ...extra] = readCertificateChain(quote.certification?.innerData ?? new Uint8Array())
  if (leaf === undefined || intermediate === undefined || root === undefined || extra.length > 0) {
    throw new FormatError('tdx.pck.chain', 'PCK chain: expected exactly three certificates')
  }
  return { leaf, intermediate, root }
}

/** Whether the root's key is Intel's, or one the caller added. A matching name is no reason. */
export function trustRoot(root: Certificate, anchors: readonly TrustAnchor[]): Finding<{ readonly pinned: boolean }> {
  const detail = { actual: `${root.subjectCommonName ?? 'root'}, key ${root.spkiSha256Hex}` }
  if (findPinnedRoot('tdx', root.spkiSha256Hex) !== undefined) return pass({ pinned: true }, detail)
  const added = anchors.some(({ kind, spkiSha256Hex }) => kind === 'tdx' && spkiSha256Hex === root.spkiSha256Hex)
  return added ? pass({ pinned: false }, detail) : fail('the chain does not end in a trusted Intel root key', detail)
}

/** Names, order, and what each certificate may be used for. Says nothing about signatures. */
export function checkRoles({ leaf, intermediate, root }: PckChain): Finding {
  const names = [leaf, intermediate, root].map(({ subjectCommonName }) => subjectCommonName ?? '?').join(' ← ')
  const detail = { expected: `${LEAF_NAME} ← ${PCK_AUTHORITIES.join(' or ')} ← ${ROOT_NAME}`, actual: names }
  const named =
    leaf.subjectCommonName === LEAF_NAME &&
    PCK_AUTHORITIES.includes(intermediate.subjectCommonName ?? '') &&
    root.subjectCommonName === ROOT_NAME
  if (!named) return fail('the certificates are not a PCK chain in order', detail)
  if (!namesIssuer(leaf, intermediate) || !namesIssuer(intermediate, root) || !namesIssuer(root, root)) {
    return fail('a certificate names another issuer than the next one in the chain', detail)
  }
  if (!isAuthority(intermediate) || !isAuthority(root)) return fail('an issuer is not a certificate authority', detail)
  if (!isEndEntity(leaf)) return fail('the PCK certificate may issue certificates', detail)
  const critical = [leaf, intermediate, root].flatMap((certificate) => unknownCritical(certificate))
  return critical.length === 0 ? pass() : fail(`unknown critical extension ${critical.join(', ')}`)
}

/** Each signature of the chain, the root's own included. */
export async function verifyChain({ leaf, intermediate, root }: PckChain): Promise<Finding> {
  const links: readonly (readonly [subject: Certificate, issuer: Certificate])[] = [
    [root, root],
    [intermediate, root],
    [leaf, intermediate],
  ]
  const valid = await Promise.all(links.map(([subject, issuer]) => isSignedBy(subject, issuer, SCHEME)))
  const broken = links.filter((_, index) => valid[index] !== true).map(([subject]) => subject.subjectCommonName ?? '?')
  return broken.length === 0
    ? pass()
    : fail(`not signed by its issuer with ECDSA P-256 and SHA-256: ${broken.join(', ')}`)
}

export function checkValidity(certificates: readonly Certificate[], now: Date): Finding {
  const outside = certificates.find((certificate) => !inValidity(certificate, now))
  if (outside === undefined) return pass()
  const which = outside.subjectCommonName ?? 'certificate'
  return fail(`${which} is ${now < outside.notBefore ? 'not valid yet' : 'no longer valid'}`, {
    expected: now.toISOString(),
    actual: `${outside.notBefore.toISOString()} to ${outside.notAfter.toISOString()}`,
  })
}

/**
 * The TCB Signing certificates fit to sign collateral under this root: right name, right issuer, signed by it, in
 * validity. Intel re-issued the certificate for the same key, so several may be fit. Fails, naming the best candidate's
 * fault, when there are candidates and none is fit, and when one of them is a forgery
 * of one that is.
 */
export async function findSigners(
  pool: EndorsementPool,
  root: Certificate,
  now: Date,
): Promise<Finding<readonly Certificate[]>> {
  const candidates = preferCertificates(
    pool.certificates.filter(({ subjectCommonName }) => subjectCommonName === SIGNER_NAME),
    now,
  ).slice(0, MAX_CANDIDATES)
  if (candidates.length === 0) return unavailable(`no certificate "${SIGNER_NAME}" at hand`)
  const judged = await Promise.all(
    candidates.map(async (candidate) => ({
      candidate,
      issued: namesIssuer(candidate, root) && (await isSignedBy(candidate, root, SCHEME)),
    })),
  )
  const faults = judged.map(({ candidate, issued }) => signerFault(candidate, issued, now))
  const fit = candidates.filter((_, index) => faults[index] === undefined)
  if (fit.length === 0) return fail(faults.find((fault) => fault !== undefined) ?? 'unfit')
  // A certificate that claims to be a fit one and is not this root's: an issuer chain was forged, and nothing is picked from it.
  const forged = judged.some(({ candidate, issued }) => !issued && fit.some((signer) => isNamesake(candidate, signer)))
  return forged ? fail('a TCB Signing certificate at hand is forged: its signature is not this root’s') : pass(fit)
}

/** The same issuer and serial number, which one authority never gives twice, or the same key. */
function isNamesake(a: Certificate, b: Certificate): boolean {
  return a.spkiSha256Hex === b.spkiSha256Hex || (equalBytes(a.issuer, b.issuer) && a.serialHex === b.serialHex)
}

function signerFault(candidate: Certificate, issued: boolean, now: Date): string | undefined {
  if (!issued) return 'the TCB Signing certificate is not signed by this root'
  if (!isEndEntity(candidate)) return 'the TCB Signing certificate may issue certificates'
  if (unknownCritical(candidate).length > 0) return 'the TCB Signing certificate has an unknown critical extension'
  if (inValidity(candidate, now)) return undefined
  const period = `${candidate.notBefore.toISOString()} to ${candidate.notAfter.toISOString()}`
  return `the TCB Signing certificate holds ${period}, not at ${now.toISOString()}`
}

function isAuthority({ isCa, keyUsage }: Certificate): boolean {
  return isCa && keyUsage?.certSign === true
}

function isEndEntity({ isCa, keyUsage }: Certificate): boolean {
  return !isCa && keyUsage?.certSign !== true
}
