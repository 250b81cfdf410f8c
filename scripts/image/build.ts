/** One image: the trees of Dockerfile.enclave turned into what a host boots, and a manifest of it. */
import { existsSync } from 'node:fs'
import { chmod, copyFile, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describeOrtEngine } from '../../enclave/inference/ort/engine.js'
import { engineLabel } from '../../enclave/worker.js'
import { prepareBase, prepareGpuBase } from './base.js'
import { buildTrees, type Recipe } from './container.js'
import { cpioArchive } from './cpio.js'
import { fileDigest } from './digest.js'
import { verityDisk } from './disk.js'
import { fetchBootCode } from './firmware.js'
import {
  CONFIGURATION_FILE,
  type HostChoices,
  hostConfigurationFor,
  writeHostConfiguration,
} from './host-configuration.js'
import { inventoryOf } from './inventory.js'
import { expectListedFiles } from './inventory-rules.js'
import { KERNELS, type KernelName, ownKernel, requireOwnKernel } from './kernel.js'
import type { ImageLock } from './lock.js'
import { type Artifact, IMAGE_SCHEMA, type ImageManifest, MANIFEST_FILE, MEASUREMENTS_FILE } from './manifest.js'
import { copyModel } from './model-tree.js'
import { type Flavour, repository } from './places.js'
import { createProgress } from './progress.js'
import { sourceState } from './source-state.js'
import { ensureTools } from './tools.js'
import { unifiedKernelImage } from './uki.js'

export interface BuildOptions {
  readonly flavour: Flavour
  readonly lock: ImageLock
  /** Where the artifacts go. */
  readonly out: string
  readonly context?: string
  /** Model package for the model disk. Default: the demonstration model. */
  readonly model?: string
  /** What the host configuration beside the image says. With an owner, the package is a sealed one. */
  readonly choices?: HostChoices
  readonly env?: Readonly<Record<string, string>>
  /** Told what begins. */
  readonly onStep?: (what: string) => void
}

/** Every file of a build, in the order in which two builds are compared: causes before effects. */
export const ARTIFACTS = [
  'inventory.txt',
  'root.img',
  'model.img',
  'initrd.cpio',
  'vmlinuz',
  'OVMF.amdsev.fd',
  'OVMF.tdx.fd',
  'cmdline',
  'uki.efi',
] as const

/** It takes a minute or two where nothing else runs; many more on a machine with other work. */
const RECIPE_DEADLINE_MS = 3600_000

const ROOT_UUID = '5b2005a0-0000-4000-8000-000000000001'
const MODEL_UUID = '5b2005a0-0000-4000-8000-000000000002'

/** Measured words that decide how the guest starts; the root hashes come behind them. */
const COMMAND_LINE = 'quiet panic=-1 lockdown=confidentiality init_on_alloc=1 vsyscall=none'
/** The serial port is the host's: what goes to production's console goes nowhere. */
const CONSOLES: Readonly<Record<Flavour, string>> = {
  production: 'ttynull',
  developer: 'ttyS0',
  test: 'ttyS0',
  gpu: 'ttynull',
  'gpu-test': 'ttyS0',
}

const SIMULATED = 'SIMULATED machine inside: it protects nothing, and its digests enter no policy'
const NOTES: Readonly<Record<Flavour, string>> = {
  production: 'our own kernel, which denies AML access to memory; not yet run on a confidential CPU',
  developer:
    'stock Debian kernel: it runs AML of ACPI tables that the host wrote, so these digests are for development and enter no release',
  test: SIMULATED,
  gpu: 'our own kernel with NVIDIA’s modules and driver libraries; never run on a confidential CPU or on a GPU',
  'gpu-test': SIMULATED,
}

