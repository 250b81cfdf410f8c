/** What a build says of itself, in manifest.json: what was built, of which sources, and which model is on its disk. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ImageError } from './command.js'
import { type Flavour, howToBuild } from './places.js'
import type { SourceState } from './source-state.js'

export interface Artifact {
  readonly name: string
  readonly bytes: number
  readonly sha256: string
}

/** The package on the model disk; digests in hex. */
export interface HeldModel {
  readonly id: string
  /** PROTOCOL.md §8: root over graph and weights, of the plaintext where they are sealed. */
  readonly weights: string
  /** SHA-256 of its manifest.json. */
  readonly manifest: string
  /** Graph and weights are encrypted, and wait for their owner's key. */
  readonly sealed: boolean
}

export interface ImageManifest {
  readonly schema: typeof IMAGE_SCHEMA
  readonly flavour: Flavour
  /** What it was built of, as far as git said. Of two builds with the same artifacts it may differ. */
  readonly source?: SourceState
  /** What a verifier must not take this for. */
  readonly note: string
  readonly commandLine: string
  readonly model: HeldModel
  /** What computes, as a host configuration names it. */
  readonly engine: string
  readonly artifacts: readonly Artifact[]
}

export const IMAGE_SCHEMA = 'subrosa-image/2'
export const MANIFEST_FILE = 'manifest.json'
/** Launch digests, which `build` and `measure` write. */
export const MEASUREMENTS_FILE = 'measurements.json'

/** @throws ImageError when there is none in the folder, or another version wrote it. */
export async function readImageManifest(folder: string): Promise<ImageManifest> {
  const file = join(folder, MANIFEST_FILE)
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new ImageError(`${file}: not there; ${howToBuild(folder)}`, { cause })
  })
  const manifest = JSON.parse(text) as ImageManifest
  if (manifest.schema === IMAGE_SCHEMA) return manifest
  throw new ImageError(`${file}: expected schema ${IMAGE_SCHEMA}, got ${manifest.schema}; build the image again`)
}
