/** Runs Dockerfile.enclave with buildah: no daemon, no network, storage of its own. */
import { mkdir, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { type Base, exportBase } from './base.js'
import { run } from './command.js'
import { cacheFolder, type Flavour, repository } from './places.js'

export interface Recipe {
  readonly base: Base
  readonly flavour: Flavour
  readonly epoch: number
  /** The checkout to build from. Default: this one. */
  readonly context?: string
  /** Where the trees go; emptied first. */
  readonly out: string
  readonly env?: Readonly<Record<string, string>>
}

export async function buildTrees({ base, flavour, epoch, context = repository, out, env = {} }: Recipe): Promise<void> {
  const storage = await storageOptions()
  const image = `subrosa-image-base:${base.id}`
  if ((await run('buildah', [...storage, 'images', '-q', image], { accept: [125] })).trim() === '') {
    await importBase(storage, base, image, epoch)
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
      `--build-arg=BASE=localhost/${image}`,
      `--build-arg=SOURCE_DATE_EPOCH=${epoch}`,
      `--target=${flavour}`,
      `--file=${join(context, 'Dockerfile.enclave')}`,
      `--output=type=local,dest=${out}`,
      `--iidfile=${idFile}`,
      context,
    ],
    { env },
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
  const tar = join(cacheFolder, `base-${base.id}.tar`)
  await exportBase(base, tar, epoch)
  const container = (await run('buildah', [...storage, 'from', 'scratch'])).trim()
  try {
    await run('buildah', [...storage, 'add', container, tar, '/'])
    await run('buildah', [...storage, 'commit', `--timestamp=${epoch}`, container, image])
  } finally {
    await run('buildah', [...storage, 'rm', container])
    await rm(tar, { force: true })
  }
}
