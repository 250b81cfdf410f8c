/**
 * The structures a quote is made of: quote header, TD report body 1.0 and 1.5, and the quoting enclave's SGX report (Intel
 * "TDX DCAP Quoting Library API", quote formats 4 and 5; Intel SDM, REPORT). Every field can be set, to impossible values
 * too: this file checks sizes so that a slip in a test is noticed, and nothing else. The layouts are written out here a
 * second time on purpose; the verifier's own are not consulted.
 */
import type { Bytes } from '../../verifier/protocol/bytes.js'
import {
  INTEL_QE_MR_SIGNER,
  INTEL_QE_VENDOR_ID,
  INTEL_TD_QE_PRODUCT,
  SIMULATED_MR_SEAM,
  SIMULATED_MR_TD,
  SIMULATED_TDX_TCB,
  sha384,
} from './tdx-facts.js'

/** Offset and size of each field, in the order of the vendor's table. */
export type FieldLayout = Readonly<Record<string, readonly [offset: number, size: number]>>
/** A field's bytes as they stand, or an unsigned integer to write little-endian. */
export type FieldValue = Uint8Array | bigint | number
export type Fields<L extends FieldLayout> = Partial<Readonly<Record<keyof L, FieldValue>>>

/** Quote header, 48 bytes. */
export const TDX_HEADER_LAYOUT = {
  version: [0, 2],
  attestationKeyType: [2, 2],
  teeType: [4, 4],
  reserved8: [8, 2],
  reserved10: [10, 2],
  qeVendorId: [12, 16],
  userData: [28, 20],
} as const satisfies FieldLayout

/** TD report body 1.0, 584 bytes. */
export const TD_BODY_10_LAYOUT = {
  teeTcbSvn: [0x000, 16],
  mrSeam: [0x010, 48],
  mrSignerSeam: [0x040, 48],
  seamAttributes: [0x070, 8],
  tdAttributes: [0x078, 8],
  xfam: [0x080, 8],
  mrTd: [0x088, 48],
  mrConfigId: [0x0b8, 48],
  mrOwner: [0x0e8, 48],
  mrOwnerConfig: [0x118, 48],
  rtmr0: [0x148, 48],
  rtmr1: [0x178, 48],
  rtmr2: [0x1a8, 48],
  rtmr3: [0x1d8, 48],
  reportData: [0x208, 64],
} as const satisfies FieldLayout

/** TD report body 1.5, 648 bytes. */
export const TD_BODY_15_LAYOUT = {
  ...TD_BODY_10_LAYOUT,
  teeTcbSvn2: [0x248, 16],
  mrServiceTd: [0x258, 48],
} as const satisfies FieldLayout

/** SGX report of the quoting enclave, 384 bytes. */
export const QE_REPORT_LAYOUT = {
  cpuSvn: [0, 16],
  miscSelect: [16, 4],
  reserved20: [20, 28],
  attributes: [48, 16],
  mrEnclave: [64, 32],
  reserved96: [96, 32],
  mrSigner: [128, 32],
  reserved160: [160, 96],
  isvProdId: [256, 2],
  isvSvn: [258, 2],
  reserved260: [260, 60],
  reportData: [320, 64],
} as const satisfies FieldLayout

export type TdxHeaderFields = Fields<typeof TDX_HEADER_LAYOUT>
export type TdBodyFields = Fields<typeof TD_BODY_15_LAYOUT>
export type QeReportFields = Fields<typeof QE_REPORT_LAYOUT>

/** @throws RangeError when a value does not fit its field. */
export function buildTdxHeader(fields: TdxHeaderFields = {}): Bytes {
  const defaults = { version: 4, attestationKeyType: 2, teeType: 0x81, qeVendorId: INTEL_QE_VENDOR_ID }
  return encodeFields(TDX_HEADER_LAYOUT, { ...defaults, ...fields })
}

/**
 * A TD report body; what is left out takes the value an up-to-date machine would report.
 * @throws RangeError when a value does not fit its field, or a field of 1.5 is set in a body 1.0.
 */
