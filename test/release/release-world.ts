/** Releases made for tests under throw-away keys: a manifest for a given launch, its log, its index. */

import { cosign, createSigningKey, type SigningKey, signNote } from '../../scripts/release/keys.js'
import type { Bytes } from '../../verifier/protocol/bytes.js'
import { toBytes, utf8 } from '../../verifier/protocol/bytes.js'
import { inclusionProof, merkleRoot } from '../../verifier/protocol/merkle.js'
import { encodeCheckpoint, encodeTlogProof } from '../../verifier/release/log.js'
import { type ReleaseIndex, type ReleaseManifest, releaseText } from '../../verifier/release/manifest.js'
import type { ReleasePolicyDocument } from '../../verifier/release/policy.js'

export const RELEASE_KEY: SigningKey = createSigningKey('test.example/releases')
export const OTHER_KEY: SigningKey = createSigningKey('test.example/releases')
export const LOG_KEY: SigningKey = createSigningKey('test.example/log')
export const WITNESSES: readonly SigningKey[] = ['a', 'b', 'c'].map((name) =>
  createSigningKey(`witness-${name}.example`, 'cosignature'),
)
const SEEN_AT = 1_780_000_000

export interface ReleaseBend {
  readonly manifest?: Partial<ReleaseManifest>
  readonly index?: Partial<ReleaseIndex>
  readonly signManifest?: SigningKey
  readonly signIndex?: SigningKey
  readonly signCheckpoint?: SigningKey
  /** What stands in the log in place of the manifest. */
  readonly entry?: Bytes
  /** How many entries the log has got since. */
  readonly later?: number
  /** The index of the entry that the proof is given out for; default the manifest's own. */
  readonly proofIndex?: number
  /** Witnesses that cosign; default the first two of three. */
  readonly witnesses?: readonly SigningKey[]
  readonly leaveOut?: readonly ('manifest' | 'index' | 'proof')[]
}

export const BASE: Omit<ReleaseManifest, 'launch' | 'models'> = {
  schema: 'subrosa-release/1',
  version: '0.3.1',
  date: '2026-05-20T10:00:00Z',
  source: { revision: 'ab'.repeat(20) },
  image: { digest: 'cd'.repeat(32) },
}

/** Manifest, index and proof, as endorsement files. */
export function makeRelease(
  of: Pick<ReleaseManifest, 'launch' | 'models'>,
  bend: ReleaseBend = {},
): readonly { readonly name: string; readonly bytes: Bytes }[] {
  const { leaveOut = [], witnesses = WITNESSES.slice(0, 2) } = bend
  const manifest = utf8(signNote(releaseText({ ...BASE, ...of, ...bend.manifest }), bend.signManifest ?? RELEASE_KEY))
  const index: ReleaseIndex = {
    schema: 'subrosa-releases/1',
    date: '2026-05-25T10:00:00Z',
    floor: '0.3.0',
    denied: [],
    ...bend.index,
  }
  const later = Array.from({ length: bend.later ?? 1 }, (_, i) => utf8(`later entry ${i}`))
  const entries = [utf8('an earlier entry'), bend.entry ?? manifest, ...later]
  const body = encodeCheckpoint({ origin: LOG_KEY.public.name, size: entries.length, root: merkleRoot(entries) })
  const signed = signNote(body, bend.signCheckpoint ?? LOG_KEY)
  const checkpoint = witnesses.reduce((note, witness) => cosign(note, witness, SEEN_AT), signed)
  const files = {
    manifest,
    index: utf8(signNote(releaseText(index), bend.signIndex ?? RELEASE_KEY)),
    proof: encodeTlogProof({ ...inclusionProof(entries, 1), index: bend.proofIndex ?? 1 }, utf8(checkpoint)),
  }
  return (['manifest', 'index', 'proof'] as const)
    .filter((name) => !leaveOut.includes(name))
    .map((name) => ({ name, bytes: toBytes(files[name]) }))
}

export const RELEASES: ReleasePolicyDocument = {
  keys: [RELEASE_KEY.text],
  log: { key: LOG_KEY.text, witnesses: { keys: WITNESSES.map(({ text }) => text), threshold: 2 } },
}
