/**
 * Manifests as they come out of an endorsement pool: read once, their digest and signature computed once, and chosen for
 * a device by what its signed data names. Choosing trusts nothing: the checks hold the choice to every rule.
 */
import type { EndorsementPool } from '../endorsements.js'
import { type Bytes, equalBytes, toCharacters, toHex } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { sha256 } from '../protocol/hash.js'
import { importVerifyKey, verifyP384 } from '../signature.js'
import type { TrustAnchor } from '../trust-anchors.js'
import { inValidity } from '../x509.js'
import { trustOf } from './chain.js'
import { parseRimXml, type Rim, type RimRole, readRim } from './rim.js'

export interface InspectedRim {
  readonly rim: Rim
  readonly bytes: Bytes
  readonly sha256Hex: string
  /** The document is the one SignedInfo names. */
  readonly digestMatches: boolean
  /** SignedInfo is signed by the key of the first certificate, whoever that is. */
  readonly signatureHolds: boolean
}

/** What a device's manifest must be about, from signed data only. */
export interface RimNeed {
  readonly role: RimRole
  readonly product: string
  readonly version: string
}

/**
 * What was inspected before, by SHA-256 of the exact bytes: an answer that depends on nothing else cannot be made wrong by
 * remembering it. Bounded; the oldest entry leaves first.
 */
const inspected = new Map<string, Promise<InspectedRim>>()
const MAX_REMEMBERED = 64

/** @throws FormatError on a document outside the profile. */
export function inspectRim(bytes: Bytes): Promise<InspectedRim> {
  const sha256Hex = toHex(sha256(bytes))
  const known = inspected.get(sha256Hex)
  if (known !== undefined) return known
  const [oldest] = inspected.keys()
  if (inspected.size >= MAX_REMEMBERED && oldest !== undefined) inspected.delete(oldest)
  const answer = inspect(new Uint8Array(bytes), sha256Hex)
  inspected.set(sha256Hex, answer)
  answer.catch(() => inspected.delete(sha256Hex))
  return answer
}

async function inspect(bytes: Bytes, sha256Hex: string): Promise<InspectedRim> {
  const rim = readRim(parseRimXml(bytes))
  return {
    rim,
    bytes,
    sha256Hex,
    digestMatches: equalBytes(rim.documentDigest, rim.signature.digest),
    signatureHolds: await signatureHolds(rim),
  }
}

async function signatureHolds({ signature }: Rim): Promise<boolean> {
  const [leaf] = signature.certificates
  if (leaf === undefined) return false
  try {
    const key = await importVerifyKey(leaf, 'ecdsa-p384-sha384')
    return await verifyP384(key, signature.value, signature.signedInfo)
  } catch (error) {
    if (error instanceof FormatError) return false
    throw error
  }
}

export interface RimShelf {
  readonly rims: readonly InspectedRim[]
  /** Meant as manifests and unreadable, in capitals: an endorsement that is wrong, not one that is absent. */
  readonly damaged: readonly { readonly reason: string; readonly text: string }[]
}

/** More manifests than any honest pool has; bounds what hostile pools can cost. */
const MAX_RIMS = 128
/** Of damaged ones together, which are looked through for every device. */
const MAX_DAMAGED_BYTES = 2 * 1024 * 1024

/** Every manifest of a pool. Never throws on their contents. */
export async function shelveRims(pool: EndorsementPool): Promise<RimShelf> {
  const rims = new Map<string, InspectedRim>()
  const damaged: RimShelf['damaged'][number][] = []
  let left = MAX_DAMAGED_BYTES
  for (const document of pool.documents.filter(({ kind }) => kind === 'rim').slice(0, MAX_RIMS)) {
    try {
      const found = await inspectRim(document.bytes)
      rims.set(found.sha256Hex, found)
    } catch (error) {
      if (!(error instanceof FormatError)) throw error
      if (document.bytes.length > left) continue
      left -= document.bytes.length
      const text = toCharacters(document.bytes).toUpperCase()
      damaged.push({ reason: `${document.name}: ${error.message}`, text })
    }
  }
  return { rims: [...rims.values()], damaged }
}

export function fits(rim: Rim, need: RimNeed): boolean {
  return rim.role === need.role && rim.product === need.product && sameVersion(rim.version, need)
}

/** Driver versions exactly; VBIOS versions are hexadecimal, in either case. */
export function sameVersion(version: string, need: RimNeed): boolean {
  if (need.role === 'driver') return version === need.version
  return version.toUpperCase() === need.version.toUpperCase()
}

export type RimChoice = { readonly found: InspectedRim } | { readonly damaged: string } | { readonly missing: string }

/**
 * The manifest to hold a device to: of those made for it one under a trusted root, then the soundest, then one that is
 * current, then the newest. Failing
 * that, the only one of its role that is made for none of the devices at hand, for the checks to refuse by name. Several
 * strangers are no endorsement of this device: it is then missing.
 */
export function chooseRim(
  need: RimNeed,
  all: readonly RimNeed[],
  shelf: RimShelf,
  anchors: readonly TrustAnchor[],
  now: Date,
): RimChoice {
  const rankOf = (inspected: InspectedRim) => rank(inspected, anchors, now)
  const [best] = shelf.rims.filter(({ rim }) => fits(rim, need)).sort((a, b) => rankOf(b) - rankOf(a))
  if (best !== undefined) return { found: best }
  const strangers = shelf.rims.filter(({ rim }) => rim.role === need.role && !all.some((other) => fits(rim, other)))
  const [stranger, ...others] = strangers
  if (stranger !== undefined && others.length === 0) return { found: stranger }
  const damaged = shelf.damaged.find(({ text }) => names(text, need.version))
  if (damaged !== undefined) return { damaged: damaged.reason }
  return { missing: `no ${need.role} manifest of ${need.product} ${need.version} among ${shelf.rims.length} at hand` }
}

/** Whether unreadable text was evidently meant for this version: an endorsement that is wrong, not one that is absent. */
function names(text: string, version: string): boolean {
  return text.includes(`"${version.toUpperCase()}"`)
}

function rank(
  { rim, digestMatches, signatureHolds: holds }: InspectedRim,
  anchors: readonly TrustAnchor[],
  now: Date,
): number {
  const { certificates } = rim.signature
  const trusted = trustOf(certificates.at(-1), 'rim', anchors) !== undefined
  const current = certificates.every((certificate) => inValidity(certificate, now))
  const issued = certificates[0]?.notBefore.getTime() ?? 0
  // Milliseconds since 1970 stay below 2^48 for thousands of years.
  return (trusted ? 2 ** 51 : 0) + (digestMatches && holds ? 2 ** 50 : 0) + (current ? 2 ** 49 : 0) + issued
}
