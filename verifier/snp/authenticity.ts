/**
 * The judgements behind the authenticity checks, one function a check (or a few that share an input), in registry order.
 * Each takes what was received and says pass or fail; nothing here looks for certificates or decides policy.
 */
import { type Finding, fail, pass, type Transcript, waived } from '../checks.js'
import { isZero, toHex } from '../protocol/bytes.js'
import { importVerifyKey, isSignedBy } from '../signature.js'
import type { TrustAnchor } from '../trust-anchors.js'
import { type Certificate, inValidity } from '../x509.js'
import { unknownCritical } from '../x509-extensions.js'
import { chipIdIs, roleOfReport, trustOf } from './chain.js'
import type { SnpPolicy } from './policy.js'
import { describeCpuid, type Product, productOfCpuid } from './product.js'
import { SIGNING_KEYS, type SnpReport } from './report.js'
import { componentsDiffering, describeTcb, parseTcb } from './tcb.js'
import { parseIssuerName, productOfRootName, readVekClaims, roleOfLeaf, type VekClaims } from './vek.js'

export interface Chain {
  readonly vek: Certificate
  readonly issuer: Certificate
  readonly root: Certificate
}

const KNOWN_VERSIONS: readonly number[] = [2, 3, 4, 5]

export function knownVersion({ version }: SnpReport): Finding {
  const detail = { expected: KNOWN_VERSIONS.join(', '), actual: String(version) }
  return KNOWN_VERSIONS.includes(version) ? pass(undefined, detail) : fail(`unknown report version ${version}`, detail)
}

export function knownAlgorithm({ signatureAlgo }: SnpReport): Finding {
  if (signatureAlgo === 1) return pass()
  return fail('unknown signature algorithm', { expected: '1', actual: String(signatureAlgo) })
}

/** With MASK_CHIP_KEY firmware does not sign with the chip's key: whatever claims that it did was not made by firmware. */
export function saysSigned(report: SnpReport): Finding {
  const actual = SIGNING_KEYS[report.signingKey] ?? `reserved value ${report.signingKey}`
  const role = roleOfReport(report)
  if (role === undefined) return fail('the report is not signed by a VCEK or VLEK', { actual })
  if (role === 'VCEK' && report.maskChipKey)
    return fail('MASK_CHIP_KEY is set: the host turned VCEK signing off', { actual })
  return pass(undefined, { actual })
}

export function knownProduct({ cpuid }: SnpReport): Finding {
  if (cpuid === undefined) return pass(undefined, { actual: 'version 2 names no processor; the chain decides' })
  const product = productOfCpuid(cpuid)
  const actual = describeCpuid(cpuid)
  if (product === undefined) return fail('unknown processor', { actual })
  return pass(undefined, { actual: `${product.name} (${actual})` })
}

/** `snp.chain.root` to `snp.chain.validity`. Returns the chain's product once the intermediate's name is right. */
export async function checkChain(
  t: Transcript,
  chain: Chain,
  anchors: readonly TrustAnchor[],
  now: Date,
): Promise<Product | undefined> {
  const { vek, issuer, root } = chain
  t.check('snp.chain.root', () => {
    const actual = `${root.subjectCommonName ?? 'unnamed'}, key ${root.spkiSha256Hex}`
    return trustOf(root, anchors) === undefined
      ? fail('the root is not trusted', { actual })
      : pass(undefined, { actual })
  })
  await t.checkAsync('snp.chain.root-signature', () => signedBy(root, root))
  await t.checkAsync('snp.chain.issuer-signature', () => signedBy(issuer, root))
  await t.checkAsync('snp.chain.vek-signature', () => signedBy(vek, issuer))
  const product = t.check('snp.chain.issuer', () => judgeIssuer(chain, anchors))
  t.check('snp.chain.validity', () => {
    const outside = [root, issuer, vek].find((certificate) => !inValidity(certificate, now))
    if (outside === undefined) return pass()
    const early = now < outside.notBefore
    return fail(`${outside.subjectCommonName ?? 'a certificate'} ${early ? 'is not valid yet' : 'has expired'}`, {
      expected: now.toISOString(),
      actual: `${outside.notBefore.toISOString()} to ${outside.notAfter.toISOString()}`,
    })
  })
  return product
}

