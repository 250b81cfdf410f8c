/**
 * Which release indexes are in force (PROTOCOL.md P-13.5, P-13.6): of each key the policy lists, the newest at hand. They
 * count together, strictest first: were one index to stand for all, the index of one publisher, or of a key long retired,
 * could hide what another denies.
 *
 * One of them must be by a key that signed the manifest. An index that somebody keeps from us cannot deny anything; the one
 * this verifier came with nobody can keep from it.
 */
import { type Finding, fail, pass, unavailable } from '../checks.js'
import { utf8 } from '../protocol/bytes.js'
import {
  denialOf,
  isOlder,
  parseReleaseIndex,
  type ReleaseIndex,
  type ReleaseManifest,
  type Signed,
} from './manifest.js'
import { isNoteSignedBy, type NoteKey } from './note.js'
import { SHIPPED_INDEX } from './shipped.js'

export interface IndexesInForce {
  /** The newest by a key of the manifest; failing that, the newest at hand, for the check to refuse by name. */
  readonly own: Signed<ReleaseIndex> | undefined
  readonly judgement: Finding
  /** Every index that counts, `own` first when it does. */
  readonly inForce: readonly Signed<ReleaseIndex>[]
}

/** `manifestKeys`: those of the policy's keys that signed the manifest; all of them where none did. */
export async function indexesInForce(
  atHand: readonly Signed<ReleaseIndex>[],
  keys: readonly NoteKey[],
  manifestKeys: readonly NoteKey[],
): Promise<IndexesInForce> {
  const candidates = newestFirst([...atHand, parseReleaseIndex(utf8(SHIPPED_INDEX))])
  const inForce = new Set<Signed<ReleaseIndex>>()
  const own = new Set<Signed<ReleaseIndex>>()
  for (const key of keys) {
    const newest = await newestBy(key, candidates)
    for (const index of newest) {
      inForce.add(index)
      if (manifestKeys.includes(key)) own.add(index)
    }
  }
  const ranked = [...newestFirst([...own]), ...newestFirst([...inForce].filter((index) => !own.has(index)))]
  const [first] = newestFirst([...own])
  return { own: first ?? newestFirst(atHand)[0], judgement: judge(first, atHand.length, inForce.size), inForce: ranked }
}

function judge(own: Signed<ReleaseIndex> | undefined, atHand: number, inForce: number): Finding {
  if (own !== undefined) return pass(undefined, { actual: own.document.date })
  if (inForce > 0) return unavailable('no release index by a key that signed the manifest is at hand')
  return atHand === 0 ? unavailable('no release index is at hand') : fail('signed by no key your policy names')
}

/** By this key, of the newest date: two of one date both count, for nothing says which of them came last. */
async function newestBy(
  key: NoteKey,
  candidates: readonly Signed<ReleaseIndex>[],
): Promise<readonly Signed<ReleaseIndex>[]> {
  const found: Signed<ReleaseIndex>[] = []
  for (const index of candidates) {
    if (found[0] !== undefined && found[0].document.date !== index.document.date) break
    if (await isNoteSignedBy(index.note, key)) found.push(index)
  }
  return found
}

/** RFC 3339 in UTC sorts as text. */
function newestFirst(indexes: readonly Signed<ReleaseIndex>[]): readonly Signed<ReleaseIndex>[] {
  const age = ({ document }: Signed<ReleaseIndex>) => document.date
  return [...indexes].sort((a, b) => (age(a) < age(b) ? 1 : age(a) > age(b) ? -1 : 0))
}

/** The release against every floor: of the indexes, and of the policy. */
export function judgeFloor(
  { version }: ReleaseManifest,
  indexes: readonly Signed<ReleaseIndex>[],
  minVersion: string | undefined,
): Finding {
  const floors = new Set(indexes.map(({ document }) => document.floor))
  if (minVersion !== undefined) floors.add(minVersion)
  const detail = { expected: `at least ${[...floors].join(' and ')}`, actual: version }
  return [...floors].some((floor) => isOlder(version, floor))
    ? fail('the release is older than the floor', detail)
    : pass(undefined, detail)
}

export function judgeDenied(
  manifest: ReleaseManifest,
  indexes: readonly Signed<ReleaseIndex>[],
  measurements: Readonly<Record<string, string>>,
): Finding {
  const [reason] = indexes.flatMap(({ document }) => denialOf(document, manifest, measurements) ?? [])
  return reason === undefined ? pass() : fail(`the publisher denies it: ${reason}`, { actual: manifest.version })
}
