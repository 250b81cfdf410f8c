/** Every captured SNP case reaches the expected verdict for the expected reason. Skipped, by name, without the evidence. */
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { tally } from '../support/tally.js'
import { vectorsFolder } from '../support/vectors.js'
import { readCases, runCase } from './cases.js'

const cases = readCases()

describe.skipIf(vectorsFolder === undefined)('captured SNP evidence (skipped without SUBROSA_VECTORS)', () => {
  const vectors = vectorsFolder ?? ''
  const counted = tally('snp.library', cases.length)

  it.each(cases)(
    '%s',
    counted(async (_name, c) => {
      const outcome = await runCase(vectors, c)
      const wrong = outcome.checks.filter((check) => check.status === 'fail')
      expect({ verdict: outcome.verdict, firstFailing: outcome.firstFailing, wrong }).toMatchObject({
        verdict: c.verdict,
        firstFailing: c.firstFailing,
      })
    }),
  )

  it('has a case for every report and every conformance folder', () => {
    const named = cases.map(([, c]) => c.report ?? c.conformance ?? '')
    const reports = readdirSync(join(vectors, 'snp'))
      .filter((name) => name.endsWith('-report.bin') || name.endsWith('-evidence.json'))
      .map((name) => `snp/${name}`)
    const conformance = readdirSync(join(vectors, 'snp/conformance')).map((name) => `snp/conformance/${name}`)
    expect([...reports, ...conformance].filter((path) => !named.includes(path))).toEqual([])
  })
})
