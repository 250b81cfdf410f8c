/**
 * Which collateral to hold a quote to. Pools are untrusted and may carry sets of several platforms and dates, so the best
 * document is chosen for checks that then hold it to every rule; choosing badly can only make them fail.
 */
import type { EndorsementPool } from '../endorsements.js'
import { type Bytes, equalBytes } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { isMessageSignedBy } from '../signature.js'
import type { Certificate } from '../x509.js'
import { type CollateralDocument, parseCollateral } from './collateral.js'
import type { PckClaims } from './pck.js'

export type TcbInfoDocument = Extract<CollateralDocument, { kind: 'tcb-info' }>
export type QeIdentityDocument = Extract<CollateralDocument, { kind: 'qe-identity' }>

/** A document, and the fit signing certificate whose key signed it, if one did. */
export interface Judged<D> {
  readonly document: D
  readonly signer: Certificate | undefined
}

export type Choice<D> =
  | { readonly found: Judged<D> }
  /** A document of this kind is there and cannot be used. */
  | { readonly unusable: string }
  | { readonly missing: true }

export interface CollateralChoice {
  readonly tcbInfo: Choice<TcbInfoDocument>
  readonly qeIdentity: Choice<QeIdentityDocument>
}

/** More documents than any honest folder has; bounds what hostile pools can cost. */
const MAX_DOCUMENTS = 128

/**
 * The best TCB info for this platform and the best QE identity beside it: right platform, signed, in window, and newest
 * first, in that order of importance; the identity also of the same evaluation number.
 */
export async function chooseCollateral(
  pool: EndorsementPool,
  pck: PckClaims | undefined,
  signers: readonly Certificate[],
  now: Date,
): Promise<CollateralChoice> {
  const { documents, damaged } = readDocuments(pool)
  const infos = await judge(
    documents.filter((document) => document.kind === 'tcb-info'),
    signers,
  )
  const identities = await judge(
    documents.filter((document) => document.kind === 'qe-identity'),
    signers,
  )
  const info = best(infos, ({ document, signer }) => [
    pck !== undefined && isForPlatform(document, pck),
    signer !== undefined,
    isCurrent(document, now),
    // A newer evaluation knows of more attacks, however late an older one was signed.
    document.content.tcbEvaluationDataNumber,
    document.content.issueDate.getTime(),
  ])
  const identity = best(identities, ({ document, signer }) => [
    signer !== undefined,
    isCurrent(document, now),
    document.content.tcbEvaluationDataNumber === info?.document.content.tcbEvaluationDataNumber,
    document.content.issueDate.getTime(),
  ])
  const unusable = (member: 'tcbInfo' | 'enclaveIdentity'): string | undefined =>
    documents.flatMap((document) =>
      document.kind === 'unusable' && document.member === member ? document.reason : [],
    )[0] ?? damaged.find(({ names }) => names(member))?.reason
  return {
    tcbInfo: outcome(info, unusable('tcbInfo')),
    qeIdentity: outcome(identity, unusable('enclaveIdentity')),
  }
}

/** FMSPC and PCEID of the PCK certificate are those the TCB info speaks of. */
export function isForPlatform({ content }: TcbInfoDocument, { fmspc, pceId }: PckClaims): boolean {
  return equalBytes(content.fmspc, fmspc) && equalBytes(content.pceId, pceId)
}

/** Inside issueDate and nextUpdate, both ends included. */
export function isCurrent({ content }: TcbInfoDocument | QeIdentityDocument, now: Date): boolean {
  return content.issueDate <= now && now <= content.nextUpdate
}

interface Damaged {
  readonly reason: string
  /** Whether the bytes speak of this member's contents at all: what they were meant as. */
  readonly names: (member: 'tcbInfo' | 'enclaveIdentity') => boolean
}

/** Words of each document; bytes damaged in one of them still have the others. */
const WORDS = {
  tcbInfo: ['"fmspc"', '"tcbType"', '"tdxModule"', '"sgxtcbcomponents"'],
  enclaveIdentity: ['"miscselect"', '"isvprodid"', '"attributesMask"'],
} as const
const MAX_DAMAGED_BYTES = 1024 * 1024

function readDocuments(pool: EndorsementPool): {
  readonly documents: readonly CollateralDocument[]
  readonly damaged: readonly Damaged[]
} {
  const documents: CollateralDocument[] = []
  const damaged: Damaged[] = []
  const refuse = (item: { readonly name: string; readonly bytes: Bytes }, reason: string): void => {
    if (item.bytes.length > MAX_DAMAGED_BYTES) return
    const text = new TextDecoder().decode(item.bytes)
    const names: Damaged['names'] = (member) => {
      const found = WORDS[member].filter((word) => text.includes(word)).length
      return found > 0 && found >= WORDS[member].length - 1
    }
    damaged.push({ reason: `${item.name}: ${reason}`, names })
  }
  for (const item of pool.documents.filter(({ kind }) => kind === 'tdx-collateral').slice(0, MAX_DOCUMENTS)) {
    try {
      documents.push(parseCollateral(item.bytes))
    } catch (error) {
      if (!(error instanceof FormatError)) throw error
      refuse(item, error.message)
    }
  }
  for (const item of pool.unrecognised.slice(0, MAX_DOCUMENTS)) refuse(item, item.reason)
  return { documents, damaged }
}

async function judge<D extends CollateralDocument>(
  documents: readonly D[],
  signers: readonly Certificate[],
): Promise<readonly Judged<D>[]> {
  return Promise.all(documents.map(async (document) => ({ document, signer: await signerOf(document, signers) })))
}

async function signerOf(
  { signed, signedSha256Hex, signature }: CollateralDocument,
  signers: readonly Certificate[],
): Promise<Certificate | undefined> {
  for (const signer of signers) {
    if (await isMessageSignedBy(signed, signedSha256Hex, signature, signer)) return signer
  }
  return undefined
}

/** The candidate with the greatest key, compared member by member. */
function best<T>(candidates: readonly T[], keyOf: (candidate: T) => readonly (boolean | number)[]): T | undefined {
  return [...candidates].sort((a, b) => {
    const [left, right] = [keyOf(a).map(Number), keyOf(b).map(Number)]
    const at = left.findIndex((value, index) => value !== right[index])
    return (right[at] ?? 0) - (left[at] ?? 0)
  })[0]
}

function outcome<D>(found: Judged<D> | undefined, unusable: string | undefined): Choice<D> {
  if (found !== undefined) return { found }
  return unusable === undefined ? { missing: true } : { unusable }
}
