/**
 * The door to the simulated SEV-SNP machine and its GPUs, which live with the developers' tools and are not in the image: they are
 * found by a computed address, so that nothing in this folder depends on it.
 */
import type { StapledEndorsement } from '../../verifier/protocol/bundle.js'
import type { Bytes } from '../../verifier/protocol/bytes.js'
import { MEDIA_TYPE_CERTIFICATE, MEDIA_TYPE_CRL } from '../../verifier/protocol/constants.js'
import { WorkerError } from '../errors.js'
import type { Platform } from './platform.js'

/** What the simulated machines offer, as far as it is used here. */
interface SimulatedCpu {
  readonly endorsements: readonly Bytes[]
  readonly rootsPem: string
  readonly validUntil: Date
  attest(reportData: Uint8Array): Promise<Bytes>
}

interface SimulatedGpus {
  readonly endorsements: readonly StapledEndorsement[]
  readonly rootsPem: string
  attest(nonce: Uint8Array): Promise<readonly Bytes[]>
}

interface CpuModule {
  createSimulatedSnpPlatform(options: {
    readonly hostData: Uint8Array
    readonly now: Date
    readonly launchDigest?: Uint8Array
  }): Promise<SimulatedCpu>
}

interface GpuModule {
  createSimulatedGpus(options: { readonly count: number; readonly now: Date }): SimulatedGpus
}

export interface SimulatedPlatform extends Platform {
  /** The throw-away roots, in PEM. Trusting them proves nothing about any hardware. */
  readonly rootsPem: string
}

export interface SimulatedPlatformOptions {
  readonly hostData: Bytes
  readonly now: () => Date
  /** MEASUREMENT to claim, 48 bytes; for tests of what a verifier does about another one. */
  readonly launchDigest?: Bytes
  /** GPUs, 0 to 8. Default 1. */
  readonly gpus?: number
}

/** @throws WorkerError `worker.simulated-missing` in an installation without the developers' tools, as in the image. */
export async function loadSimulatedPlatform(options: SimulatedPlatformOptions): Promise<SimulatedPlatform> {
  const { hostData, now, launchDigest, gpus = 1 } = options
  const started = now()
  const { createSimulatedSnpPlatform } = await load<CpuModule>('snp-platform')
  const cpu = await createSimulatedSnpPlatform({
    hostData,
    now: started,
    ...(launchDigest === undefined ? {} : { launchDigest }),
  })
  const devices =
    gpus === 0 ? undefined : (await load<GpuModule>('gpu-platform')).createSimulatedGpus({ count: gpus, now: started })
  const endorsements = [...cpu.endorsements.map(stapled), ...(devices?.endorsements ?? [])]
  return {
    name: 'simulated',
    kind: 'snp',
    simulated: true,
    hostData,
    rootsPem: cpu.rootsPem + (devices?.rootsPem ?? ''),
    async attest(reportData) {
      if (now() >= cpu.validUntil) {
        throw new WorkerError('worker.platform', 'the simulated machine lives 24 hours: restart the worker')
      }
      return cpu.attest(reportData)
    },
    attestDevices: async (nonce) => ({ gpus: (await devices?.attest(nonce)) ?? [], switches: [] }),
    endorsements: async () => endorsements,
  }
}

async function load<T>(name: string): Promise<T> {
  // From source, compiled, or bundled in the image's test flavour.
  const extension = /\.(ts|js|mjs)$/.exec(import.meta.url)?.[1] ?? 'js'
  const address = new URL(`../../scripts/simulated/${name}.${extension}`, import.meta.url)
  try {
    return (await import(address.href)) as T
  } catch (cause) {
    throw new WorkerError(
      'worker.simulated-missing',
      'the simulated platform is not part of this installation: use a checkout of the repository',
      { cause },
    )
  }
}

/** Tells certificates from revocation lists: only a version 3 TBSCertificate begins with an explicit [0] (RFC 5280). */
function stapled(der: Bytes): StapledEndorsement {
  const outer = contentOffset(der, 0)
  const inner = contentOffset(der, outer)
  return { type: der[inner] === 0xa0 ? MEDIA_TYPE_CERTIFICATE : MEDIA_TYPE_CRL, bytes: der }
}

function contentOffset(der: Bytes, offset: number): number {
  const length = der[offset + 1] ?? 0
  return offset + 2 + (length < 0x80 ? 0 : length & 0x7f)
}
