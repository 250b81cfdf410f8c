/**
 * `--format ear`: the verdict as a signed EAT Attestation Result (draft-ietf-rats-ear-04, JWT form) with one submodule for
 * each device, `cpu0`, `gpu0` …, and AR4SI trustworthiness vectors (draft-ietf-rats-ar4si).
 *
 * The signature is by an Ed25519 key made for this one token, whose public half is in its header. It holds the token
 * together; it says nothing about who verified. Whoever needs that signs the token again with a key they are known by.
 *
 * The claims of a vector summarise checks, and every check of a result counts in exactly one submodule. A failed check
 * makes its claim contraindicated, so a rejected result never comes out better; a check that could not be made takes its
 * claim back to "no claim"; one the policy waived, or a root that is not a vendor's, makes it a warning.
 */
import { exportJWK, generateKeyPair, SignJWT } from 'jose'
import type { Check } from './checks.js'
import { toHex, utf8 } from './protocol/bytes.js'
import { sha256 } from './protocol/hash.js'
import { type AttestationResult, exitCodeOf } from './result.js'
import { VERSION } from './version.js'

export const EAR_PROFILE = 'tag:ietf.org,2026:rats/ear#04'
/** RFC 9782. */
export const EAR_MEDIA_TYPE = `application/eat+jwt; eat_profile="${EAR_PROFILE}"`

export type EarStatus = 'none' | 'affirming' | 'warning' | 'contraindicated'
export type VectorClaim =
  | 'instance-identity'
  | 'configuration'
  | 'executables'
  | 'file-system'
  | 'hardware'
  | 'runtime-opaque'
export type TrustVector = Readonly<Partial<Record<VectorClaim, number>>>

/** AR4SI values: tiers start at these, and 2 to 31 affirm. */
const NO_CLAIM = 0
const WARNING = 32
const CONTRAINDICATED = 96
const CRYPTOGRAPHY_FAILED = 99
/** Affirming values. Only what was loaded at launch is known of executables, hence 3. */
const AFFIRMED: Readonly<Record<VectorClaim, number>> = {
  'instance-identity': 2,
  configuration: 2,
  executables: 3,
  'file-system': 2,
  hardware: 2,
  'runtime-opaque': 2,
}

/** The first matching row says which claim a check belongs to; what no row names is about the hardware. */
const CPU_CLAIMS: readonly (readonly [RegExp, VectorClaim])[] = [
  [/^(reference|release|image)\.|^tdx\.(rtmr|event-log|mr-td)/, 'executables'],
  [/^model\./, 'file-system'],
  [/^(snp|tdx)\.policy\.debug$/, 'runtime-opaque'],
  [/^(bundle|claims|keys|freshness|operator|binding)\./, 'instance-identity'],
  [/^(snp|tdx)\.policy\.|^snp\.(host-data|platform)|^serving\.|^gpu\.present$/, 'configuration'],
]
const GPU_CLAIMS: readonly (readonly [RegExp, VectorClaim])[] = [
  [/^gpu\.(nonce|devices|switch-devices|topology)\./, 'instance-identity'],
  [/^gpu\.(mode|opaque)\./, 'configuration'],
  [/^gpu\.(measurements|driver|driver-rim|vbios|vbios-rim|rim)\./, 'executables'],
]

interface Appraisal {
  readonly ear_status: EarStatus
  readonly ear_trustworthiness_vector: TrustVector
  readonly ear_appraisal_policy_ids: readonly string[]
  readonly ear_verifier_claims: Readonly<Record<string, unknown>>
}

export interface EarClaims {
  readonly eat_profile: string
  readonly iat: number
  readonly ear_verifier_id: { readonly developer: string; readonly build: string }
  readonly submods: Readonly<Record<string, Appraisal>>
}

/** Compact JWS of `earClaims`, `typ` `eat+jwt`, its Ed25519 public key under `jwk`. */
export async function signEar(result: AttestationResult): Promise<string> {
  const { publicKey, privateKey } = await generateKeyPair('EdDSA', { crv: 'Ed25519' })
  const { kty, crv, x } = await exportJWK(publicKey)
  return new SignJWT({ ...earClaims(result) })
    .setProtectedHeader({ alg: 'EdDSA', typ: 'eat+jwt', jwk: { kty: kty ?? '', crv: crv ?? '', x: x ?? '' } })
    .sign(privateKey)
}

