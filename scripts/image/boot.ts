/** `npm run image:boot`: builds images, boots them in emulation, and asserts what must run and what must not. */
import { join } from 'node:path'
import { bootAml } from './boot-aml.js'
import { bootGpu } from './boot-gpu.js'
import { bootPlain, bootUnderFirmware } from './boot-plain.js'
import { bootSealed } from './boot-sealed.js'
import { bootTest, requireDefaultChoices } from './boot-test.js'
import { bootTpm } from './boot-tpm.js'
import { bootWakeup } from './boot-wakeup.js'
import { buildImage } from './build.js'
import { ImageError } from './command.js'
import { createGuestMaker } from './guests.js'
import { createLane, type Lane } from './lane.js'
import { type ImageLock, loadLock } from './lock.js'
import { readImageManifest } from './manifest.js'
import { withOwnFolder } from './own-folder.js'
import { cacheFolder, FLAVOURS, type Flavour } from './places.js'
import { prepareQemu } from './qemu.js'

/**
 * Which boots, and of what: Debian's kernel; ours; ours under the SEV firmware; Debian's and both of ours with hostile code in a
 * table, and with a table that names addresses to run from; ours with a TPM; the test flavour; the same with a sealed model; and the
 * GPU flavour with its kernel on a machine without a GPU.
 */
export const BOOT_SUITES = ['plain', 'production', 'firmware', 'aml', 'wakeup', 'tpm', 'test', 'sealed', 'gpu'] as const
export type BootSuite = (typeof BOOT_SUITES)[number]

const NEEDS: Readonly<Record<BootSuite, readonly Flavour[]>> = {
  plain: ['developer'],
  production: ['production'],
  firmware: ['production'],
  aml: ['production', 'gpu', 'developer'],
  wakeup: ['production', 'test', 'gpu', 'gpu-test', 'developer'],
  tpm: ['production'],
  test: ['test'],
  sealed: ['test'],
  gpu: ['gpu', 'gpu-test'],
}

/** The suites that need none but these flavours. */
export function suitesOf(flavours: readonly Flavour[]): readonly BootSuite[] {
  return BOOT_SUITES.filter((suite) => NEEDS[suite].every((flavour) => flavours.includes(flavour)))
}

/**
 * Builds what the suites need in a folder of its own, and boots it: the images of whoever runs this stay as they are.
 * @param model package in the clear for the model disks. Default: the demonstration model.
 */
export async function bootLane(suites: readonly BootSuite[] = BOOT_SUITES, model?: string): Promise<number> {
  const lock = await loadLock()
  const lane = createLane('image-boot')
  const built = new Map<Flavour, string>()
  return withOwnFolder(join(cacheFolder, 'boot-images'), async (folder) => {
    for (const flavour of FLAVOURS.filter((name) => suites.some((suite) => NEEDS[suite].includes(name)))) {
      const out = join(folder, flavour)
      const done = await lane.check(`${flavour} image builds, and holds what is listed and nothing else`, async () => {
        const { artifacts } = await buildImage({ flavour, lock, out, ...(model === undefined ? {} : { model }) })
        return `${artifacts.length} artifacts, ${Math.round(artifacts.reduce((sum, { bytes }) => sum + bytes, 0) / 1e6)} MB`
      })
      if (done) built.set(flavour, out)
    }
    await bootSuites(lane, suites, built)
    return lane.finish()
  })
}

/**
 * Boots the image in `folder` as it is, and leaves it so.
 * @param suites none for all that its flavour allows. @throws ImageError when one of them needs another flavour besides, or the
 * flavour has none, or the image is another than a suite asks for.
 */
export async function bootImage(folder: string, suites: readonly BootSuite[] = []): Promise<number> {
  const { flavour } = await readImageManifest(folder)
  const possible = suitesOf([flavour])
  const wanted = suites.length === 0 ? possible : suites
  const other = wanted.find((suite) => !possible.includes(suite))
  if (other !== undefined || wanted.length === 0) {
    const names = possible.length === 0 ? 'no suite' : possible.join(', ')
    throw new ImageError(
      `${folder}: expected ${names} for a ${flavour} image by itself, got ${other ?? 'none'}; without --image the lane builds what it boots`,
    )
  }
  if (wanted.includes('test')) await requireDefaultChoices(folder)
  const lane = createLane('image-boot')
  await bootSuites(lane, wanted, new Map([[flavour, folder]]))
  return lane.finish()
}

/** Boots images as they are. @param images folder of each flavour; suites that need one which is not there are skipped. */
export async function bootSuites(
  lane: Lane,
  suites: readonly BootSuite[],
  images: ReadonlyMap<Flavour, string>,
): Promise<void> {
  const possible: BootSuite[] = []
  for (const suite of BOOT_SUITES.filter((name) => suites.includes(name))) {
    const missing = NEEDS[suite].find((flavour) => !images.has(flavour))
    if (missing === undefined) possible.push(suite)
    else lane.skip(`boots of ${suite}`, `there is no ${missing} image to boot`)
  }
  if (possible.length === 0) return
  const lock = await loadLock()
  await withOwnFolder(join(cacheFolder, 'boot'), async (scratch) => {
    const boots = bootsOf(lane, images, lock, await prepareQemu(lock), scratch)
    for (const suite of possible) await boots[suite]()
  })
}

function bootsOf(
  lane: Lane,
  images: ReadonlyMap<Flavour, string>,
  lock: ImageLock,
  qemu: string,
  scratch: string,
): Readonly<Record<BootSuite, () => Promise<void>>> {
  const maker = (flavour: Flavour) => createGuestMaker(qemu, images.get(flavour) as string, scratch)
  return {
    plain: async () => bootPlain(lane, await maker('developer'), 'developer'),
    production: async () => bootPlain(lane, await maker('production'), 'production'),
    firmware: async () => bootUnderFirmware(lane, await maker('production')),
    aml: async () => {
      const own = { production: await maker('production'), gpu: await maker('gpu') }
      await bootAml(lane, own, await maker('developer'), qemu, scratch)
    },
    wakeup: async () => {
      const own = [
        { name: 'production', silent: await maker('production'), talking: await maker('test') },
        { name: 'gpu', silent: await maker('gpu'), talking: await maker('gpu-test') },
      ]
      await bootWakeup(lane, own, await maker('developer'), qemu, scratch)
    },
    tpm: async () => bootTpm(lane, await maker('production'), qemu, scratch),
    test: async () => bootTest(lane, await maker('test'), scratch),
    sealed: async () => bootSealed(lane, await maker('test'), qemu, lock, scratch),
    gpu: async () => bootGpu(lane, await maker('gpu'), await maker('gpu-test')),
  }
}
