/**
 * Appraisal policy (PROTOCOL.md §9): the one document, owned by the user, that decides what is acceptable.
 *
 * A member that is absent takes its strict value. Unknown members, impossible combinations and empty expectations are
 * errors. Weakening anything takes an explicit entry, which every verdict repeats.
 */
import * as v from 'valibot'
import { PolicyError } from './errors.js'
import { contradictionIn, type GpuPolicy, gpuPolicySchema, STRICT_GPU_POLICY } from './gpu/policy.js'
import { type Grace, gracesSchema } from './graces.js'
import { MAX_EVIDENCE_LIFETIME_S, MAX_KEY_LIFETIME_S } from './protocol/constants.js'
import { ISOLATION_MODES, type IsolationMode, type PaddingMode } from './protocol/statement.js'
import {
  type ReleasePolicy,
  type ReleasePolicyDocument,
  releasePolicySchema,
  resolveReleases,
} from './release/policy.js'
import { type SnpPolicy, snpPolicySchema } from './snp/policy.js'
import { type TdxPolicy, tdxPolicySchema } from './tdx/policy.js'
import { parseTrustAnchors, type TrustAnchor } from './trust-anchors.js'

export const POLICY_SCHEMA = 'subrosa-policy/1'

export type Revocation = 'required' | 'available' | 'off'
export type SuiteName = 'MLKEM768-X25519' | 'X25519'

/** Software the user is willing to talk to, and the name it goes by in verdicts. Values are 48 bytes, lower-case hex. */
export type ReferenceMeasurement =
  /** SNP: MEASUREMENT. */
  | { readonly digest: string; readonly name?: string }
  /**
   * TDX: firmware (MRTD), kernel and command line (RTMR1, RTMR2) and what runs above (RTMR3). RTMR0 covers the virtual
   * hardware's configuration and may be left out, which accepts any.
   */
  | {
      readonly mrTd: string
      readonly rtmr0?: string
      readonly rtmr1: string
      readonly rtmr2: string
      readonly rtmr3: string
      readonly name?: string
    }

/** A policy with every member in place. Only `resolvePolicy` makes one. */
export interface AppraisalPolicy {
  /** Launch digests that identify software; `any` proves the hardware and leaves the software unidentified. */
  readonly measurements: 'any' | readonly ReferenceMeasurement[]
  /** Whose releases identify software, in place of `measurements`. */
  readonly releases: ReleasePolicy | undefined
  /** Roots for private or simulated hardware. With any of them a verdict says SIMULATED OR PRIVATE. */
  readonly trustAnchors: readonly TrustAnchor[]
  readonly revocation: Revocation
  readonly snp: SnpPolicy
  readonly tdx: TdxPolicy
  /** `none` gives up knowing what computes on the decrypted prompt outside the CPU. */
  readonly gpu: 'none' | GpuPolicy
  /** Weights roots (32 bytes, hex) the worker may serve; `release`: those of its release; `any`: the provider's choice. */
  readonly model: 'any' | 'release' | { readonly digests: readonly string[] }
  /** Ed25519 keys (hex) of operators whose signed word about the machine is wanted. `any`: whoever owns it. */
  readonly operator: 'any' | { readonly keys: readonly string[] }
  /**
   * Image digests (32 bytes, hex) the statement may name; `release`: its release's; `any`: the launch digest already fixes
   * what is booted.
   */
  readonly image: 'any' | 'release' | { readonly digests: readonly string[] }
  readonly channel: { readonly suites: readonly SuiteName[]; readonly padding: readonly PaddingMode[] }
  /** How far apart the worker keeps what it computes for different requests. */
  readonly serving: { readonly isolation: readonly IsolationMode[] }
  readonly freshness: {
    readonly evidenceSeconds: number
    readonly keySeconds: number
    /** Oldest revocation list, collateral, OCSP response or index; undefined leaves that to their own windows. */
    readonly endorsementSeconds: number | undefined
  }
  readonly graces: readonly Grace[]
  /** The reference values were taken from a worker on first sight, not rebuilt or signed for; every verdict says so. */
  readonly trustOnFirstUse: boolean
}

