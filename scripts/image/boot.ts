/** `npm run image:boot`: boots what was built, in emulation, and asserts what must run and what must not. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { bootAml } from './boot-aml.js'
import { bootGpu } from './boot-gpu.js'
import { bootPlain, bootUnderFirmware } from './boot-plain.js'
import { bootSealed } from './boot-sealed.js'
import { bootTest } from './boot-test.js'
import { bootTpm } from './boot-tpm.js'
import { bootWakeup } from './boot-wakeup.js'
import { buildImage } from './build.js'
import { createGuestMaker } from './guests.js'
import { createLane } from './lane.js'
import { loadLock } from './lock.js'
import { artifactFolder, cacheFolder, FLAVOURS, type Flavour } from './places.js'
import { prepareQemu } from './qemu.js'

/**
 * Which boots, and of what: Debian's kernel, ours, ours under the SEV firmware, Debian's and both of ours with hostile code in a table, and with
 * a table that names addresses to run from, ours with a TPM, the test
 * flavour, and the GPU flavour with its kernel on a machine without a GPU.
 */
export const BOOT_SUITES = ['plain', 'production', 'firmware', 'aml', 'wakeup', 'tpm', 'test', 'gpu'] as const
export type BootSuite = (typeof BOOT_SUITES)[number]

const NEEDS: Readonly<Record<BootSuite, readonly Flavour[]>> = {
  plain: ['developer'],
  production: ['production'],
  firmware: ['production'],
  aml: ['production', 'gpu', 'developer'],
  wakeup: ['production', 'test', 'gpu', 'gpu-test', 'developer'],
  tpm: ['production'],
  test: ['test'],
  gpu: ['gpu', 'gpu-test'],
}

/** The suites that need none but these flavours. */
export function suitesOf(flavours: readonly Flavour[]): readonly BootSuite[] {
  return BOOT_SUITES.filter((suite) => NEEDS[suite].every((flavour) => flavours.includes(flavour)))
}

/** @param model package in the clear for the model disks. Default: the demonstration model. */
export async function bootLane(suites: readonly BootSuite[] = BOOT_SUITES, model?: string): Promise<number> {
  const lock = await loadLock()
  const lane = createLane('image-boot')
  for (const flavour of FLAVOURS.filter((name) => suites.some((suite) => NEEDS[suite].includes(name)))) {
    // What lies there may be of other sources: what is booted is what was just built.
    await lane.check(`${flavour} image builds, and holds what is listed and nothing else`, async () => {
      const { artifacts } = await buildImage({
        flavour,
        lock,
        out: artifactFolder(flavour),
        ...(model === undefined ? {} : { model }),
      })
      return `${artifacts.length} artifacts, ${Math.round(artifacts.reduce((sum, { bytes }) => sum + bytes, 0) / 1e6)} MB`
    })
  }
  const qemu = await prepareQemu(lock)
  const scratch = join(cacheFolder, 'boot', String(process.pid))
  try {
    const maker = (flavour: Flavour) => createGuestMaker(qemu, artifactFolder(flavour), scratch)
    if (suites.includes('plain')) await bootPlain(lane, await maker('developer'), 'developer')
    if (suites.includes('production')) await bootPlain(lane, await maker('production'), 'production')
    if (suites.includes('firmware')) await bootUnderFirmware(lane, await maker('production'))
    if (suites.includes('aml')) {
      const own = { production: await maker('production'), gpu: await maker('gpu') }
      await bootAml(lane, own, await maker('developer'), qemu, scratch)
    }
    if (suites.includes('wakeup')) {
      const own = [
        { name: 'production', silent: await maker('production'), talking: await maker('test') },
        { name: 'gpu', silent: await maker('gpu'), talking: await maker('gpu-test') },
      ]
      await bootWakeup(lane, own, await maker('developer'), qemu, scratch)
    }
    if (suites.includes('tpm')) await bootTpm(lane, await maker('production'), qemu, scratch)
    if (suites.includes('test')) {
      await bootTest(lane, await maker('test'), scratch)
      await bootSealed(lane, qemu, lock, scratch)
    }
    if (suites.includes('gpu')) await bootGpu(lane, await maker('gpu'), await maker('gpu-test'))
    return lane.finish()
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}
