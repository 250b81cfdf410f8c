/**
 * Whose release a launch is (PROTOCOL.md §13): manifest, log and index at hand, held to the policy's `releases` section, one
 * step a check. Everything is offline; manifests, proofs and indexes come with the endorsements and are worth their
 * signatures.
 *
 * What no proof here can show: that a log run by one operator shows everyone the same entries. Witnesses are for that, and
 * every verdict without them says so.
 */
import { type Finding, fail, pass, type Transcript, unavailable, waived } from '../checks.js'
import type { EndorsementPool } from '../endorsements.js'
import { type Bytes, utf8 } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { verifyInclusion } from '../protocol/merkle.js'
import type { EndorsementUse, NotProven } from '../result.js'
import { parseTlogProof, type TlogProof } from './log.js'
import {
  denialOf,
  isOlder,
  launchOf,
  parseReleaseIndex,
  parseReleaseManifest,
  type ReleaseIndex,
  type ReleaseManifest,
  type Signed,
} from './manifest.js'
import { isNoteSignedBy, type NoteKey } from './note.js'
import type { ReleasePolicy, SigstorePolicy } from './policy.js'
import { SHIPPED_INDEX } from './shipped.js'

export interface ReleaseInput {
  readonly policy: ReleasePolicy
  /** What was launched, by the names findings use. Untrusted until the report's signature was checked. */
  readonly measurements: Readonly<Record<string, string>>
  readonly pool: EndorsementPool
  /** Absent where Sigstore's libraries are: such a log is then unavailable. */
  readonly sigstore?: SigstoreVerifier
}

export type SigstoreVerdict = { readonly holds: true } | { readonly holds: false; readonly reason: string }
/** Holds a Sigstore bundle over an artifact to a policy; never throws. */
export type SigstoreVerifier = (bundle: Uint8Array, artifact: Uint8Array, policy: SigstorePolicy) => SigstoreVerdict

export interface ReleaseFindings {
  readonly manifest: ReleaseManifest
  /** Every release check passed or was waived: the launch is this release's. */
  readonly holds: boolean
  /** JSON-ready, for verdicts. */
  readonly described: Readonly<Record<string, unknown>>
  readonly privateAnchor: false
  readonly endorsementsUsed: readonly EndorsementUse[]
  readonly endorsementBytes: readonly Bytes[]
  readonly notProven: readonly NotProven[]
}

/** More of each kind than any honest pool has; bounds what hostile pools can cost. */
const MAX_DOCUMENTS = 64

/** Carries out `release.*`. Undefined when there is no manifest to speak of. */
export async function checkRelease(t: Transcript, input: ReleaseInput): Promise<ReleaseFindings | undefined> {
  const { policy, measurements, pool } = input
  const manifests = read(pool, 'release', parseReleaseManifest).filter(({ document }) =>
    launchOf(document, measurements),
  )
  const chosen = await best(manifests, policy.keys)
  const index = await best([...read(pool, 'release-index', parseReleaseIndex), ...(await shipped(policy))], policy.keys)
  const proof = chosen && proofOf(chosen.item, pool, policy)
  const bundle = chosen && bundleOf(chosen.item, input)

  t.check('release.present', () =>
    chosen === undefined ? unavailable('no release manifest at hand names this launch') : pass(),
  )
  t.check('release.signature', () =>
    chosen?.signed === true
      ? pass(undefined, actual(chosen.item.document))
      : fail('signed by no key your policy names'),
  )
  await t.checkAsync('release.logged', () => judgeLogged(policy, proof, bundle))
  await t.checkAsync('release.witnessed', () => judgeWitnesses(policy, proof))
  t.check('release.index', () => {
    if (index === undefined) return unavailable('no release index is at hand')
    return index.signed
      ? pass(undefined, { actual: index.item.document.date })
      : fail('signed by no key your policy names')
  })
  if (chosen === undefined) return undefined
  const manifest = chosen.item.document
  t.check('release.floor', () => judgeFloor(manifest, index?.item.document, policy))
  t.check('release.denied', () => judgeDenied(manifest, index?.item.document, measurements))
  const ids = ['present', 'signature', 'logged', 'witnessed', 'index', 'floor', 'denied']
  return {
    manifest,
    holds: ids.every((id) => t.satisfied(`release.${id}`)),
    ...described(chosen.item, index?.item, proof ?? bundle),
  }
}