const hex = (bytes: number, what: string) =>
  v.pipe(
    v.string(),
    v.toLowerCase(),
    v.regex(new RegExp(`^[0-9a-f]{${2 * bytes}}$`), `expected ${what}: ${2 * bytes} hexadecimal digits`),
    v.check((text) => !/^0*$/.test(text), `${what} of all zeros expects nothing`),
  )
const nonEmpty = <const S extends v.GenericSchema>(item: S) =>
  v.pipe(v.array(item), v.minLength(1, 'an empty list expects nothing; leave the member out or name what is accepted'))
const seconds = (limit: number) => v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(limit))

const referenceName = v.optional(v.pipe(v.string(), v.minLength(1), v.maxLength(100)))
const register = v.pipe(v.string(), v.toLowerCase(), v.regex(/^[0-9a-f]{96}$/, 'expected 96 hexadecimal digits'))
const snpReference = v.strictObject({ digest: hex(48, 'a launch digest'), name: referenceName })
const tdxReference = v.strictObject({
  mrTd: hex(48, 'MRTD'),
  rtmr0: v.optional(register),
  rtmr1: register,
  rtmr2: register,
  rtmr3: register,
  name: referenceName,
})

const documentSchema = v.strictObject({
  schema: v.literal(POLICY_SCHEMA, `expected schema: ${POLICY_SCHEMA}`),
  measurements: v.optional(v.union([v.literal('any'), nonEmpty(v.union([snpReference, tdxReference]))])),
  releases: v.optional(releasePolicySchema),
  trustAnchors: v.optional(nonEmpty(v.pipe(v.string(), v.minLength(1)))),
  allowNonVendorRoot: v.optional(v.boolean()),
  revocation: v.optional(v.picklist(['required', 'available', 'off'])),
  snp: v.optional(snpPolicySchema, {}),
  tdx: v.optional(tdxPolicySchema, {}),
  gpu: v.optional(
    v.lazy((input) => (typeof input === 'object' ? gpuPolicySchema : v.picklist(['required', 'none']))),
    'required',
  ),
  model: v.optional(
    v.union([
      v.picklist(['any', 'release']),
      v.strictObject({ digests: nonEmpty(hex(32, 'a model’s manifest or weights digest')) }),
    ]),
  ),
  operator: v.optional(v.union([v.literal('any'), v.strictObject({ keys: nonEmpty(hex(32, 'an operator key')) })])),
  channel: v.optional(
    v.strictObject({
      suites: v.optional(nonEmpty(v.picklist(['MLKEM768-X25519', 'X25519']))),
      padding: v.optional(nonEmpty(v.picklist(['off', 'tick']))),
    }),
  ),
  image: v.optional(
    v.union([v.picklist(['any', 'release']), v.strictObject({ digests: nonEmpty(hex(32, 'an image digest')) })]),
  ),
  serving: v.optional(v.strictObject({ isolation: v.optional(nonEmpty(v.picklist(ISOLATION_MODES))) })),
  graces: v.optional(gracesSchema),
  freshness: v.optional(
    v.strictObject({
      endorsementSeconds: v.optional(seconds(400 * 86_400)),
      evidenceSeconds: v.optional(seconds(MAX_EVIDENCE_LIFETIME_S)),
      keySeconds: v.optional(seconds(MAX_KEY_LIFETIME_S)),
    }),
  ),
  trustOnFirstUse: v.optional(v.boolean()),
})

/** Any members of a section, at any depth. */
type Partly<T> = T extends string | number | boolean | readonly unknown[]
  ? T
  : { readonly [K in keyof T]?: Partly<T[K]> }

/** A policy as a user writes it (PROTOCOL.md §9). Absent members take their strict values. */
export interface PolicyDocument {
  readonly schema: typeof POLICY_SCHEMA
  readonly measurements?: 'any' | readonly ReferenceMeasurement[]
  readonly releases?: ReleasePolicyDocument
  /** PEM texts. */
  readonly trustAnchors?: readonly string[]
  readonly allowNonVendorRoot?: boolean
  readonly revocation?: Revocation
  readonly snp?: Partly<SnpPolicy>
  readonly tdx?: Partly<TdxPolicy>
  readonly gpu?: 'required' | 'none' | Partly<GpuPolicy>
  readonly model?: 'any' | 'release' | { readonly digests: readonly string[] }
  readonly operator?: 'any' | { readonly keys: readonly string[] }
  readonly channel?: { readonly suites?: readonly SuiteName[]; readonly padding?: readonly PaddingMode[] }
  readonly image?: 'any' | 'release' | { readonly digests: readonly string[] }
  readonly serving?: { readonly isolation?: readonly IsolationMode[] }
  readonly graces?: readonly Grace[]
  readonly freshness?: {
    readonly evidenceSeconds?: number
    readonly keySeconds?: number
    readonly endorsementSeconds?: number
  }
  readonly trustOnFirstUse?: boolean
}

