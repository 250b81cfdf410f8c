/**
 * NVIDIA's revocation lists, where any are at hand. They cover less than OCSP (nothing below the provisioner), so none is
 * ever required and none makes a certificate good; one that is in force and names a certificate of the path condemns it.
 */
import { type Finding, fail, pass, type Transcript, waived } from '../checks.js'
import type { EndorsementPool } from '../endorsements.js'
import { equalBytes } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { isSignedBy } from '../signature.js'
import { inWindow, type RevocationList } from '../x509.js'
import { authorityKeyId, listRestrictions, subjectKeyId } from '../x509-extensions.js'
import { judgeEach } from './each.js'
import type { Subject } from './ocsp-responder.js'
import type { Revocation } from './ocsp-verify.js'

/** As many lists of one issuer are looked at; there is a reason for one. */
const MAX_LISTS = 16

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
  const held = subjects.flatMap((subject) =>
    pool.crls.filter((list) => inWindow(list, now) && speaksFor(list, subject)).map((list) => ({ list, subject })),
  )
  const crowded = subjects.find((subject) => held.filter((item) => item.subject === subject).length > MAX_LISTS)
  const each = async (judge: (one: Held) => Finding | Promise<Finding>): Promise<Finding> => {
    if (revocation === 'off') return waived('revocation: off')
    // Choosing among them would let whoever hands over many hide the one that matters (P-9.7).
    if (crowded !== undefined)
      return fail(`more than ${MAX_LISTS} lists of ${crowded.issuer.subjectCommonName ?? 'one issuer'}`)
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

/** By name and, where both say it, by key: hierarchies may share names. */
function speaksFor(list: RevocationList, { issuer }: Subject): boolean {
  if (!equalBytes(list.issuer, issuer.subject)) return false
  try {
    const wanted = subjectKeyId(issuer)
    const named = authorityKeyId(list)
    return wanted === undefined || named === undefined || equalBytes(wanted, named)
  } catch (error) {
    // A malformed identifier tells nothing apart: the list is held to its signature.
    if (error instanceof FormatError) return true
    throw error
  }
}

/** Reported to be signed with SHA-256 under keys on P-384. */
async function judgeSignature({ list, subject: { issuer } }: Held): Promise<Finding> {
  if (listRestrictions(list).length > 0) return fail('the list is partial or indirect')
  const signed =
    (await isSignedBy(list, issuer, 'ecdsa-p384-sha384')) || (await isSignedBy(list, issuer, 'ecdsa-p384-sha256'))
  return signed ? pass() : fail('the list is not signed by the issuer it names')
}
