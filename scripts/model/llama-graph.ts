/**
 * Decoder graphs of the Llama block and its relatives: RMSNorm, rotary positions, grouped-query attention, SwiGLU. Of the
 * form `enclave/inference/graph.ts` takes; weights are read tensor by tensor and never all at once.
 */
import { HIDDEN_STATE, LOGIT_POSITIONS } from '../../enclave/inference/graph-names.js'
import type { Format, Matrix } from './formats.js'
import { createGraphBuilder, type GraphBuilder, type WeightSink } from './graph-builder.js'
import { toHalf } from './half.js'
import { type Casts, createCasts, createLinear, type LinearReport } from './linear.js'

export interface LlamaShape {
  readonly layers: number
  readonly hiddenSize: number
  readonly heads: number
  readonly kvHeads: number
  readonly headSize: number
  readonly feedForwardSize: number
  readonly vocabularySize: number
  readonly contextLength: number
  readonly normEpsilon: number
  /** Radians a position for each pair of a head's values: headSize / 2 of them. */
  readonly ropeFrequencies: Float64Array
  /** Whether the pairs of rotary positions are neighbours (as in GGUF files of Llama) or half a head apart. */
  readonly ropeInterleaved: boolean
  /** Biases of query, key and value (Qwen 2). */
  readonly attentionBias: boolean
  /** Norms of each query and key head (Qwen 3). */
  readonly headNorms: boolean
  /** Whether the output is the embedding once more. */
  readonly tiedEmbeddings: boolean
}

export type LayerMatrix = 'q' | 'k' | 'v' | 'o' | 'gate' | 'up' | 'down'
export type LayerVector = 'norm1' | 'norm2' | 'q.bias' | 'k.bias' | 'v.bias' | 'q.norm' | 'k.norm'

/** Outputs and inputs of a matrix. */
export function matrixSize(shape: LlamaShape, name: LayerMatrix): readonly [number, number] {
  const { hiddenSize, heads, kvHeads, headSize, feedForwardSize } = shape
  const sizes = {
    q: [heads * headSize, hiddenSize],
    k: [kvHeads * headSize, hiddenSize],
    v: [kvHeads * headSize, hiddenSize],
    o: [hiddenSize, heads * headSize],
    gate: [feedForwardSize, hiddenSize],
    up: [feedForwardSize, hiddenSize],
    down: [hiddenSize, feedForwardSize],
  } as const
  return sizes[name]
}

export function vectorLength({ hiddenSize, heads, kvHeads, headSize }: LlamaShape, name: LayerVector): number {
  if (name === 'norm1' || name === 'norm2') return hiddenSize
  if (name === 'q.norm' || name === 'k.norm') return headSize
  return (name === 'q.bias' ? heads : kvHeads) * headSize
}

/** The tensors of a model, read when asked for. */
export interface LlamaWeights {
  embedding(): Promise<Matrix>
  /** Only where embeddings are not tied. */
  head(): Promise<Matrix>
  finalNorm(): Promise<Float32Array>
  matrix(layer: number, name: LayerMatrix): Promise<Matrix>
  vector(layer: number, name: LayerVector): Promise<Float32Array>
}

export interface WrittenGraph {
  readonly graph: Uint8Array<ArrayBuffer>
  readonly reports: readonly LinearReport[]
}

/** What one step of an int8 is worth, for the keys and the values of each layer. */
export type CacheScales = readonly { readonly key: number; readonly value: number }[]

/** What keys and values are kept as, and attention is computed in: `fp32`, `fp16`, or int8 under these scales. */
export type Cache = 'fp32' | 'fp16' | CacheScales

const CACHE_ELEMENT = { fp32: 'float', fp16: 'float16', int8: 'int8' } as const

