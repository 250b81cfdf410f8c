/** Cases of captured NVIDIA evidence: reads `test/vectors/expected-checks.json` and carries one of its `nvidia/` cases out. */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import * as v from 'valibot'
import { type Check, type CheckDefinition, Transcript, type Verdict } from '../../verifier/checks.js'
import { type EndorsementFile, sortEndorsements } from '../../verifier/endorsements.js'
import { NRAS_CHECKS, RIM_PLAN } from '../../verifier/gpu/checks.js'
import { verifyNras } from '../../verifier/gpu/nras.js'
import { gpuPolicySchema } from '../../verifier/gpu/policy.js'
import { verifyRim } from '../../verifier/gpu/rim-verify.js'
import { type GpuFindings, planFor, verifyGpus } from '../../verifier/gpu/verify.js'
import { type Bytes, fromHex } from '../../verifier/protocol/bytes.js'

/** Paths are relative to the vectors folder. */
export interface NvidiaCase {
  readonly gpus?: readonly string[]
  readonly switches?: readonly string[]
  readonly rim?: string
  readonly nras?: string
  /** Only the first bytes of every GPU file. */
  readonly firstBytes?: number
  /** Files and folders, recursively. */
  readonly endorsements: readonly string[]
  readonly at: string
  readonly revocation: 'required' | 'available' | 'off'
  readonly policy?: Readonly<Record<string, unknown>>
  readonly nonce?: string
  readonly verdict: Verdict
  /** The first check in plan order that stands in the way; null when none does. */
  readonly firstFailing: string | null
  /** Record indices, of the first device. */
  readonly mismatched?: readonly number[]
  readonly matched?: number
}

export interface Outcome {
  readonly verdict: Verdict
  readonly checks: readonly Check[]
  readonly firstFailing: string | null
  readonly findings: GpuFindings | undefined
}

export function readCases(): readonly (readonly [name: string, NvidiaCase])[] {
  const path = join(import.meta.dirname, '../vectors/expected-checks.json')
  const all = JSON.parse(readFileSync(path, 'utf8')) as Readonly<Record<string, NvidiaCase>>
  return Object.entries(all).filter(([name]) => name.startsWith('nvidia/'))
}

export async function runCase(vectors: string, c: NvidiaCase): Promise<Outcome> {
  const read = (path: string): Bytes => new Uint8Array(readFileSync(join(vectors, path))).slice(0, c.firstBytes)
  const whole = (path: string): Bytes => new Uint8Array(readFileSync(join(vectors, path)))
  const common = {
    endorsements: sortEndorsements(c.endorsements.flatMap((path) => filesUnder(join(vectors, path)))),
    anchors: [],
    now: new Date(c.at),
    revocation: c.revocation,
    policy: v.parse(gpuPolicySchema, c.policy ?? {}),
    ...(c.nonce === undefined ? {} : { expectedNonce: fromHex(c.nonce) }),
  }
  if (c.rim !== undefined) return carryOut(RIM_PLAN, (t) => verifyRim(t, { ...common, rim: whole(c.rim ?? '') }))
  if (c.nras !== undefined) {
    return carryOut(NRAS_CHECKS, (t) => verifyNras(t, { ...common, response: whole(c.nras ?? '') }))
  }
  const input = { ...common, devices: (c.gpus ?? []).map(read), switches: (c.switches ?? []).map(whole) }
  let findings: GpuFindings | undefined
  const outcome = await carryOut(planFor(input), async (t) => {
    findings = await verifyGpus(t, input)
  })
  return { ...outcome, findings }
}

async function carryOut(
  plan: readonly CheckDefinition[],
  verify: (t: Transcript) => Promise<unknown>,
): Promise<Outcome> {
  const t = new Transcript(plan)
  await verify(t)
  return { verdict: t.verdict(), checks: t.checks(), firstFailing: firstInTheWay(t), findings: undefined }
}

/** Failures before missing inputs, each in plan order; a check that only waits for another is not in the way itself. */
export function firstInTheWay(t: Transcript): string | null {
  const open = t.checks().filter((check) => check.status !== 'pass' && !t.satisfied(check.id))
  const failed = open.find((check) => check.status === 'fail')
  return (failed ?? open.find((check) => check.reason?.startsWith('needs ') !== true))?.id ?? null
}

function filesUnder(path: string): EndorsementFile[] {
  if (!statSync(path).isDirectory()) return [{ name: path, bytes: new Uint8Array(readFileSync(path)) }]
  return readdirSync(path).flatMap((name) => filesUnder(join(path, name)))
}
