/**
 * Our own kernels from Debian's source: `kernel` (`kernel/`: two patches, one configuration), and `gpu-kernel` (`gpu/` on top of it:
 * modules, and NVIDIA's open ones compiled for it), each built by the stage of Dockerfile.enclave of that name. They take minutes,
 * so they are kept by the SHA-256 of everything that goes in; what differs in nothing of that is the same kernel.
 */
import { createHash } from 'node:crypto'
import { cp, mkdir, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fetchDebs } from './archive.js'
import { type Base, prepareGpuKernelBase, prepareKernelBase } from './base.js'
import { ImageError } from './command.js'
import { buildTrees } from './container.js'
import { identical } from './identical.js'
import { keptFolder } from './kept.js'
import type { DebSet, ImageLock } from './lock.js'
import { cacheFolder, type Flavour, repository } from './places.js'
import { createProgress } from './progress.js'
import { targetRecipe } from './target-recipe.js'
import { ensureTools } from './tools.js'

/** Changes when what names a kernel does. */
const LAYOUT = 'kernel/2'
const DEADLINE_MS = 3 * 3600_000

export type KernelName = 'kernel' | 'gpu-kernel'

interface Recipe {
  readonly title: string
  readonly base: 'KERNEL_BASE' | 'GPU_KERNEL_BASE'
  readonly prepare: (lock: ImageLock) => Promise<Base>
  /** What the base is made of. */
  readonly debs: readonly DebSet[]
  /** Lines that make prints for this configuration: only the bar needs it, and stops short of its end when it is off. */
  readonly makeLines: number
}

const RECIPES: Readonly<Record<KernelName, Recipe>> = {
  kernel: {
    title: 'our own kernel',
    base: 'KERNEL_BASE',
    prepare: prepareKernelBase,
    debs: ['kernelBuild', 'kernelSource'],
    makeLines: 1940,
  },
  'gpu-kernel': {
    title: 'the GPU flavour’s kernel and NVIDIA’s modules',
    base: 'GPU_KERNEL_BASE',
    prepare: prepareGpuKernelBase,
    debs: ['kernelBuild', 'kernelSource', 'gpuSource'],
    makeLines: 2700,
  },
}

/** Whose kernel each flavour runs: one of ours by name, or Debian's. */
export const KERNELS: Readonly<Record<Flavour, KernelName | undefined>> = {
  production: 'kernel',
  developer: undefined,
  test: 'kernel',
  gpu: 'gpu-kernel',
  'gpu-test': 'gpu-kernel',
}

export interface KernelOptions {
  readonly lock: ImageLock
  /** Which one. Default: the one without modules. */
  readonly name?: KernelName
  /** The checkout to build from. Default: this one. */
  readonly context?: string
  readonly env?: Readonly<Record<string, string>>
}

/** Folder with `vmlinuz`, its `config` and, of `gpu-kernel`, `modules/RELEASE/`: from the cache, or built. */
export async function ownKernel(options: KernelOptions): Promise<string> {
  return keptFolder(await kernelFolder(options), (out) => buildKernel({ ...options, out }))
}

/** Downloads what the kernel is made of, for builds that share one folder of downloads and start at once. */
export async function fetchKernelPackages(name: KernelName, lock: ImageLock): Promise<void> {
  await fetchDebs(RECIPES[name].debs.flatMap((set) => lock.debs[set]))
}

/**
 * Holds the kept kernel, which images get, against one that was built anew from the same sources; where none is kept, keeps the new
 * one. Returns the sizes and digests of its files. @throws Error naming the first file that differs: then one of the two is not
 * what its sources make, and which one is for a person to find out.
 */
export async function compareWithKept(built: string, options: KernelOptions): Promise<string> {
  return identical(
    built,
    await keptFolder(await kernelFolder(options), (folder) => cp(built, folder, { recursive: true })),
  )
}

/** Builds it whatever is in the cache. `out` is emptied first. */
export async function buildKernel(options: KernelOptions & { readonly out: string }): Promise<void> {
  const { lock, out, name = 'kernel', context = repository, env = {} } = options
  const { title, base, prepare, makeLines } = RECIPES[name]
  await ensureTools()
  const bases = { [base]: await prepare(lock) }
  const progress = createProgress(title, makeLines)
  try {
    await buildTrees({
      bases,
      target: name,
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

/** Named by the SHA-256 over packages, time stamp, the recipe's stages, and the patches, configuration and scripts they copy. */
async function kernelFolder({ lock, name = 'kernel', context = repository }: KernelOptions): Promise<string> {
  const packages = RECIPES[name].debs.flatMap((set) => lock.debs[set].map(({ sha256 }) => sha256))
  const { text, sources } = targetRecipe(await readFile(join(context, 'Dockerfile.enclave'), 'utf8'), name)
  const hash = createHash('sha256').update([LAYOUT, String(lock.sourceDateEpoch), ...packages, text].join('\n'))
  for (const folder of sources) {
    for (const file of (await readdir(join(context, folder))).sort()) {
      const bytes = await readFile(join(context, folder, file))
      hash.update(`\n${folder}${file} ${bytes.length}\n`).update(bytes)
    }
  }
  await mkdir(join(cacheFolder, 'kernel'), { recursive: true })
  return join(cacheFolder, 'kernel', hash.digest('hex').slice(0, 16))
}

/** What each kernel of ours says of itself, and none of Debian's: CONFIG_LOCALVERSION. */
const RELEASES: Readonly<Record<KernelName, RegExp>> = {
  kernel: /^\d+\.\d+\.\d+-subrosa /,
  'gpu-kernel': /^\d+\.\d+\.\d+-subrosa-gpu /,
}

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

/**
 * @throws ImageError when the kernel is not that one of ours: another would run AML that reaches the guest's memory, or take
 * modules where none should be taken.
 */
export function requireOwnKernel(kernel: Uint8Array, name: KernelName): void {
  const release = kernelRelease(kernel)
  if (RELEASES[name].test(release)) return
  const expected = name === 'kernel' ? '6.12.0-subrosa' : '6.12.0-subrosa-gpu'
  throw new ImageError(
    `a production image runs only our own kernel, which denies AML access to memory: expected a release like ${expected}, got ${release}`,
  )
}
