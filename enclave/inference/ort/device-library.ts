/** The runtime's library, with what computing on a device takes besides. */
import { dirname } from 'node:path'
import type { Device } from '../device.js'
import { findCuda, type ProviderLibrary } from './cuda.js'
import { findLibrary, RUNTIME_VERSION, type RuntimeLibrary } from './library.js'

export interface DeviceLibrary extends RuntimeLibrary {
  readonly device: Device
  /** Libraries of the runtime's besides it, which it loads to compute there. */
  readonly providers: readonly ProviderLibrary[]
}

/**
 * Undefined where no library is known for this machine.
 * @throws EngineError `engine.failed` when it is another one, `device.unavailable` with all that is missing.
 */
export async function findDeviceLibrary(device: Device): Promise<DeviceLibrary | undefined> {
  const library = await findLibrary()
  if (library === undefined) return undefined
  const providers = device === 'cuda' ? await findCuda(dirname(library.path), RUNTIME_VERSION) : []
  return { ...library, device, providers }
}
