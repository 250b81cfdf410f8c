/**
 * The appraisal of an authentic quote: is it acceptable under this policy? One function a group of checks, in plan order.
 *
 * A rule the policy relaxes and the quote needs relaxed is a waiver, named in the verdict; a rule the policy pins nothing
 * for passes saying that any value is accepted.
 */
import { type Detail, type Finding, fail, pass, type Transcript, unavailable, waived } from '../checks.js'
import type { Pin } from '../pin.js'
import { type Bytes, equalBytes, fromHex, isZero, toHex } from '../protocol/bytes.js'
import { parseTdAttributes, TUD_BITS, wordText, xfamFault } from './attributes.js'
import { PCK_PINS, type PckPin, REPORT_PINS, type ReportPin } from './checks-appraisal.js'
import { digestsOf, type EventLog, eventName, parseEventLog, replayDigests } from './event-log.js'
import type { PckClaims } from './pck.js'
import type { TdxPolicy } from './policy.js'
import { rtmrsOf, type TdReport } from './td-report.js'

const ANY = 'any: your policy names none'

/** TDATTRIBUTES, XFAM, service TDs and TEE_TCB_SVN. */
export function checkTd(t: Transcript, report: TdReport, policy: TdxPolicy): void {
  const attributes = parseTdAttributes(report.tdAttributes)
  const actual = wordText(report.tdAttributes)
  const reserved = attributes.reservedBits.filter((bit) => !policy.attributeBits.includes(bit))
  const permitted = (name: string, set: boolean, rule: 'allowed' | 'forbidden'): Finding => {
    if (!set) return pass(undefined, { actual })
    return rule === 'allowed' ? waived(`your policy allows ${name}, and it is set`) : fail(`${name} is set`, { actual })
  }
  const none = (bits: readonly number[], what: string): Finding => {
    return bits.length === 0 ? pass(undefined, { actual }) : fail(`${what} set: bit ${bits.join(', ')}`, { actual })
  }
  t.check('tdx.policy.debug', () => permitted('DEBUG', attributes.debug, policy.debug))
  t.check('tdx.policy.tud', () =>
    none(
      attributes.reservedBits.filter((bit) => bit < TUD_BITS),
      'TUD bits are',
    ),
  )
  t.check('tdx.policy.attributes-reserved', () =>
    none(
      reserved.filter((bit) => bit >= TUD_BITS),
      'reserved bits are',
    ),
  )
  t.check('tdx.policy.migratable', () => permitted('MIGRATABLE', attributes.migratable, policy.migratable))
  t.check('tdx.policy.sept-ve-disable', () => {
    if (attributes.septVeDisable) return pass(undefined, { actual })
    if (policy.septVeDisable === 'optional') return waived('your policy does without SEPT_VE_DISABLE, and it is off')
    return fail('SEPT_VE_DISABLE is off', { actual })
  })
  t.check('tdx.policy.xfam', () => {
    const fault = xfamFault(report.xfam)
    const detail = { actual: wordText(report.xfam) }
    return fault === undefined ? pass(undefined, detail) : fail(fault, detail)
  })
  t.check('tdx.policy.service-td', () => checkServiceTd(report, policy))
  t.check('tdx.policy.tee-tcb-svn', () => {
    const minimum = fromHex(policy.minTeeTcbSvn)
    const detail = { expected: `at least ${policy.minTeeTcbSvn}`, actual: toHex(report.teeTcbSvn) }
    const reached = minimum.every((svn, index) => (report.teeTcbSvn[index] ?? 0) >= svn)
    return reached ? pass(undefined, detail) : fail('TEE_TCB_SVN is below your minimum', detail)
  })
}

/** Zero, or a value the policy names. A 1.0 body has no such field: it predates service TDs. */
function checkServiceTd({ mrServiceTd }: TdReport, policy: TdxPolicy): Finding {
  if (mrServiceTd === undefined) return pass(undefined, { actual: 'not reported by a 1.0 body' })
  const actual = toHex(mrServiceTd)
  if (isZero(mrServiceTd)) return pass(undefined, { actual: 'none' })
  if (policy.serviceTds.includes(actual)) return waived(`your policy lets service TD ${actual} act on the guest`)
  return fail('a service TD you did not name is bound to the guest', {
    expected: policy.serviceTds.join(' or ') || 'none',
    actual,
  })
}

/** FMSPC, PPID and platform instance id against the policy. */
export function checkPlatformPins(t: Transcript, pck: PckClaims | undefined, policy: TdxPolicy): void {
  const values: Readonly<Record<PckPin, Bytes | undefined>> = {
    fmspcs: pck?.fmspc,
    ppids: pck?.ppid,
    platformInstanceIds: pck?.platformInstanceId,
  }
  for (const member of Object.keys(PCK_PINS) as PckPin[]) {
    t.check(PCK_PINS[member].id, () => matchPin(values[member], policy[member]))
  }
}

