/**
 * TCB evaluation (Intel "SGX/TDX DCAP Quote Verification", TDX TCB status and its convergence): which level a platform, a
 * TDX module and a quoting enclave reach, and what that adds up to.
 *
 * Pure: levels in, findings out. Served order is never trusted. The worst component wins, and none of them can replace another's verdict.
 * A component that reaches no level at all is `Unmatched`, which is not OutOfDate: nothing is known of it.
 */
import { type Bytes, equalBytes, isZero, toHex } from '../protocol/bytes.js'
import type { IsvLevel, LevelStatus, QeIdentity, SeamIdentity, TcbInfo, TcbLevel } from './collateral.js'
import type { EnclaveReport } from './enclave-report.js'
import type { PckClaims } from './pck.js'
import type { TdReport } from './td-report.js'

/** Every outcome of an evaluation; all distinct, and only `Revoked` can never be accepted. */
export type TcbStatus = LevelStatus | 'TDRelaunchAdvised' | 'TDRelaunchAdvisedConfigurationNeeded' | 'Unmatched'

/** What one component reaches. */
export interface ComponentTcb {
  readonly status: LevelStatus | 'Unmatched'
  readonly advisoryIds: readonly string[]
  /** The component is not affected by advisories published before this date. */
  readonly tcbDate?: Date
  /** When the first recovery that this level lacks took place: what a grace period counts from. */
  readonly outdatedSince?: Date
}

export interface ModuleTcb extends ComponentTcb {
  /** `TDX_01` …; undefined for modules before identities had ids. */
  readonly identityId?: string
}

export interface PlatformTcb extends ComponentTcb {
  /** Status of the first level whose SGX part matches, whatever its TDX part: relaunch advice asks for it. */
  readonly sgxStatus: LevelStatus | 'Unmatched'
}

export interface TdxTcb {
  readonly platform: PlatformTcb
  /** Undefined while the module version id is 0: such modules have no levels of their own. */
  readonly module: ModuleTcb | undefined
  readonly qe: ComponentTcb
  /** What everything adds up to. */
  readonly status: TcbStatus
  readonly advisoryIds: readonly string[]
  /** The oldest of the components' dates. */
  readonly tcbDate?: Date
  readonly outdatedSince?: Date
  readonly relaunchAdvised: boolean
}

/** The levels newest first: SGX components, then PCESVN, then TDX components. */
export function sortLevels(levels: readonly TcbLevel[]): readonly TcbLevel[] {
  const key = ({ tcb }: TcbLevel): readonly number[] => [...tcb.sgxtcbcomponents, tcb.pcesvn, ...tcb.tdxtcbcomponents]
  return [...levels].sort((a, b) => compareDescending(key(a), key(b)))
}

/** The platform's level from its PCK certificate and TEE_TCB_SVN. */
export function matchPlatform(info: TcbInfo, pck: PckClaims, teeTcbSvn: Bytes): PlatformTcb {
  const levels = sortLevels(info.tcbLevels)
  // From version 1 on, bytes 0 and 1 belong to the module's identity and are matched there.
  const from = (teeTcbSvn[1] ?? 0) > 0 ? 2 : 0
  const sgx = levels.filter(({ tcb }) => reaches(pck.components, tcb.sgxtcbcomponents) && pck.pceSvn >= tcb.pcesvn)
  const level = sgx.find(({ tcb }) => reaches([...teeTcbSvn], tcb.tdxtcbcomponents, from))
  return { ...componentOf(level, levels), sgxStatus: sgx[0]?.tcbStatus ?? 'Unmatched' }
}

export type ModuleMatch =
  | { readonly identity: 'matched'; readonly module: ModuleTcb | undefined }
  /** No identity of that id, or the module differs from it. */
  | { readonly identity: 'mismatched'; readonly reason: string; readonly expected: string; readonly actual: string }

