/**
 * TDATTRIBUTES and XFAM bits (Intel "TDX Module 1.5 ABI" 348551, ATTRIBUTES and XFAM; "TDX Module Base Architecture"
 * 348549). Which bits exist and which values are fixed; what is acceptable is the policy's business.
 *
 * Both words are 8 bytes, little-endian.
 */
import { type Bytes, toHex } from '../protocol/bytes.js'

export interface TdAttributes {
  /** Bit 0, TUD.DEBUG: the host may read and change everything. */
  readonly debug: boolean
  /** Bit 28, SEC.SEPT_VE_DISABLE: a missing page never becomes an exception inside the guest. */
  readonly septVeDisable: boolean
  /** Bit 29, SEC.MIGRATABLE: a migration TD may move the guest. Reserved before 1.5. */
  readonly migratable: boolean
  /** Bit 30, SEC.PKS. */
  readonly pks: boolean
  /** Bit 31, SEC.KL. */
  readonly keyLocker: boolean
  /** Bit 63, OTHER.PERFMON. */
  readonly perfmon: boolean
  /** Numbers of the set bits that are none of these. */
  readonly reservedBits: readonly number[]
}

const BIT = { debug: 0, septVeDisable: 28, migratable: 29, pks: 30, keyLocker: 31, perfmon: 63 } as const
const NAMED: ReadonlySet<number> = new Set(Object.values(BIT))

/** Bits 7:0: a TD with any of them set is not trustworthy, whatever a newer ABI calls it. */
export const TUD_BITS = 8

/** XFAM bits 0 (x87) and 1 (SSE) are fixed to 1. */
const XFAM_FIXED_1 = 0x3n
/** XFAM bits that may be 1. */
const XFAM_FIXED_0 = 0x0006_dbe7n

export function parseTdAttributes(bytes: Bytes): TdAttributes {
  const set = bitsOf(bytes)
  const has = (bit: number): boolean => set.includes(bit)
  return {
    debug: has(BIT.debug),
    septVeDisable: has(BIT.septVeDisable),
    migratable: has(BIT.migratable),
    pks: has(BIT.pks),
    keyLocker: has(BIT.keyLocker),
    perfmon: has(BIT.perfmon),
    reservedBits: set.filter((bit) => !NAMED.has(bit)),
  }
}

/** What is wrong with XFAM's fixed bits, in words; undefined when nothing is. */
export function xfamFault(bytes: Bytes): string | undefined {
  const xfam = wordOf(bytes)
  if ((xfam & XFAM_FIXED_1) !== XFAM_FIXED_1) return 'x87 and SSE state (bits 0 and 1) must be enabled'
  const extra = xfam & ~XFAM_FIXED_0
  return extra === 0n ? undefined : `bits outside 0x${XFAM_FIXED_0.toString(16)} are set: 0x${extra.toString(16)}`
}

/** `0x` and 16 digits, most significant first: how the ABI documents print these words. */
export function wordText(bytes: Bytes): string {
  return `0x${toHex(new Uint8Array([...bytes].reverse()))}`
}

function wordOf(bytes: Bytes): bigint {
  return bytes.reduceRight((word, byte) => (word << 8n) | BigInt(byte), 0n)
}

function bitsOf(bytes: Bytes): readonly number[] {
  const out: number[] = []
  bytes.forEach((byte, index) => {
    for (let bit = 0; bit < 8; bit++) if ((byte & (1 << bit)) !== 0) out.push(8 * index + bit)
  })
  return out
}
