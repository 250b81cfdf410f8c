/**
 * A simulated GPU node: one or more GPUs, and NVSwitches where asked for, with fresh identities under a fresh NVIDIA-shaped
 * hierarchy, signed manifests for what they run, and OCSP responses for all of it. For development and tests; it protects
 * nothing and the verifier rejects it unless its two roots are trusted on purpose.
 *
 * Private keys never leave this process and never touch disk, and everything signed expires within 24 hours.
 */
import type { StapledEndorsement } from '../../verifier/protocol/bundle.js'
import type { Bytes } from '../../verifier/protocol/bytes.js'
import { GPU_FAMILY, type GpuFamily, type RimKind, range, type SimulatedGpuProduct } from './gpu-facts.js'
import { createOcspService, type OcspService } from './gpu-ocsp.js'
import type { GpuMode } from './gpu-opaque.js'
import { buildGpuReport, type GpuReportFields } from './gpu-report.js'
import { buildRim } from './gpu-rim.js'
import {
  createNvidiaHierarchy,
  type DeviceFamily,
  type IssuedDevice,
  type IssuedRimSigner,
  type NvidiaHierarchy,
  SIMULATED_LIFETIME_MS,
} from './nvidia.js'

export type { SimulatedGpuProduct } from './gpu-facts.js'

/** How far before `now` everything starts, so that a verifier whose clock is a little behind accepts it. */
const CLOCK_SKEW_MS = 5 * 60 * 1000

export interface SimulatedGpusOptions {
  /** GPUs, 1 to 8. Default 1. */
  readonly count?: number
  /** NVSwitches, 0 to 4, on H100 only. With switches the node is in protected-PCIe mode. Default 0. */
  readonly switches?: number
  /** The time to start from. Everything ends 24 hours after five minutes before it. */
  readonly now: Date
  /** Default H100. */
  readonly product?: SimulatedGpuProduct
  /** Layout of the GPUs' opaque data; the switches' is always legacy. Default legacy. */
  readonly layout?: GpuReportFields['layout']
}

/** A device with everything needed to make other reports of it. */
export interface SimulatedDevice extends IssuedDevice {
  /** Fields of its reports, nonce excepted. */
  readonly reportFields: Omit<GpuReportFields, 'nonce'>
}

export interface SimulatedGpus {
  readonly product: SimulatedGpuProduct
  readonly mode: GpuMode
  /** GPUs, then switches, in the order of their evidence. */
  readonly devices: readonly SimulatedDevice[]
  /** The hierarchy, manifest signers and OCSP service behind them, for tests that need more of anything. */
  readonly nvidia: NvidiaHierarchy
  readonly rimSigners: ReadonlyMap<DeviceFamily, IssuedRimSigner>
  readonly ocsp: OcspService
  /** When the last endorsement expires; make new ones before that. */
  readonly validUntil: Date
  /** Manifests in XML, OCSP responses for device certificates 1 to 3 and manifest certificates 0 to 2, both roots in DER. */
  readonly endorsements: readonly StapledEndorsement[]
  /** Both roots in PEM, each after lines that say what it is. */
  readonly rootsPem: string
  /**
   * Fresh signed evidence, one item for each device, as `application/vnd.nvidia.gpu.evidence+cbor`.
   * @param nonce the SPDM nonce, exactly 32 bytes
   * @throws RangeError on any other length
   */
  attest(nonce: Uint8Array): Promise<Bytes[]>
}

/** @throws RangeError when `count` is not 1 to 8, `switches` not 0 to 4, or switches go with another product than H100. */
export function createSimulatedGpus(options: SimulatedGpusOptions): SimulatedGpus {
  const { count = 1, switches = 0, product = 'H100' } = options
  if (!Number.isInteger(count) || count < 1 || count > 8) throw new RangeError(`expected 1 to 8 GPUs, got ${count}`)
  if (!Number.isInteger(switches) || switches < 0 || switches > 4) {
    throw new RangeError(`expected 0 to 4 switches, got ${switches}`)
  }
  if (switches > 0 && product !== 'H100') throw new RangeError('expected switches with H100 only')

  // Whole seconds, because that is all a certificate can say.
  const notBefore = new Date(Math.floor((options.now.getTime() - CLOCK_SKEW_MS) / 1000) * 1000)
  const notAfter = new Date(notBefore.getTime() + SIMULATED_LIFETIME_MS)
  const nvidia = createNvidiaHierarchy({ notBefore, notAfter })
  const ocsp = createOcspService(nvidia)
  const family = GPU_FAMILY[product]
  const mode: GpuMode = switches > 0 ? 'PPCIe' : count > 1 ? 'MPT' : 'SPT'
  const devices = createDevices(nvidia, family, count, switches, mode, options.layout ?? 'legacy')
  const families: readonly DeviceFamily[] = switches > 0 ? [family, 'LS10'] : [family]
  const rimSigners = new Map(families.map((each) => [each, nvidia.issueRimSigner({ family: each })]))

  return {
    product,
    mode,
    devices,
    nvidia,
    rimSigners,
    ocsp,
    validUntil: notAfter,
    endorsements: [
      ...[...rimSigners].flatMap(([each, signer]) =>
        rimKinds(each).map(
          (kind) => ({ type: 'application/xml', bytes: buildRim({ family: each, kind }, signer) }) as const,
        ),
      ),
      ...stapledResponses(nvidia, ocsp, devices, [...rimSigners.values()]),
      { type: 'application/pkix-cert', bytes: nvidia.deviceRoot.der },
      { type: 'application/pkix-cert', bytes: nvidia.rimRoot.der },
    ],
    rootsPem: [nvidia.deviceRoot.pem, nvidia.rimRoot.pem].map((pem) => describeRoot(pem, notAfter)).join(''),
    attest: async (nonce) => {
      if (nonce.length !== 32) throw new RangeError(`nonce: expected 32 bytes, got ${nonce.length}`)
      return devices.map(({ reportFields, privateKey, chain }) =>
        encodeGpuEvidence(buildGpuReport({ ...reportFields, nonce }, privateKey), chain),
      )
    },
  }
}

