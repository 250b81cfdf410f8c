/**
 * The host's configuration as it reaches the worker: bytes from the host, and the digest that the machine was launched with.
 * The digest is compared first and the bytes parsed afterwards, so that nothing the host did not commit to is ever parsed.
 */
import { type Bytes, equalBytes, toHex } from '../verifier/protocol/bytes.js'
import { FormatError } from '../verifier/protocol/errors.js'
import { configurationDigest, parseHostConfiguration } from './config.js'
import { WorkerError } from './errors.js'
import type { Platform } from './platforms/platform.js'
import type { HostChoices } from './worker.js'

/**
 * What the host chose, from bytes whose digest the hardware vouches for. Model and engine are compared later, by
 * `createWorker`, with what really runs.
 * @throws WorkerError `worker.host-data` on any other bytes, or when they are no configuration.
 */
export function openHostConfiguration(
  bytes: Bytes,
  { kind, hostData }: Pick<Platform, 'kind' | 'hostData'>,
): HostChoices {
  const digest = configurationDigest(kind, bytes)
  if (!equalBytes(digest, hostData)) {
    throw new WorkerError(
      'worker.host-data',
      `this machine was launched for the configuration ${toHex(hostData)}, and was handed the configuration ${toHex(digest)}: hand over the one whose digest was given at launch`,
    )
  }
  try {
    const { padding, device, isolation, operatorKey, model } = parseHostConfiguration(bytes)
    return {
      padding,
      ...(device === undefined ? {} : { device }),
      ...(isolation === undefined ? {} : { isolation }),
      ...(operatorKey === undefined ? {} : { operatorKey }),
      ...(model.ownerKey === undefined ? {} : { modelOwnerKey: model.ownerKey }),
    }
  } catch (cause) {
    if (!(cause instanceof FormatError)) throw cause
    throw new WorkerError('worker.host-data', `the configuration of this launch cannot be used: ${cause.message}`, {
      cause,
    })
  }
}
