/**
 * ATTESTATION_REPORT (AMD 56860, "Attestation Report"), versions 2 to 5: bytes to struct, and struct to JSON.
 *
 * Exactly 1184 bytes, little-endian. Nothing parsed here is trusted until the signature verifies over the received bytes;
 * a struct is never turned back into bytes. Unknown versions parse too, so that a refused report can still be read;
 * refusing them is a check. Bytes a known version leaves reserved are reported when set, not refused: firmware updates use
 * them before documents do.
 */
import { type Bytes, equalBytes, isZero, toHex } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { describePlatformInfo, describePolicyBits, hex64 } from './bits.js'
import { type Cpuid, productOfCpuid, type TcbLayout } from './product.js'
import { parseTcb } from './tcb.js'

export const SNP_REPORT_BYTES = 1184
/** The signature covers bytes 0 up to here. */
export const SNP_SIGNED_BYTES = 0x2a0

export interface FirmwareVersion {
  readonly major: number
  readonly minor: number
  readonly build: number
}

export interface SnpReport {
  /** Exactly the received 1184 bytes. */
  readonly bytes: Bytes
  readonly version: number
  readonly guestSvn: number
  /** POLICY: guest policy bits; see bits.ts. */
  readonly policy: bigint
  readonly familyId: Bytes
  readonly imageId: Bytes
  readonly vmpl: number
  readonly signatureAlgo: number
  /** The four TCB_VERSIONs as 8 bytes in report order; their layout depends on the product. */
  readonly currentTcb: Bytes
  readonly platformInfo: bigint
  /** The word at 0x048 as received; its fields follow. */
  readonly keyInfo: number
  readonly authorKeyEn: boolean
  readonly maskChipKey: boolean
  /** 0 VCEK, 1 VLEK, 7 none. */
  readonly signingKey: number
  readonly reportData: Bytes
  readonly measurement: Bytes
  readonly hostData: Bytes
  readonly idKeyDigest: Bytes
  readonly authorKeyDigest: Bytes
  readonly reportId: Bytes
  readonly reportIdMa: Bytes
  readonly reportedTcb: Bytes
  /** Version 3 and later. */
  readonly cpuid: Cpuid | undefined
  readonly chipId: Bytes
  readonly committedTcb: Bytes
  readonly currentVersion: FirmwareVersion
  readonly committedVersion: FirmwareVersion
  readonly launchTcb: Bytes
  /** Version 5 and later. */
  readonly launchMitVector: bigint | undefined
  readonly currentMitVector: bigint | undefined
  /** R and S: 72 bytes each, little-endian. */
  readonly signatureR: Bytes
  readonly signatureS: Bytes
  /** 0x330 to 0x49F: must be zero. */
  readonly signatureReserved: Bytes
}

/** Offset and size of every field, in the order of the specification's table. */
const FIELD = {
  version: [0x000, 4],
  guestSvn: [0x004, 4],
  policy: [0x008, 8],
  familyId: [0x010, 16],
  imageId: [0x020, 16],
  vmpl: [0x030, 4],
  signatureAlgo: [0x034, 4],
  currentTcb: [0x038, 8],
  platformInfo: [0x040, 8],
  keyInfo: [0x048, 4],
  reserved04c: [0x04c, 4],
  reportData: [0x050, 64],
  measurement: [0x090, 48],
  hostData: [0x0c0, 32],
  idKeyDigest: [0x0e0, 48],
  authorKeyDigest: [0x110, 48],
  reportId: [0x140, 32],
  reportIdMa: [0x160, 32],
  reportedTcb: [0x180, 8],
  cpuidFamId: [0x188, 1],
  cpuidModId: [0x189, 1],
  cpuidStep: [0x18a, 1],
  reserved18b: [0x18b, 21],
  chipId: [0x1a0, 64],
  committedTcb: [0x1e0, 8],
  currentVersion: [0x1e8, 3],
  reserved1eb: [0x1eb, 1],
  committedVersion: [0x1ec, 3],
  reserved1ef: [0x1ef, 1],
  launchTcb: [0x1f0, 8],
  launchMitVector: [0x1f8, 8],
  currentMitVector: [0x200, 8],
  reserved208: [0x208, 152],
  signatureR: [0x2a0, 72],
  signatureS: [0x2e8, 72],
  signatureReserved: [0x330, 368],
} as const satisfies Readonly<Record<string, readonly [offset: number, size: number]>>

type Field = keyof typeof FIELD

