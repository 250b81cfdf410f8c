/**
 * Every bit of a captured Hopper and of a captured Blackwell report, flipped: never accepted, and never mistaken for
 * evidence that merely lacks an endorsement. Sampled unless SUBROSA_ALL_BITS=1.
 */
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { Transcript, type Verdict } from '../../verifier/checks.js'
import { sortEndorsements } from '../../verifier/endorsements.js'
import { planFor, verifyGpus } from '../../verifier/gpu/verify.js'
import { readPem } from '../../verifier/pem.js'
import { type Bytes, fromHex } from '../../verifier/protocol/bytes.js'
import { encodeGpuEvidence } from '../../verifier/protocol/gpu-evidence.js'
import { vectorPath, withoutVectors } from '../support/vectors.js'
import { policyOf } from './world.js'

const exhaustive = process.env['SUBROSA_ALL_BITS'] === '1'
const SAMPLES = 150
const NONCE = fromHex('931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb')

const read = (...parts: string[]): Bytes => new Uint8Array(readFileSync(vectorPath('nvidia', ...parts)))

async function verdictOf(item: Bytes, rims: readonly Bytes[]): Promise<Verdict> {
  const input = {
    devices: [item],
    expectedNonce: NONCE,
    endorsements: sortEndorsements(rims.map((bytes, i) => ({ name: `rim ${i}`, bytes }))),
    anchors: [],
    now: new Date('2026-05-25T00:00:00Z'),
    revocation: 'off',
    policy: policyOf(),
  } as const
  const t = new Transcript(planFor(input))
  await verifyGpus(t, input)
  return t.verdict()
}

function flip(bytes: Bytes, bit: number): Bytes {
  const out = bytes.slice()
  out[bit >> 3] = (out[bit >> 3] ?? 0) ^ (1 << (bit & 7))
  return out
}

describe.skipIf(withoutVectors)('flipped bits', () => {
  it.each([
    ['hopper-550-90-07', ['driver-rim.xml', 'vbios-rim.xml'], 'accepted'],
    ['blackwell-gb100-575-32', [], 'unavailable'],
  ] as const)('%s', { timeout: 3_600_000 }, async (name, rimFiles, untouched) => {
    const report = read(name, 'report.bin')
    const chain = readPem(read(name, 'device-chain.pem')).map(({ der }) => der)
    const rims = rimFiles.map((file) => read(name, file))
    expect(await verdictOf(encodeGpuEvidence({ report, chain }), rims)).toBe(untouched)
    const bits = report.length * 8
    const step = exhaustive ? 1 : Math.floor(bits / SAMPLES)
    const counts: Partial<Record<Verdict, number>> = {}
    for (let bit = 0; bit < bits; bit += step) {
      const verdict = await verdictOf(encodeGpuEvidence({ report: flip(report, bit), chain }), rims)
      counts[verdict] = (counts[verdict] ?? 0) + 1
    }
    console.log(JSON.stringify({ suite: 'gpu-report-flips', name, bits, ...counts }))
    expect(counts.accepted ?? 0).toBe(0)
    expect(counts.unavailable ?? 0).toBe(0)
  })

  it('of the whole container, certificates included', { timeout: 600_000 }, async () => {
    const report = read('hopper-550-90-07', 'report.bin')
    const chain = readPem(read('hopper-550-90-07', 'device-chain.pem')).map(({ der }) => der)
    const rims = ['driver-rim.xml', 'vbios-rim.xml'].map((file) => read('hopper-550-90-07', file))
    const item = encodeGpuEvidence({ report, chain })
    const bits = item.length * 8
    const step = Math.floor(bits / (exhaustive ? 5000 : SAMPLES))
    for (let bit = 3; bit < bits; bit += step) {
      expect(await verdictOf(flip(item, bit), rims), `bit ${bit}`).toMatch(/rejected|malformed/)
    }
  })
})
