/**
 * Whose release a launch is (PROTOCOL.md §13): manifest, log and index at hand, held to the policy's `releases` section, one
 * step a check. Everything is offline; manifests, proofs and indexes come with the endorsements and are worth their
 * signatures.
 *
 * What no proof here can show: that a log run by one operator shows everyone the same entries. Witnesses are for that, and
 * every verdict without them says so.
 */
import { fail, pass, type Transcript, unavailable } from '../checks.js'
import type { EndorsementDocument, EndorsementPool } from '../endorsements.js'
import { type Bytes, toHex } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { sha256 } from '../protocol/hash.js'
import type { EndorsementUse, NotProven } from '../result.js'
import { type IndexesInForce, indexesInForce, judgeDenied, judgeFloor } from './indexes.js'
import { bundleOf, judgeLogged, judgeWitnesses, proofOf, type SigstoreVerifier } from './logged.js'
import { launchOf, parseReleaseIndex, parseReleaseManifest, type ReleaseManifest, type Signed } from './manifest.js'
import { isNoteSignedBy, type NoteKey } from './note.js'
import type { ReleasePolicy } from './policy.js'

export interface ReleaseInput {
  readonly policy: ReleasePolicy
  /** What was launched, by the names findings use. Untrusted until the report's signature was checked. */
  readonly measurements: Readonly<Record<string, string>>
  readonly pool: EndorsementPool
  /** Absent where Sigstore's libraries are: such a log is then unavailable. */
  readonly sigstore?: SigstoreVerifier
}

export interface ReleaseFindings {
  readonly manifest: ReleaseManifest
  /** Every release check passed or was waived: the launch is this release's. */
  readonly holds: boolean
  /** JSON-ready, for verdicts. Undefined unless it holds: what a forged manifest says of itself is not to be repeated. */
  readonly described: Readonly<Record<string, unknown>> | undefined
  readonly privateAnchor: false
  readonly endorsementsUsed: readonly EndorsementUse[]
  readonly endorsementBytes: readonly Bytes[]
  readonly notProven: readonly NotProven[]
}

/** More different ones of a kind than any honest pool has. Past it nothing is left out in silence: the check says so. */
const MAX_DOCUMENTS = 512
/** Sigstore bundles cost a certificate chain each. */
const MAX_SIGSTORE_BUNDLES = 64

/** Carries out `release.*`. Undefined when there is no manifest to speak of. */
export async function checkRelease(t: Transcript, input: ReleaseInput): Promise<ReleaseFindings | undefined> {
  const { policy, measurements, pool } = input
  const manifests = distinct(pool, 'release', MAX_DOCUMENTS)
  const chosen = await chooseManifest(read(manifests.items, parseReleaseManifest), measurements, policy.keys)
  const found = distinct(pool, 'release-index', MAX_DOCUMENTS)
  const manifestKeys = chosen?.signers.length ? chosen.signers : policy.keys
  const indexes = await indexesInForce(read(found.items, parseReleaseIndex), policy.keys, manifestKeys)
  const entry = chosen?.item.bytes
  const proofs = distinct(pool, 'tlog-proof', MAX_DOCUMENTS).items
  const bundles = distinct(pool, 'sigstore-bundle', MAX_SIGSTORE_BUNDLES).items
  const proof = entry && (await proofOf(entry, proofs, policy))
  const bundle = entry && bundleOf(entry, bundles, policy, input.sigstore)

  t.check('release.present', () => {
    if (chosen !== undefined) return pass()
    return unavailable(manifests.more ? tooMany('manifests') : 'no release manifest at hand names this launch')
  })
  t.check('release.signature', () =>
    chosen !== undefined && chosen.signers.length > 0
      ? pass(undefined, { actual: `${chosen.item.document.version} of ${chosen.item.document.date}` })
      : fail('signed by no key your policy names'),
  )
  t.check('release.logged', () => judgeLogged(policy, proof, bundle))
  t.check('release.witnessed', () => judgeWitnesses(policy, proof))
  t.check('release.index', () => (found.more ? unavailable(tooMany('indexes')) : indexes.judgement))
  if (chosen === undefined) return undefined
  const manifest = chosen.item.document
  t.check('release.floor', () => judgeFloor(manifest, indexes.inForce, policy.minVersion))
  t.check('release.denied', () => judgeDenied(manifest, indexes.inForce, measurements))
  const ids = ['present', 'signature', 'logged', 'witnessed', 'index', 'floor', 'denied']
  const holds = ids.every((id) => t.satisfied(`release.${id}`))
  const log =
    proof === undefined
      ? bundle && { log: 'Sigstore' }
      : { log: proof.checkpoint.origin, logSize: proof.checkpoint.size }
  const { version, date, source } = manifest
  return {
    manifest,
    holds,
    described: holds ? { version, date, revision: source.revision, ...log } : undefined,
    privateAnchor: false,
    ...used(chosen.item, indexes, (proof ?? bundle)?.bytes),
  }
}

