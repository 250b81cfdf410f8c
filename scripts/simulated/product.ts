/**
 * What the simulated AMD products look like: the constants that differ by product line in AMD 57230 (certificates) and
 * AMD 56860 (report), with firmware levels a little above any seen on real machines when this was written.
 */

/** A KDS product line. Bergamo and Siena belong to `Genoa`. */
export type SimulatedProduct = 'Milan' | 'Genoa' | 'Turin'

/** TCB components, each 0 to 255. FMC exists on Turin only and is 0 when left out there. */
export interface SimulatedTcb {
  readonly fmc?: number
  readonly bl: number
  readonly tee: number
  readonly snp: number
  readonly ucode: number
}

export interface FirmwareVersion {
  readonly major: number
  readonly minor: number
  readonly build: number
}

export interface ProductFacts {
  /** Value of the structVersion extension; 1 brings fmcSPL and an 8-byte hwID, and drops the reserved SPL 3.4. */
  readonly structVersion: 0 | 1
  /** Length of the VCEK hwID extension and of the non-zero part of CHIP_ID, in bytes. */
  readonly hwidBytes: 8 | 64
  readonly vcekProductName: string
  readonly vlekProductName: string
  readonly arkSerial: bigint
  readonly askSerial: bigint
  readonly asvkSerial: bigint
  /** CPUID_FAM_ID, CPUID_MOD_ID, CPUID_STEP of report version 3 and later. */
  readonly cpuid: { readonly family: number; readonly model: number; readonly stepping: number }
  readonly tcb: SimulatedTcb
  readonly firmware: FirmwareVersion
  /** LAUNCH_MIT_VECTOR and CURRENT_MIT_VECTOR of report version 5. */
  readonly mitigationVector: bigint
}

export const PRODUCTS: Readonly<Record<SimulatedProduct, ProductFacts>> = {
  Milan: {
    structVersion: 0,
    hwidBytes: 64,
    vcekProductName: 'Milan-B0',
    vlekProductName: 'Milan',
    arkSerial: 0x10000n,
    askSerial: 0x10001n,
    asvkSerial: 0x10101n,
    cpuid: { family: 0x19, model: 0x01, stepping: 0x01 },
    tcb: { bl: 4, tee: 0, snp: 26, ucode: 0xdd },
    firmware: { major: 1, minor: 55, build: 50 },
    mitigationVector: 0x0bn,
  },
  Genoa: {
    structVersion: 0,
    hwidBytes: 64,
    vcekProductName: 'Genoa',
    vlekProductName: 'Genoa',
    arkSerial: 0x20000n,
    // 0x20001 is the serial of the first Genoa ASK, which the real CRL revokes.
    askSerial: 0x20002n,
    asvkSerial: 0x20101n,
    cpuid: { family: 0x19, model: 0x11, stepping: 0x01 },
    tcb: { bl: 10, tee: 0, snp: 28, ucode: 0x60 },
    firmware: { major: 1, minor: 55, build: 50 },
    mitigationVector: 0x0bn,
  },
  Turin: {
    structVersion: 1,
    hwidBytes: 8,
    vcekProductName: 'Turin',
    vlekProductName: 'Turin',
    arkSerial: 0x30000n,
    askSerial: 0x30001n,
    asvkSerial: 0x30101n,
    cpuid: { family: 0x1a, model: 0x02, stepping: 0x01 },
    tcb: { fmc: 1, bl: 1, tee: 1, snp: 5, ucode: 0x60 },
    firmware: { major: 1, minor: 55, build: 66 },
    mitigationVector: 0x3fn,
  },
}
