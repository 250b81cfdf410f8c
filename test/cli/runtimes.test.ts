/**
 * Every captured case gives the same list of checks, to the byte, under every version of Node at hand. Versions that are not
 * are skipped by name.
 */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { describe, expect, it } from 'vitest'
import { missingRuntimes, runtimes } from '../support/runtimes.js'
import { withoutVectors } from '../support/vectors.js'

const nodes = runtimes.filter(([name]) => name.includes('Node'))
const skipped = withoutVectors || nodes.length < 2

describe.skipIf(skipped)('check lists (skipped without SUBROSA_VECTORS or SUBROSA_RUNTIMES)', () => {
  it('are those of this Node under every other', async () => {
    const digests = new Map<string, string>()
    for (const [name, program] of nodes) digests.set(name, await digestUnder(program))
    console.log(JSON.stringify({ suite: 'runtimes', missing: missingRuntimes, digests: [...digests] }))
    expect(new Set(digests.values()).size).toBe(1)
  })
})

/** What `conformance.test.ts` prints at its end: how many cases, and one digest of all their check lists. */
async function digestUnder(program: string): Promise<string> {
  const vitest = ['node_modules/vitest/vitest.mjs', 'run', 'test/cli/conformance.test.ts']
  const { stdout } = await promisify(execFile)(program, vitest, { maxBuffer: 1 << 26 })
  const line = /\{"suite":"cli\.check-lists","cases":(\d+),"digest":"[0-9a-f]{64}"\}/.exec(stdout)
  expect(Number(line?.[1])).toBeGreaterThan(200)
  return line?.[0] ?? ''
}
