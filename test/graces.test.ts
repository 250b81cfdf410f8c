/** Dated graces: what they bear and until when, that verdicts say so, and what has none. */
import { beforeAll, describe, expect, it } from 'vitest'
import { verifyEvidence } from '../verifier/appraise.js'
import { GRACEABLE } from '../verifier/graces.js'
import { type PolicyDocument, resolvePolicy } from '../verifier/policy.js'
import { ALL_CHECKS } from '../verifier/registry.js'
import { createWorld, makeBundle, NONCE, resolved, type World } from './support/bundle-world.js'

let world: World
let bundle: Uint8Array<ArrayBuffer>
beforeAll(async () => {
  world = await createWorld()
  bundle = await makeBundle(world, { statement: (s) => ({ ...s, serving: { ...s.serving, padding: 'off' } }) })
})
const grace = (until: string, check = 'serving.padding'): Partial<PolicyDocument> => ({
  graces: [{ check, until, reason: 'the new image pads from June on' }],
})
const appraise = (change: Partial<PolicyDocument>, now = world.now) =>
  verifyEvidence(bundle, { policy: resolved(world, change), now, live: { nonce: NONCE, sentAt: now } })

describe('a running grace', () => {
  it('bears a failure, and the verdict repeats it with what was found (P-9.6)', async () => {
    const result = await appraise(grace('2026-06-02T00:00:00Z'))
    expect(result.verdict).toBe('accepted')
    expect(result.waived).toContain('serving.padding')
    const check = result.checks.find(({ id }) => id === 'serving.padding')
    expect(check).toMatchObject({ status: 'skip', expected: 'tick', actual: 'off' })
    expect(check?.reason).toBe(
      'waived: grace until 2026-06-02T00:00:00Z: the new image pads from June on; padding is not accepted',
    )
    expect(result.notProven.find(({ id }) => id === 'serving.padding')?.text).toContain('grace until')
  })

  it('changes nothing for a check that passes', async () => {
    const result = await appraise({ ...grace('2026-06-02T00:00:00Z', 'operator.match'), channel: { padding: ['off'] } })
    expect(result.checks.find(({ id }) => id === 'operator.match')?.status).toBe('pass')
  })

  it('is over at its instant', async () => {
    for (const until of ['2026-06-01T12:00:00Z', '2026-05-01T00:00:00Z']) {
      const result = await appraise(grace(until))
      expect(result.checks.filter(({ status }) => status === 'fail').map(({ id }) => id)).toEqual(['serving.padding'])
    }
  })
})

describe('what has none', () => {
  it('is everything that makes evidence authentic, bound, fresh or known (P-9.6)', () => {
    for (const id of GRACEABLE) expect([id, ALL_CHECKS.has(id)]).toEqual([id, true])
    const never =
      /signature|chain|root|issuer|binding|keys|nonce|parse|present|reference|measurement|model|debug|migrat|revo|revoked|logged|witnessed|denied$|report|vek/
    expect(GRACEABLE.filter((id) => never.test(id) && id !== 'gpu.driver.denied')).toEqual([])
  })

  it.each([
    ['an authentic report', { check: 'snp.report.signature' }],
    ['known software', { check: 'reference.measurement' }],
    ['a check nobody makes', { check: 'snp.tcb.flour' }],
    ['a date that is none', { until: 'tomorrow' }],
    ['a date that does not exist', { until: '2026-13-01T00:00:00Z' }],
    ['no reason', { reason: '' }],
  ])('%s', (_name, change) => {
    const whole = { check: 'snp.tcb.floor', until: '2026-06-02T00:00:00Z', reason: 'r', ...change }
    expect(() => resolvePolicy({ schema: 'subrosa-policy/1', graces: [whole] })).toThrow(/graces/)
  })

  it('a list of nothing, or one check twice', () => {
    const one = { check: 'snp.tcb.floor', until: '2026-06-02T00:00:00Z', reason: 'r' }
    for (const graces of [[], [one, one]]) {
      expect(() => resolvePolicy({ schema: 'subrosa-policy/1', graces })).toThrow(/graces/)
    }
  })
})
