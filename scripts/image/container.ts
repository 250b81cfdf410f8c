/** Runs Dockerfile.enclave with buildah: no daemon, no network, storage of its own. */
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type Base, exportBase } from './base.js'
import { run } from './command.js'
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
  const storage = await storageOptions()
  const bound: string[] = []
  for (const [argument, base] of Object.entries(bases)) {
    const image = `subrosa-image-base:${base.id}`
    if ((await run('buildah', [...storage, 'images', '-q', image], { accept: [125] })).trim() === '') {
      await importBase(storage, base, image, epoch)
    }
    bound.push(`--build-arg=${argument}=localhost/${image}`)
  }
  await rm(out, { recursive: true, force: true })
  await mkdir(out, { recursive: true })
  const idFile = `${out}.id`
  // An empty network name space: chroot isolation has no network setting of its own.
  await run(
    'unshare',
    [
      '--net',
      'buildah',
      ...storage,
      'bud',
      '--isolation=chroot',
      '--no-cache',
      '--pull-never',
      `--timestamp=${epoch}`,
      ...bound,
      `--build-arg=SOURCE_DATE_EPOCH=${epoch}`,
      `--target=${target}`,
      `--file=${join(context, 'Dockerfile.enclave')}`,
      `--output=type=local,dest=${out}`,
      `--iidfile=${idFile}`,
      context,
    ],
    { env, ...(timeoutMs === undefined ? {} : { timeoutMs }), ...(onLine === undefined ? {} : { onLine }) },
  )
  // The trees are what was wanted; the image they were taken from would stay in the store with every build.
  await run('buildah', [...storage, 'rmi', '--force', (await readFile(idFile, 'utf8')).trim()])
  await rm(idFile)
}

async function storageOptions(): Promise<readonly string[]> {
  const folder = join(cacheFolder, 'buildah')
  await mkdir(folder, { recursive: true })
  return ['--root', join(folder, 'store'), '--runroot', join(folder, 'run'), '--storage-driver', 'vfs']
}

async function importBase(storage: readonly string[], base: Base, image: string, epoch: number): Promise<void> {
  process.stderr.write(`image: importing base ${base.id} into buildah's store\n`)
  const scratch = await mkdtemp(join(cacheFolder, `base-${base.id}-`))
  const tar = join(scratch, 'base.tar')
  const container = (await run('buildah', [...storage, 'from', 'scratch'])).trim()
  try {
    await exportBase(base, tar, epoch)
    await run('buildah', [...storage, 'add', container, tar, '/'])
    await run('buildah', [...storage, 'commit', `--timestamp=${epoch}`, container, image])
  } finally {
    await run('buildah', [...storage, 'rm', container])
    await rm(scratch, { recursive: true, force: true })
  }
}