/** `onLayer` is called after each layer, for progress. */
export async function writeLlamaGraph(
  shape: LlamaShape,
  weights: LlamaWeights,
  format: Format,
  sink: WeightSink,
  onLayer: (done: number) => void = () => undefined,
  cache: Cache = 'fp32',
): Promise<WrittenGraph> {
  const graph = createGraphBuilder('decoder', sink)
  const casts = createCasts(graph)
  const linear = createLinear(graph, format, casts)
  const { layers, hiddenSize, vocabularySize, kvHeads, headSize } = shape
  graph.input('input_ids', 'int64', ['batch', 'sequence'])
  graph.input('seqlens_k', 'int32', ['batch'])
  graph.input('total_seq', 'int32', [])
  graph.input(LOGIT_POSITIONS, 'int64', ['positions'])
  graph.output('logits', 'float', ['batch', 'positions', vocabularySize])
  graph.output(HIDDEN_STATE, 'float', ['batch', 'positions', hiddenSize])
  await addRope(graph, shape, cache === 'fp16')
  const embedding = await weights.embedding()
  const half = format === 'fp16'
  if (half) await graph.weight('embedding', 'float16', [vocabularySize, hiddenSize], toHalf(embedding.values))
  else await graph.weight('embedding', 'float', [vocabularySize, hiddenSize], embedding.values)

  const embedded = graph.node('Gather', ['embedding', 'input_ids'], { axis: 0 })
  let x = half ? casts.whole(embedded) : embedded
  let branch: string | undefined
  const norm = async (name: string, gain: Float32Array): Promise<string> => {
    const weight = graph.constant(name, 'float', [hiddenSize], gain)
    if (branch === undefined) {
      return graph.node('SimplifiedLayerNormalization', [x, weight], {
        axis: -1,
        epsilon: { float: shape.normEpsilon },
        stash_type: 1,
      })
    }
    // Adds the last branch to the stream and normalises the sum, in one pass over both.
    const outputs = [`${name}.out`, '', '', `${name}.sum`]
    graph.nodeWith('SkipSimplifiedLayerNormalization', [x, branch, weight], outputs, {
      epsilon: { float: shape.normEpsilon },
    })
    x = `${name}.sum`
    return `${name}.out`
  }

  for (let layer = 0; layer < layers; layer++) {
    const p = `layer${layer}`
    for (const part of ['key', 'value']) {
      const type = CACHE_ELEMENT[typeof cache === 'string' ? cache : 'int8']
      graph.input(`past_key_values.${layer}.${part}`, type, ['batch', kvHeads, 'past', headSize])
      graph.output(`present.${layer}.${part}`, type, ['batch', kvHeads, 'total', headSize])
    }
    const attended = await addAttention(
      graph,
      linear,
      shape,
      weights,
      layer,
      await norm(`${p}.norm1`, await weights.vector(layer, 'norm1')),
      cache,
      casts,
    )
    branch = await linear.add(`${p}.o`, attended, await weights.matrix(layer, 'o'))
    const h = await norm(`${p}.norm2`, await weights.vector(layer, 'norm2'))
    const gate = await linear.add(`${p}.gate`, h, await weights.matrix(layer, 'gate'), 'robust')
    const up = await linear.add(`${p}.up`, h, await weights.matrix(layer, 'up'), 'robust')
    const gated = graph.node('Mul', [graph.node('Mul', [gate, graph.node('Sigmoid', [gate])]), up])
    branch = await linear.add(`${p}.down`, gated, await weights.matrix(layer, 'down'))
    onLayer(layer + 1)
  }
  const final = HIDDEN_STATE
  graph.nodeWith('Gather', [await norm('norm.final', await weights.finalNorm()), LOGIT_POSITIONS], [final], { axis: 1 })
  const tied = shape.tiedEmbeddings && (half || format === 'fp32')
  const product = (input: string): string => graph.node('MatMul', [input, transposed(graph, 'embedding')])
  const logits = tied
    ? half
      ? casts.whole(product(casts.half(final)))
      : product(final)
    : await linear.add('head', final, shape.tiedEmbeddings ? embedding : await weights.head(), 'robust')
  graph.nodeWith('Identity', [logits], ['logits'])
  return { graph: graph.finish(), reports: linear.reports }
}

