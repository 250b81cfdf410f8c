/** Dated graces: what they bear and until when, that verdicts say so, and what has none. */
import { beforeAll, describe, expect, it } from 'vitest'
import { createAmdHierarchy, sharedAmdKeys } from '../scripts/simulated/amd.js'
import { PRODUCTS } from '../scripts/simulated/product.js'
import { tcbLevels } from '../scripts/simulated/tdx-collateral.js'
import { verifyEvidence } from '../verifier/appraise.js'
import { GRACEABLE } from '../verifier/graces.js'
import { type PolicyDocument, resolvePolicy } from '../verifier/policy.js'
import { ALL_CHECKS } from '../verifier/registry.js'
import { createWorld, makeBundle, NONCE, resolved, type World } from './support/bundle-world.js'
import { bentInput, NOON } from './tdx/world.js'

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
    const result = await appraise({
      ...grace('2026-06-02T00:00:00Z', 'serving.isolation'),
      channel: { padding: ['off'] },
    })
    expect(result.checks.find(({ id }) => id === 'serving.isolation')?.status).toBe('pass')
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
      /signature|chain|root|issuer|binding|keys|nonce|parse|present|reference|measurement|model|operator|debug|migrat|revo|revoked|logged|witnessed|denied$|report|vek/
    expect(GRACEABLE.filter((id) => never.test(id) && id !== 'gpu.driver.denied')).toEqual([])
  })

  it.each([
    ['an authentic report', { check: 'snp.report.signature' }],
    ['known software', { check: 'reference.measurement' }],
    ['an operator’s signed word', { check: 'operator.match' }],
    ['a check nobody makes', { check: 'snp.tcb.flour' }],
    ['a date that is none', { until: 'tomorrow' }],
    ['a date that does not exist', { until: '2026-13-01T00:00:00Z' }],
    ['no reason', { reason: '' }],
  ])('%s', (_name, change) => {
    const whole = { check: 'snp.tcb.floor', until: '2026-06-02T00:00:00Z', reason: 'r', ...change }
    expect(() => resolvePolicy({ schema: 'subrosa-policy/1', graces: [whole] })).toThrow(/graces/)
  })

  it('a platform whose TCB Intel revoked', async () => {
    const until = '2027-01-01T00:00:00Z'
    for (const [status, verdict] of [
      ['OutOfDate', 'accepted'],
      ['Revoked', 'rejected'],
    ] as const) {
      const { quote, endorsements, anchors } = bentInput({ tcbInfo: { tcbLevels: tcbLevels(status) } })
      const document = {
        schema: 'subrosa-policy/1',
        measurements: 'any',
        graces: ['tdx.tcb.status', 'tdx.tcb.advisories'].map((check) => ({ check, until, reason: 'r' })),
      }
      const policy = { ...resolvePolicy(document), trustAnchors: anchors }
      expect([status, (await verifyEvidence(quote, { policy, endorsements, now: NOON })).verdict]).toEqual([
        status,
        verdict,
      ])
    }
  })

  it('a revocation on a list that is over', async () => {
    const keys = await sharedAmdKeys('Genoa')
    const [notBefore, notAfter] = [new Date(world.now.getTime() - 3_600_000), new Date(world.now.getTime() + 3_600_000)]
    const amd = createAmdHierarchy({ product: 'Genoa', keys, notBefore, notAfter })
    const over = { number: 9n, thisUpdate: notBefore, nextUpdate: new Date(world.now.getTime() - 60_000) }
    for (const [revokedSerials, failing] of [
      [[], []],
      [[PRODUCTS.Genoa.askSerial], ['snp.chain.revocation']],
    ] as const) {
      const crl = amd.crl({ ...over, revokedSerials })
      const at = world.cpu.endorsements.length - 1
      const stale = await makeBundle(world, {
        bundle: (whole) => ({
          ...whole,
          endorsements: whole.endorsements.map((item, i) => (i === at ? { ...item, bytes: crl } : item)),
        }),
      })
      const policy = resolved(world, grace('2027-01-01T00:00:00Z', 'snp.crl.window'))
      const { checks } = await verifyEvidence(stale, { policy, now: world.now, nonce: NONCE })
      expect(checks.filter(({ status }) => status === 'fail').map(({ id }) => id)).toEqual(failing)
      expect(checks.find(({ id }) => id === 'snp.crl.window')?.reason).toContain('grace until')
    }
  })

  it('a list of nothing, or one check twice', () => {
    const one = { check: 'snp.tcb.floor', until: '2026-06-02T00:00:00Z', reason: 'r' }
    for (const graces of [[], [one, one]]) {
      expect(() => resolvePolicy({ schema: 'subrosa-policy/1', graces })).toThrow(/graces/)
    }
  })
})
