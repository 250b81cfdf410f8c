/** One matrix product of a graph in any weight format, and what it lost against the source. */
import {
  BLOCK,
  dequantiseBlocks,
  dequantiseRows,
  type Format,
  type Matrix,
  quantiseBlocks,
  quantiseRows,
  relativeError,
  transpose,
  WIDE_BLOCK,
} from './formats.js'
import { ELEMENT, type GraphBuilder } from './graph-builder.js'
import { fromHalf, toHalf } from './half.js'

export interface LinearReport {
  readonly name: string
  readonly format: Format
  /** Relative root-mean-square error of the weights. */
  readonly error: number
}

/**
 * How much a matrix may lose. `sensitive`: what goes wrong here goes through everything behind it; in pr8 its inputs are scaled
 * block by block too, so in int8. `robust`: in int8, blocks twice as long were seen to change no more than noise does.
 */
export type Kind = 'sensitive' | 'robust'

export interface Linear {
  /** Adds `x · matrixᵀ` and returns its output. */
  add(name: string, x: string, matrix: Matrix, kind?: Kind): Promise<string>
  readonly reports: readonly LinearReport[]
}

/** The matrix from which words are chosen: four bits would lose more here than in all layers together. */
const OUTPUT = 'head'
/** A pr8 matrix that loses more than this is kept in int8 instead. */
const MOST_ROW_ERROR = 0.03

export function createLinear(graph: GraphBuilder, format: Format, casts: Casts): Linear {
  const reports: LinearReport[] = []
  const scaled = createRowScaler(graph)
  const summed = createBlockSummer(graph)

  const blocks = async (
    name: string,
    x: string,
    matrix: Matrix,
    bits: 4 | 8,
    block: number = BLOCK,
  ): Promise<string> => {
    const quantised = quantiseBlocks(matrix, bits, block)
    reports.push({
      name,
      format: bits === 8 ? 'int8' : 'int4',
      error: relativeError(matrix.values, dequantiseBlocks(quantised, bits)),
    })
    const { rows, columns } = matrix
    const perRow = columns / block
    const codes = await graph.weight(`${name}.codes`, 'uint8', [rows, perRow, (block * bits) / 8], quantised.codes)
    const scales = await graph.weight(`${name}.scales`, 'float', [rows * perRow], quantised.scales)
    const product = graph.node('MatMulNBits', [x, codes, scales], {
      K: columns,
      N: rows,
      bits,
      block_size: block,
      // Inputs in int8 too: the fast kernels. They are scaled block by block, each row by itself.
      accuracy_level: 4,
    })
    if (quantised.offsets === undefined) return product
    // An offset counts once for each input of its block: the operator's own float zero points would lose the fast kernels.
    const offsets = await graph.weight(
      `${name}.offsets`,
      'float',
      [perRow, rows],
      transpose({ rows, columns: perRow, values: quantised.offsets }),
    )
    return graph.node('Add', [product, graph.node('MatMul', [summed(x, columns), offsets])])
  }

  const half = async (name: string, x: string, matrix: Matrix): Promise<string> => {
    const { rows, columns } = matrix
    const values = toHalf(transpose(matrix))
    reports.push({ name, format: 'fp16', error: relativeError(transpose(matrix), fromHalf(values)) })
    return casts.whole(
      graph.node('MatMul', [casts.half(x), await graph.weight(name, 'float16', [columns, rows], values)]),
    )
  }

  return {
    reports,
    async add(name, x, matrix, kind) {
      const { rows, columns } = matrix
      // Blocks do not fit every shape; such a matrix is kept as it is.
      if (format === 'fp16') return half(name, x, matrix)
      const plain = format === 'fp32' || (format !== 'pr8' && columns % BLOCK !== 0)
      if (plain) {
        reports.push({ name, format: 'fp32', error: 0 })
        return graph.node('MatMul', [x, await graph.weight(name, 'float', [columns, rows], transpose(matrix))])
      }
      if (format === 'int4') return blocks(name, x, matrix, name === OUTPUT ? 8 : 4)
      if (format === 'int8') {
        const wide = kind === 'robust' && columns % WIDE_BLOCK === 0
        return blocks(name, x, matrix, 8, wide ? WIDE_BLOCK : BLOCK)
      }
      if (kind === 'sensitive' && columns % BLOCK === 0) return blocks(name, x, matrix, 8)
      const quantised = quantiseRows(matrix)
      const error = relativeError(matrix.values, dequantiseRows(quantised, matrix))
      if (error > MOST_ROW_ERROR && columns % BLOCK === 0) return blocks(name, x, matrix, 8)
      reports.push({ name, format: 'pr8', error })
      const codes = await graph.weight(`${name}.codes`, 'int8', [columns, rows], quantised.codes)
      const scales = await graph.weight(`${name}.scales`, 'float', [rows], quantised.scales)
      const { input, scale, step, zero } = scaled(x)
      const product = graph.node('MatMulIntegerToFloat', [input, codes, step, scales, zero])
      return graph.node('Mul', [product, scale])
    },
  }
}

