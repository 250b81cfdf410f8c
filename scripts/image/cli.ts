/** The commands of `npm run image` and of `subrosa image`. */
import { Command, Option } from 'commander'
import { exportBase, prepareBase } from './base.js'
import { type BuildOptions, buildImage, type ImageManifest } from './build.js'
import { ImageError } from './command.js'
import { loadLock, saveLock } from './lock.js'
import { createLock } from './lock-refresh.js'
import { artifactFolder, type Flavour } from './places.js'

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
    .command('base')
    .description('write the base of Dockerfile.enclave as a tar, for docker import or podman import')
    .argument('<file>')
    .action(async (file: string) => {
      const lock = await loadLock()
      await exportBase(await prepareBase(lock), file, lock.sourceDateEpoch)
    })
  program
    .command('lock')
    .description('write the lock file anew, with the versions the archive has today')
    .action(async () => saveLock(await createLock()))
}

export function flavourOption(): Option {
  return new Option('--flavour <name>', 'test has a SIMULATED machine in it and protects nothing')
    .choices(['developer', 'test'])
    .default('developer')
}

/** Builds, and says what came out: sizes, hashes, seconds. */
export async function buildAndPrint(options: BuildOptions): Promise<ImageManifest> {
  const started = performance.now()
  const seconds = (): string => ((performance.now() - started) / 1000).toFixed(1)
  const manifest = await buildImage({
    ...options,
    onStep: (what) => process.stderr.write(`image: ${seconds()} s  ${what}\n`),
  })
  const lines = manifest.artifacts.map(
    ({ name, bytes, sha256 }) => `${name.padEnd(16)}${String(bytes).padStart(11)}  ${sha256}`,
  )
  process.stdout.write(
    `${options.flavour} image in ${options.out}, ${seconds()} s\n${manifest.note}\n\n${lines.join('\n')}\n\ncommand line: ${manifest.commandLine}\n`,
  )
  return manifest
}
