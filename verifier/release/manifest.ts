/**
 * Release manifests and the release index (PROTOCOL.md §13): what a publisher signs about software, each the JSON text of a
 * signed note. Reading proves nothing: who signed, and whether it was logged, is `verify.ts`.
 */
import * as v from 'valibot'
import { type Bytes, toBytes, toHex } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { sha256 } from '../protocol/hash.js'
import { type Note, parseNote } from './note.js'

export const RELEASE_SCHEMA = 'subrosa-release/1'
export const RELEASE_INDEX_SCHEMA = 'subrosa-releases/1'

/** One launch state of a release; digests and registers are 48 bytes, lower-case hex. */
export type ReleasedLaunch =
  | {
      readonly platform: 'snp'
      readonly vcpus?: number | undefined
      readonly vcpuType?: string | undefined
      /** MEASUREMENT. */
      readonly digest: string
    }
  | {
      readonly platform: 'tdx'
      /** Which VMM gives these values. */
      readonly vmm?: string | undefined
      readonly mrTd: string
      readonly rtmr0?: string | undefined
      readonly rtmr1: string
      readonly rtmr2: string
      readonly rtmr3: string
    }

export interface ReleaseManifest {
  readonly schema: typeof RELEASE_SCHEMA
  /** Three numbers, compared as numbers. */
  readonly version: string
  /** RFC 3339 in UTC, whole seconds. */
  readonly date: string
  readonly source: { readonly repository?: string | undefined; readonly revision: string }
  /** Root hash of the image's root file system, 32 bytes: what its workers' statements say. */
  readonly image: { readonly digest: string }
  readonly launch: readonly ReleasedLaunch[]
  /** Model packages the release may serve: their weights roots (PROTOCOL.md §8) and the SHA-256 of their manifest.json. */
  readonly models: readonly { readonly id: string; readonly weights: string; readonly manifest: string }[]
}

export interface ReleaseIndex {
  readonly schema: typeof RELEASE_INDEX_SCHEMA
  readonly date: string
  /** No release older than this is to be trusted any more. */
  readonly floor: string
  readonly denied: readonly (
    | { readonly version: string; readonly reason: string }
    | { readonly digest: string; readonly reason: string }
    | { readonly mrTd: string; readonly reason: string }
  )[]
}

const hex = (bytes: number) => v.pipe(v.string(), v.regex(new RegExp(`^(?!0+$)[0-9a-f]{${2 * bytes}}$`)))
const register = v.pipe(v.string(), v.regex(/^[0-9a-f]{96}$/))
const words = v.pipe(v.string(), v.minLength(1), v.maxLength(200))
const version = v.pipe(v.string(), v.regex(/^(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})$/))
const instant = v.pipe(
  v.string(),
  v.regex(/^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$/),
  // The newest index decides: a date that does not exist, such as a month 13, would be newest for ever.
  v.check(isInstant, 'expected an instant that exists'),
)

const snpLaunch = v.strictObject({
  platform: v.literal('snp'),
  vcpus: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1))),
  vcpuType: v.optional(words),
  digest: hex(48),
})
const tdxLaunch = v.strictObject({
  platform: v.literal('tdx'),
  vmm: v.optional(words),
  mrTd: hex(48),
  rtmr0: v.optional(register),
  rtmr1: register,
  rtmr2: register,
  rtmr3: register,
})

const manifestSchema: v.GenericSchema<unknown, ReleaseManifest> = v.strictObject({
  schema: v.literal(RELEASE_SCHEMA),
  version,
  date: instant,
  source: v.strictObject({ repository: v.optional(words), revision: v.pipe(v.string(), v.regex(/^[0-9a-f]{40,64}$/)) }),
  image: v.strictObject({ digest: hex(32) }),
  launch: v.pipe(v.array(v.variant('platform', [snpLaunch, tdxLaunch])), v.minLength(1), v.maxLength(512)),
  models: v.pipe(v.array(v.strictObject({ id: words, weights: hex(32), manifest: hex(32) })), v.maxLength(256)),
})

