/**
 * The tree of the model disk: the manifest and the files it lists, with modes and times that mean nothing. Whoever made the package is
 * not trusted, and the build runs as root: only regular files of the package's own folder are opened, and no more is read of
 * each than the manifest allows.
 */
import { existsSync } from 'node:fs'
import { chmod, realpath, utimes } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import {
  checkListed,
  isMeasuredRole,
  loadManifest,
  MANIFEST_FILE,
  MAX_MANIFEST_BYTES,
  type ModelFile,
  type ModelManifest,
  modelClaims,
} from '../../enclave/inference/package.js'
import {
  loadSealedPackage,
  mostSealedBytes,
  SEALED_MAGIC,
  SEALED_SUFFIX,
} from '../../enclave/inference/sealed-package.js'
import { toHex } from '../../verifier/protocol/bytes.js'
import { ImageError } from './command.js'
import { copyHostileFile } from './hostile-file.js'
import type { HeldModel } from './manifest.js'

export interface CopiedModel {
  readonly held: HeldModel
  readonly manifest: ModelManifest
}

/**
 * Copies the package `from` into the folder `to`, and checks the copy: of a sealed package what is in the clear, and that the rest
 * are age files, as nobody here can open them.
 * @param sealed whether its owner was named. @throws ImageError when the package is not what that says, or holds anything but
 * regular files of its own folder; EngineError as `loadModelPackage`.
 */
export async function copyModel(from: string, to: string, epoch: number, sealed: boolean): Promise<CopiedModel> {
  // Says what is wrong with a folder that is no package.
  await loadManifest(from)
  const root = await realpath(from)
  await copyHostileFile(root, MANIFEST_FILE, to, MAX_MANIFEST_BYTES)
  // Of the copy, which nobody changes: the other may be another by now.
  const { manifest, manifestDigest } = await loadManifest(to)
  expectSealed(from, manifest, sealed)
  const placeOf = sealed ? sealedPlace : plainPlace
  const folders = new Set([to])
  for (const file of manifest.files) {
    const path = placeOf(file)
    for (let folder = dirname(join(to, path)); folder !== to; folder = dirname(folder)) folders.add(folder)
    const encrypted = path !== file.path
    await copyHostileFile(
      root,
      path,
      to,
      encrypted ? mostSealedBytes(file.size) : file.size,
      encrypted ? SEALED_MAGIC : '',
    )
  }
  for (const path of [MANIFEST_FILE, ...manifest.files.map(placeOf)]) {
    await chmod(join(to, path), 0o444)
    await utimes(join(to, path), epoch, epoch)
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
