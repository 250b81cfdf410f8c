/**
 * `npm run image:check`: builds twice, the second time as somebody else would, and compares artifact by artifact; then boots, with all
 * refusals. The second build unpacks its own base, in another checkout, cache, umask, time zone, locale, host name, clock and number
 * of cores.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { bootSuites, suitesOf } from './boot.js'
import { firstDifference } from './compare.js'
import { CONDITIONS_ELSEWHERE, type Conditions, clockInside, elsewhere, here, runUnder } from './elsewhere.js'
import { KERNELS, ownKernel } from './kernel.js'
import { createLane } from './lane.js'
import { loadLock } from './lock.js'
import { readImageManifest } from './manifest.js'
import type { Flavour } from './places.js'

const BUILD_DEADLINE_MS = 2 * 3600_000

export async function checkLane(flavours: readonly Flavour[]): Promise<number> {
  const lane = createLane('image-check')
  const folder = await mkdtemp(join(tmpdir(), 'subrosa-check-'))
  try {
    // Both builds take the same kernels; building those twice is a lane of its own, `npm run image:slow`.
    const names = new Set(flavours.map((flavour) => KERNELS[flavour]))
    for (const name of names) if (name !== undefined) await ownKernel({ name, lock: await loadLock() })
    const second = await clockInside(await elsewhere(folder, ['debs', 'npm', 'kernel']), folder)
    const same = new Map<Flavour, string>()
    for (const flavour of flavours) {
      const [one, two] = [join(folder, `${flavour}-one`), join(folder, `${flavour}-two`)]
      const built = await lane.check(`${flavour} image, built here`, () => build(flavour, here(), one))
      const again =
        built &&
        (await lane.check(
          `${flavour} image, built elsewhere (${CONDITIONS_ELSEWHERE}; that clock in the steps too)`,
          () => build(flavour, second, two),
        ))
      if (!again) continue
      const identical = await lane.check(`${flavour} image: both builds are identical`, async () => {
        const difference = await firstDifference(one, two)
        if (difference !== undefined) throw new Error(`expected identical builds; ${difference}`)
        return `\n${await listed(one)}`
      })
      if (identical) same.set(flavour, one)
    }
    await bootSuites(lane, suitesOf(flavours), same)
    return lane.finish()
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function build(flavour: Flavour, conditions: Conditions, out: string): Promise<string> {
  await runUnder(conditions, ['build', '--flavour', flavour, '--out', out], BUILD_DEADLINE_MS)
  return ''
}

async function listed(folder: string): Promise<string> {
  const { artifacts } = await readImageManifest(folder)
  return artifacts
    .map(({ name, bytes, sha256 }) => `      ${name.padEnd(16)}${String(bytes).padStart(11)}  ${sha256}`)
    .join('\n')
}
