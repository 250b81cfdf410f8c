/** Every captured TDX case reaches the expected verdict for the expected reason. Skipped, by name, without the evidence. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { tally } from '../support/tally.js'
import { vectorsFolder } from '../support/vectors.js'
import { readCases, runCase } from './cases.js'

const cases = readCases()

describe.skipIf(vectorsFolder === undefined)('captured TDX evidence (skipped without SUBROSA_VECTORS)', () => {
  const vectors = vectorsFolder ?? ''
  const counted = tally('tdx.library', cases.length)

  it.each(cases)(
    '%s',
    counted(async (_name, c) => {
      const { verdict, firstFailing, failing, findings } = await runCase(vectors, c)
      expect({ verdict, firstFailing, alsoFailing: failing.slice(1), status: findings?.tcb?.status }).toEqual({
        verdict: c.verdict,
        firstFailing: c.firstFailing,
        alsoFailing: c.alsoFailing ?? [],
        status: c.status,
      })
    }),
  )

  it('has a case for every quote, event log and conformance folder', () => {
    const named = cases.flatMap(([, c]) => [c.quote, c.conformance, c.eventLog, c.hclReport])
    const evidence = readdirSync(join(vectors, 'tdx'))
      .filter((name) => /quote(\.bin|\.hex|-and-eventlog\.json)$|ccel-data|^tdreport|evidence|hcl-report/.test(name))
      .map((name) => `tdx/${name}`)
    const conformance = readdirSync(join(vectors, 'tdx/conformance')).map((name) => `tdx/conformance/${name}`)
    expect(
      [...evidence, ...conformance, 'tdx/intel-test-pki/quote.dat'].filter((path) => !named.includes(path)),
    ).toEqual([])
  })

  it('accepts exactly the conformance cases that their authors accept', () => {
    const folders = readdirSync(join(vectors, 'tdx/conformance'))
    const theirs = folders.filter((name) => {
      const text = readFileSync(join(vectors, 'tdx/conformance', name, 'expected.json'), 'utf8')
      return (JSON.parse(text) as { accepted: boolean }).accepted
    })
    const ours = folders.filter((name) =>
      cases.some(([id, c]) => id === `tdx/conformance/${name}` && c.verdict === 'accepted'),
    )
    expect(ours).toEqual(theirs)
  })
})