const indexSchema: v.GenericSchema<unknown, ReleaseIndex> = v.strictObject({
  schema: v.literal(RELEASE_INDEX_SCHEMA),
  date: instant,
  floor: version,
  denied: v.pipe(
    v.array(
      v.union([
        v.strictObject({ version, reason: words }),
        v.strictObject({ digest: hex(48), reason: words }),
        v.strictObject({ mrTd: hex(48), reason: words }),
      ]),
    ),
    v.maxLength(1024),
  ),
})

/** A signed document: its exact bytes, the note around it, and what it says. */
export interface Signed<T> {
  readonly bytes: Bytes
  readonly sha256Hex: string
  readonly note: Note
  readonly document: T
}

/** @throws FormatError on anything but one signed note over one manifest. */
export function parseReleaseManifest(bytes: Uint8Array): Signed<ReleaseManifest> {
  return read(bytes, manifestSchema, 'release manifest')
}

/** @throws FormatError on anything but one signed note over one index. */
export function parseReleaseIndex(bytes: Uint8Array): Signed<ReleaseIndex> {
  return read(bytes, indexSchema, 'release index')
}

/** The text to sign: the document as JSON, and a line feed. @throws FormatError when it is not of its schema. */
export function releaseText(document: ReleaseManifest | ReleaseIndex): string {
  const text = jsonText(document)
  if (document.schema === RELEASE_INDEX_SCHEMA) decode(text, indexSchema, 'release index')
  else decode(text, manifestSchema, 'release manifest')
  return text
}

/** The one way a document is written. */
function jsonText(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`
}

function isInstant(text: string): boolean {
  const date = new Date(text)
  return !Number.isNaN(date.getTime()) && date.toISOString() === text.replace('Z', '.000Z')
}

function read<T>(bytes: Uint8Array, schema: v.GenericSchema<unknown, T>, what: string): Signed<T> {
  const note = parseNote(bytes)
  const own = toBytes(new Uint8Array(bytes))
  return { bytes: own, sha256Hex: toHex(sha256(own)), note, document: decode(note.text, schema, what) }
}

/**
 * The writer's own form only: JSON that means one thing to one reader and another to the next, such as a repeated member,
 * is not what its parsed value would be written as.
 */
function decode<T>(text: string, schema: v.GenericSchema<unknown, T>, what: string): T {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new FormatError('release.document', `${what}: not JSON`, { cause })
  }
  if (jsonText(value) !== text) {
    throw new FormatError('release.document', `${what}: expected JSON indented by two spaces, each member once`)
  }
  // Files are told apart by how they begin: an index that began otherwise would be signed, published, and seen by nobody.
  if (!text.startsWith('{\n  "schema": ')) {
    throw new FormatError('release.document', `${what}: expected schema as the first member`)
  }
  const parsed = v.safeParse(schema, value)
  if (parsed.success) return parsed.output
  const [issue] = parsed.issues
  const path = issue.path?.map((item) => String(item.key)).join('.') ?? ''
  throw new FormatError('release.document', `${what}: ${path === '' ? '' : `${path}: `}${issue.message}`)
}

/** Whether `a` comes before `b`: numbers, not text, so that 0.10.0 is after 0.9.0. */
export function isOlder(a: string, b: string): boolean {
  const [left, right] = [a, b].map((text) => text.split('.').map(Number))
  for (const i of [0, 1, 2]) {
    const [x = 0, y = 0] = [left?.[i], right?.[i]]
    if (x !== y) return x < y
  }
  return false
}

/** What a manifest says of this launch, by the names findings use; undefined when it names no such launch. */
export function launchOf(
  { launch }: ReleaseManifest,
  actual: Readonly<Record<string, string>>,
): ReleasedLaunch | undefined {
  return launch.find((entry) => {
    if (entry.platform === 'snp') return entry.digest === actual['measurement']
    const { platform: _, vmm: _vmm, ...registers } = entry
    return Object.entries(registers).every(([name, value]) => actual[name] === value)
  })
}

/** Why the index denies this launch of this version, when it does. */
export function denialOf(
  { denied }: ReleaseIndex,
  { version: of }: ReleaseManifest,
  actual: Readonly<Record<string, string>>,
): string | undefined {
  return denied.find((entry) => {
    if ('version' in entry) return entry.version === of
    return 'digest' in entry ? entry.digest === actual['measurement'] : entry.mrTd === actual['mrTd']
  })?.reason
}