interface Chosen<T> {
  readonly item: Signed<T>
  /** By one of the keys asked about. */
  readonly signed: boolean
}

function read<T>(
  { documents }: EndorsementPool,
  kind: 'release' | 'release-index',
  parse: (bytes: Uint8Array) => Signed<T>,
): readonly Signed<T>[] {
  return documents
    .filter((document) => document.kind === kind)
    .slice(0, MAX_DOCUMENTS)
    .flatMap(({ bytes }) => {
      try {
        return [parse(bytes)]
      } catch (error) {
        if (error instanceof FormatError) return []
        throw error
      }
    })
}

/** The newest that is signed by a key asked about; failing that, the newest, for the checks to refuse by name. */
async function best<T extends { readonly date: string }>(
  items: readonly Signed<T>[],
  keys: readonly NoteKey[],
): Promise<Chosen<T> | undefined> {
  const ranked: Chosen<T>[] = []
  for (const item of items) {
    const signed = (await Promise.all(keys.map((key) => isNoteSignedBy(item.note, key)))).includes(true)
    ranked.push({ item, signed })
  }
  // RFC 3339 in UTC sorts as text.
  ranked.sort((a, b) => Number(b.signed) - Number(a.signed) || b.item.document.date.localeCompare(a.item.document.date))
  return ranked[0]
}

/** The index this verifier came with, where the policy wants releases of its publisher: nobody can withhold that one. */
async function shipped({ keys }: ReleasePolicy): Promise<readonly Signed<ReleaseIndex>[]> {
  const index = parseReleaseIndex(utf8(SHIPPED_INDEX))
  const own = await Promise.all(keys.map((key) => isNoteSignedBy(index.note, key)))
  return own.includes(true) ? [index] : []
}

/** A proof that this manifest is in the log asked about; the largest checkpoint first. */
function proofOf(
  manifest: Signed<ReleaseManifest>,
  { documents }: EndorsementPool,
  { log }: ReleasePolicy,
): (TlogProof & { readonly bytes: Bytes; readonly included: boolean }) | undefined {
  if (log === 'unlogged' || 'sigstore' in log) return undefined
  const proofs = documents
    .filter(({ kind }) => kind === 'tlog-proof')
    .slice(0, MAX_DOCUMENTS)
    .flatMap(({ bytes }) => {
      try {
        const proof = parseTlogProof(bytes)
        const { inclusion, checkpoint } = proof
        return [{ ...proof, bytes, included: verifyInclusion(manifest.bytes, inclusion, checkpoint.root) }]
      } catch (error) {
        if (error instanceof FormatError) return []
        throw error
      }
    })
  const own = proofs.filter(({ checkpoint }) => checkpoint.origin === log.key.name)
  own.sort((a, b) => Number(b.included) - Number(a.included) || b.checkpoint.size - a.checkpoint.size)
  return own[0]
}

type Proof = ReturnType<typeof proofOf>

/** The Sigstore bundle that holds, or the first there is; `verdict` is undefined where nobody can judge it. */
function bundleOf(
  manifest: Signed<ReleaseManifest>,
  { policy: { log }, pool, sigstore }: ReleaseInput,
): { readonly bytes: Bytes; readonly verdict: SigstoreVerdict | undefined } | undefined {
  if (log === 'unlogged' || !('sigstore' in log)) return undefined
  const judged = pool.documents
    .filter(({ kind }) => kind === 'sigstore-bundle')
    .slice(0, MAX_DOCUMENTS)
    .map(({ bytes }) => ({ bytes, verdict: sigstore?.(bytes, manifest.bytes, log.sigstore) }))
  return judged.find(({ verdict }) => verdict?.holds === true) ?? judged[0]
}

type SigstoreProof = ReturnType<typeof bundleOf>

