/**
 * Holding manifests to their rules: one of its own (`gpu rim FILE`), or the ones a device's signed data names. A manifest
 * several devices share is read and verified once.
 */
import { type Finding, fail, pass, type Transcript } from '../checks.js'
import type { EndorsementPool } from '../endorsements.js'
import type { Bytes } from '../protocol/bytes.js'
import type { EndorsementUse } from '../result.js'
import type { TrustAnchor } from '../trust-anchors.js'
import type { Certificate } from '../x509.js'
import {
  judgeAuthority,
  judgeExtensions,
  judgeRoot,
  judgeShape,
  judgeSignatures,
  judgeValidity,
  trustOf,
} from './chain.js'
import type { RimArea } from './checks-rim.js'
import { checkRevocationLists } from './crl.js'
import { judgeEach, type Named } from './each.js'
import type { Subject } from './ocsp-responder.js'
import { checkOcsp, ocspExpiry, ocspUse, type Revocation } from './ocsp-verify.js'
import type { GpuPolicy } from './policy.js'
import { parseRimXml, type Rim, readRim } from './rim.js'
import { fits, type InspectedRim, inspectRim, type RimNeed, sameVersion } from './rim-inspect.js'

export interface RimInput {
  /** XML. Untrusted. */
  readonly rim: Bytes
  /** OCSP responses, untrusted until verified. */
  readonly endorsements: EndorsementPool
  readonly anchors: readonly TrustAnchor[]
  readonly now: Date
  readonly revocation: Revocation
  readonly policy: GpuPolicy
  /** The nonce of OCSP requests the caller made itself. */
  readonly ocspNonce?: Bytes
}

export interface RimFindings {
  readonly rim: Rim
  readonly privateAnchor: boolean
  readonly endorsementsUsed: readonly EndorsementUse[]
  readonly endorsementBytes: readonly Bytes[]
  /** When the first certificate or OCSP response expires. */
  readonly validUntil: Date
}

/** Carries out RIM_PLAN on one manifest. Undefined when there is none to speak of. */
export async function verifyRim(t: Transcript, input: RimInput): Promise<RimFindings | undefined> {
  const root = t.check('gpu.rim.parse', () => pass(parseRimXml(input.rim)))
  const rim = root && t.check('gpu.rim.profile', () => pass(readRim(root)))
  if (rim === undefined) return undefined
  const inspected = await inspectRim(input.rim)
  await checkRims(t, 'rim', [{ name: 'manifest', item: inspected }], input.anchors, input.now)
  const { endorsements: pool, revocation, now } = input
  const subjects = rimSubjects(rim)
  const nonce = input.ocspNonce === undefined ? {} : { nonce: input.ocspNonce }
  const responses = await checkOcsp(t, { subjects, pool, revocation, policy: input.policy.ocsp, now, ...nonce })
  await checkRevocationLists(t, subjects, pool, revocation, now)
  return {
    rim,
    privateAnchor: trustOf(rim.signature.certificates.at(-1), 'rim', input.anchors) === 'added',
    endorsementsUsed: [rimUse(rim), ...responses.map(ocspUse)],
    endorsementBytes: [input.rim, ...responses.map(({ der }) => der)],
    validUntil: new Date(Math.min(rimExpiry(rim), ...responses.map((each) => ocspExpiry(each, input.policy.ocsp)))),
  }
}

/** Every certificate but the root, with its issuer. */
export function rimSubjects({ signature: { certificates } }: Rim): readonly Subject[] {
  return certificates.flatMap((certificate, i) => {
    const issuer = certificates[i + 1]
    return issuer === undefined ? [] : [{ certificate, issuer }]
  })
}

export function rimUse({ role, signature }: Rim): EndorsementUse {
  const [leaf] = signature.certificates
  return {
    kind: `${role}-rim`,
    issuedAt: leaf?.notBefore.toISOString() ?? null,
    nextUpdate: leaf?.notAfter.toISOString() ?? null,
  }
}

/** Milliseconds since 1970. */
export function rimExpiry({ signature }: Rim): number {
  return Math.min(...signature.certificates.map((certificate) => certificate.notAfter.getTime()))
}

const RIM_CHAIN_LENGTH = 4

/** The rules every manifest is held to, over all that are used for one purpose. */
export async function checkRims(
  t: Transcript,
  area: RimArea,
  rims: readonly Named<InspectedRim>[],
  anchors: readonly TrustAnchor[],
  now: Date,
): Promise<void> {
  const check = (
    thing: string,
    judge: (rim: InspectedRim, chain: readonly Certificate[]) => Finding | Promise<Finding>,
  ) =>
    t.checkAsync(`gpu.${area}.${thing}`, () =>
      judgeEach(rims, (inspected) => judge(inspected, inspected.rim.signature.certificates)),
    )
  await check('digest', (rim) => (rim.digestMatches ? pass() : fail('the document was altered after it was signed')))
  await check('signature', (rim) => (rim.signatureHolds ? pass() : fail('the signature does not verify')))
  await check('chain-root', (_, chain) => judgeRoot(chain, 'rim', anchors))
  await check('chain-shape', (_, chain) => judgeShape(chain, RIM_CHAIN_LENGTH))
  await check('chain-signatures', (_, chain) => judgeSignatures(chain))
  await check('chain-authority', (_, chain) => judgeAuthority(chain))
  await check('chain-extensions', (_, chain) => judgeExtensions(chain))
  await check('window', (_, chain) => judgeValidity(chain, now))
  await check('family', ({ rim }, chain) => judgeFamily(rim, chain[1]))
  await check('golden', ({ rim }) => (rim.golden.size > 0 ? pass() : fail('the manifest has no active record')))
}

/** What each device needs, and the manifest chosen for it. */
export interface RimUse {
  readonly need: RimNeed
  readonly inspected: InspectedRim
}

/** `gpu.<area>.product` and `.version`, device by device. */
export async function checkRimUse(t: Transcript, area: RimArea, uses: readonly Named<RimUse>[]): Promise<void> {
  await t.checkAsync(`gpu.${area}.product`, () =>
    judgeEach(uses, ({ need, inspected: { rim } }) =>
      rim.product === need.product
        ? pass()
        : fail('the manifest is about another chip', { expected: need.product, actual: rim.product }),
    ),
  )
  await t.checkAsync(`gpu.${area}.version`, () =>
    judgeEach(uses, ({ need, inspected: { rim } }) =>
      fits(rim, { ...need, product: rim.product }) && sameVersion(rim.version, need)
        ? pass(undefined, { actual: rim.version })
        : fail('the manifest is about another version', { expected: need.version, actual: rim.version }),
    ),
  )
}

/** `NVIDIA Reference Value L3 GH100 003`, `… L3 GB100-CC 001`, `… L3 LS10 001`: one authority may serve a whole family. */
function judgeFamily(rim: Rim, authority: Certificate | undefined): Finding {
  const name = authority?.subjectCommonName
  const [, family] = /^NVIDIA Reference Value L3 ([A-Z]{2})[0-9]{2,3}(?:-CC)? [0-9]{3}$/.exec(name ?? '') ?? []
  if (family !== undefined && rim.product.startsWith(family)) return pass(undefined, { actual: name ?? '' })
  return fail('the signer is not certified for this product', { expected: rim.product, actual: name ?? 'no name' })
}
