/**
 * Builds and signs SEV-SNP attestation reports (AMD 56860, ATTESTATION_REPORT), versions 2 to 5.
 *
 * Every field can be set, to impossible values too: this file checks sizes so that a slip in a test is noticed, and
 * nothing else. The layout is written out here a second time on purpose; the verifier's own table is not consulted.
 */
import { type KeyObject, sign } from 'node:crypto'
import type { Bytes } from '../../verifier/protocol/bytes.js'
import { type FirmwareVersion, PRODUCTS, type SimulatedProduct, type SimulatedTcb } from './product.js'

export const SNP_REPORT_BYTES = 1184
/** The signature covers the report up to here. */
export const SNP_SIGNED_BYTES = 0x2a0

/** Offset and size of each field, in the order of the specification's table. Integers are little-endian. */
export const SNP_REPORT_LAYOUT = {
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
} as const satisfies Readonly<Record<string, readonly [offset: number, size: number]>>

/** Report fields; what is left out takes the value an up-to-date machine of that product would report. */
export interface SnpReportFields {
  /** Chooses the TCB layout, the CPUID fields and the firmware levels; not itself a field. Default Genoa. */
  readonly product: SimulatedProduct
  /** Default 5. Version 2 has no CPUID fields, versions below 5 no mitigation vectors. */
  readonly version: number
  readonly guestSvn: number
  readonly policy: bigint
  readonly familyId: Uint8Array
  readonly imageId: Uint8Array
  readonly vmpl: number
  readonly signatureAlgo: number
  /** Sets all four TCB fields at once; each can still be set by itself. */
  readonly tcb: SimulatedTcb
  readonly currentTcb: SimulatedTcb | Uint8Array
  readonly platformInfo: bigint
  readonly keyInfo: number
  readonly reserved04c: Uint8Array
  readonly reportData: Uint8Array
  readonly measurement: Uint8Array
  readonly hostData: Uint8Array
  readonly idKeyDigest: Uint8Array
  readonly authorKeyDigest: Uint8Array
  readonly reportId: Uint8Array
  readonly reportIdMa: Uint8Array
  readonly reportedTcb: SimulatedTcb | Uint8Array
  readonly cpuidFamId: number
  readonly cpuidModId: number
  readonly cpuidStep: number
  readonly reserved18b: Uint8Array
  /** 64 bytes, or on Turin the 8 that matter. */
  readonly chipId: Uint8Array
  readonly committedTcb: SimulatedTcb | Uint8Array
  readonly currentVersion: FirmwareVersion
  readonly reserved1eb: number
  readonly committedVersion: FirmwareVersion
  readonly reserved1ef: number
  readonly launchTcb: SimulatedTcb | Uint8Array
  readonly launchMitVector: bigint
  readonly currentMitVector: bigint
  readonly reserved208: Uint8Array
}

/**
 * An unsigned report of 1184 bytes: the signature area is zero until `signSnpReport` fills it.
 * @throws RangeError when a value does not fit its field.
 */
