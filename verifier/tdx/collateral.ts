/**
 * TDX collateral (Intel Provisioning Certification Service API v4): TCB info version 3 and QE identity version 2, read
 * from the exact bytes their signature covers.
 *
 * Refused: SGX documents (`id` "SGX" or "QE"), other versions or TCB types, a component list that is not sixteen long,
 * unknown status words, malformed dates or hex. Members this verifier does not know are ignored: the signature covers
 * them, and Intel adds some. Reading comes before verifying only to choose among documents; what is read is used once the
 * signature over the same bytes has been verified.
 */
import * as v from 'valibot'
import { type Bytes, fromHex, toHex } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { sha256 } from '../protocol/hash.js'
import { readJsonMembers } from './json-range.js'
import { remembering } from './remember.js'

const LEVEL_STATUSES = [
  'UpToDate',
  'SWHardeningNeeded',
  'ConfigurationNeeded',
  'ConfigurationAndSWHardeningNeeded',
  'OutOfDate',
  'OutOfDateConfigurationNeeded',
  'Revoked',
] as const
/** What Intel's services say of a TCB level. */
export type LevelStatus = (typeof LEVEL_STATUSES)[number]

interface Level {
  readonly tcbDate: Date
  readonly tcbStatus: LevelStatus
  readonly advisoryIDs: readonly string[]
}

/** A level of the TDX module or of the quoting enclave. */
export interface IsvLevel extends Level {
  readonly tcb: { readonly isvsvn: number }
}

export interface TcbLevel extends Level {
  readonly tcb: {
    /** Sixteen SVNs each. */
    readonly sgxtcbcomponents: readonly number[]
    readonly pcesvn: number
    readonly tdxtcbcomponents: readonly number[]
  }
}

interface Dated {
  readonly issueDate: Date
  readonly nextUpdate: Date
  readonly tcbEvaluationDataNumber: number
}

/** What MRSIGNERSEAM and SEAMATTRIBUTES must be. */
export interface SeamIdentity {
  readonly mrsigner: Bytes
  readonly attributes: Bytes
  readonly attributesMask: Bytes
}

export interface ModuleIdentity extends SeamIdentity {
  /** `TDX_01` …, upper case. */
  readonly id: string
  readonly tcbLevels: readonly IsvLevel[]
}

/** TCB info version 3, member names as Intel writes them. */
export interface TcbInfo extends Dated {
  readonly fmspc: Bytes
  readonly pceId: Bytes
  readonly tdxModule: SeamIdentity
  /** Absent from sets before late 2023. */
  readonly tdxModuleIdentities?: readonly ModuleIdentity[] | undefined
  readonly tcbLevels: readonly TcbLevel[]
}

/** QE identity version 2 of the TD quoting enclave. */
export interface QeIdentity extends Dated {
  readonly miscselect: Bytes
  readonly miscselectMask: Bytes
  readonly attributes: Bytes
  readonly attributesMask: Bytes
  readonly mrsigner: Bytes
  readonly isvprodid: number
  readonly tcbLevels: readonly IsvLevel[]
}

const hex = (bytes: number) =>
  v.pipe(
    v.string(),
    v.regex(new RegExp(`^[0-9a-fA-F]{${2 * bytes}}$`), `expected ${2 * bytes} hex digits`),
    v.transform(fromHex),
  )
const svn = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(0xffff))
const instant = v.pipe(
  v.string(),
  v.regex(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/, 'expected a time in seconds, UTC'),
  v.transform((text) => new Date(text)),
  v.check((date) => !Number.isNaN(date.getTime()), 'no such time'),
)
const components = v.pipe(
  v.array(v.object({ svn })),
  v.length(16, 'expected sixteen components'),
  v.transform((items) => items.map((item) => item.svn)),
)
const levelInfo = {
  tcbDate: instant,
  tcbStatus: v.picklist(LEVEL_STATUSES),
  advisoryIDs: v.optional(v.pipe(v.array(v.pipe(v.string(), v.maxLength(64))), v.maxLength(256)), () => []),
}
const isvLevels = v.pipe(
  v.array(v.object({ tcb: v.object({ isvsvn: svn }), ...levelInfo })),
  v.minLength(1),
  v.maxLength(256),
)
const moduleIdentity = { mrsigner: hex(48), attributes: hex(8), attributesMask: hex(8) }
const document = {
  issueDate: instant,
  nextUpdate: instant,
  tcbEvaluationDataNumber: v.pipe(v.number(), v.integer(), v.minValue(0)),
}

