/**
 * Builds signed TDX collateral as Intel's provisioning service serves it (Intel PCS API v4): TCB info version 3 and QE
 * identity version 2, each `{"<member>":{…},"signature":"<hex>"}` with the signature over the exact inner bytes.
 *
 * A document for a given verdict comes from `tcbLevels`, `moduleIdentities` and `qeLevels`; anything else can be
 * set member by member, edited as text before signing, or edited as text after.
 */
import { type KeyObject, sign } from 'node:crypto'
import type { Bytes } from '../../verifier/protocol/bytes.js'
import {
  INTEL_QE_MR_SIGNER,
  INTEL_TD_QE_PRODUCT,
  SIMULATED_PCK,
  SIMULATED_TDX_TCB,
  type SimulatedTdxTcb,
} from './tdx-facts.js'

export type CollateralStatus =
  | 'UpToDate'
  | 'SWHardeningNeeded'
  | 'ConfigurationNeeded'
  | 'ConfigurationAndSWHardeningNeeded'
  | 'OutOfDate'
  | 'OutOfDateConfigurationNeeded'
  | 'Revoked'

/** What a document shall say of a given machine; `unmatched` has only levels above it. */
export type CollateralVerdict = CollateralStatus | 'unmatched'

export interface LevelDetails {
  /** Default 2026-01-01T00:00:00Z. */
  readonly tcbDate?: string
  readonly advisoryIDs?: readonly string[]
}

export interface PlatformTcbLevel extends LevelDetails {
  readonly components: readonly number[]
  readonly pceSvn: number
  readonly tdxComponents: readonly number[]
  /** A status, or a word that is none. */
  readonly tcbStatus: string
}

export interface IsvTcbLevel extends LevelDetails {
  readonly isvSvn: number
  readonly tcbStatus: string
}

export interface TdxModuleIdentity {
  /** `TDX_01`. */
  readonly id: string
  readonly tcbLevels: readonly IsvTcbLevel[]
  /** Hex; default 96, 16 and 16 digits: zeros, zeros, ones. */
  readonly mrsigner?: string
  readonly attributes?: string
  readonly attributesMask?: string
}

interface CollateralDates {
  readonly issueDate: Date
  /** Default 30 days after `issueDate`. */
  readonly nextUpdate?: Date
  /** Default 20. */
  readonly tcbEvaluationDataNumber?: number
}

export interface TcbInfoFields extends CollateralDates {
  /** Default `TDX`. */
  readonly id?: string
  /** Default 3. */
  readonly version?: number
  readonly fmspc?: Uint8Array
  /** Default true: Intel writes either case. */
  readonly fmspcLowerCase?: boolean
  readonly pceId?: Uint8Array
  /** Default 0. */
  readonly tcbType?: number
  readonly tdxModule?: Omit<TdxModuleIdentity, 'id' | 'tcbLevels'>
  /** Default `moduleIdentities()`; null leaves the member out. */
  readonly tdxModuleIdentities?: readonly TdxModuleIdentity[] | null
  /** Default `tcbLevels()`. */
  readonly tcbLevels?: readonly PlatformTcbLevel[]
}

export interface QeIdentityFields extends CollateralDates {
  /** Default `TD_QE`. */
  readonly id?: string
  /** Default 2. */
  readonly version?: number
  /** Hex. */
  readonly miscselect?: string
  readonly miscselectMask?: string
  readonly attributes?: string
  readonly attributesMask?: string
  readonly mrsigner?: string
  readonly isvprodid?: number
  /** Default `qeLevels()`. */
  readonly tcbLevels?: readonly IsvTcbLevel[]
}

export interface CollateralHooks {
  /** Changes the inner object's text before it is signed: duplicate a key, reorder, add white space. */
  readonly editSigned?: (inner: string) => string
  /** Changes the inner object's text after it was signed. */
  readonly editUnsigned?: (inner: string) => string
  /** Changes the whole document: trailing data, a second member. */
  readonly editDocument?: (document: string) => string
  /** The name of the signed member. */
  readonly member?: string
  /** Signs with this key in place of TCB Signing's. */
  readonly signWith?: KeyObject
  /** Flips one bit of the signature. */
  readonly corruptSignature?: true
  /** In place of the signature's 128 hex digits. */
  readonly signatureText?: string
}

