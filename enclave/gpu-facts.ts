/** What the GPU driver says of itself, for `subrosa doctor`. Asking starts a GPU, so whoever calls makes sure that it stays up. */
import { type ConfidentialMode, openNvml } from './platforms/nvml.js'

export interface GpuFacts {
  readonly driver: string
  readonly count: number
  readonly mode: ConfidentialMode
  readonly ready: boolean
  readonly persistent: boolean
}

/** Undefined without a driver. @throws WorkerError `worker.gpu` */
export async function readGpuFacts(): Promise<GpuFacts | undefined> {
  const nvml = await openNvml()
  if (nvml === undefined) return undefined
  try {
    const persistent = await Promise.all(Array.from({ length: nvml.count }, (_, index) => nvml.persistent(index)))
    return {
      driver: await nvml.driverVersion(),
      count: nvml.count,
      mode: await nvml.mode(),
      ready: await nvml.ready(),
      persistent: persistent.every(Boolean),
    }
  } finally {
    await nvml.close()
  }
}
