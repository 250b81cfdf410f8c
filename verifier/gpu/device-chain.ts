/**
 * The certificates under a device's report: those that came with it, or, for a report that came alone, the ones found
 * among the endorsements. Finding proves nothing; the checks hold what was found to every rule.
 */
import type { EndorsementPool } from '../endorsements.js'
import type { Bytes } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { importVerifyKey, isSignedBy, verifyP384 } from '../signature.js'
import { type Certificate, namesIssuer, parseCertificate } from '../x509.js'
import type { Chain } from './chain.js'
import { FAMILIES } from './family.js'
import type { SpdmReport } from './spdm.js'

const MAX_CHAIN = 8
const MAX_CANDIDATES = 32

/** Leaf first. Undefined when the report came alone and no certificate at hand is its leaf. @throws FormatError */
export async function findDeviceChain(
  report: SpdmReport,
  carried: readonly Bytes[] | undefined,
  pool: EndorsementPool,
): Promise<Chain | undefined> {
  if (carried !== undefined) {
    if (carried.length > MAX_CHAIN) {
      throw new FormatError('gpu.chain', `${carried.length} certificates, at most ${MAX_CHAIN}`)
    }
    return carried.map(parseCertificate)
  }
  const leaves = pool.certificates.filter(isLeaf).slice(0, MAX_CANDIDATES)
  let leaf = leaves.length === 1 ? leaves[0] : undefined
  for (const candidate of leaves) {
    if (leaf === undefined && (await isReportSignedBy(report, candidate))) leaf = candidate
  }
  return leaf === undefined ? undefined : climb(leaf, pool.certificates)
}

/** Over request ‖ response as received. Never throws on hostile keys. */
export async function isReportSignedBy(report: SpdmReport, leaf: Certificate): Promise<boolean> {
  try {
    const key = await importVerifyKey(leaf, 'ecdsa-p384-sha384')
    return await verifyP384(key, report.signature, report.signed)
  } catch (error) {
    if (error instanceof FormatError) return false
    throw error
  }
}

function isLeaf({ subjectCommonName }: Certificate): boolean {
  return FAMILIES.some(({ leafName }) => subjectCommonName !== undefined && leafName.test(subjectCommonName))
}

/** From certificate to issuer until one names itself, preferring issuers that really signed. */
async function climb(leaf: Certificate, certificates: readonly Certificate[]): Promise<Chain> {
  const chain = [leaf]
  for (let top = leaf; chain.length < MAX_CHAIN && !namesIssuer(top, top); ) {
    const named = certificates.filter((candidate) => namesIssuer(top, candidate)).slice(0, MAX_CANDIDATES)
    let issuer = named[0]
    for (const candidate of named) {
      if (await isSignedBy(top, candidate, 'ecdsa-p384-sha384')) {
        issuer = candidate
        break
      }
    }
    if (issuer === undefined) break
    chain.push(issuer)
    top = issuer
  }
  return chain
}
