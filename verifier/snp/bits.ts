/**
 * POLICY and PLATFORM_INFO bits (AMD 56860, "Guest Policy" and "PLATFORM_INFO"), by name, with the direction of each.
 *
 * A *permissive* bit lets the host or someone else do more when it is set, so a policy may forbid it. A *restrictive* bit
 * takes something away from them, so a policy may require it. Mixing the two up accepts what should be refused.
 */
export interface PolicyBit {
  readonly bit: number
  /** As in the specification. */
  readonly spec: string
  readonly direction: 'permissive' | 'restrictive'
}

export type PolicyBitName =
  | 'smt'
  | 'migrateMa'
  | 'debug'
  | 'singleSocket'
  | 'cxl'
  | 'memAes256Xts'
  | 'raplDis'
  | 'ciphertextHiding'
  | 'pageSwapDisable'

/** In the order of their bits. */
export const POLICY_BITS: Readonly<Record<PolicyBitName, PolicyBit>> = {
  smt: { bit: 16, spec: 'SMT', direction: 'permissive' },
  migrateMa: { bit: 18, spec: 'MIGRATE_MA', direction: 'permissive' },
  debug: { bit: 19, spec: 'DEBUG', direction: 'permissive' },
  singleSocket: { bit: 20, spec: 'SINGLE_SOCKET', direction: 'restrictive' },
  cxl: { bit: 21, spec: 'CXL_ALLOW', direction: 'permissive' },
  memAes256Xts: { bit: 22, spec: 'MEM_AES_256_XTS', direction: 'restrictive' },
  raplDis: { bit: 23, spec: 'RAPL_DIS', direction: 'restrictive' },
  ciphertextHiding: { bit: 24, spec: 'CIPHERTEXT_HIDING_DRAM', direction: 'restrictive' },
  pageSwapDisable: { bit: 25, spec: 'PAGE_SWAP_DISABLE', direction: 'restrictive' },
}

/** Bit 17 must be one; 63 to 26 must be zero. */
export const POLICY_MUST_BE_ONE: bigint = 1n << 17n
export const POLICY_MUST_BE_ZERO: bigint = ((1n << 64n) - 1n) & ~((1n << 26n) - 1n)

export interface PlatformBit {
  readonly bit: number
  readonly spec: string
  /** `safer`: a policy may require it; `riskier`: a policy may forbid it. */
  readonly direction: 'safer' | 'riskier'
  /** The report version that introduced it; below, the bit says nothing. */
  readonly since: number
}

export type PlatformBitName = 'smt' | 'tsme' | 'ecc' | 'raplDis' | 'ciphertextHiding' | 'aliasCheck' | 'tio'

/** In the order of their bits. */
export const PLATFORM_BITS: Readonly<Record<PlatformBitName, PlatformBit>> = {
  smt: { bit: 0, spec: 'SMT_EN', direction: 'riskier', since: 2 },
  tsme: { bit: 1, spec: 'TSME_EN', direction: 'safer', since: 2 },
  ecc: { bit: 2, spec: 'ECC_EN', direction: 'safer', since: 2 },
  raplDis: { bit: 3, spec: 'RAPL_DIS', direction: 'safer', since: 2 },
  ciphertextHiding: { bit: 4, spec: 'CIPHERTEXT_HIDING_DRAM_EN', direction: 'safer', since: 2 },
  aliasCheck: { bit: 5, spec: 'ALIAS_CHECK_COMPLETE', direction: 'safer', since: 3 },
  tio: { bit: 7, spec: 'TIO_EN', direction: 'riskier', since: 5 },
}

export function hasBit(value: bigint, bit: number): boolean {
  return ((value >> BigInt(bit)) & 1n) === 1n
}

/** ABI_MAJOR and ABI_MINOR: the firmware ABI the guest insists on. */
export function policyAbi(policy: bigint): { readonly major: number; readonly minor: number } {
  return { major: Number((policy >> 8n) & 0xffn), minor: Number(policy & 0xffn) }
}

export function describePolicyBits(policy: bigint): Record<string, unknown> {
  const { major, minor } = policyAbi(policy)
  const bits = Object.entries(POLICY_BITS).map(([name, { bit }]) => [name, hasBit(policy, bit)])
  return { hex: hex64(policy), abi: `${major}.${minor}`, ...Object.fromEntries(bits) }
}

/** Bits a version does not define yet are `not reported`: their absence says nothing. Others are listed by number. */
export function describePlatformInfo(info: bigint, version: number): Record<string, unknown> {
  const rows = Object.entries(PLATFORM_BITS)
  const named = rows.map(([name, { bit, since }]) => [name, version < since ? 'not reported' : hasBit(info, bit)])
  const known = new Set(rows.map(([, { bit }]) => bit))
  const unnamed = Array.from({ length: 64 }, (_, bit) => bit).filter((bit) => !known.has(bit) && hasBit(info, bit))
  return { hex: hex64(info), ...Object.fromEntries(named), unnamedBits: unnamed }
}

/** 64 bits as 0x and 16 digits: JSON numbers lose bits above 2^53. */
export function hex64(value: bigint): string {
  return `0x${value.toString(16).padStart(16, '0')}`
}