/** From fp32 to fp16 and back, each once for each value. */
export interface Casts {
  half(x: string): string
  whole(x: string): string
}

export function createCasts(graph: GraphBuilder): Casts {
  const to = (type: 'float' | 'float16'): ((x: string) => string) => {
    const known = new Map<string, string>()
    return (x) => {
      const cast = known.get(x) ?? graph.node('Cast', [x], { to: ELEMENT[type] })
      known.set(x, cast)
      return cast
    }
  }
  return { half: to('float16'), whole: to('float') }
}

interface ScaledInput {
  readonly input: string
  /** The largest magnitude of each row. */
  readonly scale: string
  readonly step: string
  readonly zero: string
}

/**
 * Inputs in unsigned bytes around 128, each row by its own largest magnitude: x / max · 127. The scale of a row comes from
 * that row alone, and the product is of integers, so neither neighbours nor the order of summation show in the result.
 */
function createRowScaler(graph: GraphBuilder): (x: string) => ScaledInput {
  const known = new Map<string, ScaledInput>()
  return (x) => {
    const before = known.get(x)
    if (before !== undefined) return before
    if (known.size === 0) {
      graph.constant('row.step', 'float', [], Float32Array.of(1 / 127))
      graph.constant('row.zero', 'uint8', [], Uint8Array.of(128))
      graph.constant('row.axis', 'int64', [1], BigInt64Array.of(-1n))
      graph.constant('row.least', 'float', [], Float32Array.of(1e-12))
    }
    const most = graph.node('ReduceMax', [graph.node('Abs', [x]), 'row.axis'], { keepdims: 1 })
    const scale = graph.node('Max', [most, 'row.least'])
    const input = graph.node('QuantizeLinear', [graph.node('Div', [x, scale]), 'row.step', 'row.zero'])
    const scaled: ScaledInput = { input, scale, step: 'row.step', zero: 'row.zero' }
    known.set(x, scaled)
    return scaled
  }
}

/** Sums of each block of inputs: [batch, tokens, columns / 32]. */
function createBlockSummer(graph: GraphBuilder): (x: string, columns: number) => string {
  const known = new Map<string, string>()
  return (x, columns) => {
    const before = known.get(x)
    if (before !== undefined) return before
    if (known.size === 0) graph.constant('block.axis', 'int64', [1], BigInt64Array.of(-1n))
    const blocks = BigInt(columns / BLOCK)
    const name = `block.split.${known.size}`
    // Zeros keep batch and tokens as they are.
    const split = graph.constant(name, 'int64', [4], BigInt64Array.of(0n, 0n, blocks, BigInt(BLOCK)))
    const sums = graph.node('ReduceSum', [graph.node('Reshape', [x, split]), 'block.axis'], { keepdims: 0 })
    known.set(x, sums)
    return sums
  }
}
