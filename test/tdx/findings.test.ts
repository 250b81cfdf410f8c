/** What a verification hands on: policy defaults, findings, and endorsements that verify again by themselves. */
import fc from 'fast-check'
import * as v from 'valibot'
import { describe, expect, it } from 'vitest'
import { tcbLevels } from '../../scripts/simulated/tdx-collateral.js'
import { sortEndorsements } from '../../verifier/endorsements.js'
import { looksLikeTdxEvidence } from '../../verifier/tdx/evidence.js'
import { STRICT_TDX_POLICY, tdxPolicySchema } from '../../verifier/tdx/policy.js'
import { parseTdxQuote } from '../../verifier/tdx/quote.js'
import { describeTdxFindings, tdxPlan } from '../../verifier/tdx/verify.js'
import { run } from './cases.js'
import { type Bend, bentInput, runBent } from './world.js'

const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64')

describe('the TDX section of a policy', () => {
  it('is strict where nothing is said', () => {
    expect(STRICT_TDX_POLICY).toMatchObject({
      acceptedStatuses: ['UpToDate'],
      graceDays: 0,
      debug: 'forbidden',
      migratable: 'forbidden',
      septVeDisable: 'required',
      serviceTds: [],
      attributeBits: [],
    })
  })

  it.each([
    { unknown: 1 },
    { acceptedStatuses: [] },
    { acceptedStatuses: ['Revoked'] },
    { mrTd: [] },
    { mrTd: ['00'] },
    { rtmr1: { events: [] } },
    { rtmr1: { events: ['00'.repeat(48)], value: 1 } },
    { attributeBits: [0] },
    { attributeBits: [7] },
    { graceDays: 400 },
    { graceDays: -1 },
    { minTeeTcbSvn: '00' },
    { acceptedAdvisories: ['anything'] },
    { debug: true },
  ])('refuses %j', (section) => {
    expect(v.safeParse(tdxPolicySchema, section).success).toBe(false)
  })

  it('reads digests in either case', async () => {
    const { mrTd } = parseTdxQuote(bentInput().quote).report
    const { verdict } = await runBent({ policy: { mrTd: [Buffer.from(mrTd).toString('hex').toUpperCase()] } })
    expect(verdict).toBe('accepted')
  })

  it('names every relaxation the evidence needs', async () => {
    const { verdict, checks } = await runBent({
      quote: { body: { tdAttributes: 0x2000_0001n, mrServiceTd: new Uint8Array(48).fill(1) } },
      policy: { debug: 'allowed', migratable: 'allowed', septVeDisable: 'optional', serviceTds: ['01'.repeat(48)] },
    })
    expect(verdict).toBe('accepted')
    const waivedIds = checks.filter(({ reason }) => reason?.startsWith('waived: ') === true).map(({ id }) => id)
    expect(waivedIds).toEqual([
      'tdx.policy.debug',
      'tdx.policy.migratable',
      'tdx.policy.sept-ve-disable',
      'tdx.policy.service-td',
    ])
  })
})

describe('findings', () => {
  it('carry the endorsements a later verification needs, and no others', async () => {
    const input = bentInput({ files: (intel) => ({ extra: intel.processor.der }) })
    const { findings } = await run(input)
    const kept = (findings?.endorsementBytes ?? []).map((bytes, i) => ({ name: String(i), bytes }))
    expect(kept).toHaveLength(5)
    const again = await run({ ...input, endorsements: sortEndorsements(kept) })
    expect(again.verdict).toBe('accepted')
    for (const { name } of kept) {
      const without = kept.filter((file) => file.name !== name)
      expect((await run({ ...input, endorsements: sortEndorsements(without) })).verdict).toBe('unavailable')
    }
  })

  it('say until when they hold, under which root, and are ready for JSON', async () => {
    const { findings, verdict } = await runBent()
    expect(verdict).toBe('accepted')
    const expiries = findings?.endorsementsUsed.map(({ nextUpdate }) => nextUpdate ?? '').sort()
    expect(findings?.validUntil.toISOString()).toBe(expiries?.[0])
    expect(findings?.privateAnchor).toBe(true)
    expect(findings?.paravisorMeasurement).toBe(false)
    const described = findings === undefined ? {} : describeTdxFindings(findings)
    expect(JSON.parse(JSON.stringify(described))).toEqual(described)
  })

  it('exist for rejected evidence too, and vouch for nothing by being there', async () => {
    const { findings, verdict } = await runBent({ anchored: false })
    expect([verdict, findings?.privateAnchor]).toEqual(['rejected', false])
    expect(findings?.mrTd).toHaveLength(48)
  })

  it('say what stays open', async () => {
    const zero = new Uint8Array(48)
    const unmeasured = await runBent({
      quote: { body: { rtmr0: zero, rtmr1: zero, rtmr2: zero, rtmr3: zero, mrServiceTd: new Uint8Array(48).fill(1) } },
      tcbInfo: { tcbLevels: tcbLevels('SWHardeningNeeded') },
      policy: { serviceTds: ['01'.repeat(48)], acceptedStatuses: ['SWHardeningNeeded'] },
      input: { eventLog: new TextEncoder().encode('[]') },
    })
    expect(unmeasured.verdict).toBe('accepted')
    expect(unmeasured.findings?.notProven.map(({ id }) => id)).toEqual([
      'tdx.rtmr.unused',
      'tdx.service-td',
      'tdx.tcb.status',
    ])
  })
})

