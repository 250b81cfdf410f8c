/**
 * NVIDIA's revocation lists, where any are at hand. They cover less than OCSP (nothing below the provisioner), so none is
 * ever required and none makes a certificate good; one that is in force and names a certificate of the path condemns it.
 */
import { type Finding, fail, pass, type Transcript, waived } from '../checks.js'
import type { EndorsementPool } from '../endorsements.js'
import { type Bytes, equalBytes, toHex } from '../protocol/bytes.js'
import { isSignedBy } from '../signature.js'
import { inWindow, type RevocationList } from '../x509.js'
import { authorityKeyId, listRestrictions, subjectKeyId } from '../x509-extensions.js'
import { judgeEach } from './each.js'
import { distinctSubjects, type Subject } from './ocsp-responder.js'
import type { Revocation } from './ocsp-verify.js'

/** As many lists of one issuer are looked at; there is a reason for one. */
const MAX_LISTS = 16
/** Of all issuers together: each may take a signature under a key of its own. */
const MAX_HELD = 256

interface Held {
  readonly list: RevocationList
  readonly subject: Subject
}

/** Carries out `gpu.crl.*`. */
export async function checkRevocationLists(
  t: Transcript,
  subjects: readonly Subject[],
  pool: EndorsementPool,
  revocation: Revocation,
  now: Date,
): Promise<void> {
  const { held, crowd } = listsAbout(
    subjects,
    pool.crls.filter((list) => inWindow(list, now)),
  )
  const each = async (judge: (one: Held) => Finding | Promise<Finding>): Promise<Finding> => {
    if (revocation === 'off') return waived('revocation: off')
    // Choosing among them would let whoever hands over many hide the one that matters (P-9.7).
    if (crowd !== undefined) return fail(crowd)
    const named = held.map((item) => ({ name: item.subject.certificate.subjectCommonName ?? 'certificate', item }))
    return judgeEach(named, judge)
  }
  await t.checkAsync('gpu.crl.signature', () => each(judgeSignature))
  await t.checkAsync('gpu.crl.revoked', () =>
    each(({ list, subject }) =>
      list.revokedSerials.has(subject.certificate.serialHex)
        ? fail('the certificate is revoked', { actual: `serial ${subject.certificate.serialHex}` })
        : pass(),
    ),
  )
}

/** Lists that speak of the certificates, and why there are too many of them to look at, where there are. */
function listsAbout(
  subjects: readonly Subject[],
  lists: readonly RevocationList[],
): { readonly held: readonly Held[]; readonly crowd: string | undefined } {
  const named = new Map<string, (Keyed & { readonly list: RevocationList })[]>()
  for (const list of lists) {
    const name = toHex(list.issuer)
    const keyed = { list, key: authorityKeyId(list) }
    const known = named.get(name)
    if (known === undefined) named.set(name, [keyed])
    else known.push(keyed)
  }
  const held: Held[] = []
  for (const subject of distinctSubjects(subjects)) {
    const issuer = { key: subjectKeyId(subject.issuer) }
    const speaking = (named.get(toHex(subject.issuer.subject)) ?? []).filter((list) => mayBeOf(list, issuer))
    if (speaking.length > MAX_LISTS) {
      return { held, crowd: `more than ${MAX_LISTS} lists of ${subject.issuer.subjectCommonName ?? 'one issuer'}` }
    }
    held.push(...speaking.map(({ list }) => ({ list, subject })))
    if (held.length > MAX_HELD) return { held, crowd: `more than ${MAX_HELD} lists of these issuers` }
  }
  return { held, crowd: undefined }
}

interface Keyed {
  readonly key: Bytes | undefined
}

/** By key where both say it: hierarchies may share names. */
function mayBeOf(list: Keyed, issuer: Keyed): boolean {
  return list.key === undefined || issuer.key === undefined || equalBytes(list.key, issuer.key)
}

/** Reported to be signed with SHA-256 under keys on P-384. */
async function judgeSignature({ list, subject: { issuer } }: Held): Promise<Finding> {
  if (listRestrictions(list).length > 0) return fail('the list is partial or indirect')
  const signed =
    (await isSignedBy(list, issuer, 'ecdsa-p384-sha384')) || (await isSignedBy(list, issuer, 'ecdsa-p384-sha256'))
  return signed ? pass() : fail('the list is not signed by the issuer it names')
}
