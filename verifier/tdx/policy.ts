/**
 * The TDX part of an appraisal policy: what is acceptable of an authentic quote.
 *
 * Strict values are the defaults of the schema, member by member. Every weakening is a word somebody wrote. Unknown
 * members, empty lists and empty values are errors: an expectation of nothing would accept anything.
 */
import * as v from 'valibot'
import type { Pin } from '../pin.js'

/** Statuses a policy may accept. `Revoked` is not among them, and never will be. */
export const ACCEPTABLE_STATUSES = [
  'UpToDate',
  'SWHardeningNeeded',
  'ConfigurationNeeded',
  'ConfigurationAndSWHardeningNeeded',
  'OutOfDate',
  'OutOfDateConfigurationNeeded',
  'TDRelaunchAdvised',
  'TDRelaunchAdvisedConfigurationNeeded',
  'Unmatched',
] as const
export type AcceptableStatus = (typeof ACCEPTABLE_STATUSES)[number]

/** An RTMR is pinned by the values it may have, or by every digest extended into it, in order. */
export type RtmrPin = Pin | { readonly events: readonly string[] }

/** Complete: every member has its value. JSON-ready. */
export interface TdxPolicy {
  /** TCB statuses accepted. `UpToDate` always is. `Unmatched` accepts a platform Intel's collateral knows nothing of. */
  readonly acceptedStatuses: readonly AcceptableStatus[]
  /** Advisories that may apply to an accepted status other than UpToDate; any other one rejects. */
  readonly acceptedAdvisories: Pin
  /** Accepts OutOfDate and OutOfDateConfigurationNeeded for this many days after the recovery the platform lacks. */
  readonly graceDays: number
  /** The lowest tcbEvaluationDataNumber of TCB info and QE identity; older sets call outdated platforms current. */
  readonly minTcbEvaluationDataNumber: number
  /** DEBUG lets the host read and change everything in the TD. */
  readonly debug: 'allowed' | 'forbidden'
  /** MIGRATABLE lets a migration TD move the guest to another machine. */
  readonly migratable: 'allowed' | 'forbidden'
  /** `optional` accepts TDs into which the host can inject exceptions by taking pages away. */
  readonly septVeDisable: 'required' | 'optional'
  /** Reserved TDATTRIBUTES bits (8 to 63) that a newer module gives a meaning you accept. */
  readonly attributeBits: readonly number[]
  /** TDATTRIBUTES exactly, 8 bytes in report order. */
  readonly tdAttributes: Pin
  /** XFAM exactly, 8 bytes in report order. */
  readonly xfam: Pin
  /** MRSERVICETD values accepted besides zero: service TDs that may act on the guest. */
  readonly serviceTds: readonly string[]
  /** Changes with every module release: TCB evaluation is the better judge unless you must know the very binary. */
  readonly mrSeam: Pin
  readonly mrSignerSeam: Pin
  readonly mrTd: Pin
  readonly rtmr0: RtmrPin
  readonly rtmr1: RtmrPin
  readonly rtmr2: RtmrPin
  readonly rtmr3: RtmrPin
  readonly mrConfigId: Pin
  readonly mrOwner: Pin
  readonly mrOwnerConfig: Pin
  /** TEE_TCB_SVN, component-wise at least this; 16 bytes. */
  readonly minTeeTcbSvn: string
  readonly fmspcs: Pin
  /** PPIDs accepted: the machines themselves. */
  readonly ppids: Pin
  readonly platformInstanceIds: Pin
  /** `required` rejects evidence without an event log that explains RTMR0 to RTMR3. */
  readonly eventLog: 'optional' | 'required'
}

const hexBytes = (size: number) =>
  v.pipe(v.string(), v.toLowerCase(), v.regex(new RegExp(`^[0-9a-f]{${2 * size}}$`), `expected ${2 * size} hex digits`))
const some = <const S extends v.GenericSchema>(item: S) =>
  v.pipe(v.array(item), v.minLength(1, 'an empty list expects nothing; leave the member out or name what is accepted'))
const pin = (size: number) => v.optional(v.union([v.literal('any'), some(hexBytes(size))]), 'any')
const permission = v.optional(v.picklist(['allowed', 'forbidden']), 'forbidden')
const advisory = v.pipe(v.string(), v.regex(/^INTEL-(SA|DOC)-\d{1,8}$/, 'expected an advisory such as INTEL-SA-01036'))
const rtmr = v.optional(
  v.union([v.literal('any'), some(hexBytes(48)), v.strictObject({ events: some(hexBytes(48)) })]),
  'any',
)
const count = (limit: number) => v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(limit)), 0)
const bit = v.pipe(v.number(), v.integer(), v.minValue(8), v.maxValue(63))

export type TdxPolicyInput = { readonly [K in keyof TdxPolicy]?: TdxPolicy[K] | undefined }

export const tdxPolicySchema: v.GenericSchema<TdxPolicyInput, TdxPolicy> = v.strictObject({
  acceptedStatuses: v.optional(some(v.picklist(ACCEPTABLE_STATUSES)), () => ['UpToDate' as const]),
  acceptedAdvisories: v.optional(v.union([v.literal('any'), v.array(advisory)]), 'any'),
  graceDays: count(366),
  minTcbEvaluationDataNumber: count(0xffffffff),
  debug: permission,
  migratable: permission,
  septVeDisable: v.optional(v.picklist(['required', 'optional']), 'required'),
  attributeBits: v.optional(v.array(bit), () => []),
  tdAttributes: pin(8),
  xfam: pin(8),
  serviceTds: v.optional(v.array(hexBytes(48)), () => []),
  mrSeam: pin(48),
  mrSignerSeam: pin(48),
  mrTd: pin(48),
  rtmr0: rtmr,
  rtmr1: rtmr,
  rtmr2: rtmr,
  rtmr3: rtmr,
  mrConfigId: pin(48),
  mrOwner: pin(48),
  mrOwnerConfig: pin(48),
  minTeeTcbSvn: v.optional(hexBytes(16), '00'.repeat(16)),
  fmspcs: pin(6),
  ppids: pin(16),
  platformInstanceIds: pin(16),
  eventLog: v.optional(v.picklist(['optional', 'required']), 'optional'),
}) as unknown as v.GenericSchema<TdxPolicyInput, TdxPolicy>

/** The built-in TDX policy. */
export const STRICT_TDX_POLICY: TdxPolicy = v.parse(tdxPolicySchema, {})

/** The policy as somebody writes it, completed. @throws v.ValiError on anything the schema refuses. */
export function completeTdxPolicy(input: TdxPolicyInput): TdxPolicy {
  return v.parse(tdxPolicySchema, input)
}