it('a quote that has no field for a service TD says that it does not tell', async () => {
  const tee = (version: number) => new Uint8Array([3, version, ...new Uint8Array(14)])
  const open = async (quote: Bend['quote']) => {
    const { findings } = await runBent(quote === undefined ? {} : { quote })
    return findings?.notProven.some(({ id }) => id === 'tdx.service-td')
  }
  expect(await open({ version: 4, body: { teeTcbSvn: tee(1) } })).toBe(true)
  // Before the modules that have any.
  expect(await open({ version: 4, body: { teeTcbSvn: tee(0) } })).toBe(false)
  expect(await open({ version: 5, bodyType: 2, body: { teeTcbSvn: tee(1) } })).toBe(true)
  expect(await open({ version: 5, body: { teeTcbSvn: tee(1) } })).toBe(false)
})

describe('evidence', () => {
  it('is recognised by its beginning', () => {
    const { quote } = bentInput()
    expect(looksLikeTdxEvidence(quote)).toBe(true)
    expect(looksLikeTdxEvidence(new TextEncoder().encode('{"quote":"04","event_log":"[]"}'))).toBe(true)
    expect(looksLikeTdxEvidence(new TextEncoder().encode('{"hcl_report":"","tpm_quote":{}}'))).toBe(false)
    expect(looksLikeTdxEvidence(new TextEncoder().encode('{"quote":"BA==","cc_eventlog":null}'))).toBe(true)
    expect(looksLikeTdxEvidence(quote.slice(0, 40))).toBe(false)
    expect(looksLikeTdxEvidence(new Uint8Array(1184).fill(2))).toBe(false)
  })

  it('is judged with the CCEL log that agents put beside it, which may be none', async () => {
    const { quote, eventLog = new Uint8Array(), ...input } = bentInput({ policy: { eventLog: 'required' } })
    const beside = (log: unknown) => {
      const text = JSON.stringify({ quote: base64(quote), cc_eventlog: log })
      return run({ ...input, quote: new TextEncoder().encode(text) })
    }
    expect((await beside(base64(eventLog))).verdict).toBe('accepted')
    expect((await beside(null)).firstFailing).toBe('tdx.event-log.parse')
    expect((await beside(['AAAA'])).firstFailing).toBe('tdx.quote.parse')
  })

  it('owes a TPM quote once it carries one or a nonce is asked for, and not for an envelope alone', () => {
    const plans = (members: object, withNonce = false) => {
      const evidence = new TextEncoder().encode(JSON.stringify({ td_quote: '', hcl_report: '', ...members }))
      const ids = tdxPlan(evidence, withNonce).map(({ id }) => id)
      return [ids.includes('tdx.hcl.claims'), ids.includes('tdx.tpm.quote')]
    }
    expect(plans({})).toEqual([true, false])
    expect(plans({}, true)).toEqual([true, true])
    expect(plans({ tpm_quote: {} })).toEqual([true, true])
    expect(plans({ tpm_quote: null })).toEqual([true, true])
  })

  it('accepts a 1.0 body in a version 5 quote', async () => {
    expect((await runBent({ quote: { bodyType: 2 } })).verdict).toBe('accepted')
  })

  it('never throws, whichever of its bytes are overwritten', async () => {
    const input = bentInput()
    const edits = fc.array(fc.tuple(fc.nat(input.quote.length - 1), fc.nat(255)), { minLength: 1, maxLength: 5 })
    await fc.assert(
      fc.asyncProperty(edits, async (list) => {
        const quote = input.quote.slice()
        for (const [at, value] of list) quote[at] = value
        const { verdict } = await run({ ...input, quote })
        expect(['accepted', 'rejected', 'malformed', 'unavailable']).toContain(verdict)
      }),
      { numRuns: 300 },
    )
  })
})
