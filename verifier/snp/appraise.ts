/**
 * The appraisal of an authentic report: is it acceptable under this policy? One function a group of checks, in plan order.
 *
 * A rule the policy relaxes and the report needs relaxed is a waiver, named in the verdict; a rule the policy pins nothing
 * for passes saying that any value is accepted.
 */
import { type Detail, type Finding, fail, pass, type Transcript, waived } from '../checks.js'
import { type Bytes, equalBytes, isZero, toHex } from '../protocol/bytes.js'
import {
  hasBit,
  hex64,
  PLATFORM_BITS,
  type PlatformBitName,
  POLICY_BITS,
  POLICY_MUST_BE_ONE,
  POLICY_MUST_BE_ZERO,
  type PolicyBitName,
  policyAbi,
} from './bits.js'
import { PLATFORM_BIT_CHECKS, POLICY_BIT_CHECKS } from './checks-appraisal.js'
import { FLOORS_DATED, shippedFloor } from './floors.js'
import { type SnpPolicy, STRICT_SNP_POLICY } from './policy.js'
import type { Product } from './product.js'
import { compareFirmware, type FirmwareVersion, type SnpReport } from './report.js'
import { componentsBelow, describeTcb, parseTcb, type Tcb } from './tcb.js'

const ANY = 'any: your policy names none'

/** `snp.policy.*`: the guest policy the owner launched with. */
export function checkGuestPolicy(t: Transcript, report: SnpReport, policy: SnpPolicy): void {
  t.check('snp.policy.reserved', () => {
    const actual = hex64(report.policy)
    if ((report.policy & POLICY_MUST_BE_ONE) === 0n) return fail('bit 17 is zero', { actual })
    return (report.policy & POLICY_MUST_BE_ZERO) === 0n ? pass() : fail('a bit from 26 to 63 is set', { actual })
  })
  for (const name of Object.keys(POLICY_BITS) as PolicyBitName[]) {
    const { bit, spec } = POLICY_BITS[name]
    t.check(POLICY_BIT_CHECKS[name], () =>
      judgeBit(spec, hasBit(report.policy, bit), policy.guestPolicy[name], STRICT_SNP_POLICY.guestPolicy[name]),
    )
  }
  t.check('snp.policy.abi', () => {
    const abi = policyAbi(report.policy)
    const { minAbi } = policy
    const detail = { expected: `at least ${minAbi.major}.${minAbi.minor}`, actual: `${abi.major}.${abi.minor}` }
    const reached = abi.major > minAbi.major || (abi.major === minAbi.major && abi.minor >= minAbi.minor)
    return reached ? pass(undefined, detail) : fail('the guest accepts an older firmware ABI', detail)
  })
  t.check('snp.policy.vmpl', () => {
    const detail = { expected: policy.vmpl.join(' or '), actual: String(report.vmpl) }
    if (report.vmpl > 3) return fail('the report was requested by the host, not by the guest', detail)
    return policy.vmpl.includes(report.vmpl) ? pass(undefined, detail) : fail('the VMPL is not accepted', detail)
  })
}

/** `snp.tcb.*`. The layout is the chain's. */
export function checkTcb(t: Transcript, report: SnpReport, product: Product, policy: SnpPolicy): void {
  const tcb = (bytes: Bytes): Tcb => parseTcb(bytes, product.tcbLayout)
  t.check('snp.tcb.floor', () => {
    const committed = tcb(report.committedTcb)
    const reported = tcb(report.reportedTcb)
    const actual = `REPORTED ${describeTcb(reported)}; COMMITTED ${describeTcb(committed)}`
    if (policy.tcbFloor === 'none') return waived(`tcbFloor: none; ${actual}`)
    const floor = policy.tcbFloor === 'shipped' ? shippedFloor(product.name, report.cpuid) : policy.tcbFloor
    if (floor === undefined) return fail('no floor is known for this processor', { actual })
    const source = policy.tcbFloor === 'shipped' ? `shipped ${FLOORS_DATED}` : 'your policy'
    const detail = { expected: `at least ${describeTcb(floor)} (${source})`, actual }
    const held: [string, Tcb][] = [
      ['REPORTED', reported],
      ['COMMITTED', committed],
    ]
    if (policy.tcbFloorOnLaunch) held.push(['LAUNCH', tcb(report.launchTcb)])
    const below = held.flatMap(([name, value]) => componentsBelow(value, floor).map((part) => `${name} ${part}`))
    return below.length === 0 ? pass(undefined, detail) : fail(`below the floor: ${below.join(', ')}`, detail)
  })
  t.check('snp.tcb.provisional', () => {
    if (!isProvisional(report, product)) return pass()
    if (policy.provisionalFirmware === 'allowed') return pass(undefined, { actual: 'provisional, allowed' })
    return fail('CURRENT firmware is above COMMITTED and can be rolled back', {
      expected: `${describeTcb(tcb(report.committedTcb))} ${dotted(report.committedVersion)}`,
      actual: `${describeTcb(tcb(report.currentTcb))} ${dotted(report.currentVersion)}`,
    })
  })
}

/** Whether the host runs firmware it has not committed to. */
export function isProvisional(report: SnpReport, product: Product): boolean {
  const current = parseTcb(report.currentTcb, product.tcbLayout)
  const committed = parseTcb(report.committedTcb, product.tcbLayout)
  return (
    componentsBelow(committed, current).length > 0 ||
    compareFirmware(report.currentVersion, report.committedVersion) > 0
  )
}

