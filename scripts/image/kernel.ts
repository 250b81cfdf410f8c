/**
 * Our own kernel (`kernel/`: one patch, one configuration) from Debian's source, built by Dockerfile.enclave's `kernel` stage. It
 * takes minutes, so it is kept by the SHA-256 of everything that goes in; what differs in nothing of that is the same kernel.
 */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { cp, mkdir, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { prepareKernelBase } from './base.js'
import { ImageError } from './command.js'
import { buildTrees } from './container.js'
import type { ImageLock } from './lock.js'
import { cacheFolder, repository } from './places.js'
import { createProgress } from './progress.js'
import { ensureTools } from './tools.js'

/** Changes when what the recipe does with the kernel's sources does. */
const LAYOUT = 'kernel/1'
const DEADLINE_MS = 3 * 3600_000
/** Lines that make prints for this configuration: only the bar needs it, and stops short of its end when it is off. */
const MAKE_LINES = 1940

export interface KernelOptions {
  readonly lock: ImageLock
  /** The checkout to build from. Default: this one. */
  readonly context?: string
  readonly env?: Readonly<Record<string, string>>
}

/** Folder with `vmlinuz` and its `config`: from the cache, or built. */
export async function ownKernel(options: KernelOptions): Promise<string> {
  const folder = await kernelFolder(options)
  if (existsSync(folder)) return folder
  await rm(`${folder}.part`, { recursive: true, force: true })
  await buildKernel({ ...options, out: `${folder}.part` })
  await rename(`${folder}.part`, folder)
  return folder
}

/** Keeps a kernel that was built elsewhere from the same sources. */
export async function keepKernel(built: string, options: KernelOptions): Promise<void> {
  const folder = await kernelFolder(options)
  if (existsSync(folder)) return
  await cp(built, `${folder}.part`, { recursive: true })
  await rename(`${folder}.part`, folder)
}

/** Builds it whatever is in the cache. `out` is emptied first. */
export async function buildKernel(options: KernelOptions & { readonly out: string }): Promise<void> {
  const { lock, out, context = repository, env = {} } = options
  await ensureTools()
  const base = await prepareKernelBase(lock)
  const progress = createProgress('our own kernel', MAKE_LINES)
  try {
    await buildTrees({
      bases: { KERNEL_BASE: base },
      target: 'kernel',
      epoch: lock.sourceDateEpoch,
      context,
      out,
      env,
      timeoutMs: DEADLINE_MS,
      onLine: (line) => {
        if (/^ {2}[A-Z]/.test(line)) progress.step()
      },
    })
  } finally {
    progress.end()
  }
}

/** Named by the SHA-256 over packages, time stamp, patch, configuration and script. */
async function kernelFolder({ lock, context = repository }: KernelOptions): Promise<string> {
  const folder = join(context, 'scripts', 'image', 'kernel')
  const debs = [...lock.debs.kernelBuild, ...lock.debs.kernelSource].map(({ sha256 }) => sha256)
  const hash = createHash('sha256').update([LAYOUT, String(lock.sourceDateEpoch), ...debs].join('\n'))
  for (const name of (await readdir(folder)).sort()) {
    const bytes = await readFile(join(folder, name))
    hash.update(`\n${name} ${bytes.length}\n`).update(bytes)
  }
  await mkdir(join(cacheFolder, 'kernel'), { recursive: true })
  return join(cacheFolder, 'kernel', hash.digest('hex').slice(0, 16))
}

/** What every kernel of ours says of itself, and none of Debian's: CONFIG_LOCALVERSION. */
const OWN_RELEASE = /^\d+\.\d+\.\d+-subrosa /

/**
 * Release, builder and time, as the setup header of a bzImage points to them (Linux Documentation/arch/x86/boot.rst,
 * kernel_version). @throws ImageError when the bytes are no such kernel.
 */
export function kernelRelease(kernel: Uint8Array): string {
  const bytes = Buffer.from(kernel.buffer, kernel.byteOffset, kernel.byteLength)
  if (bytes.length < 0x210 || bytes.toString('latin1', 0x202, 0x206) !== 'HdrS') {
    throw new ImageError('vmlinuz: expected a bzImage, with HdrS at 0x202')
  }
  const start = bytes.readUInt16LE(0x20e) + 0x200
  const end = bytes.indexOf(0, start)
  if (end < start || end - start > 256) throw new ImageError('vmlinuz: expected its release at kernel_version')
  return bytes.toString('latin1', start, end)
}

/** @throws ImageError when the kernel is not one of ours: it would run AML that reaches the guest's memory. */
export function requireOwnKernel(kernel: Uint8Array): void {
  const release = kernelRelease(kernel)
  if (OWN_RELEASE.test(release)) return
  throw new ImageError(
    `a production image runs only our own kernel, which denies AML access to memory: expected a release like 6.12.0-subrosa, got ${release}`,
  )
}
