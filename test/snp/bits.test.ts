/**
 * No bit of a genuine report can change: every flip in the signed bytes, in R or S, or in the zeros after them is
 * rejected. A spread of bits by default; all of them with SUBROSA_ALL_BITS=1 (about 10 000 for each report).
 */
import { describe, expect, it } from 'vitest'
import { sortEndorsements } from '../../verifier/endorsements.js'
import { readSnpEvidence } from '../../verifier/snp/evidence.js'
import { SNP_REPORT_BYTES, SNP_SIGNED_BYTES } from '../../verifier/snp/report.js'
import { vectorsFolder } from '../support/vectors.js'
import { type PreparedCase, prepareCase, readCases, run, type SnpCase } from './cases.js'
import { makeWorld, NOON } from './world.js'

const all = process.env['SUBROSA_ALL_BITS'] === '1'
const TOTAL_BITS = 8 * SNP_REPORT_BYTES

/** Every bit, or a spread of them; a prime step so that all bits of a byte take their turn. */
function bitsToFlip(): readonly number[] {
  const step = all ? 1 : 61
  return Array.from({ length: Math.ceil(TOTAL_BITS / step) }, (_, i) => i * step)
}

/** Which check has to notice, by where the bit lies. */
function guardOf(byte: number): RegExp {
  const inValue = (byte - SNP_SIGNED_BYTES) % 72 < 48 && byte < 0x330
  if (byte < SNP_SIGNED_BYTES) return /^snp\.(report|product|vek|chain)\./
  return inValue ? /^snp\.report\.signature/ : /^snp\.report\.signature-encoding$/
}

async function flipEvery(prepared: PreparedCase): Promise<number> {
  const original = prepared.evidence
  const accepted = await run(prepared)
  expect(accepted.verdict).toBe('accepted')
  let count = 0
  for (const bit of bitsToFlip()) {
    const report = new Uint8Array(original)
    const at = bit >> 3
    report[at] = (report[at] ?? 0) ^ (1 << (bit & 7))
    const { verdict, failing } = await run({ ...prepared, evidence: report, input: { ...prepared.input, report } })
    if (verdict !== 'rejected' || !failing.some((id) => guardOf(at).test(id))) {
      throw new Error(`bit ${bit & 7} of byte 0x${at.toString(16)}: ${verdict}, ${failing.join(', ')}`)
    }
    count++
  }
  return count
}

/** One accepted case for each captured report. */
const genuine = readCases().filter(
  ([, c], i, cases) => c.verdict === 'accepted' && cases.findIndex(([, other]) => sameFile(c, other)) === i,
)

function sameFile(a: SnpCase, b: SnpCase): boolean {
  return b.verdict === 'accepted' && a.report === b.report && a.conformance === b.conformance
}

const limit = all ? 600_000 : 20_000

describe.skipIf(vectorsFolder === undefined)('bits of captured reports (skipped without SUBROSA_VECTORS)', () => {
  it.each(genuine)(
    '%s',
    async (name, c) => {
      const count = await flipEvery(await bareCase(prepareCase(vectorsFolder ?? '', c)))
      console.info(`${name}: ${count} of ${TOTAL_BITS} bits flipped, all rejected`)
    },
    limit,
  )
})

describe.skipIf(vectorsFolder === undefined)(
  'the same, with every file at hand (skipped without SUBROSA_VECTORS)',
  () => {
    it.each(genuine.filter(([, c]) => c.report !== undefined))(
      '%s',
      async (_name, c) => {
        const prepared = prepareCase(vectorsFolder ?? '', { ...c, endorsements: ['snp', 'roots'] })
        const { report, certificates } = readSnpEvidence(prepared.evidence)
        const { nonce: _, ...input } = prepared.input
        await flipEvery({ ...prepared, evidence: report, input: { ...input, report, certificates }, withNonce: false })
      },
      limit,
    )
  },
)

it(
  'bits of a simulated report',
  async () => {
    const { input, report } = makeWorld()
    const count = await flipEvery({
      evidence: report,
      input: { ...input, now: NOON },
      measurement: undefined,
      withNonce: false,
    })
    expect(count).toBe(bitsToFlip().length)
  },
  limit,
)

/** The bare report out of its container, with no more than its own chain: what the owner of one machine would pass. */
async function bareCase(prepared: PreparedCase): Promise<PreparedCase> {
  const { findings } = await run(prepared)
  const { report, certificates } = readSnpEvidence(prepared.evidence)
  const chain = (findings?.endorsementBytes ?? []).map((bytes, i) => ({ name: `${i}`, bytes }))
  expect(chain.length + certificates.length).toBeGreaterThanOrEqual(3)
  const { nonce: _, ...input } = prepared.input
  return {
    ...prepared,
    evidence: report,
    input: { ...input, report, endorsements: sortEndorsements(chain) },
    withNonce: false,
  }
}
