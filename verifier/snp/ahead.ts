/**
 * Starts the signature verifications a chain is about to need: WebCrypto works on threads of its own, and the checks would
 * ask for one after the other. `signature.ts` remembers each answer by the exact bytes, so every check finds its own one
 * under way. Nothing is decided here; a certificate guessed wrong costs one verification and changes no outcome.
 */
import type { EndorsementPool } from '../endorsements.js'
import { equalBytes } from '../protocol/bytes.js'
import { isSignedBy, type SignatureScheme } from '../signature.js'
import type { TrustAnchor } from '../trust-anchors.js'
import { type Certificate, namesIssuer } from '../x509.js'
import { trustOf } from './chain.js'
import type { Revocation } from './revocation.js'

const SCHEME: SignatureScheme = 'rsassa-pss-sha384'
/** A root has one list, at most two when the next one is out early; more are verified when their turn comes. */
const MAX_LISTS = 2

export function startVerifying(
  vek: Certificate,
  pool: EndorsementPool,
  anchors: readonly TrustAnchor[],
  revocation: Revocation,
): void {
  const issuer = pool.certificates.find((candidate) => namesIssuer(vek, candidate))
  if (issuer === undefined) return
  void isSignedBy(vek, issuer, SCHEME)
  const roots = [...anchors.map((anchor) => anchor.certificate), ...pool.certificates]
  const root = roots.find((candidate) => namesIssuer(issuer, candidate) && trustOf(candidate, anchors) !== undefined)
  if (root === undefined) return
  void isSignedBy(issuer, root, SCHEME)
  void isSignedBy(root, root, SCHEME)
  if (revocation === 'off') return
  const lists = pool.crls.filter((list) => equalBytes(list.issuer, root.subject)).slice(0, MAX_LISTS)
  for (const list of lists) void isSignedBy(list, root, SCHEME)
}
