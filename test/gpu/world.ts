/**
 * A simulated node that is right in every way, and ways to bend it in one: the evidence, manifests, OCSP responses and
 * policy a GPU verification takes, made by the throw-away hierarchy of `scripts/simulated`.
 */
import { sign } from 'node:crypto'
import * as v from 'valibot'
import type { DeviceFamily } from '../../scripts/simulated/gpu-facts.js'
import { createOcspService, type StapleRequest } from '../../scripts/simulated/gpu-ocsp.js'
import { encodeGpuEvidence } from '../../scripts/simulated/gpu-platform.js'
import { buildGpuReport, type GpuReportBreak, type GpuReportFields } from '../../scripts/simulated/gpu-report.js'
import { buildRim, type RimBreak, type RimFields } from '../../scripts/simulated/gpu-rim.js'
import {
  createNvidiaHierarchy,
  type DeviceRequest,
  type IssuedCertificate,
  type IssuedDevice,
  type NvidiaHierarchy,
  type RimSignerRequest,
} from '../../scripts/simulated/nvidia.js'
import { type Check, Transcript, type Verdict } from '../../verifier/checks.js'
import { type EndorsementPool, sortEndorsements } from '../../verifier/endorsements.js'
import { NRAS_CHECKS, RIM_PLAN } from '../../verifier/gpu/checks.js'
import { verifyNras } from '../../verifier/gpu/nras.js'
import { type GpuPolicy, gpuPolicySchema } from '../../verifier/gpu/policy.js'
import { verifyRim } from '../../verifier/gpu/rim-verify.js'
import { type GpuFindings, type GpuInput, planFor, verifyGpus } from '../../verifier/gpu/verify.js'
import { type Bytes, toBase64, toBase64Url, toHex, utf8 } from '../../verifier/protocol/bytes.js'
import { sha256 } from '../../verifier/protocol/hash.js'
import { parseTrustAnchors, type TrustAnchor } from '../../verifier/trust-anchors.js'
import { parseCertificate } from '../../verifier/x509.js'
import { firstInTheWay } from './cases.js'

export const NOON: Date = new Date('2026-11-22T12:00:00Z')
export const HOUR = 3_600_000
export const NONCE: Bytes = new Uint8Array(32).fill(0x5a)

/** One hierarchy for everything that needs no other. */
export const NVIDIA: NvidiaHierarchy = createNvidiaHierarchy({
  notBefore: new Date(NOON.getTime() - HOUR),
  notAfter: new Date(NOON.getTime() + 23 * HOUR),
})
/** Another of the same names, which nothing trusts. */
export const STRANGER: NvidiaHierarchy = createNvidiaHierarchy({
  notBefore: new Date(NOON.getTime() - HOUR),
  notAfter: new Date(NOON.getTime() + 23 * HOUR),
})

export interface DeviceBend {
  readonly request?: Partial<DeviceRequest>
  readonly fields?: Partial<GpuReportFields>
  readonly broken?: GpuReportBreak
  readonly chain?: (chain: readonly Bytes[]) => readonly Bytes[]
  /** The item as carried, in place of the container. */
  readonly carried?: (report: Bytes, device: IssuedDevice) => Bytes
  /** An identity made before, to attest again. */
  readonly device?: IssuedDevice
}

export interface RimBend {
  readonly fields?: Partial<RimFields>
  readonly broken?: RimBreak
  readonly signer?: Partial<RimSignerRequest>
  readonly hierarchy?: NvidiaHierarchy
  readonly chain?: (chain: readonly Bytes[]) => readonly Bytes[]
  readonly mangle?: (xml: Bytes) => Bytes
}

export interface Bend {
  readonly family?: 'GH100' | 'GB100'
  readonly gpus?: readonly DeviceBend[]
  readonly switches?: readonly DeviceBend[]
  readonly driverRim?: RimBend | null
  readonly vbiosRim?: RimBend | null
  readonly switchRim?: RimBend | null
  /** More manifests. */
  readonly rims?: readonly RimBend[]
  /** Changes the response about every certificate, or leaves it out. */
  readonly staple?: (certificate: IssuedCertificate) => StapleRequest | null
  readonly policy?: v.InferInput<typeof gpuPolicySchema>
  readonly input?: Partial<GpuInput>
  /** Anchors trusted; default both roots. */
  readonly roots?: readonly ('device' | 'rim')[]
}