export function buildSnpReport(fields: Partial<SnpReportFields> = {}): Bytes {
  const product = fields.product ?? 'Genoa'
  const version = fields.version ?? 5
  const facts = PRODUCTS[product]
  const tcb = fields.tcb ?? facts.tcb
  const encodedTcb = (value: SimulatedTcb | Uint8Array | undefined): Uint8Array =>
    value instanceof Uint8Array ? value : encodeTcb(product, value ?? tcb)
  const mitigations = version >= 5 ? facts.mitigationVector : 0n

  const report = new Uint8Array(SNP_REPORT_BYTES)
  const put = (field: keyof typeof SNP_REPORT_LAYOUT, value: Uint8Array | bigint | number | undefined): void => {
    if (value === undefined) return
    const [offset, size] = SNP_REPORT_LAYOUT[field]
    const bytes = value instanceof Uint8Array ? value : littleEndian(BigInt(value), size, field)
    if (bytes.length !== size) throw new RangeError(`${field}: expected ${size} bytes, got ${bytes.length}`)
    report.set(bytes, offset)
  }

  put('version', version)
  put('guestSvn', fields.guestSvn)
  put('policy', fields.policy ?? snpPolicy())
  put('familyId', fields.familyId)
  put('imageId', fields.imageId)
  put('vmpl', fields.vmpl)
  put('signatureAlgo', fields.signatureAlgo ?? 1)
  put('currentTcb', encodedTcb(fields.currentTcb))
  put('platformInfo', fields.platformInfo ?? snpPlatformInfo({ aliasCheckComplete: version >= 3 }))
  put('keyInfo', fields.keyInfo)
  put('reserved04c', fields.reserved04c)
  put('reportData', fields.reportData)
  put('measurement', fields.measurement)
  put('hostData', fields.hostData)
  put('idKeyDigest', fields.idKeyDigest)
  put('authorKeyDigest', fields.authorKeyDigest)
  put('reportId', fields.reportId)
  // All ones says that no migration agent is associated.
  put('reportIdMa', fields.reportIdMa ?? new Uint8Array(32).fill(0xff))
  put('reportedTcb', encodedTcb(fields.reportedTcb))
  put('cpuidFamId', fields.cpuidFamId ?? (version >= 3 ? facts.cpuid.family : 0))
  put('cpuidModId', fields.cpuidModId ?? (version >= 3 ? facts.cpuid.model : 0))
  put('cpuidStep', fields.cpuidStep ?? (version >= 3 ? facts.cpuid.stepping : 0))
  put('reserved18b', fields.reserved18b)
  put('chipId', fields.chipId === undefined ? undefined : padChipId(fields.chipId))
  put('committedTcb', encodedTcb(fields.committedTcb))
  put('currentVersion', encodeVersion(fields.currentVersion ?? facts.firmware))
  put('reserved1eb', fields.reserved1eb)
  put('committedVersion', encodeVersion(fields.committedVersion ?? facts.firmware))
  put('reserved1ef', fields.reserved1ef)
  put('launchTcb', encodedTcb(fields.launchTcb))
  put('launchMitVector', fields.launchMitVector ?? mitigations)
  put('currentMitVector', fields.currentMitVector ?? mitigations)
  put('reserved208', fields.reserved208)
  return report
}

/**
 * A copy of the report, signed: ECDSA with SHA-384 over bytes 0x000 to 0x29F, R and S little-endian in 72-byte fields,
 * the rest of the signature area zero. A P-256 key signs too, for tests of the wrong curve.
 */
export function signSnpReport(report: Uint8Array, privateKey: KeyObject): Bytes {
  const signed = new Uint8Array(report)
  const signature = sign('sha384', signed.subarray(0, SNP_SIGNED_BYTES), { key: privateKey, dsaEncoding: 'ieee-p1363' })
  const half = signature.length / 2
  signed.fill(0, SNP_SIGNED_BYTES)
  signed.set(new Uint8Array(signature.subarray(0, half)).reverse(), SNP_SIGNED_BYTES)
  signed.set(new Uint8Array(signature.subarray(half)).reverse(), SNP_SIGNED_BYTES + 72)
  return signed
}

/** TCB_VERSION, 8 bytes in report order: BL TEE … SNP UCODE on Milan and Genoa, FMC BL TEE SNP … UCODE on Turin. */
export function encodeTcb(product: SimulatedProduct, tcb: SimulatedTcb): Bytes {
  const components =
    product === 'Turin'
      ? [tcb.fmc ?? 0, tcb.bl, tcb.tee, tcb.snp, 0, 0, 0, tcb.ucode]
      : [tcb.bl, tcb.tee, 0, 0, 0, 0, tcb.snp, tcb.ucode]
  for (const component of components) {
    if (!Number.isInteger(component) || component < 0 || component > 255) {
      throw new RangeError(`expected TCB components from 0 to 255, got ${component}`)
    }
  }
  return new Uint8Array(components)
}

