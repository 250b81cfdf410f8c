/** TCB evaluation: every status a distinct outcome, convergence, served order, relaunch advice, grace. */
import { describe, expect, it } from 'vitest'
import {
  type CollateralVerdict,
  moduleIdentities,
  qeLevels,
  tcbLevels,
} from '../../scripts/simulated/tdx-collateral.js'
import { SIMULATED_TDX_TCB } from '../../scripts/simulated/tdx-facts.js'
import { ACCEPTABLE_STATUSES, type TdxPolicyInput } from '../../verifier/tdx/policy.js'
import { type Bend, NOON, runBent } from './world.js'

interface Verdicts {
  readonly platform?: CollateralVerdict
  readonly module?: CollateralVerdict
  readonly qe?: CollateralVerdict
}

function collateral({ platform, module, qe }: Verdicts): Bend {
  return {
    tcbInfo: { tcbLevels: tcbLevels(platform), tdxModuleIdentities: moduleIdentities(module) },
    qeIdentity: { tcbLevels: qeLevels(qe) },
  }
}

async function statusOf(verdicts: Verdicts): Promise<string | undefined> {
  return (await runBent(collateral(verdicts))).findings?.tcb?.status
}

const STATUSES: readonly Exclude<CollateralVerdict, 'unmatched'>[] = [
  'UpToDate',
  'SWHardeningNeeded',
  'ConfigurationNeeded',
  'ConfigurationAndSWHardeningNeeded',
  'OutOfDate',
  'OutOfDateConfigurationNeeded',
  'Revoked',
]

describe('statuses', () => {
  it.each(STATUSES)('%s of the platform is reported as such and accepted only by name', async (status) => {
    const strict = await runBent(collateral({ platform: status }))
    expect(strict.findings?.tcb?.status).toBe(status)
    expect(strict.failing).toEqual(status === 'UpToDate' ? [] : ['tdx.tcb.status'])
    const others = ACCEPTABLE_STATUSES.filter((other) => other !== status)
    const elsewhere = await runBent({ ...collateral({ platform: status }), policy: { acceptedStatuses: others } })
    expect(elsewhere.verdict).toBe(status === 'UpToDate' ? 'accepted' : 'rejected')
    const everything = await runBent({
      ...collateral({ platform: status }),
      policy: { acceptedStatuses: [...ACCEPTABLE_STATUSES] },
    })
    expect(everything.verdict).toBe(status === 'Revoked' ? 'rejected' : 'accepted')
  })

  it('refuses Revoked in a policy', async () => {
    const policy = { acceptedStatuses: ['Revoked'] } as unknown as TdxPolicyInput
    await expect(runBent({ policy })).rejects.toThrow()
  })

  it('converges module and quoting enclave into the platform, and neither replaces it', async () => {
    const rows: readonly [Verdicts, string][] = [
      [{ platform: 'UpToDate', module: 'OutOfDate' }, 'OutOfDate'],
      [{ platform: 'SWHardeningNeeded', module: 'OutOfDate' }, 'OutOfDate'],
      [{ platform: 'ConfigurationNeeded', module: 'OutOfDate' }, 'OutOfDateConfigurationNeeded'],
      [{ platform: 'ConfigurationAndSWHardeningNeeded', module: 'OutOfDate' }, 'OutOfDateConfigurationNeeded'],
      [{ platform: 'OutOfDate', module: 'UpToDate' }, 'OutOfDate'],
      [{ platform: 'OutOfDateConfigurationNeeded', module: 'OutOfDate' }, 'OutOfDateConfigurationNeeded'],
      [{ platform: 'Revoked', module: 'OutOfDate' }, 'Revoked'],
      [{ platform: 'UpToDate', module: 'Revoked' }, 'Revoked'],
      [{ platform: 'UpToDate', qe: 'OutOfDate' }, 'OutOfDate'],
      [{ platform: 'ConfigurationNeeded', qe: 'OutOfDate' }, 'OutOfDateConfigurationNeeded'],
      [{ platform: 'SWHardeningNeeded', module: 'UpToDate', qe: 'Revoked' }, 'Revoked'],
      [{ platform: 'unmatched', module: 'UpToDate' }, 'Unmatched'],
      [{ platform: 'unmatched', module: 'Revoked' }, 'Revoked'],
      [{ platform: 'SWHardeningNeeded', qe: 'unmatched' }, 'Unmatched'],
      [{ platform: 'OutOfDate', module: 'unmatched' }, 'Unmatched'],
    ]
    for (const [verdicts, expected] of rows) expect([verdicts, await statusOf(verdicts)]).toEqual([verdicts, expected])
  })

  it('evaluates all three even when one decides', async () => {
    const { findings } = await runBent(collateral({ platform: 'unmatched', module: 'OutOfDate', qe: 'Revoked' }))
    const { platform, module, qe } = findings?.tcb ?? {}
    expect([platform?.status, module?.status, qe?.status]).toEqual(['Unmatched', 'OutOfDate', 'Revoked'])
    expect(findings?.tcb?.advisoryIds).toEqual(['INTEL-SA-01036', 'INTEL-SA-01099'])
    expect(findings?.tcb?.tcbDate?.toISOString()).toBe('2024-03-13T00:00:00.000Z')
  })

  it('lets a policy accept Unmatched, and names it', async () => {
    const { verdict, checks } = await runBent({
      ...collateral({ platform: 'unmatched' }),
      policy: { acceptedStatuses: ['Unmatched'] },
    })
    expect(verdict).toBe('accepted')
    expect(checks.find(({ id }) => id === 'tdx.tcb.platform')?.reason).toMatch(/^waived: your policy accepts Unmatched/)
  })

  it('refuses a status word it does not know', async () => {
    const level = { ...tcbLevels()[0], tcbStatus: 'Splendid' } as ReturnType<typeof tcbLevels>[number]
    const { failing } = await runBent({ tcbInfo: { tcbLevels: [level] } })
    expect(failing).toEqual(['tdx.collateral.tcb-info'])
  })
})

