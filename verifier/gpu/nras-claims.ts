/**
 * What a device token of NVIDIA's remote verifier has to say, claim by claim (claims versions 2.0 and 3.0). The overall
 * result is derived from these; it is not a reason to leave them unread.
 */
import { type Finding, fail, pass } from '../checks.js'
import { isObject, type JsonObject, shown } from './nras-token.js'

const GPU = 'x-nvidia-gpu'

/** True in both versions. */
const COMMON: readonly string[] = [
  'secboot',
  `${GPU}-arch-check`,
  `${GPU}-attestation-report-parsed`,
  `${GPU}-attestation-report-nonce-match`,
  `${GPU}-attestation-report-signature-verified`,
  `${GPU}-driver-rim-fetched`,
  `${GPU}-driver-rim-schema-validated`,
  `${GPU}-driver-rim-signature-verified`,
  `${GPU}-driver-rim-measurements-available`,
  `${GPU}-vbios-rim-fetched`,
  `${GPU}-vbios-rim-schema-validated`,
  `${GPU}-vbios-rim-signature-verified`,
  `${GPU}-vbios-rim-measurements-available`,
  `${GPU}-vbios-index-no-conflict`,
]

interface ClaimSet {
  readonly booleans: readonly string[]
  /** Objects that tell a chain's state. */
  readonly chains: readonly string[]
}

const VERSIONS: Readonly<Record<string, ClaimSet>> = {
  '2.0': {
    booleans: [
      ...COMMON,
      `${GPU}-attestation-report-cert-chain-validated`,
      `${GPU}-driver-rim-cert-validated`,
      `${GPU}-vbios-rim-cert-validated`,
    ],
    chains: [],
  },
  '3.0': {
    booleans: [
      ...COMMON,
      `${GPU}-attestation-report-cert-chain-fwid-match`,
      `${GPU}-driver-rim-version-match`,
      `${GPU}-vbios-rim-version-match`,
    ],
    chains: [`${GPU}-attestation-report-cert-chain`, `${GPU}-driver-rim-cert-chain`, `${GPU}-vbios-rim-cert-chain`],
  },
}

/** Every claim of the version there and true, and no other boolean false. */
export function judgeClaims(claims: JsonObject, version: unknown): Finding {
  const wanted = typeof version === 'string' ? VERSIONS[version] : undefined
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