/** The claims alone, for whoever signs them with a key of their own. `iat` is the instant the verdict was made for. */
export function earClaims(result: AttestationResult): EarClaims {
  const gpus = gpuCount(result)
  const isGpuCheck = ({ id }: Check) => gpus > 0 && /^gpu\./.test(id) && id !== 'gpu.present'
  const cpu = result.checks.filter((check) => !isGpuCheck(check))
  const gpu = result.checks.filter(isGpuCheck)
  const submods: [string, Appraisal][] = []
  if (cpu.length > 0 || gpu.length === 0) submods.push(['cpu0', appraisal(result, cpu, CPU_CLAIMS)])
  // One check covers all devices and the worst of them decides, so all have the same vector.
  for (let i = 0; i < gpus && gpu.length > 0; i++) submods.push([`gpu${i}`, appraisal(result, gpu, GPU_CLAIMS)])
  return {
    eat_profile: EAR_PROFILE,
    iat: Math.floor(result.evaluatedAt.getTime() / 1000),
    ear_verifier_id: { developer: 'subrosa', build: `verify-attestation ${VERSION}` },
    submods: Object.fromEntries(submods),
  }
}

function appraisal(
  result: AttestationResult,
  checks: readonly Check[],
  rows: readonly (readonly [RegExp, VectorClaim])[],
): Appraisal {
  const groups = new Map<VectorClaim, Check[]>()
  for (const check of checks) {
    const claim = rows.find(([pattern]) => pattern.test(check.id))?.[1] ?? 'hardware'
    groups.set(claim, [...(groups.get(claim) ?? []), check])
  }
  const isPrivate = result.notProven.some((item) => item.id === 'hardware.private-root')
  const vector: [VectorClaim, number][] = [...groups].map(([claim, group]) => {
    const value = claimValue(group, result.waived, AFFIRMED[claim])
    return [claim, claim === 'hardware' && isPrivate && value === AFFIRMED[claim] ? WARNING : value]
  })
  return {
    ear_status: statusOf(vector.map(([, value]) => value)),
    ear_trustworthiness_vector: Object.fromEntries(vector),
    ear_appraisal_policy_ids: [`tag:subrosa,2026:policy/sha256/${toHex(sha256(utf8(JSON.stringify(result.policy))))}`],
    ear_verifier_claims: {
      verdict: result.verdict,
      exit_code: exitCodeOf(result),
      not_passed: checks.filter((check) => check.status !== 'pass').map((check) => check.id),
      not_proven: result.notProven.map((item) => item.id),
    },
  }
}

/** The worst of a group decides. Anyone may operate a machine by default, so that waiver weakens nothing. */
function claimValue(checks: readonly Check[], waived: readonly string[], affirmed: number): number {
  const failed = checks.filter((check) => check.status === 'fail')
  if (failed.some((check) => /signature/.test(check.id))) return CRYPTOGRAPHY_FAILED
  if (failed.length > 0) return CONTRAINDICATED
  const skipped = checks.filter((check) => check.status === 'skip' && check.id !== 'operator.match')
  if (skipped.some((check) => !waived.includes(check.id))) return NO_CLAIM
  return skipped.length > 0 ? WARNING : affirmed
}

/** As AR4SI tiers overall, except that a claim nobody could make keeps the whole from affirming. */
function statusOf(values: readonly number[]): EarStatus {
  if (values.some((value) => value >= CONTRAINDICATED)) return 'contraindicated'
  if (values.some((value) => value === NO_CLAIM)) return 'none'
  return values.some((value) => value >= WARNING) ? 'warning' : 'affirming'
}

function gpuCount({ evidence }: AttestationResult): number {
  const listed = evidence['gpus'] ?? evidence['devices']
  if (Array.isArray(listed) && listed.length > 0) return listed.length
  return evidence.kind.startsWith('gpu') ? 1 : 0
}
