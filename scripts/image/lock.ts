/**
 * The lock file of the image: every Debian package by version and SHA-256, every npm package by integrity. What is not in it
 * is not used, and what it names is never replaced by another version without someone writing a new lock.
 */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as v from 'valibot'
import { ImageError } from './command.js'
import { repository } from './places.js'

/**
 * `build` compiles our programs, `kernel` is Debian's, `kernelSource` and `kernelBuild` make our own, `firmware` and `stub` come
 * before the kernel; `gpuSource` is that of NVIDIA's open modules, `gpuRuntime` its libraries, firmware and daemon, which only the GPU
 * flavour has; `qemu` boots, and nothing of it reaches a guest.
 */
export const DEB_SETS = [
  ...(['build', 'kernel', 'kernelSource', 'kernelBuild', 'firmware', 'stub'] as const),
  ...(['gpuSource', 'gpuRuntime', 'qemu'] as const),
] as const
export type DebSet = (typeof DEB_SETS)[number]

const deb = v.strictObject({
  name: v.pipe(v.string(), v.regex(/^[a-z0-9][a-z0-9+.-]+$/)),
  version: v.pipe(v.string(), v.regex(/^[A-Za-z0-9.+:~-]+$/)),
  /** Below the archive's base address. */
  path: v.pipe(v.string(), v.regex(/^pool\/[A-Za-z0-9.+~_%/-]+\.deb$/)),
  size: v.pipe(v.number(), v.integer(), v.minValue(1)),
  sha256: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/)),
})
const npmPackage = v.strictObject({
  name: v.string(),
  version: v.pipe(v.string(), v.regex(/^\d+\.\d+\.\d+$/)),
  integrity: v.pipe(v.string(), v.startsWith('sha512-')),
})
const schema = v.strictObject({
  schema: v.literal('subrosa-image-lock/1'),
  /** Seconds since 1970: every time stamp in the image. */
  sourceDateEpoch: v.pipe(v.number(), v.integer(), v.minValue(0)),
  debs: v.strictObject({
    build: v.array(deb),
    kernel: v.array(deb),
    kernelSource: v.array(deb),
    kernelBuild: v.array(deb),
    firmware: v.array(deb),
    stub: v.array(deb),
    gpuSource: v.array(deb),
    gpuRuntime: v.array(deb),
    qemu: v.array(deb),
  }),
  npm: v.array(npmPackage),
})

export type LockedDeb = v.InferOutput<typeof deb>
export type LockedNpmPackage = v.InferOutput<typeof npmPackage>
export type ImageLock = v.InferOutput<typeof schema>

export const LOCK_FILE: string = join(repository, 'scripts', 'image', 'packages.lock.json')

/** @throws ImageError when the file is missing or is not of its schema. */
export async function loadLock(): Promise<ImageLock> {
  const text = await readFile(LOCK_FILE, 'utf8').catch((cause: unknown) => {
    throw new ImageError(`${LOCK_FILE}: expected the image's lock file; npm run image -- lock writes one`, { cause })
  })
  const parsed = v.safeParse(schema, JSON.parse(text))
  if (parsed.success) return parsed.output
  throw new ImageError(`${LOCK_FILE}: ${parsed.issues[0].message}; npm run image -- lock writes it anew`)
}

export async function saveLock(lock: ImageLock): Promise<void> {
  await writeFile(LOCK_FILE, `${JSON.stringify(lock, null, 1)}\n`)
}
