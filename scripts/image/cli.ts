/** The commands of `npm run image` and of `subrosa image`. */
import { writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { Command, Option } from 'commander'
import { loadPublicKey } from '../../enclave/public-key.js'
import { SubrosaError } from '../../verifier/errors.js'
import type { IsolationMode, PaddingMode } from '../../verifier/protocol/statement.js'
import { type Base, exportBase, prepareBase, prepareGpuBase, prepareGpuKernelBase, prepareKernelBase } from './base.js'
import { BOOT_SUITES, bootImage, bootLane } from './boot.js'
import { type BuildOptions, buildImage } from './build.js'
import { ImageError } from './command.js'
import { type HostChoices, hostConfigurationFor, writeHostConfiguration } from './host-configuration.js'
import { buildKernel, ownKernel } from './kernel.js'
import { type ImageLock, loadLock, saveLock } from './lock.js'
import { createLock } from './lock-refresh.js'
import { MEASUREMENTS_FILE, readImageManifest } from './manifest.js'
import { type ImageMeasurements, measureImage, policyText, releaseManifestText } from './measurements.js'
import { artifactFolder, FLAVOURS, type Flavour, repository } from './places.js'
import { releasedRevision, sourceState } from './source-state.js'

/** Returns the exit status. */
export async function runImageCommand(argv: readonly string[]): Promise<number> {
  const program = new Command('image').description('build, measure and boot the enclave image')
  registerImageCommands(program)
  try {
    await program.parseAsync([...argv])
    return 0
  } catch (error) {
    if (!(error instanceof SubrosaError)) throw error
    process.stderr.write(`image: ${error.message}\n`)
    return 1
  }
}

export function registerImageCommands(program: Command): void {
  const build = program
    .command('build', { isDefault: true })
    .description('build the image from its sources and its lock')
    .addOption(flavourOption())
    .option('--out <folder>', 'where the artifacts go')
    .addOption(modelOption())
    .action(async (flags: BuildFlags) => {
      const { flavour, out = artifactFolder(flavour), model } = flags
      const choices = (await choicesOf(flags)) ?? {}
      const lock = await loadLock()
      await buildAndPrint({ flavour, lock, out: resolve(out), choices, ...(model === undefined ? {} : { model }) })
    })
  addConfigurationOptions(build)
  const measure = program
    .command('measure')
    .description(
      'compute the launch digests of a built image from its files; with an option of the host configuration, for that configuration, which is written beside the image',
    )
    .addOption(flavourOption())
    .option('--image <folder>', 'where build --out put it')
    .addOption(new Option('--format <format>', 'how to print').choices(['json', 'policy', 'release']).default('json'))
    .option('--release-version <version>', 'with --format release: the version', '0.1.0')
    .action(async (flags: MeasureFlags) => {
      const { flavour, image, format, releaseVersion } = flags
      const folder = image === undefined ? artifactFolder(flavour) : resolve(image)
      const choices = await choicesOf(flags)
      const configuration =
        choices === undefined ? undefined : hostConfigurationFor(await readImageManifest(folder), choices)
      const measured = await measureImage(folder, configuration)
      // Once everything else is known to be as it should: a refusal leaves the folder as it was.
      if (configuration !== undefined) {
        await writeHostConfiguration(folder, configuration)
        await writeMeasurements(folder, measured)
      }
      if (format === 'release') process.stdout.write(await releaseText(folder, measured, releaseVersion))
      else process.stdout.write(format === 'policy' ? policyText(measured) : `${JSON.stringify(measured, null, 2)}\n`)
    })
  addConfigurationOptions(measure)
  program
    .command('boot')
    .description(
      'boot an image, emulated and with a deadline, and assert what must run and what must not; without --image, images that are built for it and removed',
    )
    .argument('[suites...]', `any of ${BOOT_SUITES.join(', ')}; all of them by default, or all that --image allows`)
    .option('--image <folder>', 'boot the image that build put there, as it is')
    .addOption(modelOption().conflicts('image'))
    .action(async (suites: readonly string[], { model, image }: { model?: string; image?: string }) => {
      const unknown = suites.find((name) => !BOOT_SUITES.some((suite) => suite === name))
      if (unknown !== undefined)
        throw new ImageError(`boot: expected ${BOOT_SUITES.join(', ')} or nothing, got ${unknown}`)
      const wanted = BOOT_SUITES.filter((suite) => suites.length === 0 || suites.includes(suite))
      const status =
        image === undefined
          ? await bootLane(wanted, model)
          : await bootImage(resolve(image), suites.length === 0 ? [] : wanted)
      if (status !== 0) throw new ImageError('boot: a check failed; see above')
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
    .description('write a base of Dockerfile.enclave as a tar')
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

interface ConfigurationFlags {
  readonly modelOwner?: string
  readonly padding?: PaddingMode
  readonly isolation?: IsolationMode
  readonly operator?: string
}

function addConfigurationOptions(command: Command): void {
  command
    .option('--model-owner <file>', "its owner's public key (PEM): the model is sealed, and waits for model release")
    .addOption(new Option('--padding <mode>', 'how answer sizes are hidden (default: tick)').choices(['tick', 'off']))
    .addOption(
      new Option(
        '--isolation <mode>',
        'session: keep prompts for minutes, for their own session (default: request)',
      ).choices(['request', 'session']),
    )
    .option('--operator <file>', 'public key (PEM) of the operator, for the statement to name')
}

/** Undefined when no option of the configuration was given: what lies beside the image then stays. */
async function choicesOf({
  modelOwner,
  padding,
  isolation,
  operator,
}: ConfigurationFlags): Promise<HostChoices | undefined> {
  if ([modelOwner, padding, isolation, operator].every((flag) => flag === undefined)) return undefined
  return {
    ...(modelOwner === undefined ? {} : { modelOwnerKey: await loadPublicKey('--model-owner', modelOwner) }),
    ...(padding === undefined ? {} : { padding }),
    ...(isolation === undefined ? {} : { isolation }),
    ...(operator === undefined ? {} : { operatorKey: await loadPublicKey('--operator', operator) }),
  }
}

function modelOption(): Option {
  return new Option('--model <folder>', 'model package for the model disk (default: the demo model)')
}

interface BuildFlags extends ConfigurationFlags {
  readonly flavour: Flavour
  readonly out?: string
  readonly model?: string
}

interface MeasureFlags extends ConfigurationFlags {
  readonly flavour: Flavour
  readonly image?: string
  readonly format: 'json' | 'policy' | 'release'
  readonly releaseVersion: string
}

async function releaseText(folder: string, measured: ImageMeasurements, version: string): Promise<string> {
  const revision = releasedRevision((await readImageManifest(folder)).source, await sourceState(repository))
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
async function buildAndPrint(options: BuildOptions): Promise<void> {
  const started = performance.now()
  const seconds = (): string => ((performance.now() - started) / 1000).toFixed(1)
  const manifest = await buildImage({
    ...options,
    onStep: (what) => process.stderr.write(`image: ${seconds()} s  ${what}\n`),
  })
  const measured = await measureImage(options.out)
  await writeMeasurements(options.out, measured)
  const expected = measured.snp.find(({ vcpus, vcpuType }) => vcpus === 1 && vcpuType === 'EPYC-Genoa')
  const lines = manifest.artifacts.map(
    ({ name, bytes, sha256 }) => `${name.padEnd(16)}${String(bytes).padStart(11)}  ${sha256}`,
  )
  process.stdout.write(
    `${options.flavour} image in ${options.out}, ${seconds()} s\n${manifest.note}\n\n${lines.join('\n')}\n\nmodel: ${manifest.model.id}${manifest.model.sealed ? ', sealed' : ''}\ncommand line: ${manifest.commandLine}\nlaunch digest, 1 x EPYC-Genoa: ${expected?.digest}\nbefore the vCPUs: ${measured.beforeVcpus}\n${measured.tdx.map(({ boot, rtmr1, rtmr2 }) => `TDX, ${boot}: RTMR1 ${rtmr1}, RTMR2 ${rtmr2}\n`).join('')}HOST_DATA: ${measured.hostConfiguration.hostData}\n`,
  )
}

async function writeMeasurements(folder: string, measured: ImageMeasurements): Promise<void> {
  await writeFile(join(folder, MEASUREMENTS_FILE), `${JSON.stringify(measured, null, 2)}\n`)
}
