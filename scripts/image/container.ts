/** Runs Dockerfile.enclave with buildah: no daemon, no network, and for each build a store of its own. */
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Base } from './base.js'
import { type BaseImage, baseImage, storageOptions } from './base-store.js'
import { run } from './command.js'
import { withOwnFolder } from './own-folder.js'
import { cacheFolder, type Flavour, repository } from './places.js'

export interface Recipe {
  /** What the recipe's argument of that name stands for. */
  readonly bases: Readonly<Partial<Record<'BASE' | 'KERNEL_BASE' | 'GPU_KERNEL_BASE' | 'GPU_BASE', Base>>>
  readonly target: Flavour | 'kernel' | 'gpu-kernel'
  readonly epoch: number
  /** The checkout to build from. Default: this one. */
  readonly context?: string
  /** Where the trees go; emptied first. */
  readonly out: string
  readonly env?: Readonly<Record<string, string>>
  readonly timeoutMs?: number
  /** Told every line that the recipe prints. */
  readonly onLine?: (line: string) => void
}

export async function buildTrees(recipe: Recipe): Promise<void> {
  const { bases, target, epoch, context = repository, out, env = {}, timeoutMs, onLine } = recipe
  const given = await basesGiven(bases, epoch)
  await rm(out, { recursive: true, force: true })
  await mkdir(out, { recursive: true })
  // The trees are what is wanted; the image they are taken from is gone with its store.
  await withOwnFolder(join(cacheFolder, 'buildah'), (folder) =>
    run(
      'unshare',
      [
        // An empty network name space: chroot isolation has no network setting of its own. And mounts that end with the build.
        ...['--net', '--mount', 'buildah'],
        ...storageOptions(join(folder, 'store'), join(folder, 'run')),
        ...given.map(({ store }) => `--storage-opt=vfs.imagestore=${store}`),
        'bud',
        '--isolation=chroot',
        '--no-cache',
        '--pull-never',
        `--timestamp=${epoch}`,
        ...given.map(({ argument, name }) => `--build-arg=${argument}=${name}`),
        `--build-arg=SOURCE_DATE_EPOCH=${epoch}`,
        `--target=${target}`,
        `--file=${join(context, 'Dockerfile.enclave')}`,
        `--output=type=local,dest=${out}`,
        context,
      ],
      { env, ...(timeoutMs === undefined ? {} : { timeoutMs }), ...(onLine === undefined ? {} : { onLine }) },
    ),
  )
}

async function basesGiven(
  bases: Recipe['bases'],
  epoch: number,
): Promise<readonly (BaseImage & { readonly argument: string })[]> {
  const given = []
  // One after the other: each reads everything it has.
  for (const [argument, base] of Object.entries(bases)) given.push({ argument, ...(await baseImage(base, epoch)) })
  return given
}