/** Different documents of a kind, in the order of the pool, and whether there were more than are looked at. */
function distinct(
  { documents }: EndorsementPool,
  kind: EndorsementDocument['kind'],
  limit: number,
): { readonly items: readonly Bytes[]; readonly more: boolean } {
  const all = new Map<string, Bytes>()
  for (const document of documents) {
    if (document.kind !== kind) continue
    if (all.size > limit) break
    all.set(toHex(sha256(document.bytes)), document.bytes)
  }
  return { items: [...all.values()].slice(0, limit), more: all.size > limit }
}

function tooMany(what: string): string {
  return `more than ${MAX_DOCUMENTS} release ${what} are at hand: give fewer`
}

function read<T>(items: readonly Bytes[], parse: (bytes: Uint8Array) => Signed<T>): readonly Signed<T>[] {
  return items.flatMap((bytes) => {
    try {
      return [parse(bytes)]
    } catch (error) {
      if (error instanceof FormatError) return []
      throw error
    }
  })
}

interface Chosen {
  readonly item: Signed<ReleaseManifest>
  /** Those of the policy's keys that signed it. */
  readonly signers: readonly NoteKey[]
}

/** Of those that name this launch, the newest that is signed by a key asked about; failing that, the newest, to be refused. */
async function chooseManifest(
  manifests: readonly Signed<ReleaseManifest>[],
  measurements: ReleaseInput['measurements'],
  keys: readonly NoteKey[],
): Promise<Chosen | undefined> {
  const ranked: Chosen[] = []
  for (const item of manifests) {
    if (launchOf(item.document, measurements) === undefined) continue
    const signers: NoteKey[] = []
    for (const key of keys) if (await isNoteSignedBy(item.note, key)) signers.push(key)
    ranked.push({ item, signers })
  }
  const dateOf = ({ item }: Chosen) => item.document.date
  ranked.sort(
    (a, b) =>
      Number(b.signers.length > 0) - Number(a.signers.length > 0) ||
      // RFC 3339 in UTC sorts as text.
      (dateOf(a) < dateOf(b) ? 1 : dateOf(a) > dateOf(b) ? -1 : 0),
  )
  return ranked[0]
}

function used(
  { document, bytes }: Signed<ReleaseManifest>,
  { own, inForce }: IndexesInForce,
  proof: Bytes | undefined,
): Pick<ReleaseFindings, 'endorsementsUsed' | 'endorsementBytes' | 'notProven'> {
  const use = (kind: string, issuedAt: string): EndorsementUse => ({ kind, issuedAt, nextUpdate: null })
  // Only the release's own index says how recent the publisher's word is; another key's may be long retired.
  const others = inForce.filter((index) => index !== own)
  return {
    endorsementsUsed: [
      use('release', document.date),
      ...(own === undefined ? [] : [use('release-index', own.document.date)]),
      ...others.map((index) => use('other release-index', index.document.date)),
    ],
    endorsementBytes: [
      bytes,
      ...(own === undefined ? [] : [own.bytes]),
      ...others.map((index) => index.bytes),
      ...(proof === undefined ? [] : [proof]),
    ],
    notProven: [
      {
        id: 'release.since',
        text: `that the publisher denied nothing after ${own?.document.date ?? 'the index that is missing'}, the date of its index at hand`,
      },
    ],
  }
}
