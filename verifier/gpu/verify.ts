/**
 * The GPU recipe: from evidence to findings, one step a check, in the order of the registry.
 *
 * Authentic comes before acceptable. Manifests are looked up only by what a verified signature covers, and a manifest or
 * certificate that several devices share is verified once. Hostile bytes become failed checks; nothing here throws on
 * them. What is not decided here: whether the nonce is the one the CPU's report stands for, and that the bundle's claims
 * name this very evidence (PROTOCOL.md P-4.3).
 */
import type { CheckDefinition, Transcript } from '../checks.js'
import { type EndorsementPool, mergePools, sortEndorsements } from '../endorsements.js'
import { looksLikePem } from '../pem.js'
import { type Bytes, toHex } from '../protocol/bytes.js'
import type { EndorsementUse } from '../result.js'
import type { TrustAnchor } from '../trust-anchors.js'
import { appraiseGpus, appraiseSwitches, ueidOf } from './appraise.js'
import { trustOf } from './chain.js'
import { gpuPlan } from './checks.js'
import { checkRevocationLists } from './crl.js'
import type { GpuMode } from './device-fields.js'
import { verifyDevices } from './device-verify.js'
import { isGpuEvidence } from './evidence.js'
import type { DeviceKind } from './family.js'
import { checkFirmware, type Held, missingRims } from './firmware.js'
import type { Comparison } from './measurements.js'
import type { OcspResponse } from './ocsp.js'
import type { Subject } from './ocsp-responder.js'
import { answers, checkOcsp, ocspExpiry, ocspUse, type Revocation } from './ocsp-verify.js'
import type { GpuPolicy } from './policy.js'
import { type RimShelf, shelveRims } from './rim-inspect.js'
import { rimExpiry, rimSubjects, rimUse } from './rim-verify.js'
import { checkTopology } from './topology.js'

export interface GpuInput {
  /** Evidence as carried: CBOR containers, raw reports, or NVIDIA's JSON, which may hold several devices. Untrusted. */
  readonly devices: readonly Bytes[]
  /** NVSwitch evidence in the same forms. Untrusted. */
  readonly switches?: readonly Bytes[]
  /**
   * `container`: every item is the bundle's CBOR container and nothing else (PROTOCOL.md §6). `any`, the default: whatever
   * form this verifier reads, PEM certificates among the reports included.
   */
  readonly form?: 'container' | 'any'
  /** 32 bytes: the derived gpu_nonce, or the caller's own. Omitting it lets a recorded report pass: the check is waived. */
  readonly expectedNonce?: Bytes
  /** Manifests, OCSP responses, certificates of reports that came alone. Untrusted until verified. */
  readonly endorsements: EndorsementPool
  /** Roots besides NVIDIA's that the policy already authorised. */
  readonly anchors: readonly TrustAnchor[]
  /** The instant every window is judged by: the caller's clock, never the evidence's. */
  readonly now: Date
  readonly revocation: Revocation
  readonly policy: GpuPolicy
  /** The nonce of OCSP requests the caller made itself. */
  readonly ocspNonce?: Bytes
}

export interface GpuDevice {
  readonly kind: DeviceKind
  readonly name: string
  /** GH100, GB100, LS10 … as certified; undefined where the certificates are no family's. */
  readonly product: string | undefined
  readonly driver: string | undefined
  readonly vbios: string | undefined
  readonly mode: GpuMode | undefined
  /** Leaf serial number in decimal. */
  readonly ueid: string | undefined
  /** 16 hex digits of the subjectAltName. */
  readonly deviceId: string | undefined
  readonly nonceHex: string
  readonly measurements: Comparison | undefined
}

