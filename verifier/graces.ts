/**
 * Dated graces: a named check may fail, or lack its input, until a date, in the policy's own words. For what is bad but
 * known and being mended: a firmware below the floor, a list that is late. Every verdict that leans on one says so.
 *
 * Only checks on how current or how configured a genuine machine is can be named. What makes evidence authentic, binds keys
 * to it, or identifies software has no grace: a date does not make a forgery bearable.
 */
import * as v from 'valibot'
import { type CheckDefinition, Transcript } from './checks.js'
import { PolicyError } from './errors.js'

export interface Grace {
  /** Check id. */
  readonly check: string
  /** RFC 3339 in UTC: the first instant it no longer holds. */
  readonly until: string
  readonly reason: string
}

export const GRACEABLE: readonly string[] = [
  'snp.tcb.floor',
  'snp.tcb.provisional',
  'snp.crl.window',
  ...['smt', 'tsme', 'ecc', 'rapl', 'ciphertext-hiding', 'alias-check', 'tio', 'mitigations'].map(
    (name) => `snp.platform.${name}`,
  ),
  'tdx.tcb.status',
  'tdx.tcb.advisories',
  'tdx.collateral.tcb-info-window',
  'tdx.collateral.qe-identity-window',
  'gpu.driver.minimum',
  'gpu.driver.denied',
  'gpu.vbios.minimum',
  'gpu.driver-rim.window',
  'gpu.vbios-rim.window',
  'gpu.switch-rim.window',
  'gpu.ocsp.window',
  'gpu.ocsp.age',
  'gpu.ocsp.hold',
  'release.floor',
  'serving.padding',
  'serving.isolation',
  'freshness.endorsements',
]

const INSTANT = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$/

export const gracesSchema: v.GenericSchema<unknown, readonly Grace[]> = v.pipe(
  v.array(
    v.strictObject({
      check: v.picklist(GRACEABLE, 'expected a check that can wait: how current or how configured a machine is'),
      until: v.pipe(
        v.string(),
        v.regex(INSTANT, 'expected an instant such as 2027-01-31T00:00:00Z'),
        v.check((text) => !Number.isNaN(Date.parse(text)), 'expected an instant that exists'),
      ),
      reason: v.pipe(v.string(), v.minLength(1), v.maxLength(200)),
    }),
  ),
  v.minLength(1, 'an empty list grants nothing; leave the member out'),
  v.check((list) => new Set(list.map(({ check }) => check)).size === list.length, 'a check is named twice'),
)

/** A transcript of this plan in which the graces still running at `now` count. */
export function transcriptOf(plan: readonly CheckDefinition[], graces: readonly Grace[], now: Date): Transcript {
  const stranger = graces.find(({ check }) => !GRACEABLE.includes(check))
  if (stranger !== undefined) throw new PolicyError('policy.grace', `graces: ${stranger.check} can have none`)
  const running = graces.filter(({ until }) => now < new Date(until))
  return new Transcript(
    plan,
    new Map(running.map(({ check, until, reason }) => [check, `grace until ${until}: ${reason}`])),
  )
}