async function addAttention(
  graph: GraphBuilder,
  linear: ReturnType<typeof createLinear>,
  shape: LlamaShape,
  weights: LlamaWeights,
  layer: number,
  h: string,
  cache: Cache,
  casts: Casts,
): Promise<string> {
  const p = `layer${layer}`
  const scales = typeof cache === 'string' ? undefined : cache[layer]
  const half = cache === 'fp16'
  const { heads, kvHeads, headSize } = shape
  // What goes wrong in the first layers' attention goes through all others: seen to be half of what pr8 loses.
  const kind = layer < shape.layers / 3 ? 'sensitive' : undefined
  const packed = !shape.headNorms && !shape.attentionBias
  let inputs: readonly string[]
  if (packed) {
    const parts = [await weights.matrix(layer, 'q'), await weights.matrix(layer, 'k'), await weights.matrix(layer, 'v')]
    inputs = [await linear.add(`${p}.qkv`, h, stack(parts), kind), '', '']
  } else {
    const part = async (name: 'q' | 'k' | 'v', count: number): Promise<string> => {
      let out = await linear.add(`${p}.${name}`, h, await weights.matrix(layer, name), kind)
      if (shape.attentionBias) {
        const bias = await weights.vector(layer, `${name}.bias`)
        out = graph.node('Add', [out, graph.constant(`${p}.${name}.bias`, 'float', [count * headSize], bias)])
      }
      if (!shape.headNorms || name === 'v') return out
      return addHeadNorm(graph, `${p}.${name}`, out, await weights.vector(layer, `${name}.norm`), count, shape)
    }
    inputs = [await part('q', heads), await part('k', kvHeads), await part('v', kvHeads)]
  }
  const past = ['key', 'value'].map((name) => `past_key_values.${layer}.${name}`)
  const present = ['key', 'value'].map((name) => `present.${layer}.${name}`)
  const scale = (part: 'key' | 'value', value: number): string =>
    graph.constant(`${p}.${part}.scale`, 'float', [1], Float32Array.of(value))
  graph.nodeWith(
    'GroupQueryAttention',
    [
      ...(half ? inputs.map((input) => (input === '' ? '' : casts.half(input))) : inputs),
      ...past,
      'seqlens_k',
      'total_seq',
      'rope.cos',
      'rope.sin',
      // Positions, bias and sinks are left out.
      ...(scales === undefined ? [] : ['', '', '', scale('key', scales.key), scale('value', scales.value)]),
    ],
    [`${p}.attended`, ...present],
    {
      num_heads: heads,
      kv_num_heads: kvHeads,
      do_rotary: 1,
      rotary_interleaved: shape.ropeInterleaved ? 1 : 0,
      ...(scales === undefined
        ? {}
        : { k_quant_type: 'PER_TENSOR', v_quant_type: 'PER_TENSOR', kv_cache_bit_width: 8 }),
    },
  )
  return half ? casts.whole(`${p}.attended`) : `${p}.attended`
}

function addHeadNorm(
  graph: GraphBuilder,
  name: string,
  x: string,
  gain: Float32Array,
  count: number,
  { headSize, normEpsilon }: LlamaShape,
): string {
  // Zeros keep batch and sequence as they are.
  const split = graph.constant(`${name}.split`, 'int64', [4], BigInt64Array.of(0n, 0n, BigInt(count), BigInt(headSize)))
  const join = graph.constant(`${name}.join`, 'int64', [3], BigInt64Array.of(0n, 0n, BigInt(count * headSize)))
  const weight = graph.constant(`${name}.norm`, 'float', [headSize], gain)
  const normed = graph.node('SimplifiedLayerNormalization', [graph.node('Reshape', [x, split]), weight], {
    axis: -1,
    epsilon: { float: normEpsilon },
    stash_type: 1,
  })
  return graph.node('Reshape', [normed, join])
}

function transposed(graph: GraphBuilder, name: string): string {
  return graph.node('Transpose', [name])
}

async function addRope(
  graph: GraphBuilder,
  { contextLength, headSize, ropeFrequencies }: LlamaShape,
  inHalf: boolean,
): Promise<void> {
  const half = headSize / 2
  for (const [name, wave] of [
    ['rope.cos', Math.cos],
    ['rope.sin', Math.sin],
  ] as const) {
    const table = new Float32Array(contextLength * half)
    for (let at = 0; at < table.length; at++)
      table[at] = wave(Math.floor(at / half) * (ropeFrequencies[at % half] ?? 0))
    if (inHalf) await graph.weight(name, 'float16', [contextLength, half], toHalf(table))
    else await graph.weight(name, 'float', [contextLength, half], table)
  }
}

/** Several matrices of the same inputs as one with all their outputs. */
function stack(parts: readonly Matrix[]): Matrix {
  const rows = parts.reduce((sum, part) => sum + part.rows, 0)
  const columns = parts[0]?.columns ?? 0
  const values = new Float32Array(rows * columns)
  let at = 0
  for (const part of parts) {
    values.set(part.values, at)
    at += part.values.length
  }
  return { rows, columns, values }
}
