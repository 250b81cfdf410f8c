/**
 * Product lines: which chain, TCB layout and hwID length belong to which processor (AMD 57230 §2 and §3, AMD 56860
 * TCB_VERSION and ATTESTATION_REPORT).
 *
 * CPUID fields choose the line to expect; they are trustworthy only once the report's signature verifies, and then the
 * chain's own product must agree with them.
 */
export type TcbLayout = 'legacy' | 'turin'

export interface Product {
  /** As the key distribution service spells it; Bergamo and Siena are line "Genoa". */
  readonly name: string
  readonly tcbLayout: TcbLayout
  /** Length of the hwID extension and of the significant part of CHIP_ID. */
  readonly hwidBytes: 8 | 64
  /** Value of the structVersion extension. */
  readonly structVersion: 0 | 1
  /** Set while no real evidence of this line has been seen: its layout is what AMD announced. */
  readonly announced?: true
}

export const PRODUCTS: readonly Product[] = [
  { name: 'Milan', tcbLayout: 'legacy', hwidBytes: 64, structVersion: 0 },
  { name: 'Genoa', tcbLayout: 'legacy', hwidBytes: 64, structVersion: 0 },
  { name: 'Turin', tcbLayout: 'turin', hwidBytes: 8, structVersion: 1 },
  { name: 'Venice', tcbLayout: 'turin', hwidBytes: 8, structVersion: 1, announced: true },
]

export interface Cpuid {
  /** Combined family: extended plus base. */
  readonly family: number
  /** Combined model. */
  readonly model: number
  readonly stepping: number
}

/** Model ranges, both ends included. */
const MODELS: readonly (readonly [family: number, first: number, last: number, product: string])[] = [
  [0x19, 0x00, 0x0f, 'Milan'],
  [0x19, 0x10, 0x1f, 'Genoa'],
  // Bergamo and Siena.
  [0x19, 0xa0, 0xaf, 'Genoa'],
  [0x1a, 0x00, 0x11, 'Turin'],
  [0x1a, 0x50, 0x57, 'Venice'],
  [0x1a, 0x90, 0x9f, 'Venice'],
  [0x1a, 0xa0, 0xaf, 'Venice'],
  [0x1a, 0xc0, 0xc7, 'Venice'],
]

export function findProduct(name: string | undefined): Product | undefined {
  return PRODUCTS.find((product) => product.name === name)
}

export function productOfCpuid({ family, model }: Cpuid): Product | undefined {
  const row = MODELS.find(([f, first, last]) => f === family && first <= model && model <= last)
  return findProduct(row?.[3])
}

export function describeCpuid({ family, model, stepping }: Cpuid): string {
  const two = (value: number) => value.toString(16).padStart(2, '0')
  return `family 0x${two(family)} model 0x${two(model)} stepping 0x${two(stepping)}`
}
