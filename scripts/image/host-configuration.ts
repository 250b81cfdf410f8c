/** The host configuration that goes with an image: what the host hands over at boot, and the digests it gives at launch. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { configurationDigest, encodeHostConfiguration, parseHostConfiguration } from '../../enclave/config.js'
import { type Bytes, fromHex, toBytes, toHex } from '../../verifier/protocol/bytes.js'
import type { IsolationMode, PaddingMode } from '../../verifier/protocol/statement.js'
import { ImageError } from './command.js'
import type { ImageManifest } from './manifest.js'

/** What a host may choose; model and engine are the image's. The engine of an image computes on the CPU. */
export interface HostChoices {
  /** Default `tick`. */
  readonly padding?: PaddingMode
  /** Default `request`. */
  readonly isolation?: IsolationMode
  /** Raw Ed25519 public key of the model's owner, 32 bytes: for a sealed package, and for no other. */
  readonly modelOwnerKey?: Bytes
  /** Raw Ed25519 public key of the operator, 32 bytes. */
  readonly operatorKey?: Bytes
}

export interface HostConfigurationFile {
  readonly bytes: Bytes
  /** SHA-256, for SNP's HOST_DATA. */
  readonly hostDataHex: string
  /** SHA-384, for TDX's MRCONFIGID. */
  readonly mrConfigIdHex: string
}

type Image = Pick<ImageManifest, 'model' | 'engine'>

export const CONFIGURATION_FILE = 'host-configuration.cbor'

/** @throws ImageError when an owner is named for a model in the clear, or none for a sealed one. */
export function hostConfigurationFor({ model, engine }: Image, choices: HostChoices = {}): HostConfigurationFile {
  const { padding = 'tick', isolation, modelOwnerKey, operatorKey } = choices
  if (model.sealed !== (modelOwnerKey !== undefined)) {
    throw new ImageError(
      model.sealed
        ? `the image holds ${model.id} sealed: name its owner's public key with --model-owner`
        : `the image holds ${model.id} in the clear: an owner of its weights is for a sealed one`,
    )
  }
  const weightsRoot = fromHex(model.weights)
  return digested(
    encodeHostConfiguration({
      model: { id: model.id, weightsRoot, ...(modelOwnerKey === undefined ? {} : { ownerKey: modelOwnerKey }) },
      padding,
      engine,
      ...(isolation === undefined ? {} : { isolation }),
      ...(operatorKey === undefined ? {} : { operatorKey }),
    }),
  )
}

export async function writeHostConfiguration(folder: string, { bytes }: HostConfigurationFile): Promise<void> {
  await writeFile(join(folder, CONFIGURATION_FILE), bytes)
}

/** The one that lies beside the image. @throws ImageError when there is none, or it is not one for this image. */
export async function readHostConfiguration(folder: string, { model, engine }: Image): Promise<HostConfigurationFile> {
  const file = join(folder, CONFIGURATION_FILE)
  const bytes = await readFile(file).catch((cause: unknown) => {
    throw new ImageError(`${file}: not there; build the image again`, { cause })
  })
  const encoded = toBytes(new Uint8Array(bytes))
  const parsed = parse(file, encoded)
  const same =
    parsed.model.id === model.id &&
    toHex(parsed.model.weightsRoot) === model.weights &&
    (parsed.model.ownerKey !== undefined) === model.sealed &&
    parsed.engine === engine
  if (same) return digested(encoded)
  throw new ImageError(
    `${file}: expected model and engine of the image beside it, ${model.id} on ${engine}; build the image again`,
  )
}

function parse(file: string, bytes: Bytes): ReturnType<typeof parseHostConfiguration> {
  try {
    return parseHostConfiguration(bytes)
  } catch (cause) {
    throw new ImageError(`${file}: expected a host configuration; build the image again`, { cause })
  }
}

function digested(bytes: Bytes): HostConfigurationFile {
  return {
    bytes,
    hostDataHex: toHex(configurationDigest('snp', bytes)),
    mrConfigIdHex: toHex(configurationDigest('tdx', bytes)),
  }
}