export interface Judgement {
  readonly verdict: Verdict
  readonly checks: readonly Check[]
  /** Failed, in plan order. */
  readonly failing: readonly string[]
  readonly firstFailing: string | null
  readonly findings: GpuFindings | undefined
}

export async function judge(bend: Bend): Promise<Judgement> {
  const input = nodeInput(bend)
  const t = new Transcript(planFor(input))
  const findings = await verifyGpus(t, input)
  return { ...concluded(t), findings }
}

function concluded(t: Transcript): Omit<Judgement, 'findings'> {
  const checks = t.checks()
  return {
    verdict: t.verdict(),
    checks,
    failing: checks.filter((check) => check.status === 'fail').map((check) => check.id),
    firstFailing: firstInTheWay(t),
  }
}

/** What `verifyGpus` takes. Without any device named there is one GPU. */
export function nodeInput(bend: Bend): GpuInput {
  const family = bend.family ?? 'GH100'
  const switchesOnly = bend.gpus === undefined && bend.switches !== undefined
  const gpus = (bend.gpus ?? (switchesOnly ? [] : [{}])).map((gpu) => attest(family, gpu))
  const switches = (bend.switches ?? []).map((one) => attest('LS10', one))
  const rims: MadeRim[] = []
  const add = (of: DeviceFamily, kind: 'driver' | 'vbios', rim: RimBend | null | undefined): void => {
    if (rim !== null) rims.push(makeRim(of, kind, rim ?? {}))
  }
  if (gpus.length > 0) {
    add(family, 'driver', bend.driverRim)
    add(family, 'vbios', bend.vbiosRim)
  }
  if (switches.length > 0) add('LS10', 'vbios', bend.switchRim)
  for (const rim of bend.rims ?? []) add(family, rim.fields?.kind ?? 'driver', rim)
  return {
    devices: gpus.map(({ item }) => item),
    switches: switches.map(({ item }) => item),
    expectedNonce: NONCE,
    endorsements: poolOf(
      rims,
      [...gpus, ...switches].map(({ device }) => device),
      bend.staple,
    ),
    anchors: anchorsOf(bend.roots ?? ['device', 'rim']),
    now: NOON,
    revocation: 'required',
    policy: policyOf(bend.policy),
    ...bend.input,
  }
}

export function policyOf(policy: v.InferInput<typeof gpuPolicySchema> = {}): GpuPolicy {
  return v.parse(gpuPolicySchema, policy)
}

export function anchorsOf(roots: readonly ('device' | 'rim')[]): readonly TrustAnchor[] {
  return roots.flatMap((root) => {
    const { pem } = root === 'device' ? NVIDIA.deviceRoot : NVIDIA.rimRoot
    return parseTrustAnchors(utf8(`Kind: nvidia\n${pem}`))
  })
}

interface Attested {
  readonly device: IssuedDevice
  readonly item: Bytes
}

function attest(family: DeviceFamily, bend: DeviceBend): Attested {
  const device = bend.device ?? NVIDIA.issueDevice({ family, ...bend.request })
  const fields = {
    family,
    nonce: NONCE,
    ...(family === 'LS10' ? { pdi: device.pdi, gpuPdis: [] } : { fwid: device.fwid }),
    ...bend.fields,
  }
  const report = buildGpuReport(fields, device.privateKey, bend.broken)
  const chain = bend.chain?.(device.chain) ?? device.chain
  return { device, item: bend.carried?.(report, device) ?? encodeGpuEvidence(report, chain) }
}

interface MadeRim {
  readonly xml: Bytes
  readonly signer: IssuedCertificate
  readonly hierarchy: NvidiaHierarchy
}

export function makeRim(family: DeviceFamily, kind: 'driver' | 'vbios', bend: RimBend): MadeRim {
  const hierarchy = bend.hierarchy ?? NVIDIA
  const signer = hierarchy.issueRimSigner({ family, ...bend.signer })
  const chain = bend.chain?.(signer.chain) ?? signer.chain
  const xml = buildRim({ family, kind, ...bend.fields }, { privateKey: signer.privateKey, chain }, bend.broken)
  return { xml: bend.mangle?.(xml) ?? xml, signer, hierarchy }
}

const ocspServices = new Map([NVIDIA, STRANGER].map((hierarchy) => [hierarchy, createOcspService(hierarchy)]))

