/**
 * Runtime measurements against golden ones. A manifest's record i is about SPDM block i + 1; any alternative matches; a
 * record without a block does not. Record 35 measures a video decoder that most devices keep switched off in
 * confidential-computing mode, and is passed over exactly when the signed NVDEC0 status says it is off.
 */
import { equalBytes } from '../protocol/bytes.js'
import { NVDEC0 } from './device-fields.js'
import { MIN_SVN_VALUE, type OpaqueData } from './opaque.js'
import type { GoldenRecord, MinimumRecord, Rim } from './rim.js'
import type { MeasurementBlock } from './spdm.js'

export interface Comparison {
  /** Record indices. */
  readonly matched: readonly number[]
  readonly mismatched: readonly number[]
  readonly skipped: readonly number[]
  /** Blocks nothing active says anything about. */
  readonly unjudged: readonly number[]
}

const NVDEC0_RECORD = 35

/** Indices for which more than one manifest has an active record: which of them counts would be anybody's choice. */
export function conflicts(rims: readonly Rim[]): readonly number[] {
  const all = rims.flatMap((rim) => [...rim.golden.keys()])
  return [...new Set(all.filter((index, i) => all.indexOf(index) !== i))]
}

/** `nvdec0Status` is undefined for devices without one: nothing is then passed over. */
export function compareMeasurements(
  blocks: readonly MeasurementBlock[],
  rims: readonly Rim[],
  nvdec0Status: number | undefined,
): Comparison {
  const byIndex = new Map(blocks.map((block) => [block.index, block]))
  const records = rims.flatMap((rim) => [...rim.golden.values()]).sort((a, b) => a.index - b.index)
  const golden = new Set(records.map((record) => record.index))
  const skip = (record: GoldenRecord) => record.index === NVDEC0_RECORD && nvdec0Status === NVDEC0.disabled
  const judged = records.filter((record) => !skip(record))
  const matches = (record: GoldenRecord) => matchRecord(record, byIndex.get(record.index + 1))
  return {
    matched: judged.filter(matches).map((record) => record.index),
    mismatched: [...new Set(judged.filter((record) => !matches(record)).map((record) => record.index))],
    skipped: records.filter(skip).map((record) => record.index),
    unjudged: blocks.map((block) => block.index - 1).filter((index) => !golden.has(index)),
  }
}

function matchRecord(record: GoldenRecord, block: MeasurementBlock | undefined): boolean {
  return block !== undefined && record.alternatives.some((value) => equalBytes(value, block.value))
}

/** Records whose field is absent, of another kind, or below the minimum. */
export function unmetMinimums(opaque: OpaqueData, minimums: readonly MinimumRecord[]): readonly string[] {
  return minimums.flatMap(({ type, name, minSvn }) => {
    const label = `${name === '' ? `field ${type}` : name.slice(0, 40)} at least ${minSvn}`
    const field = opaque.fields.get(type)
    if (field === undefined || field.valueType !== MIN_SVN_VALUE) return [`${label}, not reported`]
    if (field.value.length === 0 || field.value.length > 8) return [`${label}, unreadable`]
    const actual = field.value.reduceRight((sum, byte) => sum * 256n + BigInt(byte), 0n)
    return actual >= minSvn ? [] : [`${label}, found ${actual}`]
  })
}
