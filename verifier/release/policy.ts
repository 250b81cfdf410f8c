/** The `releases` section of a policy: whose releases are wanted, and how public they must have been made. */
import * as v from 'valibot'
import { FormatError } from '../protocol/errors.js'
import { type KeyType, type NoteKey, parseNoteKey } from './note.js'

export interface ReleasePolicy {
  /** Keys that sign manifests and the index; any one is enough. */
  readonly keys: readonly NoteKey[]
  /** No release older than this, whatever the index says. */
  readonly minVersion: string | undefined
  readonly log:
    | 'unlogged'
    | { readonly sigstore: SigstorePolicy }
    | {
        readonly key: NoteKey
        /** Undefined: the log's own word, which one operator can give differently to different people. */
        readonly witnesses: { readonly keys: readonly NoteKey[]; readonly threshold: number } | undefined
      }
}

/** Whose signature a Sigstore bundle must carry, and by which roots. */
export interface SigstorePolicy {
  /** The JSON of a Sigstore TrustedRoot: who may certify, and which logs count. */
  readonly trustedRoot: string
  /** The certificate's subjectAltName, exactly: a mail address or a workflow's address. */
  readonly identity: string
  /** Who vouched for that identity, exactly. */
  readonly issuer: string
}

/** As a policy document has it. */
export interface ReleasePolicyDocument {
  readonly keys: readonly string[]
  readonly minVersion?: string | undefined
  readonly log:
    | 'unlogged'
    | { readonly sigstore: SigstorePolicy }
    | {
        readonly key: string
        readonly witnesses?: undefined | { readonly keys: readonly string[]; readonly threshold: number }
      }
}

const key = (type: KeyType, what: string) =>
  v.pipe(
    v.string(),
    v.check((text) => keyOf(text, type) !== undefined, `expected ${what} as name+hash+key`),
  )
const some = <const S extends v.GenericSchema>(item: S) =>
  v.pipe(v.array(item), v.minLength(1, 'an empty list expects nothing; leave the member out or name what is accepted'))
const words = v.pipe(v.string(), v.minLength(1), v.maxLength(1000))
const sigstore = v.strictObject({
  trustedRoot: v.pipe(v.string(), v.check(isTrustedRoot, 'expected the JSON of a Sigstore TrustedRoot')),
  identity: words,
  issuer: words,
})
const witnesses = v.pipe(
  v.strictObject({
    keys: some(key('cosignature', 'a witness key')),
    threshold: v.pipe(v.number(), v.integer(), v.minValue(1)),
  }),
  // By the keys themselves: one key under two names is one witness.
  v.check(
    ({ keys, threshold }) => threshold <= new Set(keys.map(rawKey)).size,
    'threshold: more than there are witness keys',
  ),
)

const members: v.GenericSchema<unknown, ReleasePolicyDocument> = v.strictObject({
  keys: some(key('note', 'a release key')),
  minVersion: v.optional(
    v.pipe(v.string(), v.regex(/^\d{1,6}\.\d{1,6}\.\d{1,6}$/, 'expected a version such as 0.3.1')),
  ),
  log: v.union(
    [
      v.literal('unlogged'),
      v.strictObject({ sigstore }),
      v.strictObject({ key: key('note', 'a log key'), witnesses: v.optional(witnesses) }),
    ],
    'name the log’s key or a Sigstore identity, or write log: unlogged',
  ),
})

/** What a document may say. Keys stay text until `resolveReleases`. */
export const releasePolicySchema: v.GenericSchema<unknown, ReleasePolicyDocument> = v.pipe(
  members,
  v.check(witnessesAreOthers, 'log.witnesses: a release key or the log’s own key is no witness of what its owner does'),
)

export function resolveReleases(document: ReleasePolicyDocument): ReleasePolicy {
  const { keys, minVersion, log } = document
  return {
    keys: keys.map((text) => parseNoteKey(text)),
    minVersion,
    log:
      log === 'unlogged' || 'sigstore' in log
        ? log
        : {
            key: parseNoteKey(log.key),
            witnesses:
              log.witnesses === undefined
                ? undefined
                : { keys: log.witnesses.keys.map(parseNoteKey), threshold: log.witnesses.threshold },
          },
  }
}

function witnessesAreOthers({ keys, log }: ReleasePolicyDocument): boolean {
  if (log === 'unlogged' || 'sigstore' in log) return true
  const own = new Set([...keys, log.key].map(rawKey))
  return !(log.witnesses?.keys ?? []).some((text) => own.has(rawKey(text)))
}

/** The 32 bytes, whatever name and type they go by. */
function rawKey(text: string): string {
  return parseNoteKey(text).publicKey.join()
}

/** A root that trusts no authority or no log could not be met by any bundle: nobody means one. */
function isTrustedRoot(text: string): boolean {
  try {
    const root: unknown = JSON.parse(text)
    if (typeof root !== 'object' || root === null) return false
    const members = new Map<string, unknown>(Object.entries(root))
    return ['certificateAuthorities', 'ctlogs', 'tlogs'].every((name) => {
      const list = members.get(name)
      return Array.isArray(list) && list.length > 0
    })
  } catch {
    return false
  }
}

function keyOf(text: string, type: KeyType): NoteKey | undefined {
  try {
    const parsed = parseNoteKey(text)
    return parsed.type === type ? parsed : undefined
  } catch (error) {
    if (error instanceof FormatError) return undefined
    throw error
  }
}