/** The evidence item: deterministic CBOR (RFC 8949 §4.2.1) `{"chain": [certificate, …], "report": bstr}`. */
export function encodeGpuEvidence(report: Uint8Array, chain: readonly Uint8Array[]): Bytes {
  const text = (value: string): Buffer => Buffer.concat([cborHead(3, value.length), Buffer.from(value, 'latin1')])
  const bytes = (value: Uint8Array): Buffer => Buffer.concat([cborHead(2, value.length), value])
  return new Uint8Array(
    Buffer.concat([
      cborHead(5, 2),
      text('chain'),
      cborHead(4, chain.length),
      ...chain.map(bytes),
      text('report'),
      bytes(report),
    ]),
  )
}

function createDevices(
  nvidia: NvidiaHierarchy,
  family: GpuFamily,
  count: number,
  switches: number,
  mode: GpuMode,
  layout: 'legacy' | 'versioned',
): SimulatedDevice[] {
  const gpus = range(0, count).map(() => nvidia.issueDevice({ family }))
  const nvSwitches = range(0, switches).map(() => nvidia.issueDevice({ family: 'LS10' }))
  // 18 links of a GPU, spread over the switches.
  const linkedSwitches =
    nvSwitches.length === 0 ? [] : range(0, 18).flatMap((link) => nvSwitches[link % switches]?.pdi ?? [])
  const gpuPdis = gpus.map(({ pdi }) => pdi)
  return [
    ...gpus.map((gpu) => ({ ...gpu, reportFields: { family, layout, fwid: gpu.fwid, mode, linkedSwitches } })),
    ...nvSwitches.map((nvSwitch, positionId) => ({
      ...nvSwitch,
      reportFields: { family: 'LS10' as const, pdi: nvSwitch.pdi, gpuPdis, positionId },
    })),
  ]
}

function rimKinds(family: DeviceFamily): readonly RimKind[] {
  return family === 'LS10' ? ['vbios'] : ['driver', 'vbios']
}

/** One response for each certificate between the leaves and the roots, manifest signers included. */
function stapledResponses(
  nvidia: NvidiaHierarchy,
  ocsp: OcspService,
  devices: readonly IssuedDevice[],
  signers: readonly IssuedRimSigner[],
): StapledEndorsement[] {
  const above = new Set(
    [...devices.map(({ brom }) => brom), ...signers].flatMap(({ issuer }) => authoritiesFrom(nvidia, issuer)),
  )
  const certificates = [...devices.map(({ brom }) => brom), ...above, ...signers]
  return certificates.map((certificate) => ({ type: 'application/ocsp-response', bytes: ocsp.staple(certificate) }))
}

/** The authority and those above it, the root excepted. */
function authoritiesFrom(
  nvidia: NvidiaHierarchy,
  authority: IssuedDevice['issuer'],
): NvidiaHierarchy['authorities']['rimRoot'][] {
  if (authority === undefined) return []
  const certificate = nvidia.authorities[authority]
  return certificate.issuer === undefined ? [] : [certificate, ...authoritiesFrom(nvidia, certificate.issuer)]
}

/** PEM with explanatory text before it (RFC 7468 §5.2), which says the vendor kind the root may stand for. */
function describeRoot(pem: string, validUntil: Date): string {
  const until = `${validUntil.toISOString().slice(0, 19)}Z`
  return `Kind: nvidia\nSIMULATED root, valid until ${until}; trust it for development only\n${pem}`
}

/** A CBOR head of up to 65,535 (RFC 8949 §3), in its shortest form. */
function cborHead(major: number, value: number): Buffer {
  const type = major << 5
  if (value < 24) return Buffer.of(type | value)
  return value < 256 ? Buffer.of(type | 24, value) : Buffer.of(type | 25, value >> 8, value & 0xff)
}