export interface GpuFindings {
  /** GPUs, then switches, in the order carried. */
  readonly devices: readonly GpuDevice[]
  /** A root is one the policy added, not NVIDIA's. */
  readonly privateAnchor: boolean
  readonly endorsementsUsed: readonly EndorsementUse[]
  /** Everything the verdict depended on: XML and DER. */
  readonly endorsementBytes: readonly Bytes[]
  /** When the first certificate or OCSP response of those expires. The epoch while there is no chain. */
  readonly validUntil: Date
  readonly notProven: readonly { readonly id: string; readonly text: string }[]
  /** What somebody with a network may ask for: manifests not at hand, and certificates with their issuers. */
  readonly wanted: { readonly rimIds: readonly string[]; readonly subjects: readonly Subject[] }
}

/** The plan for this input. A transcript made from it takes part in `verifyGpus`. */
export function planFor(input: Pick<GpuInput, 'devices' | 'switches'>): readonly CheckDefinition[] {
  return gpuPlan(reportsIn(input.devices).length, reportsIn(input.switches ?? []).length)
}

/** PEM may stand beside the reports it belongs to: certificates are endorsements, and no device. */
function isChain(item: Bytes): boolean {
  return looksLikePem(item) && !isGpuEvidence(item)
}

function reportsIn(items: readonly Bytes[]): readonly Bytes[] {
  return items.filter((item) => !isChain(item))
}

function chainsIn(items: readonly Bytes[]): EndorsementPool {
  return sortEndorsements(items.filter(isChain).map((bytes, i) => ({ name: `certificates ${i}`, bytes })))
}

/**
 * Carries out every GPU check of the transcript's plan. Returns what was found, also about rejected evidence; undefined
 * only when there is no report to speak of. Whether anything is accepted is the transcript's verdict.
 */
export async function verifyGpus(t: Transcript, given: GpuInput): Promise<GpuFindings | undefined> {
  const input = withChains(given)
  const switchEvidence = input.switches ?? []
  const alone = input.devices.length === 0 && switchEvidence.length > 0
  const shelf = await shelveRims(input.endorsements)

  const gpus = alone ? [] : await verifyKind(t, 'gpu', input.devices, shelf, input)
  const gpuDevices = gpus?.map(({ device }) => device) ?? []
  if (gpuDevices.length > 0) await appraiseGpus(t, gpuDevices, switchEvidence.length, input.policy)

  const switches = switchEvidence.length === 0 ? [] : await verifyKind(t, 'switch', switchEvidence, shelf, input)
  const switchDevices = switches?.map(({ device }) => device) ?? []
  if (switchDevices.length > 0) await appraiseSwitches(t, switchDevices)
  if (gpuDevices.length > 0 && switchDevices.length > 0) await checkTopology(t, gpuDevices, switchDevices)

  const all = [...(gpus ?? []), ...(switches ?? [])]
  if (all.length === 0) return undefined
  const { endorsements: pool, revocation, now, ocspNonce } = input
  const subjects = subjectsOf(all)
  const nonce = ocspNonce === undefined ? {} : { nonce: ocspNonce }
  const responses = await checkOcsp(t, { subjects, pool, revocation, policy: input.policy.ocsp, now, ...nonce })
  await checkRevocationLists(t, subjects, pool, revocation, now)
  return findings(all, responses, subjects, input)
}

/** Certificates carried beside the reports join the endorsements. */
function withChains(input: GpuInput): GpuInput {
  const { devices, switches = [] } = input
  const pool = chainsIn([...devices, ...switches])
  if (input.form === 'container' || ![...devices, ...switches].some(isChain)) return input
  return {
    ...input,
    devices: reportsIn(devices),
    switches: reportsIn(switches),
    endorsements: mergePools(input.endorsements, pool),
  }
}

async function verifyKind(
  t: Transcript,
  kind: DeviceKind,
  evidence: readonly Bytes[],
  shelf: RimShelf,
  input: GpuInput,
): Promise<readonly Held[] | undefined> {
  const { expectedNonce, endorsements, anchors, now, form = 'any' } = input
  const devices = await verifyDevices(t, kind, { evidence, form, expectedNonce, endorsements, anchors, now })
  return devices && checkFirmware(t, kind, devices, { shelf, anchors, now })
}