/**
 * Fills in strict values and checks that the document makes sense.
 * @throws PolicyError naming the first member that is unknown, empty, of the wrong type, or impossible together.
 */
export function resolvePolicy(document: unknown): AppraisalPolicy {
  const parsed = v.safeParse(documentSchema, ownMembers(document))
  if (!parsed.success) {
    const [issue] = parsed.issues
    throw new PolicyError('policy.invalid', describeIssue(issue), { path: pathOf(issue) })
  }
  const d = parsed.output
  const trustAnchors = (d.trustAnchors ?? []).flatMap((pem) => anchorsOf(pem))
  if (trustAnchors.length > 0 && d.allowNonVendorRoot !== true) {
    throw new PolicyError(
      'policy.private-root',
      'trustAnchors are roots of private or simulated hardware: they also need allowNonVendorRoot: true',
    )
  }
  if (d.allowNonVendorRoot === true && trustAnchors.length === 0) {
    throw new PolicyError(
      'policy.private-root',
      'allowNonVendorRoot: true names no root; add trustAnchors or leave it out',
    )
  }
  if (d.releases !== undefined && d.measurements !== undefined) {
    throw new PolicyError('policy.releases', 'measurements and releases both say what software is known: keep one')
  }
  if (d.model === 'release' && d.releases === undefined) {
    throw new PolicyError('policy.releases', 'model: release needs releases, whose manifests name the models')
  }
  if (d.image === 'release' && d.releases === undefined) {
    throw new PolicyError('policy.releases', 'image: release needs releases, whose manifests name the image')
  }
  refuseImpossible(d)
  return {
    releases: d.releases === undefined ? undefined : resolveReleases(d.releases),
    measurements:
      d.measurements === 'any'
        ? 'any'
        : (d.measurements ?? []).map((reference) => withoutUndefined(reference) as ReferenceMeasurement),
    trustAnchors,
    revocation: d.revocation ?? 'required',
    snp: d.snp,
    tdx: d.tdx,
    gpu: d.gpu === 'required' ? STRICT_GPU_POLICY : d.gpu,
    model: d.model ?? { digests: [] },
    operator: d.operator ?? 'any',
    channel: { suites: d.channel?.suites ?? ['MLKEM768-X25519'], padding: d.channel?.padding ?? ['tick'] },
    image: d.image ?? 'any',
    serving: { isolation: d.serving?.isolation ?? ISOLATION_MODES },
    graces: d.graces ?? [],
    freshness: {
      endorsementSeconds: d.freshness?.endorsementSeconds,
      evidenceSeconds: d.freshness?.evidenceSeconds ?? MAX_EVIDENCE_LIFETIME_S,
      keySeconds: d.freshness?.keySeconds ?? MAX_KEY_LIFETIME_S,
    },
    trustOnFirstUse: d.trustOnFirstUse ?? false,
  }
}

function refuseImpossible(d: v.InferOutput<typeof documentSchema>): void {
  if (d.trustOnFirstUse === true && d.releases === undefined && !Array.isArray(d.measurements)) {
    throw new PolicyError('policy.first-use', 'trustOnFirstUse says where measurements came from, and there are none', {
      path: ['trustOnFirstUse'],
    })
  }
  if (typeof d.gpu !== 'object') return
  const contradiction = contradictionIn(d.gpu)
  if (contradiction !== undefined) {
    const { member, reason } = contradiction
    throw new PolicyError('policy.gpu', `gpu.${member}: ${reason}`, { path: ['gpu', member] })
  }
  if (d.revocation === 'off' && d.gpu.ocsp.nonce === 'required') {
    throw new PolicyError('policy.gpu', 'gpu.ocsp.nonce: required, and revocation: off asks nobody: keep one', {
      path: ['gpu', 'ocsp', 'nonce'],
    })
  }
}