export async function buildImage(options: BuildOptions): Promise<ImageManifest> {
  const { flavour, lock, out, context = repository, model, choices = {}, env = {}, onStep = () => undefined } = options
  const epoch = lock.sourceDateEpoch
  // Says that it takes root before anything else fails for want of it.
  await ensureTools()
  await mkdir(out, { recursive: true })
  const [trees, modelTree] = [await mkdtemp(`${out}/trees-`), await mkdtemp(`${out}/model-`)]
  try {
    // Before the sources are read: what is changed while they are is on whoever changes it.
    const source = await sourceState(context)
    onStep('packages')
    // First, as it may not be one.
    const copied = await copyModel(model ?? demoModel(context), modelTree, epoch, choices.modelOwnerKey !== undefined)
    const base = await prepareBase(lock)
    // Before the recipe, which empties its folder: this may take minutes.
    const name = KERNELS[flavour]
    const kernel = name === undefined ? undefined : await ownKernel({ name, lock, context, env })
    const gpuBase = name === 'gpu-kernel' ? { GPU_BASE: await prepareGpuBase(lock) } : {}
    onStep('recipe')
    await runRecipe({ bases: { BASE: base, ...gpuBase }, target: flavour, epoch, context, out: trees, env })
    if (kernel !== undefined && name !== undefined) await addKernel(kernel, name, trees)
    onStep('disks')
    await forgetDescriptions(out)
    const inventory = await inventoryOf(trees)
    await expectListedFiles(inventory, flavour)
    await writeFile(join(out, 'inventory.txt'), inventory)
    const root = await verityDisk(base, {
      source: join(trees, 'root'),
      file: join(out, 'root.img'),
      uuid: ROOT_UUID,
      epoch,
    })
    const modelRoot = await verityDisk(base, {
      source: modelTree,
      file: join(out, 'model.img'),
      uuid: MODEL_UUID,
      epoch,
    })
    onStep('initrd')
    const initrd = await cpioArchive(join(trees, 'initrd'), epoch)
    const vmlinuz = await readFile(join(trees, 'vmlinuz'))
    const { snpFirmware, tdxFirmware, stub } = await fetchBootCode(lock)
    await writeFile(join(out, 'initrd.cpio'), initrd)
    await writeFile(join(out, 'vmlinuz'), vmlinuz)
    await writeFile(join(out, 'OVMF.amdsev.fd'), snpFirmware)
    await writeFile(join(out, 'OVMF.tdx.fd'), tdxFirmware)
    const commandLine = `console=${CONSOLES[flavour]} ${COMMAND_LINE} subrosa.root=${root} subrosa.model=${modelRoot}`
    await writeFile(join(out, 'cmdline'), commandLine)
    await writeFile(join(out, 'uki.efi'), unifiedKernelImage(stub, { commandLine, initrd, kernel: vmlinuz }))
    const artifacts = await Promise.all(ARTIFACTS.map((name) => describe(out, name)))
    const manifest: ImageManifest = {
      schema: IMAGE_SCHEMA,
      flavour,
      ...(source === undefined ? {} : { source }),
      note: NOTES[flavour],
      commandLine,
      model: copied.held,
      // The checkout's own runtime, which the lock of the image has too; only it knows its version.
      engine: engineLabel({ info: await describeOrtEngine(copied.manifest) }),
      artifacts,
    }
    await writeHostConfiguration(out, hostConfigurationFor(manifest, choices))
    await writeFile(join(out, MANIFEST_FILE), `${JSON.stringify(manifest, null, 2)}\n`)
    return manifest
  } finally {
    for (const folder of [trees, modelTree]) await rm(folder, { recursive: true, force: true })
  }
}

/** Before the first file of an older image is replaced: what describes it must not be there for another, should the build fail. */
export async function forgetDescriptions(folder: string): Promise<void> {
  for (const name of [MANIFEST_FILE, MEASUREMENTS_FILE, CONFIGURATION_FILE])
    await rm(join(folder, name), { force: true })
}

/** Shows each step that buildah names; it skips those of other targets, so that the bar stops short of its end. */
async function runRecipe(recipe: Recipe): Promise<void> {
  const text = await readFile(join(recipe.context ?? repository, 'Dockerfile.enclave'), 'utf8')
  const progress = createProgress(`the recipe of ${recipe.target}`, text.match(/^[A-Z]+ /gm)?.length ?? 1)
  try {
    await buildTrees({
      ...recipe,
      timeoutMs: RECIPE_DEADLINE_MS,
      onLine: (line) => {
        if (/STEP \d/.test(line)) progress.step()
      },
    })
  } finally {
    progress.end()
  }
}

/** And its modules, where it has any, into the verified root. */
async function addKernel(folder: string, name: KernelName, trees: string): Promise<void> {
  const kernel = await readFile(join(folder, 'vmlinuz'))
  requireOwnKernel(kernel, name)
  await writeFile(join(trees, 'vmlinuz'), kernel)
  await chmod(join(trees, 'vmlinuz'), 0o444)
  const modules = join(folder, 'modules')
  if (!existsSync(modules)) return
  const [into, release = ''] = [join(trees, 'root', 'lib', 'modules'), ...(await readdir(modules))]
  await mkdir(join(into, release), { recursive: true })
  for (const name of await readdir(join(modules, release))) {
    await copyFile(join(modules, release, name), join(into, release, name))
    await chmod(join(into, release, name), 0o444)
  }
  for (const made of [into, join(into, release)]) await chmod(made, 0o755)
}

function demoModel(checkout: string): string {
  return join(checkout, 'enclave', 'models', 'demo')
}

async function describe(folder: string, name: string): Promise<Artifact> {
  const file = join(folder, name)
  return { name, bytes: (await stat(file)).size, sha256: await fileDigest(file) }
}
