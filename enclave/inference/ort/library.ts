/**
 * The shared library inside the onnxruntime-node package: found, and compared with the one this engine was written for.
 *
 * Its C interface is called by table index, so another library would not fail cleanly but call the wrong function. The
 * digest is also what the worker's statement says about the code that computes.
 */

import { createHash } from 'node:crypto'
import { createReadStream, existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { EngineError } from '../errors.js'

/** The release of the onnxruntime-node package, which is also that of the library. */
export const RUNTIME_VERSION = '1.30.0'

/** SHA-256 of the library of that release, by platform and architecture: those on which this engine was run. */
const KNOWN_LIBRARIES: Readonly<Record<string, { readonly file: string; readonly sha256: string }>> = {
  'linux-x64': {
    file: 'libonnxruntime.so.1',
    sha256: 'ffb75a925ba05e47b235bb66e3e3911714a80b328a9c9425539feb204aa32a23',
  },
}

export interface RuntimeLibrary {
  readonly path: string
  /** 64 lower-case hexadecimal digits. */
  readonly sha256: string
}

/** The library for this machine; undefined where none is known. @throws EngineError `engine.failed` when it is another one. */
export async function findLibrary(
  platform: string = `${process.platform}-${process.arch}`,
): Promise<RuntimeLibrary | undefined> {
  const known = KNOWN_LIBRARIES[platform]
  if (known === undefined) return undefined
  const manifest = createRequire(import.meta.url).resolve('onnxruntime-node/package.json')
  const path = join(dirname(manifest), 'bin', 'napi-v6', ...platform.split('-'), known.file)
  if (!existsSync(path)) throw new EngineError('engine.failed', `the runtime library is missing at ${path}: reinstall`)
  const sha256 = await digestOf(path)
  if (sha256 !== known.sha256) {
    throw new EngineError(
      'engine.failed',
      `expected the runtime library of onnxruntime-node ${RUNTIME_VERSION} (SHA-256 ${known.sha256}), got ${sha256}: reinstall that release`,
    )
  }
  return { path, sha256 }
}

/** SHA-256 of a file, in hexadecimal. */
export async function digestOf(path: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const piece of createReadStream(path)) hash.update(piece as Buffer)
  return hash.digest('hex')
}