/** The TDX module against Intel's identity for its version, and then its level. */
export function matchModule(info: TcbInfo, report: TdReport): ModuleMatch {
  const version = report.teeTcbSvn[1] ?? 0
  if (version === 0) {
    const fault = identityFault(info.tdxModule, report)
    return fault ?? { identity: 'matched', module: undefined }
  }
  const id = moduleIdentityId(version)
  const known = info.tdxModuleIdentities ?? []
  const identity = known.find((candidate) => candidate.id === id)
  if (identity === undefined) {
    const listed = known.map((candidate) => candidate.id).join(', ') || 'no module identities'
    return { identity: 'mismatched', reason: 'Intel lists no module of this version', expected: listed, actual: id }
  }
  const fault = identityFault(identity, report)
  return (
    fault ?? {
      identity: 'matched',
      module: { ...matchIsv(identity.tcbLevels, report.teeTcbSvn[0] ?? 0), identityId: id },
    }
  )
}

/** The quoting enclave's level. */
export function matchQe(identity: QeIdentity, qe: EnclaveReport): ComponentTcb {
  return matchIsv(identity.tcbLevels, qe.isvSvn)
}

/** Everything together. Intel's rules: the module first, then advice to relaunch, then the quoting enclave. */
export function converge(
  info: TcbInfo,
  report: TdReport,
  parts: { readonly platform: PlatformTcb; readonly module: ModuleTcb | undefined; readonly qe: ComponentTcb },
): TdxTcb {
  const { platform, module, qe } = parts
  const components = [platform, ...(module === undefined ? [] : [module]), qe]
  const withModule = worst([platform.status, ...(module === undefined ? [] : [module.status])])
  const relaunch = relaunchWouldHelp(info, report, parts)
  const status = relaunch ? relaunched(withModule) : worst([withModule, qe.status])
  const tcbDate = earliest(components.flatMap((component) => component.tcbDate ?? []))
  const outdatedSince = earliest(components.flatMap((component) => component.outdatedSince ?? []))
  return {
    ...parts,
    status,
    advisoryIds: [...new Set(components.flatMap((component) => component.advisoryIds))].sort(),
    ...(tcbDate === undefined ? {} : { tcbDate }),
    ...(outdatedSince === undefined ? {} : { outdatedSince }),
    relaunchAdvised: relaunch,
  }
}

/** Each status as what it says; the worst of several is everything any of them says. */
const MEANING: Readonly<Record<LevelStatus, readonly ('revoked' | 'outdated' | 'configuration' | 'hardening')[]>> = {
  UpToDate: [],
  SWHardeningNeeded: ['hardening'],
  ConfigurationNeeded: ['configuration'],
  ConfigurationAndSWHardeningNeeded: ['configuration', 'hardening'],
  OutOfDate: ['outdated'],
  OutOfDateConfigurationNeeded: ['outdated', 'configuration'],
  Revoked: ['revoked'],
}

function worst(statuses: readonly (LevelStatus | 'Unmatched')[]): LevelStatus | 'Unmatched' {
  const said = new Set(statuses.flatMap((status) => (status === 'Unmatched' ? [] : MEANING[status])))
  if (said.has('revoked')) return 'Revoked'
  if (statuses.includes('Unmatched')) return 'Unmatched'
  const configuration = said.has('configuration')
  if (said.has('outdated')) return configuration ? 'OutOfDateConfigurationNeeded' : 'OutOfDate'
  if (said.has('hardening')) return configuration ? 'ConfigurationAndSWHardeningNeeded' : 'SWHardeningNeeded'
  return configuration ? 'ConfigurationNeeded' : 'UpToDate'
}

const CURRENT: readonly string[] = [
  'UpToDate',
  'SWHardeningNeeded',
  'ConfigurationNeeded',
  'ConfigurationAndSWHardeningNeeded',
]

/**
 * TD 1.5 only: whether the TD is out of date just because it was launched under an older module than the one that runs
 * now (TEE_TCB_SVN_2), so that relaunching it would mend it.
 */
function relaunchWouldHelp(
  info: TcbInfo,
  { teeTcbSvn2 }: TdReport,
  { platform, module, qe }: { platform: PlatformTcb; module: ModuleTcb | undefined; qe: ComponentTcb },
): boolean {
  const [newest] = sortLevels(info.tcbLevels)
  if (teeTcbSvn2 === undefined || newest === undefined) return false
  if (module?.status !== 'OutOfDate' || !worst([platform.status, module.status]).startsWith('OutOfDate')) return false
  if (!CURRENT.includes(platform.sgxStatus) || !CURRENT.includes(qe.status)) return false
  const [isvSvn = 0, version = 0, microcode = 0] = teeTcbSvn2
  const [newestModule = 0, , newestMicrocode = 0] = newest.tcb.tdxtcbcomponents
  if (microcode < newestMicrocode) return false
  if (version === 0) return isvSvn >= newestModule
  const identity = info.tdxModuleIdentities?.find(({ id }) => id === moduleIdentityId(version))
  const [latest] = sortIsvLevels(identity?.tcbLevels ?? [])
  return latest !== undefined && isvSvn >= latest.tcb.isvsvn
}

