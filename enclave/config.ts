/**
 * The canonical host configuration (PROTOCOL.md §4, `config`): what the host may choose about a worker, and nothing
 * else. Its deterministic encoding is hashed into HOST_DATA (SHA-256) on SNP and MRCONFIGID (SHA-384) on TDX at launch,
 * so a host that changes a choice changes the evidence.
 */
import type { Bytes } from '../verifier/protocol/bytes.js'
import { CborFields, type CborKey, type CborValue, decodeCbor, encodeCbor } from '../verifier/protocol/cbor.js'
import { FormatError } from '../verifier/protocol/errors.js'
import { sha256, sha384 } from '../verifier/protocol/hash.js'
import type { IsolationMode, PaddingMode } from '../verifier/protocol/statement.js'
import { DEFAULT_DEVICE, DEVICES, type Device } from './inference/device.js'

/** Name and version of the worker software, as the statement gives them. */
export const SOFTWARE_NAME = 'subrosa'
export const SOFTWARE_VERSION = '0.1.0'

const SCHEMA = 'subrosa-host-configuration/1'
const MAX_CONFIGURATION_BYTES = 4096
const PADDING_MODES: readonly PaddingMode[] = ['off', 'tick']

export interface HostConfiguration {
  readonly model: {
    readonly id: string
    /** RFC 9162 root over the graph and weight files, 32 bytes (PROTOCOL.md §8). */
    readonly weightsRoot: Bytes
    /** Raw Ed25519 public key of the model's owner, 32 bytes: the weights are encrypted and only it may release their key. */
    readonly ownerKey?: Bytes
  }
  readonly padding: PaddingMode
  /** Inference engine and version; must be the one that runs. */
  readonly engine: string
  /** Where the engine computes. Default `cpu`, which no configuration says in so many words: each has one encoding. */
  readonly device?: Device
  /** Default `request`, which no configuration says in so many words: each has one encoding. */
  readonly isolation?: IsolationMode
  /** Raw Ed25519 public key of the operator, 32 bytes. */
  readonly operatorKey?: Bytes
}

/** The one encoding of a configuration: what is hashed, byte for byte. */
export function encodeHostConfiguration(configuration: HostConfiguration): Bytes {
  const map = new Map<CborKey, CborValue>([
    ['schema', SCHEMA],
    [
      'model',
      new Map<CborKey, CborValue>([
        ['id', configuration.model.id],
        ['weights', configuration.model.weightsRoot],
        ...(configuration.model.ownerKey === undefined
          ? []
          : [['owner', configuration.model.ownerKey] as [CborKey, CborValue]]),
      ]),
    ],
    ['padding', configuration.padding],
    ['engine', configuration.engine],
  ])
  if (configuration.device !== undefined && configuration.device !== DEFAULT_DEVICE) {
    map.set('device', configuration.device)
  }
  if (configuration.isolation === 'session') map.set('isolation', 'session')
  if (configuration.operatorKey !== undefined) map.set('operator', configuration.operatorKey)
  return encodeCbor(map)
}

/** @throws FormatError on anything but one configuration of this schema; unknown members are refused. */
export function parseHostConfiguration(bytes: Uint8Array): HostConfiguration {
  const f = new CborFields(decodeCbor(bytes, MAX_CONFIGURATION_BYTES), 'host configuration')
  const schema = f.text('schema')
  if (schema !== SCHEMA) {
    throw new FormatError('config.schema', `host configuration: expected schema ${SCHEMA}, got ${schema.slice(0, 80)}`)
  }
  const model = f.map('model')
  const text = f.text('padding')
  const padding = PADDING_MODES.find((mode) => mode === text)
  if (padding === undefined)
    throw new FormatError('config.padding', 'host configuration: padding: expected off or tick')
  const device = f.has('device') ? parseDevice(f.text('device')) : undefined
  if (f.has('isolation') && f.text('isolation') !== 'session')
    throw new FormatError('config.isolation', 'host configuration: isolation: expected session, or none')
  const configuration: HostConfiguration = {
    model: {
      id: model.text('id'),
      weightsRoot: model.bytes('weights', 32),
      ...(model.has('owner') ? { ownerKey: model.bytes('owner', 32) } : {}),
    },
    padding,
    engine: f.text('engine'),
    ...(device === undefined ? {} : { device }),
    ...(f.has('isolation') ? { isolation: 'session' as const } : {}),
    ...(f.has('operator') ? { operatorKey: f.bytes('operator', 32) } : {}),
  }
  model.end()
  f.end()
  return configuration
}

function parseDevice(text: string): Device {
  const device = DEVICES.find((other) => other !== DEFAULT_DEVICE && other === text)
  if (device !== undefined) return device
  throw new FormatError('config.device', 'host configuration: device: expected cuda or webgpu, or none')
}

/** What the report of this kind of machine must carry for that configuration: 32 bytes on SNP, 48 on TDX. */
export function configurationDigest(kind: 'snp' | 'tdx', encoded: Uint8Array): Bytes {
  return kind === 'snp' ? sha256(encoded) : sha384(encoded)
}
