/**
 * The numbers and names of the simulated GPUs and switches: families as NVIDIA's certificates name them, the fields of a
 * report, and measurements that no real device has. Versions are in NVIDIA's form and were never released.
 */
import { createHash } from 'node:crypto'
import type { Bytes } from '../../verifier/protocol/bytes.js'

export type GpuFamily = 'GH100' | 'GB100'
/** A chip that attests. LS10 is the NVSwitch of a Hopper node. */
export type DeviceFamily = GpuFamily | 'LS10'
export type SimulatedGpuProduct = 'H100' | 'B200'

export const GPU_FAMILY: Readonly<Record<SimulatedGpuProduct, GpuFamily>> = { H100: 'GH100', B200: 'GB100' }

export interface DeviceFacts {
  /** As certificates spell it: the switch's have an underscore that its manifest has not. */
  readonly certificateName: string
  /** The processor whose key signs reports. */
  readonly attester: 'GSP' | 'FSP'
  readonly fwidForm: 'compositeDeviceId' | 'tcbInfo'
  /** First byte of the boot ROM certificate's serial number; the PDI follows. */
  readonly bromSerialPrefix: number
  /** Measurement blocks in a report. */
  readonly blocks: number
  /** `driver` is empty for a switch. */
  readonly driverVersion: string
  readonly vbiosVersion: string
  /** Opaque fields 15, 16, 17, 18 and 19: what a VBIOS manifest is named by. */
  readonly chipSku: string
  readonly chipSkuModifier: string
  readonly project: string
  readonly projectSku: string
  readonly projectSkuModifier: string
  readonly boardId: number
  /** Opaque field 4, low word. */
  readonly gpuInfo: number
  /** 0-based indices that the manifest of this kind judges; each has this many alternatives, 1 unless named. */
  readonly driverIndices: readonly number[]
  readonly vbiosIndices: readonly number[]
  readonly alternatives: Readonly<Record<number, number>>
}

/** A runtime measurement that is zero and rightly so. */
const ZERO_INDEX = 0

export const DEVICES: Readonly<Record<DeviceFamily, DeviceFacts>> = {
  GH100: {
    certificateName: 'GH100',
    attester: 'GSP',
    fwidForm: 'compositeDeviceId',
    bromSerialPrefix: 0x41,
    blocks: 64,
    driverVersion: '599.99.01',
    vbiosVersion: '96.00.FF.00.01',
    chipSku: '885',
    chipSkuModifier: '0',
    project: 'G520',
    projectSku: '0200',
    projectSkuModifier: '',
    boardId: 0x0437,
    gpuInfo: 0x0180,
    driverIndices: [7, ...range(21, 41)],
    vbiosIndices: [...range(0, 7), ...range(8, 13)],
    alternatives: { 12: 4, 23: 2, 24: 2, 32: 2, 34: 2, 35: 4, 36: 2 },
  },
  GB100: {
    certificateName: 'GB100',
    attester: 'GSP',
    fwidForm: 'tcbInfo',
    bromSerialPrefix: 0x41,
    blocks: 64,
    driverVersion: '599.99.01',
    vbiosVersion: '97.00.FF.00.0F',
    chipSku: '886',
    chipSkuModifier: '0',
    project: 'G525',
    projectSku: '0220',
    projectSkuModifier: '0',
    boardId: 0x066f,
    gpuInfo: 0x01a0,
    driverIndices: range(21, 42),
    vbiosIndices: [...range(0, 14), ...range(15, 21)],
    alternatives: { 6: 2, 23: 2, 35: 4 },
  },
  LS10: {
    certificateName: 'LS_10',
    attester: 'FSP',
    fwidForm: 'compositeDeviceId',
    bromSerialPrefix: 0x50,
    blocks: 31,
    driverVersion: '',
    vbiosVersion: '96.10.FF.00.01',
    chipSku: '890',
    chipSkuModifier: '',
    project: '5612',
    projectSku: '0002',
    projectSkuModifier: '',
    boardId: 0,
    gpuInfo: 0,
    driverIndices: [],
    vbiosIndices: range(0, 31),
    alternatives: Object.fromEntries(range(9, 26).map((index) => [index, 4])),
  },
}

/** The golden value `alternative` of a 0-based index, 48 bytes; real manifests have zeros among them, so these do too. */
export function simulatedGolden(family: DeviceFamily, index: number, alternative = 0): Bytes {
  if (index === ZERO_INDEX && alternative === 0) return new Uint8Array(48)
  const label = `SIMULATED ${family} measurement ${index} alternative ${alternative}`
  return new Uint8Array(createHash('sha384').update(label).digest())
}

/**
 * Measurement blocks of a healthy device, in order: the last golden value where manifests judge, else a value no manifest
 * names. Block 36 (index 35) is a stranger's: it is not compared while NVDEC0 is off.
 */
export function simulatedMeasurements(family: DeviceFamily): Bytes[] {
  const { blocks, driverIndices, vbiosIndices } = DEVICES[family]
  const judged = new Set([...driverIndices, ...vbiosIndices])
  return range(0, blocks).map((index) =>
    judged.has(index) && index !== NVDEC0_INDEX
      ? simulatedGolden(family, index, alternativesOf(family, index) - 1)
      : new Uint8Array(createHash('sha384').update(`SIMULATED ${family} unjudged ${index}`).digest()),
  )
}

/** The index that is compared only while NVDEC0 is enabled. */
export const NVDEC0_INDEX = 35

export function alternativesOf(family: DeviceFamily, index: number): number {
  return DEVICES[family].alternatives[index] ?? 1
}

export type RimKind = 'driver' | 'vbios'

/** The manifest's id at the manifest service. */
export function simulatedRimId(family: DeviceFamily, kind: RimKind): string {
  const { driverVersion, vbiosVersion, project, projectSku, chipSku } = DEVICES[family]
  const version = vbiosVersion.replaceAll('.', '')
  if (family === 'LS10') return `NV_SWITCH_BIOS_${project}_${projectSku}_${chipSku}_${version}`
  if (kind === 'vbios') return `NV_GPU_VBIOS_${project}_${projectSku}_${chipSku}_${version}`
  return family === 'GH100' ? `NV_GPU_DRIVER_GH100_${driverVersion}` : `NV_GPU_CC_DRIVER_${family}_${driverVersion}`
}

/** Whole numbers from `start` to just before `end`. */
export function range(start: number, end: number): number[] {
  return Array.from({ length: end - start }, (_, offset) => start + offset)
}