export interface SnpPolicyBits {
  readonly abiMajor: number
  readonly abiMinor: number
  readonly smt: boolean
  /** Bit 17, which must be 1. */
  readonly reservedOne: boolean
  readonly migrateMa: boolean
  readonly debug: boolean
  readonly singleSocket: boolean
  readonly cxlAllow: boolean
  readonly memAes256Xts: boolean
  readonly raplDis: boolean
  readonly ciphertextHidingDram: boolean
  readonly pageSwapDisable: boolean
}

/** A guest policy; by default ABI 0.31 with SMT allowed and neither migration nor debugging. */
export function snpPolicy(bits: Partial<SnpPolicyBits> = {}): bigint {
  return (
    BigInt(bits.abiMinor ?? 31) |
    (BigInt(bits.abiMajor ?? 0) << 8n) |
    flag(16, bits.smt ?? true) |
    flag(17, bits.reservedOne ?? true) |
    flag(18, bits.migrateMa) |
    flag(19, bits.debug) |
    flag(20, bits.singleSocket) |
    flag(21, bits.cxlAllow) |
    flag(22, bits.memAes256Xts) |
    flag(23, bits.raplDis) |
    flag(24, bits.ciphertextHidingDram) |
    flag(25, bits.pageSwapDisable)
  )
}

export interface SnpPlatformBits {
  readonly smtEn: boolean
  readonly tsmeEn: boolean
  readonly eccEn: boolean
  readonly raplDis: boolean
  readonly ciphertextHidingDramEn: boolean
  readonly aliasCheckComplete: boolean
  readonly reserved6: boolean
  readonly tioEn: boolean
}

/** PLATFORM_INFO; by default SMT and ECC on and the alias check complete. */
export function snpPlatformInfo(bits: Partial<SnpPlatformBits> = {}): bigint {
  return (
    flag(0, bits.smtEn ?? true) |
    flag(1, bits.tsmeEn) |
    flag(2, bits.eccEn ?? true) |
    flag(3, bits.raplDis) |
    flag(4, bits.ciphertextHidingDramEn) |
    flag(5, bits.aliasCheckComplete ?? true) |
    flag(6, bits.reserved6) |
    flag(7, bits.tioEn)
  )
}

export interface SnpKeyInfoBits {
  readonly authorKeyEn: boolean
  readonly maskChipKey: boolean
  /** 0 VCEK, 1 VLEK, 7 none. */
  readonly signingKey: number
}

/** The key-information word at 0x048; by default signed by a VCEK. */
export function snpKeyInfo(bits: Partial<SnpKeyInfoBits> = {}): number {
  return Number(flag(0, bits.authorKeyEn) | flag(1, bits.maskChipKey)) | ((bits.signingKey ?? 0) << 2)
}

function flag(bit: number, on: boolean | undefined): bigint {
  return on === true ? 1n << BigInt(bit) : 0n
}

function littleEndian(value: bigint, size: number, field: string): Bytes {
  if (value < 0n || value >> BigInt(8 * size) !== 0n)
    throw new RangeError(`${field}: ${value} does not fit ${size} bytes`)
  return Uint8Array.from({ length: size }, (_, index) => Number((value >> BigInt(8 * index)) & 0xffn))
}

/** Build, minor, major: the report's order, not the usual one. */
function encodeVersion(version: FirmwareVersion): Bytes {
  return new Uint8Array([version.build, version.minor, version.major])
}

function padChipId(chipId: Uint8Array): Bytes {
  const padded = new Uint8Array(64)
  if (chipId.length !== 8 && chipId.length !== 64) {
    throw new RangeError(`chipId: expected 64 bytes, or 8 to be padded, got ${chipId.length}`)
  }
  padded.set(chipId)
  return padded
}