/** A TCB info response signed by `signer` (TCB Signing's private key). */
export function buildTcbInfo(fields: TcbInfoFields, signer: KeyObject, hooks: CollateralHooks = {}): Bytes {
  const inner = {
    id: fields.id ?? 'TDX',
    version: fields.version ?? 3,
    ...dates(fields),
    fmspc: hexText(fields.fmspc ?? SIMULATED_PCK.fmspc, fields.fmspcLowerCase),
    pceId: hexText(fields.pceId ?? SIMULATED_PCK.pceId, fields.fmspcLowerCase),
    tcbType: fields.tcbType ?? 0,
    tcbEvaluationDataNumber: fields.tcbEvaluationDataNumber ?? 20,
    tdxModule: moduleMembers(fields.tdxModule ?? {}),
    ...(fields.tdxModuleIdentities === null
      ? {}
      : {
          tdxModuleIdentities: (fields.tdxModuleIdentities ?? moduleIdentities()).map((identity) => ({
            id: identity.id,
            ...moduleMembers(identity),
            tcbLevels: identity.tcbLevels.map(encodeIsvLevel),
          })),
        }),
    tcbLevels: (fields.tcbLevels ?? tcbLevels()).map(encodePlatformLevel),
  }
  return signCollateral('tcbInfo', JSON.stringify(inner), signer, hooks)
}

/** A QE identity response signed by `signer` (TCB Signing's private key). */
export function buildQeIdentity(fields: QeIdentityFields, signer: KeyObject, hooks: CollateralHooks = {}): Bytes {
  const inner = {
    id: fields.id ?? 'TD_QE',
    version: fields.version ?? 2,
    ...dates(fields),
    tcbEvaluationDataNumber: fields.tcbEvaluationDataNumber ?? 20,
    miscselect: fields.miscselect ?? '00000000',
    miscselectMask: fields.miscselectMask ?? 'FFFFFFFF',
    attributes: fields.attributes ?? '11000000000000000000000000000000',
    attributesMask: fields.attributesMask ?? 'FBFFFFFFFFFFFFFF0000000000000000',
    mrsigner: fields.mrsigner ?? hexText(INTEL_QE_MR_SIGNER, false),
    isvprodid: fields.isvprodid ?? INTEL_TD_QE_PRODUCT,
    tcbLevels: (fields.tcbLevels ?? qeLevels()).map(encodeIsvLevel),
  }
  return signCollateral('enclaveIdentity', JSON.stringify(inner), signer, hooks)
}

/** Wraps and signs any inner text; what is signed need not be JSON. */
export function signCollateral(member: string, inner: string, signer: KeyObject, hooks: CollateralHooks = {}): Bytes {
  const signed = hooks.editSigned?.(inner) ?? inner
  const key = hooks.signWith ?? signer
  const signature = sign('sha256', Buffer.from(signed, 'utf8'), { key, dsaEncoding: 'ieee-p1363' })
  if (hooks.corruptSignature === true) signature[40] = (signature[40] ?? 0) ^ 0x01
  const shown = hooks.editUnsigned?.(signed) ?? signed
  const signatureText = hooks.signatureText ?? signature.toString('hex')
  const document = `{"${hooks.member ?? member}":${shown},"signature":"${signatureText}"}`
  return new Uint8Array(Buffer.from(hooks.editDocument?.(document) ?? document, 'utf8'))
}

/** Platform levels by which `tcb` gets this verdict: its own level, and a patched one above where it needs patching. */
export function tcbLevels(
  verdict: CollateralVerdict = 'UpToDate',
  tcb: SimulatedTdxTcb = SIMULATED_TDX_TCB,
  details: LevelDetails = {},
): PlatformTcbLevel[] {
  // With a module version id, the first two components belong to the module identity and are not compared.
  const first = tcb.teeTcbSvn[1] === 0 ? 0 : 2
  const own = { components: tcb.components, pceSvn: tcb.pceSvn, tdxComponents: tcb.teeTcbSvn.map(atLeast(first)) }
  const above: PlatformTcbLevel = { ...own, pceSvn: tcb.pceSvn + 1, tcbStatus: 'UpToDate' }
  const below: PlatformTcbLevel = { ...own, pceSvn: Math.max(0, tcb.pceSvn - 1), ...old, tcbStatus: 'OutOfDate' }
  if (verdict === 'unmatched') return [above]
  const level: PlatformTcbLevel = { ...own, ...(isBehind(verdict) ? old : {}), ...details, tcbStatus: verdict }
  return isBehind(verdict) ? [above, level] : [level, below]
}

