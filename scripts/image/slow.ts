/**
 * `npm run image:slow`: our own kernel, and the GPU flavour's with NVIDIA's modules, each built twice from nothing, the second
 * time as somebody else would, and compared file by file. Then the GPU flavour boots, which no other lane does by itself.
 */
import { createHash } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { bootLane } from './boot.js'
import { type Conditions, described, elsewhere, here, runUnder } from './elsewhere.js'
import { fetchKernelPackages, type KernelName, keepKernel, kernelRelease } from './kernel.js'
import { createLane, expect, type Lane } from './lane.js'
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
    lane.check(`${name}, built elsewhere (${described(second)})`, () => build(second, two)),
  ])
  const same =
    built.every(Boolean) && (await lane.check(`${name}: both builds are identical`, () => identical(one, two)))
  if (same) await keepKernel(one, { name, lock: await loadLock() })
}

/** Sizes and digests of all files. @throws Error naming the first that differs, modules before the kernel that holds their digests. */
export async function identical(one: string, two: string): Promise<string> {
  const [files, others] = [await filesOf(one), await filesOf(two)]
  const alone = [...files, ...others].find((name) => !files.includes(name) || !others.includes(name))
  expect(alone === undefined, 'the same files', `${alone} in one of them only`)
  const lines: string[] = []
  for (const name of files) {
    const [left, right] = await Promise.all([readFile(join(one, name)), readFile(join(two, name))])
    const at = left.findIndex((byte, i) => byte !== right[i])
    expect(left.equals(right), `identical ${name}`, `a difference from byte ${at < 0 ? left.length : at} on`)
    lines.push(`\n      ${name} ${left.length} ${createHash('sha256').update(left).digest('hex')}`)
  }
  return lines.join('')
}

/** In alphabetical order, which has causes before effects: config, digests.h, modules, vmlinuz. */
async function filesOf(folder: string): Promise<readonly string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true })
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
    .sort()
}
