/**
 * Revocation (Intel "SGX PCK Certificate and CRL Profile" 1.5 §5; RFC 5280 §6.3): the root's CRL speaks for the
 * intermediate and for TCB Signing, the intermediate's own CRL for the PCK certificate. Each must be the right issuer's,
 * signed by it, whole, and current.
 *
 * `required`: no CRL is unavailable; one that is another authority's, badly signed, out of window or naming a certificate
 * of the path fails. `available`: without a CRL in window its checks are waived by name; one in window is held to every
 * rule. `off`: all waived.
 */
import { type Finding, fail, pass, type Transcript, unavailable, waived } from '../checks.js'
import { type EndorsementPool, preferRevocationLists } from '../endorsements.js'
import { equalBytes, includesBytes } from '../protocol/bytes.js'
import { isSignedBy } from '../signature.js'
import { type Certificate, inWindow, type RevocationList } from '../x509.js'
import { authorityKeyId, listRestrictions, subjectKeyId } from '../x509-extensions.js'

export type Revocation = 'required' | 'available' | 'off'

/** The three checks every CRL goes through, `tdx.crl.<name>-issuer` and so on. */
export type CrlName = 'root' | 'pck'

export interface RevocationInput {
  readonly mode: Revocation
  readonly pool: EndorsementPool
  readonly now: Date
}

/** A CRL that went through its checks, or the reason the policy goes without. */
export type CrlOutcome = { readonly list: RevocationList } | { readonly waivedBecause: string } | undefined

interface Candidate {
  readonly list: RevocationList
  readonly fault: string | undefined
  readonly signed: boolean
}

/** Of one issuer, at hand at once: bounds the signatures that are checked. */
const MAX_LISTS = 16

/**
 * Carries out `tdx.crl.<name>-issuer`, `-signature` and `-window` for the CRL of `issuer`. Lists of `kin` (authorities
 * whose CRLs belong in this place but are not this issuer's) show that the wrong list was handed over rather than none.
 */
export async function checkCrl(
  t: Transcript,
  name: CrlName,
  issuer: Certificate,
  kin: readonly string[],
  input: RevocationInput,
): Promise<CrlOutcome> {
  const { mode, pool, now } = input
  const named = pool.crls.filter((list) => equalBytes(list.issuer, issuer.subject))
  const strange = named.length > 0 ? [] : pool.crls.filter(standingIn(issuer, kin))
  const damaged = named.length > 0 || mode === 'off' ? undefined : damagedList(pool, issuer)
  const reason = damaged === undefined ? giveUp(mode, named.length > 0 ? named : strange, issuer, now) : undefined
  const candidates =
    reason === undefined ? await judge(preferRevocationLists(named, now).slice(0, MAX_LISTS), issuer) : []
  // A list that is sound and current outranks any number of others; without one, the best of them shows what is wrong.
  const rank = ({ list, fault, signed }: Candidate): number =>
    Number(fault === undefined) * 4 + Number(signed) * 2 + Number(inWindow(list, now))
  const best = [...candidates].sort((a, b) => rank(b) - rank(a))[0]

  const find = (judgement: (best: Candidate) => Finding): (() => Finding) => {
    return () => {
      if (reason !== undefined) return waived(reason)
      return best === undefined ? absent(pool, issuer, strange[0], damaged) : judgement(best)
    }
  }
  const subject = issuer.subjectCommonName ?? 'the issuer'
  t.check(
    `tdx.crl.${name}-issuer`,
    find(({ fault }) => {
      // Looking at some of them only would let whoever adds enough choose which (P-9.7).
      if (named.length > MAX_LISTS) return fail(`more than ${MAX_LISTS} lists of ${subject}`)
      return fault === undefined ? pass() : fail(fault)
    }),
  )
  t.check(
    `tdx.crl.${name}-signature`,
    find(({ signed }) => (signed ? pass() : fail(`the CRL is not signed by ${subject} with ECDSA P-256 and SHA-256`))),
  )
  t.check(
    `tdx.crl.${name}-window`,
    find(({ list }) => withinWindow(list, now)),
  )
  if (reason !== undefined) return { waivedBecause: reason }
  return best !== undefined && t.passed(`tdx.crl.${name}-window`) ? { list: best.list } : undefined
}

/** Whether any of `certificates` is on the CRL; for a check that needs the CRL's own three to have passed. */
export function notRevoked(certificates: readonly Certificate[], outcome: CrlOutcome): Finding {
  if (outcome === undefined) return fail('no usable CRL')
  if ('waivedBecause' in outcome) return waived(outcome.waivedBecause)
  const revoked = certificates.filter(({ serialHex }) => outcome.list.revokedSerials.has(serialHex))
  if (revoked.length === 0) return pass()
  const names = revoked.map(({ subjectCommonName, serialHex }) => `${subjectCommonName ?? '?'} (serial ${serialHex})`)
  return fail('the certificate is revoked', { actual: names.join(', ') })
}

