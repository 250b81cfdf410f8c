/**
 * `tdx.tcb.*`: the findings of `tcb.ts` held against a policy. All components are always evaluated, so that a verdict
 * names platform, module and quoting enclave even when one of them already decides it.
 */
import { type Finding, fail, failForGood, pass, type Transcript, waived } from '../checks.js'
import type { QeIdentity, TcbInfo } from './collateral.js'
import type { EnclaveReport } from './enclave-report.js'
import type { PckClaims } from './pck.js'
import type { TdxPolicy } from './policy.js'
import {
  type ComponentTcb,
  converge,
  type ModuleTcb,
  matchModule,
  matchPlatform,
  matchQe,
  type PlatformTcb,
  type TcbStatus,
  type TdxTcb,
} from './tcb.js'
import type { TdReport } from './td-report.js'

export interface TcbInput {
  readonly report: TdReport
  readonly qe: EnclaveReport
  readonly pck: PckClaims | undefined
  readonly info: TcbInfo | undefined
  readonly identity: QeIdentity | undefined
  readonly policy: TdxPolicy
  readonly now: Date
}

/** Carries out the checks; returns what was found, also where the policy does not accept it. */
export function checkTcb(t: Transcript, input: TcbInput): TdxTcb | undefined {
  const { report, qe, pck, info, identity, policy, now } = input
  let platform: PlatformTcb | undefined
  let module: ModuleTcb | undefined
  let enclave: ComponentTcb | undefined
  t.check('tdx.tcb.platform', () => {
    if (info === undefined || pck === undefined) return fail('no TCB info')
    platform = matchPlatform(info, pck, report.teeTcbSvn)
    return known(platform, 'the platform is below every level Intel lists: TCB not supported', policy)
  })
  t.check('tdx.tcb.module', () => {
    if (info === undefined) return fail('no TCB info')
    const match = matchModule(info, report)
    if (match.identity === 'mismatched') {
      return fail(match.reason, { expected: match.expected, actual: match.actual })
    }
    module = match.module
    if (module === undefined) return pass(undefined, { actual: 'no levels of its own (version id 0)' })
    return known(module, `the module is below every level of ${module.identityId ?? 'its identity'}`, policy)
  })
  t.check('tdx.tcb.qe', () => {
    if (identity === undefined) return fail('no QE identity')
    enclave = matchQe(identity, qe)
    return known(enclave, 'the quoting enclave is below every level Intel lists', policy)
  })
  const tcb =
    info === undefined || platform === undefined || enclave === undefined
      ? undefined
      : converge(info, report, { platform, module, qe: enclave })
  t.check('tdx.tcb.status', () => (tcb === undefined ? fail('no status') : judgeStatus(tcb, policy, now)))
  t.check('tdx.tcb.advisories', () => (tcb === undefined ? fail('no status') : judgeAdvisories(tcb, policy)))
  return tcb
}

/** Reaching a level at all. Its status is judged with all others, once they are known. */
function known(component: ComponentTcb, unmatched: string, policy: TdxPolicy): Finding {
  if (component.status !== 'Unmatched') return pass(undefined, { actual: describeComponent(component) })
  return policy.acceptedStatuses.includes('Unmatched')
    ? waived(`your policy accepts Unmatched: ${unmatched}`)
    : fail(unmatched)
}

function judgeStatus(tcb: TdxTcb, policy: TdxPolicy, now: Date): Finding {
  const accepted: readonly TcbStatus[] = [
    'UpToDate',
    ...policy.acceptedStatuses.filter((status) => status !== 'UpToDate'),
  ]
  const detail = { expected: accepted.join(' or '), actual: describeTcb(tcb) }
  if (accepted.includes(tcb.status)) return pass(undefined, detail)
  const until = graceUntil(tcb, policy)
  if (until !== undefined && now <= until) {
    return pass(undefined, {
      ...detail,
      actual: `${detail.actual}; within the grace period until ${until.toISOString()}`,
    })
  }
  const lapsed = until === undefined ? '' : `; the grace period ended ${until.toISOString()}`
  const relaunch = tcb.relaunchAdvised ? '; the module was updated since launch: relaunch the TD' : ''
  const reason = `the TCB status is ${tcb.status}${relaunch}${lapsed}`
  // Intel took it out of trust: nothing that is merely late.
  return tcb.status === 'Revoked' ? failForGood(reason, detail) : fail(reason, detail)
}

/** The end of the policy's grace period for an outdated TCB: counted from the first recovery it lacks. */
export function graceUntil(tcb: TdxTcb, policy: TdxPolicy): Date | undefined {
  const outdated = tcb.status === 'OutOfDate' || tcb.status === 'OutOfDateConfigurationNeeded'
  if (!outdated || tcb.outdatedSince === undefined || policy.graceDays === 0) return undefined
  return new Date(tcb.outdatedSince.getTime() + policy.graceDays * 86_400_000)
}

function judgeAdvisories(tcb: TdxTcb, policy: TdxPolicy): Finding {
  const actual = tcb.advisoryIds.join(', ') || 'none'
  const { acceptedAdvisories } = policy
  if (acceptedAdvisories === 'any') return pass(undefined, { expected: 'any: your policy lists none', actual })
  const others = tcb.advisoryIds.filter((id) => !acceptedAdvisories.includes(id))
  const detail = { expected: acceptedAdvisories.join(', ') || 'none', actual }
  return others.length === 0
    ? pass(undefined, detail)
    : fail(`advisories you did not list: ${others.join(', ')}`, detail)
}

/** `OutOfDate (platform UpToDate of 2024-11-13, module TDX_01 OutOfDate of 2024-03-13, QE UpToDate of 2024-11-13)`. */
export function describeTcb({ status, platform, module, qe }: TdxTcb): string {
  const modulePart =
    module === undefined ? 'module without levels' : `module ${module.identityId ?? ''} ${describeComponent(module)}`
  return `${status} (platform ${describeComponent(platform)}, ${modulePart}, QE ${describeComponent(qe)})`
}

function describeComponent({ status, tcbDate, advisoryIds }: ComponentTcb): string {
  const dated = tcbDate === undefined ? status : `${status} of ${tcbDate.toISOString().slice(0, 10)}`
  return advisoryIds.length === 0 ? dated : `${dated} [${advisoryIds.join(' ')}]`
}