/** Identities by which the module of `tcb` gets this verdict; none when it has no version id. */
export function moduleIdentities(
  verdict: CollateralVerdict = 'UpToDate',
  tcb: SimulatedTdxTcb = SIMULATED_TDX_TCB,
  details: LevelDetails = {},
): TdxModuleIdentity[] {
  const [isvSvn = 0, version = 0] = tcb.teeTcbSvn
  const named = (id: number, levels: readonly IsvTcbLevel[]): TdxModuleIdentity => ({
    id: `TDX_${id.toString(16).toUpperCase().padStart(2, '0')}`,
    tcbLevels: levels,
  })
  const other = named(version + 2, [{ isvSvn: 3, tcbStatus: 'UpToDate' }])
  return version === 0 ? [other] : [other, named(version, isvLevels(verdict, isvSvn, details))]
}

/** QE levels by which the enclave of `tcb` gets this verdict. */
export function qeLevels(
  verdict: CollateralVerdict = 'UpToDate',
  tcb: SimulatedTdxTcb = SIMULATED_TDX_TCB,
  details: LevelDetails = {},
): IsvTcbLevel[] {
  return isvLevels(verdict, tcb.qeIsvSvn, details)
}

const old: LevelDetails = { tcbDate: '2024-03-13T00:00:00Z', advisoryIDs: ['INTEL-SA-01036', 'INTEL-SA-01099'] }

function isvLevels(verdict: CollateralVerdict, isvSvn: number, details: LevelDetails): IsvTcbLevel[] {
  const above: IsvTcbLevel = { isvSvn: isvSvn + 1, tcbStatus: 'UpToDate' }
  if (verdict === 'unmatched') return [above]
  const level: IsvTcbLevel = { isvSvn, ...(isBehind(verdict) ? old : {}), ...details, tcbStatus: verdict }
  if (isBehind(verdict)) return [above, level]
  return isvSvn === 0 ? [level] : [level, { isvSvn: isvSvn - 1, ...old, tcbStatus: 'OutOfDate' }]
}

function isBehind(verdict: CollateralStatus): boolean {
  return verdict === 'OutOfDate' || verdict === 'OutOfDateConfigurationNeeded' || verdict === 'Revoked'
}

function atLeast(first: number): (svn: number, index: number) => number {
  return (svn, index) => (index < first ? 0 : svn)
}

/** What Intel calls the components; the rest have no name. */
const SGX_COMPONENTS: readonly object[] = [
  { category: 'BIOS', type: 'Early Microcode Update' },
  { category: 'OS/VMM', type: 'SGX Late Microcode Update' },
  { category: 'OS/VMM', type: 'TXT SINIT' },
  { category: 'BIOS' },
  { category: 'BIOS' },
  { category: 'BIOS' },
  {},
  { category: 'OS/VMM', type: 'SEAMLDR ACM' },
]
const TDX_COMPONENTS: readonly object[] = [
  { category: 'OS/VMM', type: 'TDX Module' },
  { category: 'OS/VMM', type: 'TDX Module' },
  { category: 'OS/VMM', type: 'TDX Late Microcode Update' },
]

function encodePlatformLevel(level: PlatformTcbLevel): object {
  return {
    tcb: {
      sgxtcbcomponents: level.components.map((svn, index) => ({ svn, ...SGX_COMPONENTS[index] })),
      pcesvn: level.pceSvn,
      tdxtcbcomponents: level.tdxComponents.map((svn, index) => ({ svn, ...TDX_COMPONENTS[index] })),
    },
    ...encodeDetails(level),
  }
}

function encodeIsvLevel(level: IsvTcbLevel): object {
  return { tcb: { isvsvn: level.isvSvn }, ...encodeDetails(level) }
}

function encodeDetails(level: LevelDetails & { readonly tcbStatus: string }): object {
  const { tcbDate = '2026-01-01T00:00:00Z', tcbStatus, advisoryIDs } = level
  return { tcbDate, tcbStatus, ...(advisoryIDs === undefined ? {} : { advisoryIDs }) }
}

function moduleMembers(module: Omit<TdxModuleIdentity, 'id' | 'tcbLevels'>): object {
  const { mrsigner = '0'.repeat(96), attributes = '0'.repeat(16), attributesMask = 'F'.repeat(16) } = module
  return { mrsigner, attributes, attributesMask }
}

function dates(fields: CollateralDates): object {
  const nextUpdate = fields.nextUpdate ?? new Date(fields.issueDate.getTime() + 30 * 24 * 60 * 60 * 1000)
  return { issueDate: seconds(fields.issueDate), nextUpdate: seconds(nextUpdate) }
}

function seconds(date: Date): string {
  return `${date.toISOString().slice(0, 19)}Z`
}

function hexText(bytes: Uint8Array, lowerCase = true): string {
  const text = Buffer.from(bytes).toString('hex')
  return lowerCase ? text : text.toUpperCase()
}