async function signedBy(subject: Certificate, signer: Certificate): Promise<Finding> {
  if (await isSignedBy(subject, signer, 'rsassa-pss-sha384')) return pass()
  return fail(
    `${subject.subjectCommonName ?? 'certificate'} is not signed by ${signer.subjectCommonName ?? 'its issuer'}`,
  )
}

function judgeIssuer({ vek, issuer, root }: Chain, anchors: readonly TrustAnchor[]): Finding<Product> {
  const name = parseIssuerName(issuer.subjectCommonName)
  const actual = `${root.subjectCommonName ?? '?'} → ${issuer.subjectCommonName ?? '?'} → ${vek.subjectCommonName ?? '?'}`
  if (name === undefined) return fail('the intermediate is no ASK or ASVK of a known product', { actual })
  const trust = trustOf(root, anchors)
  const rootProduct = trust?.pinned === true ? trust.product : productOfRootName(root.subjectCommonName)?.name
  if (rootProduct !== name.product.name) return fail('root and intermediate are of different products', { actual })
  if (roleOfLeaf(vek) !== name.role)
    return fail(`this intermediate issues ${name.role}s, and the leaf is none`, { actual })
  for (const authority of [root, issuer]) {
    const who = authority.subjectCommonName ?? 'authority'
    if (!authority.isCa || authority.keyUsage?.certSign === false) return fail(`${who} may not issue certificates`)
    const unknown = unknownCritical(authority)
    if (unknown.length > 0) return fail(`${who} has an unknown critical extension ${unknown.join(', ')}`)
  }
  if (root.pathLength === 0) return fail('the root allows no intermediate')
  return pass(name.product, { actual })
}

/** `snp.vek.role` to `snp.vek.product`. Returns what the leaf says of itself. */
export async function checkVek(
  t: Transcript,
  report: SnpReport,
  vek: Certificate | undefined,
  product: Product | undefined,
): Promise<VekClaims | undefined> {
  if (vek === undefined) return undefined
  t.check('snp.vek.role', () => {
    const detail = { expected: roleOfReport(report) ?? 'none', actual: roleOfLeaf(vek) ?? 'none' }
    return detail.expected === detail.actual ? pass(undefined, detail) : fail('the leaf is of another kind', detail)
  })
  await t.checkAsync('snp.vek.key', async () => {
    await importVerifyKey(vek, 'ecdsa-p384-sha384')
    return pass()
  })
  if (product === undefined) return undefined
  const claims = t.check('snp.vek.extensions', () => pass(readVekClaims(vek, product)))
  if (claims === undefined) return undefined
  t.check('snp.vek.product', () => {
    const detail = { expected: product.name, actual: claims.productName }
    return claims.productName === product.name
      ? pass(undefined, detail)
      : fail('productName is of another line', detail)
  })
  return claims
}

export function matchIssuerProduct({ cpuid }: SnpReport, product: Product | undefined): Finding {
  const named = cpuid === undefined ? product : productOfCpuid(cpuid)
  const detail = { expected: named?.name ?? 'none', actual: product?.name ?? 'none' }
  if (named === undefined || named !== product) return fail('the chain is of another product', detail)
  return pass(undefined, detail)
}

export function matchTcb(report: SnpReport, claims: VekClaims, product: Product): Finding {
  const reported = parseTcb(report.reportedTcb, product.tcbLayout)
  const detail = { expected: describeTcb(reported), actual: describeTcb(claims.tcb) }
  const different = componentsDiffering(claims.tcb, reported)
  return different.length === 0 ? pass(undefined, detail) : fail(`differs in ${different.join(', ')}`, detail)
}

export function matchHwid(report: SnpReport, claims: VekClaims, policy: SnpPolicy): Finding {
  if (claims.hwid === undefined) return pass(undefined, { actual: 'VLEK: names no chip' })
  const detail = { expected: toHex(claims.hwid), actual: toHex(report.chipId) }
  if (chipIdIs(report.chipId, claims.hwid)) return pass(undefined, { actual: detail.actual })
  if (!isZero(report.chipId)) return fail('CHIP_ID is not the hwID of the leaf', detail)
  if (policy.maskedChipId === 'allowed') return waived('maskedChipId: allowed; the host hides CHIP_ID')
  return fail('CHIP_ID is masked: the key cannot be tied to the chip', detail)
}
