/**
 * npm packages of the image: the worker's dependencies as the repository's own lock has them, and Node. Fetched by npm from the
 * registry the machine is configured for, and held to their integrity here. No package's install script runs.
 */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { ImageError, run } from './command.js'
import type { LockedNpmPackage } from './lock.js'
import { cacheFolder, repository } from './places.js'
import { createProgress } from './progress.js'

interface LockEntry {
  readonly version?: string
  readonly integrity?: string
  readonly dependencies?: Readonly<Record<string, string>>
  readonly optionalDependencies?: Readonly<Record<string, string>>
  readonly os?: readonly string[]
  readonly cpu?: readonly string[]
}

/** Compiles our sources into one file; not in the image. */
const BUNDLER = ['@esbuild/linux-x64']
/** Only the test flavour's simulated machine needs it. */
const SIMULATED = ['node-forge']
/** Needed by install scripts alone, which do not run. */
const INSTALL_ONLY = new Set(['adm-zip', 'global-agent', 'cbor-extract'])

/** A package and its folder: `node_modules/NAME`, or inside another package's that wants another version. */
export interface PlacedPackage extends LockedNpmPackage {
  readonly path: string
}

/** Everything the worker depends on, and what it is bundled with, in order of path. */
export async function lockedDependencies(): Promise<readonly PlacedPackage[]> {
  const text = await readFile(join(repository, 'package-lock.json'), 'utf8')
  const { packages } = JSON.parse(text) as { packages: Readonly<Record<string, LockEntry>> }
  const worker = Object.keys(packages['enclave']?.dependencies ?? {})
  const queue = [...worker, ...BUNDLER, ...SIMULATED].map((name) => ({ name, from: '' }))
  const found = new Map<string, PlacedPackage>()
  for (let wanted = queue.pop(); wanted !== undefined; wanted = queue.pop()) {
    const { name, from } = wanted
    const path = placeOf(packages, name, from)
    if (found.has(path) || INSTALL_ONLY.has(name)) continue
    const { version, integrity, dependencies = {}, optionalDependencies = {} } = packages[path] ?? {}
    if (version === undefined || integrity === undefined) {
      throw new ImageError(`package-lock.json: expected ${name} with version and integrity; npm install adds them`)
    }
    found.set(path, { name, version, integrity, path })
    const native = Object.keys(optionalDependencies).filter((other) => isForGuest(packages, other))
    queue.push(...[...Object.keys(dependencies), ...native].map((other) => ({ name: other, from: path })))
  }
  return [...found.values()].sort((a, b) => (a.path < b.path ? -1 : 1))
}

/** As Node looks for it: inside the package that wants it, then outside. */
function placeOf(packages: Readonly<Record<string, LockEntry>>, name: string, from: string): string {
  const inner = `${from}/node_modules/${name}`
  return from !== '' && packages[inner] !== undefined ? inner : `node_modules/${name}`
}

/** Optional packages are native binaries by platform: the guest's own are wanted. */
function isForGuest(packages: Readonly<Record<string, LockEntry>>, name: string): boolean {
  const { os, cpu } = packages[`node_modules/${name}`] ?? {}
  return os?.includes('linux') === true && cpu?.includes('x64') === true
}

/** The packages as tarballs, in the same order. */
export async function fetchNpmPackages(packages: readonly LockedNpmPackage[]): Promise<readonly string[]> {
  const folder = join(cacheFolder, 'npm')
  await mkdir(folder, { recursive: true })
  const fileOf = ({ integrity }: LockedNpmPackage) =>
    join(folder, `${createHash('sha256').update(integrity).digest('hex')}.tgz`)
  const missing = packages.filter((wanted) => !existsSync(fileOf(wanted)))
  if (missing.length > 0) {
    const progress = createProgress(`downloading ${missing.length} npm packages`, missing.length)
    try {
      for (const wanted of missing) {
        await download(wanted, fileOf(wanted), folder)
        progress.step()
      }
    } finally {
      progress.end()
    }
  }
  for (const wanted of packages) await expectIntegrity(fileOf(wanted), wanted)
  return packages.map(fileOf)
}

async function download(wanted: LockedNpmPackage, file: string, folder: string): Promise<void> {
  const { name, version } = wanted
  const scratch = await mkdtemp(join(folder, 'pack-'))
  try {
    await run('npm', ['pack', `${name}@${version}`, '--ignore-scripts', '--pack-destination', scratch], {
      cwd: scratch,
    })
    const [tarball] = await readdir(scratch)
    if (tarball === undefined) throw new ImageError(`npm pack ${name}@${version}: expected a tarball`)
    await rename(join(scratch, tarball), file)
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

async function expectIntegrity(file: string, { name, version, integrity }: LockedNpmPackage): Promise<void> {
  const actual = `sha512-${createHash('sha512')
    .update(await readFile(file))
    .digest('base64')}`
  if (actual === integrity) return
  await rm(file, { force: true })
  throw new ImageError(
    `npm ${name} ${version}: expected ${integrity}, got ${actual}; the file was removed, run it again`,
  )
}