function relaunched(status: LevelStatus | 'Unmatched'): TcbStatus {
  return status === 'OutOfDateConfigurationNeeded' ? 'TDRelaunchAdvisedConfigurationNeeded' : 'TDRelaunchAdvised'
}

function moduleIdentityId(version: number): string {
  return `TDX_${version.toString(16).padStart(2, '0').toUpperCase()}`
}

/** MRSIGNERSEAM equal; SEAMATTRIBUTES equal under the mask and zero outside it. */
function identityFault(
  identity: SeamIdentity,
  report: TdReport,
): Extract<ModuleMatch, { identity: 'mismatched' }> | undefined {
  const { mrsigner, attributes, attributesMask } = identity
  if (!equalBytes(report.mrSignerSeam, mrsigner)) {
    return mismatch('MRSIGNERSEAM is not the signer Intel lists', mrsigner, report.mrSignerSeam)
  }
  const outside = report.seamAttributes.map((byte, index) => byte & ~(attributesMask[index] ?? 0))
  if (isZero(outside) && maskedEqual(report.seamAttributes, attributes, attributesMask)) return undefined
  return mismatch('SEAMATTRIBUTES are not those Intel lists', attributes, report.seamAttributes)
}

function mismatch(reason: string, expected: Bytes, actual: Bytes): Extract<ModuleMatch, { identity: 'mismatched' }> {
  return { identity: 'mismatched', reason, expected: toHex(expected), actual: toHex(actual) }
}

/** Equal in every bit the mask selects. Different lengths are unequal. */
export function maskedEqual(actual: Bytes, expected: Bytes, mask: Bytes): boolean {
  const masked = (bytes: Bytes): Uint8Array => bytes.map((byte, index) => byte & (mask[index] ?? 0))
  return (
    actual.length === expected.length && mask.length === actual.length && equalBytes(masked(actual), masked(expected))
  )
}

function matchIsv(levels: readonly IsvLevel[], isvSvn: number): ComponentTcb {
  const sorted = sortIsvLevels(levels)
  return componentOf(
    sorted.find(({ tcb }) => isvSvn >= tcb.isvsvn),
    sorted,
  )
}

function sortIsvLevels(levels: readonly IsvLevel[]): readonly IsvLevel[] {
  return [...levels].sort((a, b) => b.tcb.isvsvn - a.tcb.isvsvn)
}

type DatedLevel = Pick<TcbLevel, 'tcbDate' | 'tcbStatus' | 'advisoryIDs'>

/** `sorted` is newest first; `level`, if any, is one of them. */
function componentOf(level: DatedLevel | undefined, sorted: readonly DatedLevel[]): ComponentTcb {
  if (level === undefined) return { status: 'Unmatched', advisoryIds: [] }
  const { tcbStatus, tcbDate, advisoryIDs } = level
  const newer = sorted
    .slice(0, sorted.indexOf(level))
    .flatMap((other) => (other.tcbDate > tcbDate ? other.tcbDate : []))
  const outdatedSince = tcbStatus.startsWith('OutOfDate') ? earliest(newer) : undefined
  return {
    status: tcbStatus,
    advisoryIds: advisoryIDs,
    tcbDate,
    ...(outdatedSince === undefined ? {} : { outdatedSince }),
  }
}

function reaches(actual: readonly number[], required: readonly number[], from = 0): boolean {
  return required.every((svn, index) => index < from || (actual[index] ?? -1) >= svn)
}

function compareDescending(a: readonly number[], b: readonly number[]): number {
  for (let i = 0; i < a.length; i++) {
    const difference = (b[i] ?? 0) - (a[i] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}

function earliest(dates: readonly Date[]): Date | undefined {
  return [...dates].sort((a, b) => a.getTime() - b.getTime())[0]
}
