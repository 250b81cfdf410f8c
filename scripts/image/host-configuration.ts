/** The host configuration that goes with an image: what the host hands over at boot, and the digests it gives at launch. */
import { configurationDigest, encodeHostConfiguration } from '../../enclave/config.js'
import { createOrtEngine } from '../../enclave/inference/ort/engine.js'
import { loadModelPackage, modelClaims } from '../../enclave/inference/package.js'
import { engineLabel } from '../../enclave/worker.js'
import { type Bytes, toHex } from '../../verifier/protocol/bytes.js'
import type { ModelClaims, PaddingMode } from '../../verifier/protocol/statement.js'

export interface HostConfigurationFile {
  readonly bytes: Bytes
  /** SHA-256, for SNP's HOST_DATA. */
  readonly hostDataHex: string
  /** SHA-384, for TDX's MRCONFIGID. */
  readonly mrConfigIdHex: string
  readonly model: ModelClaims
}

export async function hostConfigurationFor(
  modelFolder: string,
  padding: PaddingMode = 'tick',
): Promise<HostConfigurationFile> {
  const modelPackage = await loadModelPackage(modelFolder)
  const model = modelClaims(modelPackage)
  // The checkout's own runtime, which the lock of the image has too; only it knows its version.
  const engine = await createOrtEngine(modelPackage)
  const label = engineLabel(engine)
  await engine.close()
  const bytes = encodeHostConfiguration({
    model: { id: model.id, weightsRoot: model.weightsRoot },
    padding,
    engine: label,
  })
  return {
    bytes,
    hostDataHex: toHex(configurationDigest('snp', bytes)),
    mrConfigIdHex: toHex(configurationDigest('tdx', bytes)),
    model,
  }
}
