/**
 * Revocation (RFC 5280 §6.3 as AMD uses it, AMD 57230 "Certificate Revocation List"): one CRL for each product, issued by its ARK.
 *
 * `required`: no CRL is unavailable; one that is out of window, not this root's, badly signed or names a certificate of
 * the path fails. `available`: without a CRL in window every check here is waived by name; one in window is held to all
 * rules. `off`: all waived. VCEK and VLEK lists of a product share an issuer, so every list counts, and a serial in any of
 * them that has begun to hold is revoked.
 */
import { type Finding, fail, pass, type Transcript, unavailable, waived } from '../checks.js'
import { type EndorsementPool, preferRevocationLists } from '../endorsements.js'
import { equalBytes } from '../protocol/bytes.js'
import { isSignedBy } from '../signature.js'
import { type Certificate, inWindow, type RevocationList } from '../x509.js'
import { authorityKeyId, listRestrictions, subjectKeyId } from '../x509-extensions.js'

export type Revocation = 'required' | 'available' | 'off'

/** Of one root, at hand at once: bounds the signatures that are checked. */
const MAX_LISTS = 16

interface Candidate {
  readonly list: RevocationList
  /** Why it does not speak for this root, when it does not. */
  readonly strange: string | undefined
  readonly signed: boolean
}

/**
 * Carries out `snp.crl.*` and `snp.chain.revocation`. Returns the lists the outcome rests on.
 * `path` is every certificate from the root to the leaf.
 */
export async function checkRevocation(
  t: Transcript,
  mode: Revocation,
  path: readonly Certificate[],
  root: Certificate,
  pool: EndorsementPool,
  now: Date,
): Promise<readonly RevocationList[]> {
  const named = pool.crls.filter((list) => equalBytes(list.issuer, root.subject))
  const giveUp = givenUp(mode, named, root, now)
  const candidates = giveUp === undefined ? await judge(preferRevocationLists(named, now), root) : []
  const authentic = candidates.filter(({ strange, signed }) => strange === undefined && signed)
  // A list that is sound and current outranks any number of others; without one, the best of them shows what is wrong.
  const sound = authentic.filter(({ list }) => inWindow(list, now))
  const [best] = sound.length > 0 ? sound : candidates
  // An old list no longer says that a certificate is good; that one is revoked does not wear off.
  const telling = authentic.filter(({ list }) => list.thisUpdate <= now).map(({ list }) => list)
  const used = sound.length > 0 ? sound.map(({ list }) => list) : telling

  const unless = (find: (best: Candidate) => Finding, first = false): (() => Finding) => {
    return () => {
      // The reason is told once; the checks after the first only point to it.
      if (giveUp !== undefined) return waived(first ? giveUp : `revocation: ${mode}; see snp.crl.present`)
      return best === undefined ? unavailable(`no CRL of ${root.subjectCommonName ?? 'this root'} at hand`) : find(best)
    }
  }
  t.check(
    'snp.crl.present',
    unless(() => {
      const detail = { actual: `${named.length} at hand` }
      // Looking at some of them only would let whoever adds enough choose which.
      return named.length > MAX_LISTS
        ? fail(`more than ${MAX_LISTS} lists of this root`, detail)
        : pass(undefined, detail)
    }, true),
  )
  t.check(
    'snp.crl.issuer',
    unless(({ strange }) => (strange === undefined ? pass() : fail(strange))),
  )
  t.check(
    'snp.crl.signature',
    unless(({ signed }) => (signed ? pass() : fail('the CRL is not signed by the root with RSASSA-PSS and SHA-384'))),
  )
  t.check(
    'snp.crl.window',
    unless(({ list }) => withinWindow(list, now)),
  )
  t.check(
    'snp.chain.revocation',
    unless(() => notRevoked(path, telling)),
  )
  return used
}

/** The reason every revocation check is waived, if the mode and what is at hand make it so. */
function givenUp(mode: Revocation, named: readonly RevocationList[], root: Certificate, now: Date): string | undefined {
  if (mode === 'off') return 'revocation: off'
  if (mode === 'required' || named.some((list) => inWindow(list, now))) return undefined
  const issuer = root.subjectCommonName ?? 'this root'
  const [stale] = preferRevocationLists(named, now)
  return stale === undefined
    ? `revocation: available; no CRL of ${issuer} at hand`
    : `revocation: available; the CRL of ${issuer} holds ${period(stale)}, not at ${now.toISOString()}`
}

async function judge(lists: readonly RevocationList[], root: Certificate): Promise<readonly Candidate[]> {
  const out: Candidate[] = []
  for (const list of lists.slice(0, MAX_LISTS)) {
    out.push({ list, strange: strangeness(list, root), signed: await isSignedBy(list, root, 'rsassa-pss-sha384') })
  }
  return out
}

/** A CRL of the same name may still be another key's, or cover only part of what was issued (RFC 5280 §5.2.5, §5.2.4). */
function strangeness(list: RevocationList, root: Certificate): string | undefined {
  const critical = listRestrictions(list)
  if (critical.length > 0) return `the CRL is partial or indirect: extension ${critical.join(', ')}`
  if (root.keyUsage?.crlSign === false) return 'the root may not sign CRLs'
  const wanted = subjectKeyId(root)
  const named = authorityKeyId(list)
  if (wanted === undefined || named === undefined || equalBytes(wanted, named)) return undefined
  return 'the CRL names another issuer key than this root’s'
}

function withinWindow(list: RevocationList, now: Date): Finding {
  const detail = { expected: now.toISOString(), actual: period(list) }
  if (inWindow(list, now)) return pass(undefined, detail)
  return fail(now < list.thisUpdate ? 'the CRL is not in force yet' : 'the CRL has expired', detail)
}

/** Leaf serials are 0 and identify nothing; a list naming serial 0 would condemn every chip. */
function notRevoked(path: readonly Certificate[], lists: readonly RevocationList[]): Finding {
  const revoked = path.filter(
    ({ serialHex }) => serialHex !== '00' && lists.some((list) => list.revokedSerials.has(serialHex)),
  )
  if (revoked.length === 0) return pass()
  const names = revoked.map(({ subjectCommonName, serialHex }) => `${subjectCommonName ?? '?'} (serial ${serialHex})`)
  return fail('a certificate of the chain is revoked', { actual: names.join(', ') })
}

function period(list: RevocationList): string {
  return `${list.thisUpdate.toISOString()} to ${list.nextUpdate.toISOString()}`
}
