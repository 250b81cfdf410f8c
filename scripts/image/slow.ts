/**
 * `npm run image:slow`: our own kernel, and the GPU flavour's with NVIDIA's modules, each built twice from nothing, the second
 * time as somebody else would, and compared file by file, with one another and with the one that images get. Then the GPU flavour
 * boots, which no other lane does by itself.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { bootLane } from './boot.js'
import { CONDITIONS_ELSEWHERE, type Conditions, elsewhere, here, runUnder } from './elsewhere.js'
import { identical } from './identical.js'
import { compareWithKept, fetchKernelPackages, type KernelName, kernelRelease } from './kernel.js'
import { createLane, type Lane } from './lane.js'
import { loadLock } from './lock.js'

const BUILD_DEADLINE_MS = 4 * 3600_000

export const SLOW_PARTS = ['kernel', 'gpu-kernel', 'gpu-boot'] as const
export type SlowPart = (typeof SLOW_PARTS)[number]

export async function slowLane(parts: readonly SlowPart[] = SLOW_PARTS): Promise<number> {
  const lane = createLane('image-slow')
  const folder = await mkdtemp(join(tmpdir(), 'subrosa-slow-'))
  try {
    const second = await elsewhere(folder, ['debs'])
    for (const name of parts) if (name !== 'gpu-boot') await buildTwice(lane, name, second, join(folder, name))
    const status = lane.finish()
    return parts.includes('gpu-boot') ? (await bootLane(['gpu'])) || status : status
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function buildTwice(lane: Lane, name: KernelName, second: Conditions, folder: string): Promise<void> {
  const [one, two] = [`${folder}-one`, `${folder}-two`]
  const flag = name === 'gpu-kernel' ? ['--gpu'] : []
  const build = async (conditions: Conditions, out: string): Promise<string> => {
    await runUnder(conditions, ['kernel', ...flag, '--out', out], BUILD_DEADLINE_MS)
    return kernelRelease(await readFile(join(out, 'vmlinuz')))
  }
  await fetchKernelPackages(name, await loadLock())
  // At once: the second has one core for itself where there are two.
  const built = await Promise.all([
    lane.check(`${name}, built here`, () => build(here(), one)),
    lane.check(`${name}, built elsewhere (${CONDITIONS_ELSEWHERE})`, () => build(second, two)),
  ])
  const same =
    built.every(Boolean) && (await lane.check(`${name}: both builds are identical`, () => identical(one, two)))
  if (!same) return
  // What images get: without this, two builds that agree would say nothing of an older third.
  await lane.check(`${name}: the kept one, which images get, is identical to both`, async () =>
    compareWithKept(one, { name, lock: await loadLock() }),
  )
}
