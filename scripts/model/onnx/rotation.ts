/** Rotary positions of ONNX graphs: tables beside GroupQueryAttention, or frequencies that exporters write waves of. */
import { broken } from '../model-file.js'
import type { OnnxFile } from './file.js'
import { readFloats } from './matrix.js'
import { matchesWaves, waveFrequencies } from './waves.js'
import type { WeightReader } from './weights.js'

export type Rotation =
  | { readonly kind: 'tables'; readonly cos: string; readonly sin: string; readonly interleaved: boolean }
  | { readonly kind: 'frequencies'; readonly names: readonly string[]; readonly factors: readonly string[] }

export async function rotationOf(
  file: OnnxFile,
  weights: WeightReader,
  rotations: readonly Rotation[],
  headSize: number,
  expected: Float64Array | undefined,
): Promise<{ readonly ropeFrequencies: Float64Array; readonly ropeInterleaved: boolean }> {
  const [first] = rotations
  if (first === undefined) throw broken('the graph has no layers')
  const same = ({ factors: _, ...rest }: Rotation & { readonly factors?: unknown }): string => JSON.stringify(rest)
  if (rotations.some((other) => same(other) !== same(first))) {
    throw broken('the layers of the graph do not rotate positions alike')
  }
  if (first.kind === 'tables') {
    const tables = [first.cos, first.sin].map((name) => file.tensors.get(weights.plain(name)))
    const [cos, sin] = tables
    const [rows = 0, columns = 0] = cos?.shape ?? []
    if (cos === undefined || sin === undefined || cos.shape.join() !== sin.shape.join() || cos.shape.length !== 2) {
      throw broken('rotary positions: expected tables of cosines and sines in the file')
    }
    if (columns !== headSize / 2) throw broken(`${cos.name}: expected ${headSize / 2} waves, got ${columns}`)
    for (const { name } of [cos, sin]) weights.used.add(name)
    const waves = {
      cos: await readFloats(file, cos),
      sin: await readFloats(file, sin),
      rows,
      columns,
      exact: cos.type === 'float',
    }
    const frequencies = expected ?? waveFrequencies(waves)
    if (!matchesWaves(waves, frequencies)) throw broken(`${cos.name}: is not of waves that only depend on the position`)
    return { ropeFrequencies: frequencies, ropeInterleaved: first.interleaved }
  }
  for (const rotation of rotations) {
    for (const factor of rotation.kind === 'frequencies' ? rotation.factors : []) {
      const value = await weights.scalar(factor)
      if (value !== undefined && !usualFactor(value, headSize)) {
        throw broken(`${factor}: attention with the factor ${value} is not supported`)
      }
    }
  }
  const [name, ...others] = first.names
  const tensor = file.tensors.get(name ?? '')
  if (tensor === undefined || others.length > 0 || tensor.count !== headSize / 2) {
    throw broken(
      `rotary positions: expected ${headSize / 2} frequencies in the graph, got ${first.names.length} tensors`,
    )
  }
  weights.used.add(tensor.name)
  const got = await readFloats(file, tensor)
  const close = (value: number, index: number): boolean =>
    Math.abs(value - (got[index] ?? 0)) <= (tensor.type === 'float' ? 1e-5 * value : 1e-3 * value + 1e-7)
  if (expected === undefined || !expected.every(close)) {
    throw broken(`${tensor.name}: expected the frequencies of config.json, got others`)
  }
  return { ropeFrequencies: expected, ropeInterleaved: false }
}

/** Numbers that attention is written with: none and one, what stands for minus infinity, and roots of the head size. */
function usualFactor(value: number, headSize: number): boolean {
  if (value === 0 || value === 1 || value <= -1e4) return true
  return [-1 / 2, -1 / 4, 1 / 4, 1 / 2].some((power) => Math.abs(value / headSize ** power - 1) < 1e-2)
}