/** @throws FormatError unless there are exactly 1184 bytes; on nothing else. */
export function parseSnpReport(input: Uint8Array): SnpReport {
  if (input.length !== SNP_REPORT_BYTES) {
    throw new FormatError(
      'snp.report.length',
      `attestation report: expected ${SNP_REPORT_BYTES} bytes, found ${input.length}`,
    )
  }
  // A copy: whoever holds the input cannot change it between parsing and verifying.
  const bytes = new Uint8Array(input)
  const view = new DataView(bytes.buffer)
  const raw = (field: Field): Bytes => bytes.subarray(FIELD[field][0], FIELD[field][0] + FIELD[field][1])
  const u8 = (field: Field): number => view.getUint8(FIELD[field][0])
  const u32 = (field: Field): number => view.getUint32(FIELD[field][0], true)
  const u64 = (field: Field): bigint => view.getBigUint64(FIELD[field][0], true)

  const version = u32('version')
  const keyInfo = u32('keyInfo')
  return {
    bytes,
    version,
    guestSvn: u32('guestSvn'),
    policy: u64('policy'),
    familyId: raw('familyId'),
    imageId: raw('imageId'),
    vmpl: u32('vmpl'),
    signatureAlgo: u32('signatureAlgo'),
    currentTcb: raw('currentTcb'),
    platformInfo: u64('platformInfo'),
    keyInfo,
    authorKeyEn: (keyInfo & 1) !== 0,
    maskChipKey: (keyInfo & 2) !== 0,
    signingKey: (keyInfo >>> 2) & 7,
    reportData: raw('reportData'),
    measurement: raw('measurement'),
    hostData: raw('hostData'),
    idKeyDigest: raw('idKeyDigest'),
    authorKeyDigest: raw('authorKeyDigest'),
    reportId: raw('reportId'),
    reportIdMa: raw('reportIdMa'),
    reportedTcb: raw('reportedTcb'),
    cpuid: version < 3 ? undefined : { family: u8('cpuidFamId'), model: u8('cpuidModId'), stepping: u8('cpuidStep') },
    chipId: raw('chipId'),
    committedTcb: raw('committedTcb'),
    currentVersion: firmwareVersion(raw('currentVersion')),
    committedVersion: firmwareVersion(raw('committedVersion')),
    launchTcb: raw('launchTcb'),
    launchMitVector: version < 5 ? undefined : u64('launchMitVector'),
    currentMitVector: version < 5 ? undefined : u64('currentMitVector'),
    signatureR: raw('signatureR'),
    signatureS: raw('signatureS'),
    signatureReserved: raw('signatureReserved'),
  }
}

/** Names of fields that this report version leaves reserved and that are not zero: information, not an error. */
export function reservedInUse(report: SnpReport): readonly string[] {
  const reserved: Field[] = ['reserved04c', 'reserved18b', 'reserved1eb', 'reserved1ef', 'reserved208']
  if (report.version < 3) reserved.push('cpuidFamId', 'cpuidModId', 'cpuidStep')
  if (report.version < 5) reserved.push('launchMitVector', 'currentMitVector')
  const used = reserved
    .map((field) => FIELD[field])
    .filter(([offset, size]) => !isZero(report.bytes.subarray(offset, offset + size)))
    .map(([offset, size]) => `0x${offset.toString(16)}..0x${(offset + size - 1).toString(16)}`)
  return report.keyInfo >>> 5 === 0 ? used : ['0x48 bits 31..5', ...used]
}

/** Whether two firmware versions are in order: negative when `a` is older than `b`. */
export function compareFirmware(a: FirmwareVersion, b: FirmwareVersion): number {
  return a.major - b.major || a.minor - b.minor || a.build - b.build
}

/**
 * JSON-ready: every field, TCBs decoded, bits by name, bytes as lower-case hex. `layout` is the verified chain's; without
 * one, the CPUID fields or else the version decide how TCBs are shown.
 */
export function describeSnpReport(report: SnpReport, layout?: TcbLayout): Record<string, unknown> {
  const product = report.cpuid === undefined ? undefined : productOfCpuid(report.cpuid)
  const shown = layout ?? product?.tcbLayout ?? 'legacy'
  const tcb = (bytes: Bytes) => ({ hex: toHex(bytes), ...parseTcb(bytes, shown) })
  const firmware = ({ major, minor, build }: FirmwareVersion) => `${major}.${minor}.${build}`
  return {
    version: report.version,
    guestSvn: report.guestSvn,
    policy: describePolicyBits(report.policy),
    familyId: toHex(report.familyId),
    imageId: toHex(report.imageId),
    vmpl: report.vmpl,
    signatureAlgo: report.signatureAlgo,
    currentTcb: tcb(report.currentTcb),
    platformInfo: describePlatformInfo(report.platformInfo, report.version),
    authorKeyEn: report.authorKeyEn,
    maskChipKey: report.maskChipKey,
    signingKey: SIGNING_KEYS[report.signingKey] ?? `reserved (${report.signingKey})`,
    reportData: toHex(report.reportData),
    measurement: toHex(report.measurement),
    hostData: toHex(report.hostData),
    idKeyDigest: toHex(report.idKeyDigest),
    authorKeyDigest: toHex(report.authorKeyDigest),
    reportId: toHex(report.reportId),
    reportIdMa: toHex(report.reportIdMa),
    reportedTcb: tcb(report.reportedTcb),
    ...(report.cpuid === undefined ? {} : { cpuid: report.cpuid, cpuidProduct: product?.name ?? 'unknown' }),
    chipId: toHex(report.chipId),
    committedTcb: tcb(report.committedTcb),
    currentVersion: firmware(report.currentVersion),
    committedVersion: firmware(report.committedVersion),
    launchTcb: tcb(report.launchTcb),
    ...(report.launchMitVector === undefined ? {} : { launchMitVector: hex64(report.launchMitVector) }),
    ...(report.currentMitVector === undefined ? {} : { currentMitVector: hex64(report.currentMitVector) }),
    reservedInUse: reservedInUse(report),
    signature: { r: toHex(report.signatureR), s: toHex(report.signatureS) },
  }
}

export const SIGNING_KEYS: Readonly<Record<number, string>> = { 0: 'VCEK', 1: 'VLEK', 7: 'none' }

/** Whether MEASUREMENT is one of these launch digests (48 bytes each). An empty list matches nothing. */
export function matchMeasurement(report: SnpReport, references: readonly Uint8Array[]): boolean {
  return references.some((reference) => equalBytes(reference, report.measurement))
}

/** Build, minor, major: the report's order. */
function firmwareVersion([build = 0, minor = 0, major = 0]: Bytes): FirmwareVersion {
  return { major, minor, build }
}