describe('matching', () => {
  it('sorts levels itself: served order does not matter', async () => {
    const levels = tcbLevels('UpToDate')
    const { findings } = await runBent({ tcbInfo: { tcbLevels: [...levels].reverse() } })
    expect(findings?.tcb?.status).toBe('UpToDate')
    const outdated = await runBent({ tcbInfo: { tcbLevels: [...tcbLevels('OutOfDate')].reverse() } })
    expect(outdated.findings?.tcb?.status).toBe('OutOfDate')
  })

  it('compares the first two TDX components only while the module version id is 0', async () => {
    const teeTcbSvn = [3, 0, 4, ...new Array<number>(13).fill(0)]
    const tcb = { ...SIMULATED_TDX_TCB, teeTcbSvn }
    const old = { quote: { body: { teeTcbSvn: Uint8Array.from(teeTcbSvn) } } }
    const matched = await runBent({
      ...old,
      tcbInfo: { tcbLevels: tcbLevels('UpToDate', tcb), tdxModuleIdentities: null },
    })
    expect([matched.verdict, matched.findings?.tcb?.module]).toEqual(['accepted', undefined])
    const above = tcbLevels('UpToDate', { ...tcb, teeTcbSvn: [4, 0, 4, ...teeTcbSvn.slice(3)] })
    const missed = await runBent({ ...old, tcbInfo: { tcbLevels: above } })
    expect(missed.failing).toEqual(['tdx.tcb.platform'])
    const identified = await runBent({
      tcbInfo: {
        tcbLevels: tcbLevels('UpToDate', { ...SIMULATED_TDX_TCB, teeTcbSvn: [0, 0, 4, ...teeTcbSvn.slice(3)] }).map(
          (level) => ({ ...level, tdxComponents: [99, 99, 4, ...teeTcbSvn.slice(3)] }),
        ),
      },
    })
    expect(identified.findings?.tcb?.platform.status).toBe('UpToDate')
  })

  it('refuses a module without an identity, with another signer, or with attributes set', async () => {
    const module = 'tdx.tcb.module'
    expect((await runBent({ tcbInfo: { tdxModuleIdentities: null } })).failing).toEqual([module])
    expect((await runBent({ tcbInfo: { tdxModuleIdentities: [] } })).failing).toEqual([module])
    expect((await runBent({ quote: { body: { mrSignerSeam: new Uint8Array(48).fill(1) } } })).failing).toEqual([module])
    expect((await runBent({ quote: { body: { seamAttributes: 1n } } })).failing).toEqual([module])
    const unmasked = moduleIdentities().map((identity) => ({ ...identity, attributesMask: '00'.repeat(8) }))
    const outside = await runBent({
      tcbInfo: { tdxModuleIdentities: unmasked },
      quote: { body: { seamAttributes: 1n } },
    })
    expect(outside.failing).toEqual([module])
  })

  it('reads identity ids in either case', async () => {
    const lower = moduleIdentities().map((identity) => ({ ...identity, id: identity.id.toLowerCase() }))
    expect((await runBent({ tcbInfo: { tdxModuleIdentities: lower } })).verdict).toBe('accepted')
  })
})

