/** Cases of captured evidence: reads `test/vectors/expected-checks.json` and carries one of its `tdx/` cases out. */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { type Check, Transcript, type Verdict } from '../../verifier/checks.js'
import { type EndorsementFile, sortEndorsements } from '../../verifier/endorsements.js'
import { type Bytes, fromBase64, fromHex, utf8 } from '../../verifier/protocol/bytes.js'
import { completeTdxPolicy, type TdxPolicyInput } from '../../verifier/tdx/policy.js'
import { type TdxFindings, type TdxInput, tdxPlan, verifyTdx } from '../../verifier/tdx/verify.js'
import { parseTrustAnchors, type TrustAnchor } from '../../verifier/trust-anchors.js'

/** Paths are relative to the vectors folder. */
export interface TdxCase {
  readonly quote?: string
  /** A folder with `input.json`: quote, collateral and perhaps a root of its own. */
  readonly conformance?: string
  /** Trust the root the conformance case brings. */
  readonly trustAnchor?: boolean
  /** Files and folders, recursively. */
  readonly endorsements: readonly string[]
  readonly at: string
  readonly revocation: 'required' | 'available' | 'off'
  readonly tdx?: TdxPolicyInput
  readonly minTcbEvaluationDataNumber?: number
  readonly eventLog?: string
  readonly hclReport?: string
  readonly reportData?: string
  readonly nonce?: string
  readonly verdict: Verdict
  /** The first check in plan order that stands in the way; null when none does. */
  readonly firstFailing: string | null
  /** Further checks that fail. */
  readonly alsoFailing?: readonly string[]
  /** What the TCB adds up to, where it is evaluated. */
  readonly status?: string
}

export interface Outcome {
  readonly verdict: Verdict
  readonly checks: readonly Check[]
  readonly failing: readonly string[]
  readonly firstFailing: string | null
  readonly findings: TdxFindings | undefined
}

export function readCases(): readonly (readonly [name: string, TdxCase])[] {
  const path = join(import.meta.dirname, '../vectors/expected-checks.json')
  const all = JSON.parse(readFileSync(path, 'utf8')) as Readonly<Record<string, TdxCase>>
  return Object.entries(all).filter(([name]) => name.startsWith('tdx/'))
}

export function prepareCase(vectors: string, c: TdxCase): TdxInput {
  const carried = c.conformance === undefined ? undefined : readConformance(join(vectors, c.conformance))
  const read = (path: string): Bytes => bytesOf(join(vectors, path))
  const files = c.endorsements.flatMap((path) => filesUnder(join(vectors, path)))
  return {
    quote: carried?.quote ?? read(c.quote ?? ''),
    endorsements: sortEndorsements([...(carried?.files ?? []), ...files]),
    anchors: c.trustAnchor === true ? (carried?.anchors ?? []) : [],
    now: new Date(c.at),
    revocation: c.revocation,
    policy: completeTdxPolicy(c.tdx ?? {}),
    ...(c.minTcbEvaluationDataNumber === undefined ? {} : { minTcbEvaluationDataNumber: c.minTcbEvaluationDataNumber }),
    ...(c.eventLog === undefined ? {} : { eventLog: read(c.eventLog) }),
    ...(c.hclReport === undefined ? {} : { hclReport: read(c.hclReport) }),
    ...(c.nonce === undefined ? {} : { nonce: fromHex(c.nonce) }),
    ...(c.reportData === undefined ? {} : { expectedReportData: fromHex(c.reportData) }),
  }
}

export async function runCase(vectors: string, c: TdxCase): Promise<Outcome> {
  return run(prepareCase(vectors, c))
}

export async function run(input: TdxInput): Promise<Outcome> {
  const t = new Transcript(tdxPlan(input.quote, input.nonce !== undefined, input.hclReport !== undefined))
  const findings = await verifyTdx(t, input)
  const checks = t.checks()
  const failing = checks.filter((check) => check.status === 'fail').map((check) => check.id)
  const blocking = checks.find((check) => check.status === 'skip' && !t.satisfied(check.id))
  return { verdict: t.verdict(), checks, failing, firstFailing: failing[0] ?? blocking?.id ?? null, findings }
}

export function filesUnder(path: string): readonly EndorsementFile[] {
  if (!statSync(path).isDirectory()) return [{ name: path, bytes: bytesOf(path) }]
  return readdirSync(path)
    .sort()
    .flatMap((name) => filesUnder(join(path, name)))
}

/** Hex text and gzip are undone, as the command line undoes hex. */
export function bytesOf(path: string): Bytes {
  const raw = new Uint8Array(readFileSync(path))
  if (path.endsWith('.gz')) return new Uint8Array(gunzipSync(raw))
  return path.endsWith('.hex') ? fromHex(Buffer.from(raw).toString('latin1').trim()) : raw
}

/** What a conformance folder holds. */
export interface Conformance {
  readonly quote: Bytes
  readonly files: readonly EndorsementFile[]
  readonly anchors: readonly TrustAnchor[]
  /** PEM of the root it brings. */
  readonly root: string | undefined
}

export function readConformance(folder: string): Conformance {
  const input = JSON.parse(readFileSync(join(folder, 'input.json'), 'utf8')) as {
    readonly quote_b64: string
    readonly collateral: Readonly<Record<string, string>>
  }
  const root = input.collateral['intel_root_ca_pem']
  return {
    quote: fromBase64(input.quote_b64),
    files: Object.entries(input.collateral).map(([name, text]) => ({
      name,
      bytes: name.endsWith('_b64') ? fromBase64(text) : utf8(text),
    })),
    anchors: root === undefined ? [] : parseTrustAnchors(utf8(root)),
    root,
  }
}
