/** The commands of `npm run image` and of `subrosa image`. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Command, Option } from 'commander'
import { type Base, exportBase, prepareBase, prepareGpuBase, prepareGpuKernelBase, prepareKernelBase } from './base.js'
import { BOOT_SUITES, bootLane } from './boot.js'
import { type BuildOptions, buildImage, type ImageManifest } from './build.js'
import { ImageError, run } from './command.js'
import { hostConfigurationFor } from './host-configuration.js'
import { buildKernel, ownKernel } from './kernel.js'
import { type ImageLock, loadLock, saveLock } from './lock.js'
import { createLock } from './lock-refresh.js'
import { type ImageMeasurements, measureImage, policyText, releaseManifestText } from './measurements.js'
import { artifactFolder, FLAVOURS, type Flavour, repository } from './places.js'

/** Returns the exit status. */
export async function runImageCommand(argv: readonly string[]): Promise<number> {
  const program = new Command('image').description('build, measure and boot the enclave image')
  registerImageCommands(program)
  try {
    await program.parseAsync([...argv])
    return 0
  } catch (error) {
    if (!(error instanceof ImageError)) throw error
    process.stderr.write(`image: ${error.message}\n`)
    return 1
  }
}

export function registerImageCommands(program: Command): void {
  program
    .command('build', { isDefault: true })
    .description('build the image from its sources and its lock')
    .addOption(flavourOption())
    .option('--out <folder>', 'where the artifacts go')
    .action(async ({ flavour, out }: { flavour: Flavour; out?: string }) => {
      await buildAndPrint({ flavour, lock: await loadLock(), out: out ?? artifactFolder(flavour) })
    })
  program
    .command('measure')
    .description('compute the launch digests of a built image from its files')
    .addOption(flavourOption())
    .addOption(new Option('--format <format>', 'how to print').choices(['json', 'policy', 'release']).default('json'))
    .option('--release-version <version>', 'with --format release: the version', '0.1.0')
    .action(async ({ flavour, format, releaseVersion }: MeasureFlags) => {
      const measured = await measureImage(artifactFolder(flavour), join(repository, 'enclave', 'models', 'demo'))
      if (format === 'release') process.stdout.write(await releaseText(measured, releaseVersion))
      else process.stdout.write(format === 'policy' ? policyText(measured) : `${JSON.stringify(measured, null, 2)}\n`)
    })
  program
    .command('boot')
    .description('boot what was built, emulated and with a deadline, and assert what must run and what must not')
    .argument('[suites...]', `any of ${BOOT_SUITES.join(', ')}; all of them by default`)
    .action(async (suites: readonly string[]) => {
      const unknown = suites.find((name) => !BOOT_SUITES.some((suite) => suite === name))
      if (unknown !== undefined)
        throw new ImageError(`boot: expected ${BOOT_SUITES.join(', ')} or nothing, got ${unknown}`)
      const wanted = BOOT_SUITES.filter((suite) => suites.length === 0 || suites.includes(suite))
      if ((await bootLane(wanted)) !== 0) throw new ImageError('boot: a check failed; see above')
    })
  program
    .command('kernel')
    .description('build our own kernel, unless it is at hand')
    .option('--gpu', 'the GPU flavour’s, with NVIDIA’s modules')
    .option('--out <folder>', 'build it anew, into this folder')
    .action(async ({ gpu = false, out }: { gpu?: boolean; out?: string }) => {
      const options = { lock: await loadLock(), name: gpu ? 'gpu-kernel' : 'kernel' } as const
      if (out !== undefined) await buildKernel({ ...options, out })
      process.stdout.write(`${out ?? (await ownKernel(options))}\n`)
    })
  program
    .command('base')
    .description('write a base of Dockerfile.enclave as a tar, for docker import or podman import')
    .argument('<file>')
    .option('--kernel', 'the base that our own kernel is built in')
    .option('--gpu-kernel', 'the base that the GPU flavour’s kernel is built in')
    .option('--gpu', 'what the GPU flavour has of NVIDIA’s driver outside the kernel')
    .action(async (file: string, which: { kernel?: true; gpuKernel?: true; gpu?: true }) => {
      const lock = await loadLock()
      await exportBase(await baseFor(which, lock), file, lock.sourceDateEpoch)
    })
  program
    .command('lock')
    .description('write the lock file anew, with the versions the archive has today')
    .action(async () => saveLock(await createLock()))
}

function baseFor(which: { kernel?: true; gpuKernel?: true; gpu?: true }, lock: ImageLock): Promise<Base> {
  if (which.gpu === true) return prepareGpuBase(lock)
  if (which.gpuKernel === true) return prepareGpuKernelBase(lock)
  return which.kernel === true ? prepareKernelBase(lock) : prepareBase(lock)
}

interface MeasureFlags {
  readonly flavour: Flavour
  readonly format: 'json' | 'policy' | 'release'
  readonly releaseVersion: string
}

async function releaseText(measured: ImageMeasurements, version: string): Promise<string> {
  const revision = (await run('git', ['-C', repository, 'rev-parse', 'HEAD'])).trim()
  return releaseManifestText(measured, { version, date: `${new Date().toISOString().slice(0, 19)}Z`, revision })
}

function flavourOption(): Option {
  return new Option(
    '--flavour <name>',
    'gpu is for machines with GPUs; developer has Debian’s kernel and enters no release; test and gpu-test have a SIMULATED machine in them and protect nothing',
  )
    .choices([...FLAVOURS])
    .default('production')
}

/** Builds, and says what came out: sizes, hashes, seconds. */
async function buildAndPrint(options: BuildOptions): Promise<ImageManifest> {
  const started = performance.now()
  const seconds = (): string => ((performance.now() - started) / 1000).toFixed(1)
  const manifest = await buildImage({
    ...options,
    onStep: (what) => process.stderr.write(`image: ${seconds()} s  ${what}\n`),
  })
  const modelFolder = join(repository, 'enclave', 'models', 'demo')
  const measured = await measureImage(options.out, modelFolder)
  await writeFile(join(options.out, 'host-configuration.cbor'), (await hostConfigurationFor(modelFolder)).bytes)
  await writeFile(join(options.out, 'measurements.json'), `${JSON.stringify(measured, null, 2)}\n`)
  const expected = measured.snp.find(({ vcpus, vcpuType }) => vcpus === 1 && vcpuType === 'EPYC-Genoa')
  const lines = manifest.artifacts.map(
    ({ name, bytes, sha256 }) => `${name.padEnd(16)}${String(bytes).padStart(11)}  ${sha256}`,
  )
  process.stdout.write(
    `${options.flavour} image in ${options.out}, ${seconds()} s\n${manifest.note}\n\n${lines.join('\n')}\n\ncommand line: ${manifest.commandLine}\nlaunch digest, 1 x EPYC-Genoa: ${expected?.digest}\nbefore the vCPUs: ${measured.beforeVcpus}\n${measured.tdx.map(({ boot, rtmr1, rtmr2 }) => `TDX, ${boot}: RTMR1 ${rtmr1}, RTMR2 ${rtmr2}\n`).join('')}HOST_DATA: ${measured.hostConfiguration.hostData}\n`,
  )
  return manifest
}