/** `lists`: those of the issuer or, where there is none, those handed over in their place. */
function giveUp(
  mode: Revocation,
  lists: readonly RevocationList[],
  issuer: Certificate,
  now: Date,
): string | undefined {
  if (mode === 'off') return 'revocation: off'
  if (mode === 'required' || lists.some((list) => inWindow(list, now))) return undefined
  const subject = issuer.subjectCommonName ?? 'the issuer'
  const [stale] = preferRevocationLists(lists, now)
  return stale === undefined
    ? `revocation: available; no CRL of ${subject} at hand`
    : `revocation: available; the CRL of ${subject} holds ${period(stale)}, not at ${now.toISOString()}`
}

/** Nothing of this issuer: either the wrong authority's list was handed over, or none, or one nobody can read. */
function absent(
  pool: EndorsementPool,
  issuer: Certificate,
  strange: RevocationList | undefined,
  damaged: { readonly name: string; readonly reason: string } | undefined,
): Finding {
  const subject = issuer.subjectCommonName ?? 'the issuer'
  if (strange !== undefined) {
    return fail('the CRL is another authority’s', { expected: subject, actual: strange.issuerCommonName ?? '?' })
  }
  if (damaged !== undefined) return fail(`the CRL is damaged: ${damaged.name}: ${damaged.reason}`)
  const unread = pool.unrecognised.slice(0, 4).map(({ name, reason }) => `${name}: ${reason}`)
  const hint = unread.length === 0 ? '' : `; not recognised: ${unread.join('; ')}`
  return unavailable(`no CRL of ${subject} at hand${hint}`)
}

/** Another authority's list where this issuer's belongs: by its name, or by the issuer key it claims. */
function standingIn(issuer: Certificate, kin: readonly string[]): (list: RevocationList) => boolean {
  const wanted = subjectKeyId(issuer)
  return (list) => {
    if (kin.includes(list.issuerCommonName ?? '')) return true
    const named = authorityKeyId(list)
    return wanted !== undefined && named !== undefined && equalBytes(wanted, named)
  }
}

const MAX_DAMAGED = 64
/** Of all of them together: whoever made the quote chose the name that is looked for and the bytes that are looked through. */
const MAX_SEARCHED_BYTES = 512 * 1024
const MAX_NEEDLE_BYTES = 256

/** Unreadable bytes that carry the issuer's key identifier or name: a list that is wrong, not one that is absent. */
function damagedList(
  pool: EndorsementPool,
  issuer: Certificate,
): { readonly name: string; readonly reason: string } | undefined {
  const needles = [issuer.subject, subjectKeyId(issuer) ?? issuer.subject].filter(
    ({ length }) => length > 0 && length <= MAX_NEEDLE_BYTES,
  )
  let budget = MAX_SEARCHED_BYTES
  return pool.unrecognised.slice(0, MAX_DAMAGED).find(({ bytes }) => {
    if (bytes.length > budget) return false
    budget -= bytes.length
    return needles.some((needle) => includesBytes(bytes, needle))
  })
}

async function judge(lists: readonly RevocationList[], issuer: Certificate): Promise<readonly Candidate[]> {
  return Promise.all(
    lists.map(async (list) => ({
      list,
      fault: strangeness(list, issuer),
      signed: await isSignedBy(list, issuer, 'ecdsa-p256-sha256'),
    })),
  )
}

/** A list of the same name may still be another key's, or cover only part of what was issued (RFC 5280 §5.2.4, §5.2.5). */
function strangeness(list: RevocationList, issuer: Certificate): string | undefined {
  const critical = listRestrictions(list)
  if (critical.length > 0) return `the CRL is partial or indirect: extension ${critical.join(', ')}`
  if (issuer.keyUsage?.crlSign !== true) return 'the issuer may not sign CRLs'
  const wanted = subjectKeyId(issuer)
  const named = authorityKeyId(list)
  if (wanted === undefined || named === undefined || equalBytes(wanted, named)) return undefined
  return 'the CRL names another issuer key'
}

function withinWindow(list: RevocationList, now: Date): Finding {
  const detail = { expected: now.toISOString(), actual: period(list) }
  if (inWindow(list, now)) return pass(undefined, detail)
  return fail(now < list.thisUpdate ? 'the CRL is not in force yet' : 'the CRL has expired', detail)
}

function period(list: RevocationList): string {
  return `${list.thisUpdate.toISOString()} to ${list.nextUpdate.toISOString()}`
}