export function buildTdBody(revision: '1.0' | '1.5', fields: TdBodyFields = {}): Bytes {
  const defaults = {
    teeTcbSvn: Uint8Array.from(SIMULATED_TDX_TCB.teeTcbSvn),
    mrSeam: SIMULATED_MR_SEAM,
    tdAttributes: tdAttributes(),
    xfam: 0x602e7n,
    mrTd: SIMULATED_MR_TD,
  }
  if (revision === '1.0') return encodeFields(TD_BODY_10_LAYOUT, { ...defaults, ...fields })
  // Unless the module was updated under a running TD, the current SVNs are those at launch.
  const teeTcbSvn2 = fields.teeTcbSvn ?? defaults.teeTcbSvn
  return encodeFields(TD_BODY_15_LAYOUT, { ...defaults, teeTcbSvn2, ...fields })
}

/** The quoting enclave's report; attributes are INIT, MODE64BIT and PROVISIONKEY, as in every real one. */
export function buildQeReport(fields: QeReportFields = {}): Bytes {
  const attributes = new Uint8Array(16)
  attributes.set([0x15])
  attributes.set([0xe7], 8)
  return encodeFields(QE_REPORT_LAYOUT, {
    cpuSvn: Uint8Array.from(SIMULATED_TDX_TCB.components),
    attributes,
    mrEnclave: sha384('subrosa simulated quoting enclave').subarray(0, 32),
    mrSigner: INTEL_QE_MR_SIGNER,
    isvProdId: INTEL_TD_QE_PRODUCT,
    isvSvn: SIMULATED_TDX_TCB.qeIsvSvn,
    ...fields,
  })
}

export interface TdAttributeBits {
  /** Bits 7:0, TUD; bit 0 is DEBUG. */
  readonly debug: boolean
  readonly tudReserved: number
  readonly septVeDisable: boolean
  readonly migratable: boolean
  readonly pks: boolean
  readonly kl: boolean
  readonly perfmon: boolean
  /** Any further bits, by number. */
  readonly others: readonly number[]
}

/** TDATTRIBUTES; by default SEPT_VE_DISABLE alone. */
export function tdAttributes(bits: Partial<TdAttributeBits> = {}): bigint {
  const flags: readonly (readonly [bit: number, on: boolean | undefined])[] = [
    [0, bits.debug],
    [28, bits.septVeDisable ?? true],
    [29, bits.migratable],
    [30, bits.pks],
    [31, bits.kl],
    [63, bits.perfmon],
    ...(bits.others ?? []).map((bit) => [bit, true] as const),
  ]
  const tud = BigInt(bits.tudReserved ?? 0)
  return flags.reduce((sum, [bit, on]) => (on === true ? sum | (1n << BigInt(bit)) : sum), tud)
}

/** Length of a structure: where its last field ends. */
export function layoutBytes(layout: FieldLayout): number {
  return Math.max(...Object.values(layout).map(([offset, size]) => offset + size))
}

function encodeFields<L extends FieldLayout>(layout: L, fields: Fields<L>): Bytes {
  const out = new Uint8Array(layoutBytes(layout))
  for (const [field, value] of Object.entries<FieldValue | undefined>(fields)) {
    if (value === undefined) continue
    const [offset, size] = layout[field] ?? [0, -1]
    const bytes = value instanceof Uint8Array ? value : littleEndian(value, size)
    if (bytes.length !== size) throw new RangeError(`${field}: expected ${size} bytes, got ${bytes.length}`)
    out.set(bytes, offset)
  }
  return out
}

/** @throws RangeError when the value does not fit. */
export function littleEndian(value: bigint | number, size: number): Bytes {
  const wide = BigInt(value)
  if (size < 0 || wide < 0n || wide >> BigInt(8 * size) !== 0n)
    throw new RangeError(`${wide} does not fit ${size} bytes`)
  return Uint8Array.from({ length: size }, (_, index) => Number((wide >> BigInt(8 * index)) & 0xffn))
}
