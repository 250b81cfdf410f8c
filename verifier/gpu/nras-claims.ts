/**
 * What a device token of NVIDIA's remote verifier has to say, claim by claim (claims versions 2.0 and 3.0). The overall
 * result is derived from these; it is not a reason to leave them unread.
 */
import { type Finding, fail, pass } from '../checks.js'
import type { DeviceKind } from './family.js'
import { isObject, type JsonObject, shown } from './nras-token.js'

/** What is looked at about a device: its report, and each manifest it is held to. */
interface Vocabulary {
  readonly prefix: string
  readonly rims: readonly string[]
  /** True besides what every report and manifest has. */
  readonly more: readonly string[]
}

const VOCABULARY: Readonly<Record<DeviceKind, Vocabulary>> = {
  gpu: { prefix: 'x-nvidia-gpu', rims: ['driver-rim', 'vbios-rim'], more: ['vbios-index-no-conflict'] },
  switch: { prefix: 'x-nvidia-switch', rims: ['bios-rim'], more: [] },
}

interface ClaimSet {
  readonly booleans: readonly string[]
  /** Objects that tell a chain's state. */
  readonly chains: readonly string[]
}

/** The claims a device token of this version has to make; undefined for a version nobody here knows. */
function claimsOf(kind: DeviceKind, version: unknown): ClaimSet | undefined {
  if (version !== '2.0' && version !== '3.0') return undefined
  const { prefix, rims, more } = VOCABULARY[kind]
  const report = `${prefix}-attestation-report`
  const manifests = rims.map((rim) => `${prefix}-${rim}`)
  const steps = ['fetched', 'schema-validated', 'signature-verified', 'measurements-available']
  const common = [
    'secboot',
    ...['arch-check', ...more].map((name) => `${prefix}-${name}`),
    ...['parsed', 'nonce-match', 'signature-verified'].map((name) => `${report}-${name}`),
    ...manifests.flatMap((rim) => steps.map((name) => `${rim}-${name}`)),
  ]
  if (version === '2.0') {
    const validated = [`${report}-cert-chain-validated`, ...manifests.map((rim) => `${rim}-cert-validated`)]
    return { booleans: [...common, ...validated], chains: [] }
  }
  return {
    booleans: [...common, `${report}-cert-chain-fwid-match`, ...manifests.map((rim) => `${rim}-version-match`)],
    chains: [report, ...manifests].map((name) => `${name}-cert-chain`),
  }
}

/** Every claim of the kind and version there and true, and no other boolean false. */
export function judgeClaims(claims: JsonObject, version: unknown, kind: DeviceKind): Finding {
  const wanted = claimsOf(kind, version)
  if (wanted === undefined) return fail('an unknown version of claims', { actual: shown(version).slice(0, 20) })
  if (claims['measres'] !== 'success') return refused('measres', claims)
  if (claims['dbgstat'] !== 'disabled') return refused('dbgstat', claims)
  const untrue = wanted.booleans.find((name) => claims[name] !== true)
  if (untrue !== undefined) return refused(untrue, claims)
  const [denied] = Object.entries(claims).find(([, value]) => value === false) ?? []
  if (denied !== undefined) return refused(denied, claims)
  const bad = wanted.chains.find((name) => !isGoodChain(claims[name]))
  if (bad !== undefined) return refused(bad, claims)
  const warning = claims['x-nvidia-attestation-warning']
  if (warning !== undefined && warning !== null) return refused('x-nvidia-attestation-warning', claims)
  return pass()
}

function isGoodChain(value: unknown): boolean {
  return isObject(value) && value['x-nvidia-cert-status'] === 'valid' && value['x-nvidia-cert-ocsp-status'] === 'good'
}

function refused(name: string, claims: JsonObject): Finding {
  return fail(`${name} is not what it must be`, { actual: (JSON.stringify(claims[name]) ?? 'absent').slice(0, 120) })
}
