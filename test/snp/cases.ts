/** Cases of captured evidence: reads `test/vectors/expected-checks.json` and carries one of its `snp/` cases out. */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import * as v from 'valibot'
import { type Check, type CheckDefinition, fail, pass, Transcript, type Verdict } from '../../verifier/checks.js'
import { type EndorsementFile, sortEndorsements } from '../../verifier/endorsements.js'
import { type Bytes, fromBase64, fromHex, toBytes, utf8 } from '../../verifier/protocol/bytes.js'
import { parseTcbFloor, snpPolicySchema } from '../../verifier/snp/policy.js'
import { matchMeasurement } from '../../verifier/snp/report.js'
import { type SnpFindings, type SnpInput, snpPlan, verifySnp } from '../../verifier/snp/verify.js'
import { parseTrustAnchors, type TrustAnchor } from '../../verifier/trust-anchors.js'

/** Paths are relative to the vectors folder. */
export interface SnpCase {
  readonly report?: string
  /** Only the first bytes of that file. */
  readonly firstBytes?: number
  /** A folder with `input.json`: report, VCEK and perhaps a root of its own. */
  readonly conformance?: string
  /** Trust the root the conformance case brings. */
  readonly trustAnchor?: boolean
  /** A detached TPM quote to wrap around an HCL envelope. */
  readonly quote?: { readonly message: string; readonly signature: string }
  /** Files and folders, recursively. */
  readonly endorsements: readonly string[]
  readonly at: string
  readonly revocation: 'required' | 'available' | 'off'
  readonly tcbFloor: string
  readonly snp?: Readonly<Record<string, unknown>>
  /** The only launch digest accepted; without it any is. */
  readonly measurement?: string
  readonly reportData?: string
  readonly nonce?: string
  readonly verdict: Verdict
  /** The first check in plan order that stands in the way; null when none does. */
  readonly firstFailing: string | null
}

export interface Outcome {
  readonly verdict: Verdict
  readonly checks: readonly Check[]
  readonly failing: readonly string[]
  readonly firstFailing: string | null
  readonly findings: SnpFindings | undefined
}

/** Stands in for the shared appraisal's check of the same name. */
const MEASUREMENT: CheckDefinition = {
  id: 'reference.measurement',
  title: 'The launch digest is an expected one',
  spec: 'test',
  gain: 'test',
  needs: ['snp.report.signature'],
}

export function readCases(): readonly (readonly [name: string, SnpCase])[] {
  const path = join(import.meta.dirname, '../vectors/expected-checks.json')
  const all = JSON.parse(readFileSync(path, 'utf8')) as Readonly<Record<string, SnpCase>>
  return Object.entries(all).filter(([name]) => name.startsWith('snp/'))
}

export interface PreparedCase {
  readonly evidence: Bytes
  readonly input: SnpInput
  readonly measurement: string | undefined
  readonly withNonce: boolean
}

export function prepareCase(vectors: string, c: SnpCase): PreparedCase {
  const carried = c.conformance === undefined ? undefined : readConformance(join(vectors, c.conformance))
  const whole = carried?.report ?? evidenceOf(vectors, c)
  const evidence = c.firstBytes === undefined ? whole : whole.slice(0, c.firstBytes)
  const files = c.endorsements.flatMap((path) => filesUnder(join(vectors, path)))
  return {
    evidence,
    input: {
      report: evidence,
      endorsements: sortEndorsements([...(carried?.files ?? []), ...files]),
      anchors: c.trustAnchor === true ? (carried?.anchors ?? []) : [],
      now: new Date(c.at),
      revocation: c.revocation,
      policy: { ...v.parse(snpPolicySchema, c.snp ?? {}), tcbFloor: parseTcbFloor(c.tcbFloor) },
      ...(c.reportData === undefined ? {} : { expectedReportData: fromHex(c.reportData) }),
      ...(c.nonce === undefined ? {} : { nonce: fromHex(c.nonce) }),
    },
    measurement: c.measurement,
    withNonce: c.nonce !== undefined,
  }
}

export async function runCase(vectors: string, c: SnpCase): Promise<Outcome> {
  return run(prepareCase(vectors, c))
}

export async function run({ evidence, input, measurement, withNonce }: PreparedCase): Promise<Outcome> {
  const t = new Transcript([...snpPlan(evidence, withNonce), MEASUREMENT])
  const findings = await verifySnp(t, input)
  t.check('reference.measurement', () => {
    if (measurement === undefined) return pass()
    if (findings === undefined || findings.paravisorMeasurement) return fail('names the paravisor')
    return matchMeasurement(findings.report, [fromHex(measurement)]) ? pass() : fail('another digest')
  })
  return outcomeOf(t, findings)
}

export function outcomeOf(t: Transcript, findings: SnpFindings | undefined): Outcome {
  const checks = t.checks()
  const failing = checks.filter((check) => check.status === 'fail').map((check) => check.id)
  const blocking = checks.find((check) => check.status === 'skip' && !t.satisfied(check.id))
  return { verdict: t.verdict(), checks, failing, firstFailing: failing[0] ?? blocking?.id ?? null, findings }
}

export function filesUnder(path: string): readonly EndorsementFile[] {
  if (!statSync(path).isDirectory()) return [{ name: path, bytes: new Uint8Array(readFileSync(path)) }]
  return readdirSync(path)
    .sort()
    .flatMap((name) => filesUnder(join(path, name)))
}

export function evidenceOf(vectors: string, c: SnpCase): Bytes {
  const read = (path: string): Bytes => new Uint8Array(readFileSync(join(vectors, path)))
  if (c.report === undefined) throw new Error('a case names a report or a conformance folder')
  const report = read(c.report)
  if (c.quote === undefined) return report
  const quote = { message: hex(read(c.quote.message)), signature: hex(read(c.quote.signature)), pcrs: [] }
  const envelope = Buffer.from(report).toString('base64url')
  return utf8(JSON.stringify({ version: 1, hcl_report: envelope, tpm_quote: quote }))
}

/** What a conformance folder holds. */
export interface Conformance {
  readonly report: Bytes
  readonly files: readonly EndorsementFile[]
  readonly anchors: readonly TrustAnchor[]
  /** PEM of the root it brings. */
  readonly root: string | undefined
}

export function readConformance(folder: string): Conformance {
  const input = JSON.parse(readFileSync(join(folder, 'input.json'), 'utf8')) as Readonly<Record<string, string>>
  const root = input['amd_root_ca_pem']
  const pems = [root, input['ask_pem']].filter((pem) => pem !== undefined)
  return {
    report: toBytes(new Uint8Array(gunzipSync(Buffer.from(input['attestation_doc_b64'] ?? '', 'base64')))),
    files: [
      { name: 'vcek', bytes: fromBase64(input['vcek_der_b64'] ?? '') },
      ...pems.map((pem, i) => ({ name: `pem ${i}`, bytes: utf8(pem) })),
    ],
    anchors: root === undefined ? [] : parseTrustAnchors(utf8(root)),
    root,
  }
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}
