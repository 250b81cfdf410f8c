/**
 * Models of any shape with random weights, put together in memory. They speak the demo model's words where their
 * vocabulary has room for them.
 */
import { loadModelPackage, type ModelPackage } from '../../enclave/inference/package.js'
import { createRandom } from '../../enclave/inference/sampler.js'
import { defaultModelDirectory } from '../../enclave/serve.js'
import { toBytes, toHex } from '../../verifier/protocol/bytes.js'
import { sha256 } from '../../verifier/protocol/hash.js'
import type { Format, Matrix } from '../model/formats.js'
import type { WeightSink } from '../model/graph-builder.js'
import {
  type Cache,
  type LlamaShape,
  type LlamaWeights,
  matrixSize,
  vectorLength,
  writeLlamaGraph,
} from '../model/llama-graph.js'
import { ropeFrequencies } from '../model/source.js'

/** The shape of SmolLM2-135M with fewer layers, words and positions. */
export const SMALL: LlamaShape = {
  layers: 3,
  hiddenSize: 576,
  heads: 9,
  kvHeads: 3,
  headSize: 64,
  feedForwardSize: 1536,
  vocabularySize: 2048,
  contextLength: 512,
  normEpsilon: 1e-5,
  ropeFrequencies: ropeFrequencies(64, 10_000),
  ropeInterleaved: false,
  attentionBias: false,
  headNorms: false,
  tiedEmbeddings: true,
}

/** SmolLM2-135M itself. */
export const SMOLLM2: LlamaShape = { ...SMALL, layers: 30, vocabularySize: 49_152, contextLength: 4608 }

export function randomWeights(shape: LlamaShape, seed: number): LlamaWeights {
  const { hiddenSize, vocabularySize } = shape
  const fill = (length: number, spread: number, key: number, mean = 0): Float32Array => {
    const random = createRandom(seed * 1_000_003 + key)
    return Float32Array.from({ length }, () => mean + (random() - 0.5) * 2 * Math.sqrt(3) * spread)
  }
  const matrix = (rows: number, columns: number, key: number): Matrix => ({
    rows,
    columns,
    values: fill(rows * columns, 1 / Math.sqrt(columns), key),
  })
  const matrices = ['q', 'k', 'v', 'o', 'gate', 'up', 'down']
  const vectors = ['norm1', 'norm2', 'q.bias', 'k.bias', 'v.bias', 'q.norm', 'k.norm']
  return {
    embedding: async () => matrix(vocabularySize, hiddenSize, 1),
    head: async () => matrix(vocabularySize, hiddenSize, 2),
    finalNorm: async () => fill(hiddenSize, 0.1, 3, 1),
    matrix: async (layer, name) => matrix(...matrixSize(shape, name), 100 + layer * 20 + matrices.indexOf(name)),
    vector: async (layer, name) =>
      fill(vectorLength(shape, name), 0.1, 110 + layer * 20 + vectors.indexOf(name), name.includes('bias') ? 0 : 1),
  }
}

function memorySink(file: string): WeightSink & { bytes(): Uint8Array } {
  const parts: Uint8Array[] = []
  let length = 0
  return {
    async write(bytes) {
      const gap = (64 - (length % 64)) % 64
      parts.push(new Uint8Array(gap), bytes.slice())
      const place = { file, offset: length + gap, length: bytes.length }
      length += gap + bytes.length
      return place
    },
    bytes: () => new Uint8Array(Buffer.concat(parts)),
  }
}

export function randomPackage(shape: LlamaShape, format: Format, seed = 1, cache?: Cache): Promise<ModelPackage> {
  return packageOf(shape, randomWeights(shape, seed), format, cache)
}

/** A package in memory of these weights, with the demo model's words. */
export async function packageOf(
  shape: LlamaShape,
  weights: LlamaWeights,
  format: Format,
  cache?: Cache,
): Promise<ModelPackage> {
  const demo = await loadModelPackage(defaultModelDirectory())
  const sink = memorySink('weights.bin')
  const { graph } = await writeLlamaGraph(shape, weights, format, sink, undefined, cache)
  const files = new Map([
    ...demo.files,
    ['model.onnx', toBytes(graph)],
    ['weights.bin', toBytes(sink.bytes())],
  ] as const)
  const sizes = [...files].map(([path, bytes]) => ({
    path,
    role:
      path === 'weights.bin'
        ? ('weights' as const)
        : (demo.manifest.files.find((f) => f.path === path)?.role ?? 'graph'),
    size: bytes.length,
    sha256: toHex(sha256(bytes)),
  }))
  return {
    ...demo,
    manifest: {
      ...demo.manifest,
      id: `random-${format}`,
      format,
      files: sizes.sort((a, b) => (a.path < b.path ? -1 : 1)),
      architecture: {
        ...demo.manifest.architecture,
        layers: shape.layers,
        hiddenSize: shape.hiddenSize,
        vocabularySize: shape.vocabularySize,
        contextLength: shape.contextLength,
      },
    },
    files,
  }
}