const tcbInfoSchema: v.GenericSchema<unknown, TcbInfo> = v.object({
  id: v.literal('TDX', 'expected TDX TCB info'),
  version: v.literal(3),
  ...document,
  fmspc: hex(6),
  pceId: hex(2),
  tcbType: v.literal(0),
  tdxModule: v.object(moduleIdentity),
  tdxModuleIdentities: v.optional(
    v.pipe(
      v.array(
        v.object({
          id: v.pipe(v.string(), v.maxLength(32), v.toUpperCase()),
          ...moduleIdentity,
          tcbLevels: isvLevels,
        }),
      ),
      v.maxLength(256),
    ),
  ),
  tcbLevels: v.pipe(
    v.array(
      v.object({
        tcb: v.object({ sgxtcbcomponents: components, pcesvn: svn, tdxtcbcomponents: components }),
        ...levelInfo,
      }),
    ),
    v.minLength(1),
    v.maxLength(256),
  ),
})

const qeIdentitySchema: v.GenericSchema<unknown, QeIdentity> = v.object({
  id: v.literal('TD_QE', 'expected the identity of the TD quoting enclave'),
  version: v.literal(2),
  ...document,
  miscselect: hex(4),
  miscselectMask: hex(4),
  attributes: hex(16),
  attributesMask: hex(16),
  mrsigner: hex(32),
  isvprodid: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(0xffff)),
  tcbLevels: isvLevels,
})

interface SignedDocument {
  /** The whole response as served. */
  readonly bytes: Bytes
  /** The inner object as served: what Intel signed. */
  readonly signed: Bytes
  readonly signedSha256Hex: string
  /** R then S, 64 bytes. */
  readonly signature: Bytes
}

export type CollateralDocument = SignedDocument &
  (
    | { readonly kind: 'tcb-info'; readonly content: TcbInfo }
    | { readonly kind: 'qe-identity'; readonly content: QeIdentity }
    /** A collateral response whose object is not one of the two above, and why. */
    | { readonly kind: 'unusable'; readonly member: 'tcbInfo' | 'enclaveIdentity'; readonly reason: string }
  )

/**
 * One collateral response: `{"tcbInfo": {…}, "signature": "…"}` or `{"enclaveIdentity": {…}, "signature": "…"}`.
 * An object inside that is not what this verifier can use is reported, not thrown: its name says what it was meant as.
 * @throws FormatError on bytes that are no such response.
 */
export const parseCollateral: (bytes: Bytes) => CollateralDocument = remembering(64, readCollateral)

function readCollateral(bytes: Bytes): CollateralDocument {
  const members = readJsonMembers(bytes, 'collateral')
  const [name, ...others] = [...members.keys()].filter((key) => key !== 'signature')
  const inner = members.get(name ?? '')
  if ((name !== 'tcbInfo' && name !== 'enclaveIdentity') || inner === undefined || others.length > 0) {
    throw new FormatError('tdx.collateral.members', 'collateral: expected tcbInfo or enclaveIdentity, and signature')
  }
  const signature = members.get('signature')?.value
  // One spelling only, the one Intel serves: otherwise different bytes would carry the same signature.
  if (typeof signature !== 'string' || !/^[0-9a-f]{128}$/.test(signature)) {
    throw new FormatError('tdx.collateral.signature', 'collateral: expected a signature of 128 lower-case hex digits')
  }
  const signed = inner.bytes
  const base = { bytes, signed, signedSha256Hex: toHex(sha256(signed)), signature: fromHex(signature) }
  if (name === 'tcbInfo') {
    const result = v.safeParse(tcbInfoSchema, inner.value)
    if (result.success) return { ...base, kind: 'tcb-info', content: result.output }
    return { ...base, kind: 'unusable', member: name, reason: describeIssue(name, result.issues[0]) }
  }
  const result = v.safeParse(qeIdentitySchema, inner.value)
  if (result.success) return { ...base, kind: 'qe-identity', content: result.output }
  return { ...base, kind: 'unusable', member: name, reason: describeIssue(name, result.issues[0]) }
}

function describeIssue(name: string, issue: v.BaseIssue<unknown>): string {
  const path = (issue.path ?? []).map((item) => `.${String(item.key)}`.slice(0, 40)).join('')
  const received = issue.received.length > 40 ? `${issue.received.slice(0, 40)}…` : issue.received
  return `${name}${path}: ${issue.message.slice(0, 120)}${issue.type === 'literal' ? ` (found ${received})` : ''}`
}