/** What a document may say, member by member: `verify-attestation schema policy` prints it as JSON Schema. */
export function policyDocumentSchema(): object {
  return documentSchema
}

/** Sections are maps. A list would be read as a map without members, and so as strict: refused, as it cannot be meant. */
const SECTIONS = [
  'snp',
  'tdx',
  'channel',
  'freshness',
  'gpu',
  'model',
  'operator',
  'releases',
  'image',
  'serving',
] as const

/** The document's own members only, as JSON has them: nothing inherited says what is acceptable. */
function ownMembers(document: unknown): unknown {
  let plain: unknown
  try {
    plain = JSON.parse(JSON.stringify(document) ?? 'null')
  } catch (cause) {
    throw new PolicyError('policy.invalid', 'expected a policy of plain maps, lists, text and numbers', { cause })
  }
  if (typeof plain !== 'object' || plain === null || Array.isArray(plain)) {
    throw new PolicyError('policy.invalid', `expected a policy: a map whose first member is schema: ${POLICY_SCHEMA}`)
  }
  for (const section of SECTIONS) {
    if (Array.isArray((plain as Record<string, unknown>)[section])) {
      throw new PolicyError('policy.invalid', `${section}: expected a map, got a list`, { path: [section] })
    }
  }
  // Its strict value is an empty list, which nobody needs to write out.
  const { deniedDrivers } = ((plain as Record<string, unknown>)['gpu'] ?? {}) as { readonly deniedDrivers?: unknown }
  if (Array.isArray(deniedDrivers) && deniedDrivers.length === 0) {
    throw new PolicyError('policy.invalid', 'gpu.deniedDrivers: an empty list denies nothing; leave the member out', {
      path: ['gpu', 'deniedDrivers'],
    })
  }
  return plain
}

/** The built-in policy: strict everywhere, and no software identified until reference values are given. */
export const STRICT_POLICY: AppraisalPolicy = resolvePolicy({ schema: POLICY_SCHEMA })

function anchorsOf(pem: string): readonly TrustAnchor[] {
  try {
    return parseTrustAnchors(new TextEncoder().encode(pem))
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : 'unreadable'
    throw new PolicyError('policy.trust-anchor', `trustAnchors: ${reason}`, { cause })
  }
}

function withoutUndefined<T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, item]) => item !== undefined)) as never
}

function pathOf({ path }: v.BaseIssue<unknown>): (string | number)[] {
  return (path ?? []).map(({ key }) => (typeof key === 'number' ? key : String(key)))
}

function describeIssue(issue: v.BaseIssue<unknown>): string {
  const path = issue.path?.map((item) => String(item.key)).join('.') ?? ''
  const last = issue.path?.at(-1)
  if (issue.type === 'strict_object' && issue.expected === 'never' && last !== undefined) {
    const known = knownKeys(path.split('.').slice(0, -1))
    const near = nearest(String(last.key), known)
    return `unknown key "${path}"${near === undefined ? '' : ` (did you mean "${near}"?)`}`
  }
  return path === '' ? issue.message : `${path}: ${issue.message}`
}

function knownKeys(parents: readonly string[]): string[] {
  let schema: unknown = documentSchema
  for (const parent of parents) schema = unwrap((schema as { entries?: Record<string, unknown> }).entries?.[parent])
  const entries = (schema as { entries?: Record<string, unknown> } | undefined)?.entries
  return entries === undefined ? [] : Object.keys(entries)
}

function unwrap(schema: unknown): unknown {
  const inner = (schema as { wrapped?: unknown } | undefined)?.wrapped
  return inner === undefined ? schema : unwrap(inner)
}

/** The known name within two edits, if there is exactly one nearest. */
export function nearest(word: string, known: readonly string[]): string | undefined {
  const ranked = known
    .map((name) => ({ name, distance: editDistance(word, name) }))
    .sort((a, b) => a.distance - b.distance)
  const best = ranked[0]
  return best !== undefined && best.distance <= 2 ? best.name : undefined
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const substitute = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, substitute))
    }
    row = next
  }
  return row[b.length] ?? 0
}
