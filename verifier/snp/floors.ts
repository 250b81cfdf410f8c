/**
 * Minimum TCBs shipped with this release. A VEK extracted on old firmware signs for ever at that old TCB and AMD revokes
 * none in practice, so a floor is the only thing that retires it.
 *
 * How the values were chosen, 2026-11-22:
 * - MICROCODE: the first revision that verifies microcode signatures properly (AMD-SB-3019, "EntrySign"; below it a host
 *   administrator can load forged microcode, which voids every SNP guarantee). AMD publishes them per part; Linux carries
 *   the same list in arch/x86/kernel/cpu/microcode/amd.c. The low byte of the revision is the SPL (seen on real VCEKs: Genoa 84 is
 *   revision 0x0A101154). Lines with their own sequences (X parts at stepping 2, Bergamo and Siena, dense Turin) have
 *   their own value: their numbers do not compare.
 * - BOOT_LOADER, TEE, SNP (and FMC): the levels that firmware 1.55 carries on reports seen from several clouds and from
 *   bare metal in 2025 and 2026; firmware 1.55 brings the memory-alias check of AMD-SB-3015.
 *
 * A part no row names has no floor and is rejected.
 */
import type { Cpuid } from './product.js'
import type { Tcb } from './tcb.js'

export const FLOORS_DATED = '2026-11-22'

interface FloorRow {
  readonly product: string
  readonly family: number
  readonly models: readonly [first: number, last: number]
  /** Undefined: every stepping. */
  readonly stepping?: number
  readonly floor: Tcb
}

const MILAN = { bootLoader: 4, tee: 0, snp: 24 } as const
const GENOA = { bootLoader: 10, tee: 0, snp: 23 } as const
const TURIN = { fmc: 1, bootLoader: 1, tee: 1, snp: 4 } as const

/** The first row of each product is its strictest: it also judges version 2 reports, which do not name their part. */
const FLOORS: readonly FloorRow[] = [
  { product: 'Milan', family: 0x19, models: [0x01, 0x01], stepping: 1, floor: { ...MILAN, microcode: 0xdb } },
  { product: 'Milan', family: 0x19, models: [0x01, 0x01], stepping: 0, floor: { ...MILAN, microcode: 0x7b } },
  { product: 'Milan', family: 0x19, models: [0x01, 0x01], stepping: 2, floor: { ...MILAN, microcode: 0x44 } },
  { product: 'Genoa', family: 0x19, models: [0x11, 0x11], stepping: 1, floor: { ...GENOA, microcode: 0x54 } },
  { product: 'Genoa', family: 0x19, models: [0x11, 0x11], stepping: 2, floor: { ...GENOA, microcode: 0x4f } },
  { product: 'Genoa', family: 0x19, models: [0xa0, 0xaf], floor: { ...GENOA, microcode: 0x19 } },
  { product: 'Turin', family: 0x1a, models: [0x02, 0x02], floor: { ...TURIN, microcode: 0x47 } },
  { product: 'Turin', family: 0x1a, models: [0x11, 0x11], floor: { ...TURIN, microcode: 0x47 } },
]

/** The shipped floor for this part; for a report that does not name one, the strictest of the product. */
export function shippedFloor(product: string, cpuid: Cpuid | undefined): Tcb | undefined {
  return FLOORS.find((row) => row.product === product && (cpuid === undefined || matches(row, cpuid)))?.floor
}

function matches(row: FloorRow, { family, model, stepping }: Cpuid): boolean {
  const [first, last] = row.models
  return row.family === family && first <= model && model <= last && (row.stepping ?? stepping) === stepping
}