/** `snp.platform.*`. A bit the report's version does not carry is unknown, which satisfies no requirement. */
export function checkPlatform(t: Transcript, report: SnpReport, policy: SnpPolicy): void {
  for (const name of Object.keys(PLATFORM_BITS) as PlatformBitName[]) {
    const { bit, spec, since } = PLATFORM_BITS[name]
    const rule = policy.platform[name]
    t.check(PLATFORM_BIT_CHECKS[name], () => {
      if (report.version >= since)
        return judgeBit(spec, hasBit(report.platformInfo, bit), rule, STRICT_SNP_POLICY.platform[name])
      const actual = `not reported by version ${report.version}`
      return rule === 'required' ? fail(`${spec} is required`, { actual }) : pass(undefined, { actual })
    })
  }
  t.check('snp.platform.mitigations', () => {
    const launch = BigInt(policy.mitigations.launch)
    const current = BigInt(policy.mitigations.current)
    if (launch === 0n && current === 0n) return pass(undefined, { expected: ANY })
    const { launchMitVector, currentMitVector } = report
    const detail = {
      expected: `LAUNCH ${hex64(launch)}, CURRENT ${hex64(current)}`,
      actual: `LAUNCH ${vector(launchMitVector)}, CURRENT ${vector(currentMitVector)}`,
    }
    const has = (required: bigint, actual: bigint | undefined) => ((actual ?? 0n) & required) === required
    if (has(launch, launchMitVector) && has(current, currentMitVector)) return pass(undefined, detail)
    return fail('a required mitigation is missing', detail)
  })
}

/** `snp.report-data` and every field a policy may pin. */
export function checkReferenceValues(
  t: Transcript,
  report: SnpReport,
  policy: SnpPolicy,
  expectedReportData: Bytes | undefined,
): void {
  // In a bundle the claims say what REPORT_DATA must be, and the bundle's own check compares.
  if (t.plans('snp.report-data')) t.check('snp.report-data', () => matchReportData(report, expectedReportData))
  t.check('snp.host-data', () => matchPin(report.hostData, policy.hostData))
  t.check('snp.guest-svn', () => {
    const detail = { expected: `at least ${policy.minGuestSvn}`, actual: String(report.guestSvn) }
    return report.guestSvn >= policy.minGuestSvn ? pass(undefined, detail) : fail('GUEST_SVN is too low', detail)
  })
  t.check('snp.family-id', () => matchPin(report.familyId, policy.familyIds))
  t.check('snp.image-id', () => matchPin(report.imageId, policy.imageIds))
  t.check('snp.report-id', () => matchPin(report.reportId, policy.reportIds))
  t.check('snp.id-key-digest', () => matchPin(report.idKeyDigest, policy.idKeyDigests))
  t.check('snp.author-key-digest', () => {
    const found = matchPin(report.authorKeyDigest, policy.authorKeyDigests)
    // Without AUTHOR_KEY_EN the field means nothing; a pin of zeros then says "no author key".
    const meaningless = !report.authorKeyEn && !isZero(report.authorKeyDigest)
    if (policy.authorKeyDigests === 'any' || found.status !== 'pass' || !meaningless) return found
    return fail('AUTHOR_KEY_EN is 0: no author key was verified', { actual: toHex(report.authorKeyDigest) })
  })
}

/** One value against the list a policy gives, byte for byte. */
export function matchPin(actual: Bytes, accepted: 'any' | readonly string[]): Finding {
  const hex = toHex(actual)
  if (accepted === 'any') return pass(undefined, { expected: ANY, actual: hex })
  const detail = { expected: accepted.join(' or '), actual: hex }
  return accepted.includes(hex) ? pass(undefined, detail) : fail('the value is none your policy names', detail)
}

/** A shorter expected value is padded with zeros; all 64 bytes are compared. */
function matchReportData(report: SnpReport, expected: Bytes | undefined): Finding {
  if (expected === undefined) {
    return waived('no REPORT_DATA was asked for: neither freshness nor a binding to anything is checked')
  }
  const padded = new Uint8Array(64)
  const fits = expected.length > 0 && expected.length <= 64
  if (fits) padded.set(expected)
  const detail: Detail = { expected: toHex(fits ? padded : expected), actual: toHex(report.reportData) }
  if (!fits) return fail('the expected value must have 1 to 64 bytes', detail)
  return equalBytes(padded, report.reportData) ? pass(undefined, detail) : fail('REPORT_DATA is another value', detail)
}

type BitRule = 'allowed' | 'forbidden' | 'optional' | 'required'

/** Direction is in the words: permissions forbid a set bit, restrictions require one. */
function judgeBit(spec: string, set: boolean, rule: BitRule, strict: BitRule): Finding {
  const detail = { actual: set ? '1' : '0' }
  if (rule === 'forbidden' && set) return fail(`${spec} is set`, { expected: '0', ...detail })
  if (rule === 'required' && !set) return fail(`${spec} is not set`, { expected: '1', ...detail })
  if (strict === 'forbidden' && set) return waived(`your policy allows ${spec}, and it is set`)
  return pass(undefined, detail)
}

function vector(value: bigint | undefined): string {
  return value === undefined ? 'not reported' : hex64(value)
}

function dotted({ major, minor, build }: FirmwareVersion): string {
  return `${major}.${minor}.${build}`
}