/** Fields of the TD report and the RTMRs against the policy. */
export function checkReportPins(t: Transcript, report: TdReport, policy: TdxPolicy, log: EventLog | undefined): void {
  for (const member of Object.keys(REPORT_PINS) as ReportPin[]) {
    t.check(REPORT_PINS[member].id, () => matchPin(report[member], policy[member]))
  }
  rtmrsOf(report).forEach((actual, index) => {
    const register = index as 0 | 1 | 2 | 3
    t.check(`tdx.policy.rtmr${register}`, () => {
      const rule = policy[`rtmr${register}`]
      if (rule === 'any' || !('events' in rule)) return matchPin(actual, rule)
      const expected = replayDigests(rule.events)
      const detail = { expected: `${toHex(expected)} after ${rule.events.length} events`, actual: toHex(actual) }
      if (equalBytes(expected, actual)) return pass(undefined, detail)
      const reason = `RTMR${register} is not what your ordered events lead to`
      return fail(`${reason}${log === undefined ? '' : firstDifference(log, register, rule.events)}`, detail)
    })
  })
}

/** Which event of the log the policy's list does not explain, or lacks. */
function firstDifference(log: EventLog, register: 0 | 1 | 2 | 3, expected: readonly string[]): string {
  const logged = digestsOf(log, register)
  const at = logged.findIndex((event, index) => toHex(event.digest) !== expected[index])
  const event = logged[at]
  if (event !== undefined) return `; first unexplained: event ${at}, ${eventName(event)}, ${toHex(event.digest)}`
  return logged.length < expected.length ? `; the log ends before event ${logged.length}` : ''
}

/** All 64 bytes; a shorter expected value is padded with zeros. */
export function checkReportData(t: Transcript, report: TdReport, expected: Bytes | undefined): void {
  t.check('tdx.report-data', () => {
    if (expected === undefined) {
      return waived('no REPORTDATA was asked for: neither freshness nor a binding to anything is checked')
    }
    const padded = new Uint8Array(64)
    const fits = expected.length > 0 && expected.length <= 64
    if (fits) padded.set(expected)
    const detail: Detail = { expected: toHex(fits ? padded : expected), actual: toHex(report.reportData) }
    if (!fits) return fail('the expected value must have 1 to 64 bytes', detail)
    return equalBytes(padded, report.reportData) ? pass(undefined, detail) : fail('REPORTDATA is another value', detail)
  })
}

/** Reads the log; the policy decides whether there must be one. */
export function checkEventLogForm(t: Transcript, bytes: Bytes | undefined, policy: TdxPolicy): EventLog | undefined {
  return t.check('tdx.event-log.parse', (): Finding<EventLog | undefined> => {
    if (bytes === undefined) return withoutLog(policy)
    const log = parseEventLog(bytes)
    return pass(log, { actual: `${log.events.length} events` })
  })
}

export function checkEventLog(t: Transcript, report: TdReport, log: EventLog | undefined, policy: TdxPolicy): void {
  t.check('tdx.event-log.replay', () => {
    if (log === undefined) return withoutLog(policy)
    const actual = rtmrsOf(report)
    const wrong = actual.flatMap((value, index) => (equalBytes(value, log.rtmrs[index] ?? value) ? [] : [index]))
    if (wrong.length === 0) return pass()
    return fail(`the log does not lead to ${wrong.map((index) => `RTMR${index}`).join(', ')}`, {
      expected: wrong.map((index) => toHex(actual[index] ?? new Uint8Array())).join(' '),
      actual: wrong.map((index) => toHex(log.rtmrs[index] ?? new Uint8Array())).join(' '),
    })
  })
  t.check('tdx.event-log.data', () => {
    if (log === undefined) return withoutLog(policy)
    const at = log.events.findIndex(({ coverage }) => coverage === 'contradicted')
    const event = log.events[at]
    if (event === undefined) return pass()
    return fail(`event ${at}, ${eventName(event)}: its digest is not the hash of its data`, {
      actual: toHex(event.digest),
    })
  })
}

function withoutLog(policy: TdxPolicy): Finding<undefined> {
  if (policy.eventLog === 'required') return unavailable('no event log at hand; your policy requires one')
  return waived('eventLog: optional; none was given, and the RTMRs stand by their final values alone')
}

/** One value against the list a policy gives, byte for byte. A field that is not there is none of them. */
function matchPin(value: Bytes | undefined, accepted: Pin): Finding {
  const actual = value === undefined ? 'absent' : toHex(value)
  if (accepted === 'any') return pass(undefined, { expected: ANY, actual })
  const detail = { expected: accepted.join(' or '), actual }
  return accepted.includes(actual) ? pass(undefined, detail) : fail('the value is none your policy names', detail)
}