/** A device's leaf is made by the device itself and no responder knows it; the root is pinned. */
function subjectsOf(all: readonly Held[]): readonly Subject[] {
  return all.flatMap(({ device, rims }) => [
    ...(device.chain ?? []).slice(1).flatMap((certificate, i) => {
      const issuer = device.chain?.[i + 2]
      return issuer === undefined ? [] : [{ certificate, issuer }]
    }),
    ...rims.flatMap(({ rim }) => rimSubjects(rim)),
  ])
}

function findings(
  all: readonly Held[],
  responses: readonly OcspResponse[],
  subjects: readonly Subject[],
  input: GpuInput,
): GpuFindings {
  const rims = [...new Set(all.flatMap((held) => held.rims))]
  const chains = all.flatMap(({ device }) => (device.chain === undefined ? [] : [device.chain]))
  const added =
    chains.some((chain) => trustOf(chain.at(-1), 'device', input.anchors) === 'added') ||
    rims.some(({ rim }) => trustOf(rim.signature.certificates.at(-1), 'rim', input.anchors) === 'added')
  const expiries = [
    ...chains.flatMap((chain) => chain.map((certificate) => certificate.notAfter.getTime())),
    ...rims.map(({ rim }) => rimExpiry(rim)),
    ...responses.map((response) => ocspExpiry(response, input.policy.ocsp)),
  ]
  return {
    devices: all.map(describe),
    privateAnchor: added,
    endorsementsUsed: [...rims.map(({ rim }) => rimUse(rim)), ...responses.map(ocspUse)],
    endorsementBytes: [...rims.map(({ bytes }) => bytes), ...responses.map(({ der }) => der), ...loneChains(all)],
    validUntil: new Date(chains.length === 0 ? 0 : Math.min(...expiries)),
    notProven: [...NOT_PROVEN, ...stapledSince(responses, input)],
    wanted: { rimIds: [...new Set(all.flatMap(missingRims))], subjects },
  }
}

/** Certificates of reports that came without any: without them a saved verdict could not be repeated. */
function loneChains(all: readonly Held[]): readonly Bytes[] {
  return all.flatMap(({ device }) =>
    device.item.chain === undefined ? (device.chain ?? []).map(({ der }) => der) : [],
  )
}

function describe({ device, comparison }: Held): GpuDevice {
  const { fields, certified, report, name } = device
  return {
    kind: fields?.kind ?? certified?.family.kind ?? (name.startsWith('GPU') ? 'gpu' : 'switch'),
    name,
    product: certified?.product,
    driver: fields?.kind === 'gpu' ? fields.driver : undefined,
    vbios: fields?.vbios,
    mode: fields?.kind === 'gpu' ? fields.mode : undefined,
    ueid: ueidOf(device),
    deviceId: certified?.deviceId,
    nonceHex: toHex(report.request.nonce),
    measurements: comparison,
  }
}

/** Stapled answers are as old as they are; only an answer to one's own request is current. */
function stapledSince(responses: readonly OcspResponse[], { now, ocspNonce }: GpuInput): GpuFindings['notProven'] {
  const stapled = responses.filter((response) => !answers(response, ocspNonce))
  if (stapled.length === 0) return []
  const oldest = Math.min(
    ...stapled.flatMap((response) => response.answers.map(({ thisUpdate }) => thisUpdate.getTime())),
  )
  const age = Math.floor((now.getTime() - oldest) / 1000)
  return [
    { id: 'gpu.ocsp-age', text: `that nothing was revoked since: the oldest stapled OCSP response is ${age} s old` },
  ]
}

const NOT_PROVEN: GpuFindings['notProven'] = [
  {
    id: 'gpu.relay',
    text: 'that these GPUs sit in the machine whose CPU was attested: only measured software vouches for that link, and a genuine report can be relayed from elsewhere',
  },
  {
    id: 'gpu.settings',
    text: 'that developer tools are off and confidential computing is on: the report has no such fields; the attested guest software has to refuse otherwise',
  },
  {
    id: 'gpu.driver-software',
    text: 'anything about the guest’s GPU kernel module and CUDA libraries: the GPU measures its own firmware, the CPU has to measure those',
  },
]