/** Manifests, and one response for every certificate between leaves and roots. */
export function poolOf(
  rims: readonly MadeRim[],
  devices: readonly IssuedDevice[],
  staple: Bend['staple'] = () => ({}),
): EndorsementPool {
  const certificates = new Map<IssuedCertificate, NvidiaHierarchy>()
  const climb = (certificate: IssuedCertificate, hierarchy: NvidiaHierarchy): void => {
    if (certificate.issuer === undefined) return
    certificates.set(certificate, hierarchy)
    climb(hierarchy.authorities[certificate.issuer], hierarchy)
  }
  for (const { brom } of devices) climb(brom, NVIDIA)
  for (const { signer, hierarchy } of rims) climb(signer, hierarchy)
  const responses = [...certificates].flatMap(([certificate, hierarchy]) => {
    const request = staple(certificate)
    return request === null ? [] : [ocspServices.get(hierarchy)!.staple(certificate, request)]
  })
  return sortEndorsements([
    ...rims.map(({ xml }, i) => ({ name: `rim ${i}`, bytes: xml })),
    ...responses.map((bytes, i) => ({ name: `ocsp ${i}`, bytes })),
  ])
}

/** One manifest on its own. */
export async function judgeRim(bend: RimBend & { readonly file?: Bytes }): Promise<Omit<Judgement, 'findings'>> {
  const rim = makeRim('GH100', 'driver', bend)
  const t = new Transcript(RIM_PLAN)
  await verifyRim(t, {
    rim: bend.file ?? rim.xml,
    endorsements: poolOf([rim], []),
    anchors: anchorsOf(['device', 'rim']),
    now: NOON,
    revocation: 'required',
    policy: policyOf(),
  })
  return concluded(t)
}

/** A board of eight GPUs and four switches, wired as they say. */
export function board(
  change: {
    readonly gpu?: (i: number) => DeviceBend
    readonly switch?: (i: number) => DeviceBend
    readonly gpus?: number
  } = {},
): Bend {
  const gpus = Array.from({ length: change.gpus ?? 8 }, () => NVIDIA.issueDevice({ family: 'GH100' }))
  const switches = Array.from({ length: 4 }, () => NVIDIA.issueDevice({ family: 'LS10' }))
  const linkedSwitches = Array.from({ length: 18 }, (_, i) => switches[i % 4]!.pdi)
  const merge = (device: IssuedDevice, fields: Partial<GpuReportFields>, own: DeviceBend = {}): DeviceBend => ({
    ...own,
    device,
    fields: { ...fields, ...own.fields },
  })
  return {
    gpus: gpus.map((gpu, i) => merge(gpu, { mode: 'PPCIe', linkedSwitches }, change.gpu?.(i))),
    switches: switches.map((one, i) => merge(one, { gpuPdis: gpus.map(({ pdi }) => pdi) }, change.switch?.(i))),
  }
}

type Claims = Readonly<Record<string, unknown>>

export interface NrasBend {
  /** Changes to every token's header. */
  readonly header?: Claims
  readonly overall?: Claims
  readonly device?: Claims
  readonly devices?: number
  /** What the tokens are about; default GPUs. */
  readonly kind?: 'gpu' | 'switch'
  /** Names of the devices, in place of the usual ones. */
  readonly names?: readonly string[]
  /** One identity for all. */
  readonly sameUeid?: boolean
  readonly file?: Bytes
  /** After the digests were taken. */
  readonly swap?: boolean
  readonly corrupt?: boolean
  readonly kid?: string
  readonly x5c?: 'none' | 'stranger' | 'no-signer'
  readonly policy?: v.InferInput<typeof gpuPolicySchema>
  readonly now?: Date
}

/** NVIDIA's remote verifier, played by an OCSP responder's key under an identity authority: right roles, other purpose. */
const NRAS_KEY = NVIDIA.issueResponder({ issuer: 'gh100Identity', notAfter: new Date(NOON.getTime() + HOUR) })
const STRANGE_KEY = STRANGER.issueResponder({ issuer: 'gh100Identity', keyPair: NRAS_KEY })
const NO_SIGNER = NVIDIA.issueResponder({
  issuer: 'gh100Identity',
  keyPair: NRAS_KEY,
  overrides: { extensions: [{ oid: '2.5.29.15', value: new Uint8Array([3, 2, 2, 4]) }] },
})
const KID = 'simulated-key'
const SECONDS = NOON.getTime() / 1000