describe('relaunch', () => {
  const launched = Uint8Array.from([6, 1, 4, ...new Array<number>(13).fill(0)])
  const bend = (now: readonly number[], platform: CollateralVerdict = 'UpToDate'): Bend => ({
    quote: { body: { teeTcbSvn: launched, teeTcbSvn2: Uint8Array.from([...now, ...new Array<number>(13).fill(0)]) } },
    tcbInfo: { tcbLevels: tcbLevels(platform) },
  })

  it('is advised where the running module is current and the one at launch was not', async () => {
    const { findings, failing, checks } = await runBent(bend([7, 1, 4]))
    expect(findings?.tcb?.status).toBe('TDRelaunchAdvised')
    expect(failing).toEqual(['tdx.tcb.status'])
    expect(checks.find(({ id }) => id === 'tdx.tcb.status')?.reason).toContain('relaunch the TD')
    const configured = await runBent(bend([7, 1, 4], 'ConfigurationNeeded'))
    expect(configured.findings?.tcb?.status).toBe('TDRelaunchAdvisedConfigurationNeeded')
  })

  it('is not advised where it would not help', async () => {
    expect((await runBent(bend([6, 1, 4]))).findings?.tcb?.status).toBe('OutOfDate')
    expect((await runBent(bend([7, 1, 3]))).findings?.tcb?.status).toBe('OutOfDate')
    expect((await runBent(bend([7, 9, 4]))).findings?.tcb?.status).toBe('OutOfDate')
    expect((await runBent(bend([7, 1, 4], 'OutOfDate'))).findings?.tcb?.status).toBe('OutOfDate')
    const badQe = await runBent({ ...bend([7, 1, 4]), qeIdentity: { tcbLevels: qeLevels('OutOfDate') } })
    expect(badQe.findings?.tcb?.status).toBe('OutOfDate')
  })
})

describe('grace', () => {
  const since = new Date(NOON.getTime() - 10 * 86_400_000)
  const text = `${since.toISOString().slice(0, 19)}Z`
  const levels = tcbLevels('OutOfDate').map((level) =>
    level.tcbStatus === 'UpToDate' ? { ...level, tcbDate: text } : level,
  )

  it('counts from the recovery the platform lacks, is printed, and ends', async () => {
    const within = await runBent({ tcbInfo: { tcbLevels: levels }, policy: { graceDays: 11 } })
    expect(within.verdict).toBe('accepted')
    expect(within.checks.find(({ id }) => id === 'tdx.tcb.status')?.actual).toContain('within the grace period until')
    expect(within.findings?.notProven.map(({ id }) => id)).toContain('tdx.tcb.status')
    const after = await runBent({ tcbInfo: { tcbLevels: levels }, policy: { graceDays: 9 } })
    expect(after.failing).toEqual(['tdx.tcb.status'])
    expect(after.checks.find(({ id }) => id === 'tdx.tcb.status')?.reason).toContain('the grace period ended')
  })

  it('does not cover Revoked', async () => {
    const revoked = levels.map((level) =>
      level.tcbStatus === 'OutOfDate' ? { ...level, tcbStatus: 'Revoked' } : level,
    )
    expect((await runBent({ tcbInfo: { tcbLevels: revoked }, policy: { graceDays: 366 } })).verdict).toBe('rejected')
  })
})
