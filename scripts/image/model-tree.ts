/** The tree of the model disk: the manifest and the files it lists, with modes and times that mean nothing. */
import { existsSync } from 'node:fs'
import { chmod, copyFile, mkdir, utimes } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import {
  checkListed,
  isMeasuredRole,
  loadManifest,
  type ModelManifest,
  modelClaims,
} from '../../enclave/inference/package.js'
import { loadSealedPackage, SEALED_SUFFIX } from '../../enclave/inference/sealed-package.js'
import { toHex } from '../../verifier/protocol/bytes.js'
import { ImageError } from './command.js'
import type { HeldModel } from './manifest.js'

export interface CopiedModel {
  readonly held: HeldModel
  readonly manifest: ModelManifest
}

/**
 * Copies the package `from` into the folder `to`, and checks the copy: of a sealed package what is in the clear, as nobody here
 * can open the rest.
 * @param sealed whether its owner was named. @throws ImageError when the package is not what that says; EngineError as
 * `loadModelPackage`.
 */
export async function copyModel(from: string, to: string, epoch: number, sealed: boolean): Promise<CopiedModel> {
  const { manifest, manifestDigest } = await loadManifest(from)
  expectSealed(from, manifest, sealed)
  const placeOf = sealed ? sealedPlace : plainPlace
  const folders = new Set([to])
  for (const path of ['manifest.json', ...manifest.files.map(placeOf)]) {
    const target = join(to, path)
    await mkdir(dirname(target), { recursive: true })
    folders.add(dirname(target))
    await copyFile(join(from, path), target)
    await chmod(target, 0o444)
    await utimes(target, epoch, epoch)
  }
  for (const folder of folders) {
    await chmod(folder, 0o755)
    await utimes(folder, epoch, epoch)
  }
  if (sealed) await loadSealedPackage(to)
  else for (const file of manifest.files) await checkListed(to, file)
  const { id, weightsRoot } = modelClaims({ manifest, manifestDigest })
  return { manifest, held: { id, weights: toHex(weightsRoot), manifest: toHex(manifestDigest), sealed } }
}

type ModelFile = ModelManifest['files'][number]

function plainPlace({ path }: ModelFile): string {
  return path
}

function sealedPlace({ path, role }: ModelFile): string {
  return isMeasuredRole(role) ? path + SEALED_SUFFIX : path
}

function expectSealed(folder: string, { files }: ModelManifest, sealed: boolean): void {
  const places = files.map(sealed ? sealedPlace : plainPlace)
  const missing = places.find((path) => !existsSync(join(folder, path)))
  if (missing === undefined) return
  const others = files.map(sealed ? plainPlace : sealedPlace)
  const other = others.every((path) => existsSync(join(folder, path)))
  if (other && sealed) {
    throw new ImageError(`${folder}: not sealed, though an owner is named: subrosa model seal, or no --model-owner`)
  }
  if (other) throw new ImageError(`${folder}: sealed: name its owner's public key with --model-owner`)
  throw new ImageError(`${folder}: expected the files of its manifest.json, got no ${missing}`)
}