async function judgeLogged({ log }: ReleasePolicy, proof: Proof, bundle: SigstoreProof): Promise<Finding> {
  if (log === 'unlogged') return waived('releases.log: unlogged; the release may have been signed for you alone')
  if ('sigstore' in log) return judgeSigstore(log.sigstore, bundle)
  if (proof === undefined) return unavailable(`no proof of the log ${log.key.name} is at hand`)
  const detail = { actual: `${proof.checkpoint.origin}, ${proof.checkpoint.size} entries` }
  if (!(await isNoteSignedBy(proof.checkpoint.note, log.key)))
    return fail('the log did not sign this checkpoint', detail)
  return proof.included
    ? pass(undefined, detail)
    : fail('the manifest is not in the log at the place the proof names', detail)
}

function judgeSigstore({ identity }: SigstorePolicy, bundle: SigstoreProof): Finding {
  if (bundle === undefined) return unavailable('no Sigstore bundle is at hand')
  if (bundle.verdict === undefined) return unavailable('Sigstore bundles are judged by libraries that run in Node only')
  const detail = { expected: identity }
  return bundle.verdict.holds ? pass(undefined, detail) : fail(`Sigstore: ${bundle.verdict.reason}`, detail)
}

async function judgeWitnesses({ log }: ReleasePolicy, proof: Proof): Promise<Finding> {
  if (log === 'unlogged') return waived('releases.log: unlogged; see release.logged')
  if ('sigstore' in log) return waived('releases.log: sigstore; Rekor’s operator is taken at its word')
  const { witnesses } = log
  if (witnesses === undefined)
    return waived('releases.log.witnesses: none; the log’s one operator is taken at its word')
  const keys = [...new Map(witnesses.keys.map((key) => [key.publicKey.join(), key])).values()]
  const seen: string[] = []
  for (const key of keys) {
    if (proof !== undefined && (await isNoteSignedBy(proof.checkpoint.note, key))) seen.push(key.name)
  }
  const detail = { expected: `${witnesses.threshold} of ${keys.length}`, actual: seen.join(', ') || 'none' }
  return seen.length >= witnesses.threshold
    ? pass(undefined, detail)
    : fail('too few witnesses saw this checkpoint', detail)
}

function judgeFloor({ version }: ReleaseManifest, index: ReleaseIndex | undefined, policy: ReleasePolicy): Finding {
  const floors = [index?.floor, policy.minVersion].filter((floor) => floor !== undefined)
  const above = floors.find((floor) => isOlder(version, floor))
  const detail = { expected: `at least ${floors.join(' and ')}`, actual: version }
  return above === undefined ? pass(undefined, detail) : fail('the release is older than the floor', detail)
}

function judgeDenied(
  manifest: ReleaseManifest,
  index: ReleaseIndex | undefined,
  measurements: ReleaseInput['measurements'],
): Finding {
  const reason = index && denialOf(index, manifest, measurements)
  return reason === undefined ? pass() : fail(`the publisher denies it: ${reason}`, { actual: manifest.version })
}

function actual({ version, date }: ReleaseManifest): { readonly actual: string } {
  return { actual: `${version} of ${date}` }
}

function described(
  { document, bytes }: Signed<ReleaseManifest>,
  index: Signed<ReleaseIndex> | undefined,
  proof: Proof | SigstoreProof,
): Omit<ReleaseFindings, 'manifest' | 'holds'> {
  const { version, date, source } = document
  const own = proof !== undefined && 'checkpoint' in proof
  const log = own
    ? { log: proof.checkpoint.origin, logSize: proof.checkpoint.size }
    : proof === undefined
      ? {}
      : { log: 'Sigstore' }
  const use = (kind: string, issuedAt: string): EndorsementUse => ({ kind, issuedAt, nextUpdate: null })
  return {
    described: { version, date, revision: source.revision, ...log },
    privateAnchor: false,
    endorsementsUsed: [
      use('release', date),
      ...(index === undefined ? [] : [use('release-index', index.document.date)]),
    ],
    endorsementBytes: [
      bytes,
      ...(index === undefined ? [] : [index.bytes]),
      ...(proof === undefined ? [] : [proof.bytes]),
    ],
    notProven: [
      {
        id: 'release.since',
        text: `that the publisher denied nothing after ${index?.document.date ?? 'the index that is missing'}, the date of its index at hand`,
      },
    ],
  }
}
