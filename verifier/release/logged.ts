/**
 * How public a release was made: in the log the policy names, under a checkpoint its witnesses saw (PROTOCOL.md P-13.3,
 * P-13.4). Of several proofs the one that shows most is taken, so that a bad one beside a good one spoils nothing.
 */
import { type Finding, fail, pass, unavailable, waived } from '../checks.js'
import type { Bytes } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { verifyInclusion } from '../protocol/merkle.js'
import { parseTlogProof, type TlogProof } from './log.js'
import { isNoteSignedBy } from './note.js'
import type { ReleasePolicy, SigstorePolicy } from './policy.js'

export type SigstoreVerdict = { readonly holds: true } | { readonly holds: false; readonly reason: string }
/** Holds a Sigstore bundle over an artifact to a policy; never throws. */
export type SigstoreVerifier = (bundle: Uint8Array, artifact: Uint8Array, policy: SigstorePolicy) => SigstoreVerdict

type LogPolicy = Exclude<ReleasePolicy['log'], 'unlogged' | { readonly sigstore: SigstorePolicy }>

/** What one proof of the log the policy names turned out to show. */
interface JudgedProof {
  readonly bytes: Bytes
  readonly checkpoint: TlogProof['checkpoint']
  /** The log signed the checkpoint. */
  readonly signed: boolean
  /** The entry is under its root. */
  readonly included: boolean
  /** Names of the policy's witnesses that saw it, one name a key. */
  readonly seenBy: readonly string[]
}

/** The proof that shows most; undefined when none is of this log. */
export async function proofOf(
  entry: Bytes,
  proofs: readonly Bytes[],
  policy: ReleasePolicy,
): Promise<JudgedProof | undefined> {
  const { log } = policy
  if (log === 'unlogged' || 'sigstore' in log) return undefined
  const judged: JudgedProof[] = []
  for (const bytes of proofs) {
    const proof = read(bytes)
    if (proof?.checkpoint.origin === log.key.name) judged.push(await judge(entry, bytes, proof, log))
  }
  judged.sort(
    (a, b) =>
      Number(b.included && b.signed) - Number(a.included && a.signed) ||
      b.seenBy.length - a.seenBy.length ||
      Number(b.signed) - Number(a.signed) ||
      b.checkpoint.size - a.checkpoint.size,
  )
  return judged[0]
}

function read(bytes: Bytes): TlogProof | undefined {
  try {
    return parseTlogProof(bytes)
  } catch (error) {
    if (error instanceof FormatError) return undefined
    throw error
  }
}

async function judge(
  entry: Bytes,
  bytes: Bytes,
  { inclusion, checkpoint }: TlogProof,
  { key, witnesses }: LogPolicy,
): Promise<JudgedProof> {
  let included = false
  try {
    included = verifyInclusion(entry, inclusion, checkpoint.root)
  } catch (error) {
    // An index outside the tree, or a path of the wrong length: a proof of nothing.
    if (!(error instanceof FormatError)) throw error
  }
  const seen = new Map<string, string>()
  for (const witness of witnesses?.keys ?? []) {
    if (await isNoteSignedBy(checkpoint.note, witness)) seen.set(witness.publicKey.join(), witness.name)
  }
  const signed = await isNoteSignedBy(checkpoint.note, key)
  return { bytes, checkpoint, included, signed, seenBy: [...seen.values()] }
}

export function judgeLogged({ log }: ReleasePolicy, proof: JudgedProof | undefined, bundle: SigstoreProof): Finding {
  if (log === 'unlogged') return waived('releases.log: unlogged; the release may have been signed for you alone')
  if ('sigstore' in log) return judgeSigstore(log.sigstore, bundle)
  if (proof === undefined) return unavailable(`no proof of the log ${log.key.name} is at hand`)
  const detail = { actual: `${proof.checkpoint.origin}, ${proof.checkpoint.size} entries` }
  if (!proof.signed) return fail('the log did not sign this checkpoint', detail)
  return proof.included
    ? pass(undefined, detail)
    : fail('the manifest is not in the log at the place the proof names', detail)
}

export function judgeWitnesses({ log }: ReleasePolicy, proof: JudgedProof | undefined): Finding {
  if (log === 'unlogged') return waived('releases.log: unlogged; see release.logged')
  if ('sigstore' in log) return waived('releases.log: sigstore; Rekor’s operator is taken at its word')
  const { witnesses } = log
  if (witnesses === undefined)
    return waived('releases.log.witnesses: none; the log’s one operator is taken at its word')
  const seenBy = proof?.seenBy ?? []
  const keys = new Set(witnesses.keys.map(({ publicKey }) => publicKey.join()))
  const detail = { expected: `${witnesses.threshold} of ${keys.size}`, actual: seenBy.join(', ') || 'none' }
  return seenBy.length >= witnesses.threshold
    ? pass(undefined, detail)
    : fail('too few witnesses saw this checkpoint', detail)
}

/** `verdict` is undefined where nobody can judge the bundle. */
export type SigstoreProof = { readonly bytes: Bytes; readonly verdict: SigstoreVerdict | undefined } | undefined

/** The Sigstore bundle that holds, or the first there is. */
export function bundleOf(
  entry: Bytes,
  bundles: readonly Bytes[],
  { log }: ReleasePolicy,
  sigstore: SigstoreVerifier | undefined,
): SigstoreProof {
  if (log === 'unlogged' || !('sigstore' in log)) return undefined
  const judged = bundles.map((bytes) => ({ bytes, verdict: sigstore?.(bytes, entry, log.sigstore) }))
  return judged.find(({ verdict }) => verdict?.holds === true) ?? judged[0]
}

function judgeSigstore({ identity }: SigstorePolicy, bundle: SigstoreProof): Finding {
  if (bundle === undefined) return unavailable('no Sigstore bundle is at hand')
  if (bundle.verdict === undefined) return unavailable('Sigstore bundles are judged by libraries that run in Node only')
  const detail = { expected: identity }
  return bundle.verdict.holds ? pass(undefined, detail) : fail(`Sigstore: ${bundle.verdict.reason}`, detail)
}