const GPU_CLAIMS = [
  'secboot',
  ...['arch-check', 'vbios-index-no-conflict'].map((name) => `x-nvidia-gpu-${name}`),
  ...['parsed', 'nonce-match', 'signature-verified', 'cert-chain-validated'].map(
    (name) => `x-nvidia-gpu-attestation-report-${name}`,
  ),
  ...['driver', 'vbios'].flatMap((rim) =>
    ['fetched', 'schema-validated', 'cert-validated', 'signature-verified', 'measurements-available'].map(
      (name) => `x-nvidia-gpu-${rim}-rim-${name}`,
    ),
  ),
]

const SWITCH_CLAIMS = [
  'secboot',
  ...['arch-check', 'attestation-report-cert-chain-validated', 'bios-rim-cert-validated'].map(
    (name) => `x-nvidia-switch-${name}`,
  ),
  ...['parsed', 'nonce-match', 'signature-verified'].map((name) => `x-nvidia-switch-attestation-report-${name}`),
  ...['fetched', 'schema-validated', 'signature-verified', 'measurements-available'].map(
    (name) => `x-nvidia-switch-bios-rim-${name}`,
  ),
]

export async function judgeNras(bend: NrasBend): Promise<Omit<Judgement, 'findings'>> {
  const common = {
    iss: 'https://nras.attestation.nvidia.com',
    nbf: SECONDS - 60,
    iat: SECONDS - 60,
    exp: SECONDS + 3540,
    eat_nonce: toHex(NONCE),
  }
  const tokens = Array.from({ length: bend.devices ?? 2 }, (_, i) => {
    const claims = {
      ...common,
      ...Object.fromEntries((bend.kind === 'switch' ? SWITCH_CLAIMS : GPU_CLAIMS).map((name) => [name, true])),
      measres: 'success',
      dbgstat: 'disabled',
      ueid: bend.sameUeid === true ? '7' : String(7 + i),
      ...bend.device,
    }
    const name = bend.names?.[i] ?? `${bend.kind === 'switch' ? 'SWITCH' : 'GPU'}-${i}`
    return [name, token(claims, bend)] as const
  })
  const overall = {
    ...common,
    'x-nvidia-ver': '2.0',
    'x-nvidia-overall-att-result': true,
    submods: Object.fromEntries(tokens.map(([name, jwt]) => [name, ['DIGEST', ['SHA-256', toHex(sha256(utf8(jwt)))]]])),
    ...bend.overall,
  }
  const carried = bend.swap === true ? tokens.map(([name], i) => [name, tokens.at(-1 - i)![1]]) : tokens
  const response = [['JWT', token(overall, bend)], Object.fromEntries(carried)]
  const t = new Transcript(NRAS_CHECKS)
  await verifyNras(t, {
    response: bend.file ?? utf8(JSON.stringify(response)),
    endorsements: sortEndorsements([{ name: 'jwks', bytes: utf8(JSON.stringify({ keys: [jwk(bend)] })) }]),
    anchors: [],
    expectedNonce: NONCE,
    now: bend.now ?? NOON,
    policy: policyOf(bend.policy ?? { nras: { intermediates: [intermediateSpki()] } }),
  })
  return concluded(t)
}

export function intermediateSpki(): string {
  return parseCertificate(NVIDIA.authorities.gh100Identity.der).spkiSha256Hex
}

function token(claims: Claims, bend: NrasBend): string {
  const text = (value: unknown): string => toBase64Url(utf8(JSON.stringify(value)))
  const head = `${text({ alg: 'ES384', kid: KID, ...bend.header })}.${text(claims)}`
  const signature = sign('sha384', utf8(head), { key: NRAS_KEY.privateKey, dsaEncoding: 'ieee-p1363' })
  if (bend.corrupt === true) signature[50] = signature[50]! ^ 1
  return `${head}.${toBase64Url(signature)}`
}

function jwk(bend: NrasBend): Claims {
  const { x, y } = NRAS_KEY.publicKey.export({ format: 'jwk' })
  const leaf = { stranger: STRANGE_KEY, 'no-signer': NO_SIGNER, none: NRAS_KEY }[bend.x5c ?? 'none']
  const x5c = [leaf.der, NVIDIA.authorities.gh100Identity.der].map(toBase64)
  return { kty: 'EC', crv: 'P-384', kid: bend.kid ?? KID, x, y, ...(bend.x5c === 'none' ? {} : { x5c }) }
}
