/**
 * The door to the simulated SEV-SNP machine, which lives with the developers' tools and is not in the image: it is
 * found by a computed address, so that nothing in this folder depends on it.
 */
import type { StapledEndorsement } from '../../verifier/protocol/bundle.js'
import type { Bytes } from '../../verifier/protocol/bytes.js'
import { MEDIA_TYPE_CERTIFICATE, MEDIA_TYPE_CRL } from '../../verifier/protocol/constants.js'
import { WorkerError } from '../errors.js'
import type { Platform } from './platform.js'

/** What the simulated machine offers, as far as it is used here. */
interface SimulatedMachine {
  readonly endorsements: readonly Bytes[]
  readonly rootsPem: string
  readonly validUntil: Date
  attest(reportData: Uint8Array): Promise<Bytes>
}

interface SimulatedModule {
  createSimulatedSnpPlatform(options: {
    readonly hostData: Uint8Array
    readonly now: Date
    readonly launchDigest?: Uint8Array
  }): Promise<SimulatedMachine>
}

export interface SimulatedPlatform extends Platform {
  /** The throw-away root, in PEM. Trusting it proves nothing about any hardware. */
  readonly rootsPem: string
}

/** @throws WorkerError `worker.simulated-missing` in an installation without the developers' tools, as in the image. */
export async function loadSimulatedPlatform(options: {
  readonly hostData: Bytes
  readonly now: () => Date
  /** MEASUREMENT to claim, 48 bytes; for tests of what a verifier does about another one. */
  readonly launchDigest?: Bytes
}): Promise<SimulatedPlatform> {
  const { hostData, now, launchDigest } = options
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
  const address = new URL(`../../scripts/simulated/snp-platform.${extension}`, import.meta.url)
  let module: SimulatedModule
  try {
    module = (await import(address.href)) as SimulatedModule
  } catch (cause) {
    throw new WorkerError(
      'worker.simulated-missing',
      'the simulated platform is not part of this installation: use a checkout of the repository',
      { cause },
    )
  }
  const machine = await module.createSimulatedSnpPlatform({
    hostData,
    now: now(),
    ...(launchDigest === undefined ? {} : { launchDigest }),
  })
  return {
    name: 'simulated',
    kind: 'snp',
    simulated: true,
    hostData,
    rootsPem: machine.rootsPem,
    async attest(reportData) {
      if (now() >= machine.validUntil) {
        throw new WorkerError('worker.platform', 'the simulated machine lives 24 hours: restart the worker')
      }
      return machine.attest(reportData)
    },
    endorsements: async () => machine.endorsements.map(stapled),
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
