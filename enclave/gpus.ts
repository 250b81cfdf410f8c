/**
 * The GPUs of this machine, as the platform takes part of its evidence from them. The gate is found by a computed address: an
 * image without GPUs does not hold it, and an image with them holds it as a file of its own.
 */
import type { StapledEndorsement } from '../verifier/protocol/bundle.js'
import type { Bytes } from '../verifier/protocol/bytes.js'
import { WorkerError } from './errors.js'
import type { AdmittedGpus, GateOptions } from './gpu-gate.js'
import type { Nvml } from './platforms/nvml.js'
import type { Platform } from './platforms/platform.js'

interface GateModule {
  admitGpus(options: GateOptions): Promise<AdmittedGpus>
}

export interface GpusOptions {
  readonly nvml: Nvml
  readonly endorsementsFor: (devices: readonly Bytes[]) => Promise<readonly StapledEndorsement[]>
  readonly now: () => Date
  /** In the place of the gate; for tests. */
  readonly gate?: GateModule
}

/**
 * The platform with its GPUs, admitted. Their evidence goes into every bundle from now on.
 * @throws WorkerError `worker.gpu` when they do not pass the gate; whoever catches it must refuse to serve.
 */
export async function withGpus(platform: Platform, options: GpusOptions): Promise<Platform> {
  const { nvml, endorsementsFor, now, gate = await loadGate() } = options
  try {
    await gate.admitGpus({ nvml, endorsementsFor, now })
  } catch (cause) {
    await nvml.setReady(false).catch(() => undefined)
    await nvml.close().catch(() => undefined)
    throw cause
  }
  return {
    ...platform,
    async attestDevices(nonce) {
      const gpus: Bytes[] = []
      for (let index = 0; index < nvml.count; index++) gpus.push(await nvml.evidence(index, nonce))
      return { gpus, switches: [] }
    },
  }
}

/** @throws WorkerError `worker.gpu` in an image for machines without GPUs. */
async function loadGate(): Promise<GateModule> {
  const extension = /\.(ts|js|mjs)$/.exec(import.meta.url)?.[1] ?? 'js'
  try {
    return (await import(new URL(`./gpu-gate.${extension}`, import.meta.url).href)) as GateModule
  } catch (cause) {
    throw new WorkerError('worker.gpu', 'this machine has a GPU and this image is for machines without', { cause })
  }
}
