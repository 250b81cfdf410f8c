/** `npm run image:slow`: our own kernel, built twice from nothing, the second time as somebody else would, and compared. */
import { createHash } from 'node:crypto'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Conditions, described, elsewhere, here, runUnder } from './elsewhere.js'
import { keepKernel, kernelRelease } from './kernel.js'
import { createLane, expect } from './lane.js'
import { loadLock } from './lock.js'

const BUILD_DEADLINE_MS = 4 * 3600_000
const FILES = ['config', 'vmlinuz'] as const

export async function slowLane(): Promise<number> {
  const lane = createLane('image-slow')
  const folder = await mkdtemp(join(tmpdir(), 'subrosa-slow-'))
  try {
    const second = await elsewhere(folder, ['debs'])
    const [one, two] = [join(folder, 'one'), join(folder, 'two')]
    const build = async (conditions: Conditions, out: string): Promise<string> => {
      await runUnder(conditions, ['kernel', '--out', out], BUILD_DEADLINE_MS)
      return kernelRelease(await readFile(join(out, 'vmlinuz')))
    }
    // At once: the second has one core for itself where there are two.
    const built = await Promise.all([
      lane.check('own kernel, built here', () => build(here(), one)),
      lane.check(`own kernel, built elsewhere (${described(second)})`, () => build(second, two)),
    ])
    const same =
      built.every(Boolean) && (await lane.check('own kernel: both builds are identical', () => identical(one, two)))
    if (same) await keepKernel(one, { lock: await loadLock() })
    return lane.finish()
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function identical(one: string, two: string): Promise<string> {
  const lines: string[] = []
  for (const name of FILES) {
    const [left, right] = await Promise.all([readFile(join(one, name)), readFile(join(two, name))])
    const at = left.findIndex((byte, i) => byte !== right[i])
    expect(left.equals(right), `identical ${name}`, `a difference from byte ${at < 0 ? left.length : at} on`)
    lines.push(`${name} ${left.length} ${createHash('sha256').update(left).digest('hex')}`)
  }
  return lines.join(', ')
}
