/**
 * The bases of Dockerfile.enclave: everything that is not ours, unpacked from the packages the lock names. No maintainer script
 * runs, and nothing is in it that no package put there but the links of a merged /usr. Kept by the hash of what went in.
 */
import { mkdir, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { fetchDebs } from './archive.js'
import { run } from './command.js'
import { keptFolder, keyOf } from './kept.js'
import type { ImageLock, LockedDeb } from './lock.js'
import { fetchNpmPackages, lockedDependencies, type PlacedPackage } from './npm-packages.js'
import { cacheFolder } from './places.js'
import { createProgress } from './progress.js'

export interface Base {
  /** First 16 digits of the SHA-256 over everything that went in. */
  readonly id: string
  readonly folder: string
}

/** Changes when the layout of a base does. */
const LAYOUT = 'base/1'
const MERGED = ['bin', 'sbin', 'lib', 'lib64']

/** Debian's compiler, kernel and libraries, Node, and the worker's dependencies. */
export async function prepareBase(lock: ImageLock): Promise<Base> {
  const npm = [...lock.npm.map((item) => ({ ...item, path: '' })), ...(await lockedDependencies())]
  return unpackBase([...lock.debs.build, ...lock.debs.kernel], npm)
}

/** Debian's kernel source, and what compiles it. */
export async function prepareKernelBase({ debs }: ImageLock): Promise<Base> {
  return unpackBase([...debs.kernelBuild, ...debs.kernelSource], [])
}

/** The same with the source of NVIDIA's open modules. */
export async function prepareGpuKernelBase({ debs }: ImageLock): Promise<Base> {
  return unpackBase([...debs.kernelBuild, ...debs.kernelSource, ...debs.gpuSource], [])
}

/** What the GPU flavour takes of NVIDIA's driver outside the kernel. */
export async function prepareGpuBase({ debs }: ImageLock): Promise<Base> {
  return unpackBase(debs.gpuRuntime, [])
}

async function unpackBase(debs: readonly LockedDeb[], npm: readonly PlacedPackage[]): Promise<Base> {
  const inputs = [
    LAYOUT,
    ...debs.map(({ sha256 }) => sha256),
    ...npm.map(({ path, integrity }) => `${path} ${integrity}`),
  ]
  const id = keyOf(inputs)
  return { id, folder: await keptFolder(join(cacheFolder, 'base', id), (folder) => unpackInto(folder, debs, npm)) }
}

async function unpackInto(folder: string, debs: readonly LockedDeb[], npm: readonly PlacedPackage[]): Promise<void> {
  const files = await fetchDebs(debs)
  const tarballs = await fetchNpmPackages(npm)
  const label = `unpacking a base, ${files.length} Debian and ${tarballs.length} npm packages`
  const progress = createProgress(label, files.length + tarballs.length)
  for (const name of MERGED) {
    await mkdir(join(folder, 'usr', name), { recursive: true })
    await symlink(`usr/${name}`, join(folder, name))
  }
  await mkdir(join(folder, 'tmp'))
  for (const file of files) {
    await unpackDeb(file, folder)
    progress.step()
  }
  for (const [i, { path }] of npm.entries()) {
    const target = join(folder, path === '' ? 'opt/node' : join('opt/modules', path))
    await mkdir(target, { recursive: true })
    await run('tar', ['-xzf', tarballs[i] as string, '-C', target, '--strip-components=1', '--no-same-owner'])
    progress.step()
  }
  progress.end()
}

/** dpkg-deb would replace a link of the merged /usr by a folder; tar keeps it. */
export async function unpackDeb(file: string, folder: string): Promise<void> {
  const keep = '--keep-directory-symlink --no-same-owner --no-overwrite-dir -p'
  await run('sh', ['-c', `dpkg-deb --fsys-tarfile "$1" | tar -x -C "$2" ${keep}`, 'sh', file, folder])
}

/** A program of the base run by the base's own loader and libraries: its version is the lock's and not the machine's. */
export async function runFromBase(
  { folder }: Base,
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<string> {
  const loader = join(folder, 'usr/lib64/ld-linux-x86-64.so.2')
  const libraries = join(folder, 'usr/lib/x86_64-linux-gnu')
  return run(loader, ['--library-path', libraries, join(folder, program), ...args], { env })
}

/** Writes the base as a tar. */
export async function exportBase({ folder }: Base, file: string, epoch: number): Promise<void> {
  const fixed = ['--sort=name', '--owner=0', '--group=0', '--numeric-owner', `--mtime=@${epoch}`, '--format=gnu']
  await run('tar', ['-cf', file, ...fixed, '-C', folder, '.'])
}
