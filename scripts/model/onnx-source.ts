/**
 * Models in ONNX graphs, in the layouts of onnxruntime-genai (genai_config.json) and of transformers.js (config.json and
 * onnx/). Weights are read out of the graph, and the graph is left behind: what a package runs is always written here.
 */
import { existsSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import type { ModelFamily } from '../../enclave/inference/package.js'
import { endTokens, type Fields, familyOf, readJson, readTexts, shapeOf, tokenIds } from './hf-config.js'
import { type LayerMatrix, type LayerVector, type LlamaShape, matrixSize, vectorLength } from './llama-graph.js'
import { broken } from './model-file.js'
import { openOnnx } from './onnx/file.js'
import { type OnnxLlama, readLlama } from './onnx/llama.js'
import type { WeightMatrix } from './onnx/matrix.js'
import { checkFinite, checkShape, type ModelSource } from './source.js'

const GENAI = 'genai_config.json'
/** The more of the model is in it, the earlier. */
const FILES = ['', '_fp16', '_quantized', '_int8', '_uint8', '_q4', '_q4f16'].map((kind) => `onnx/model${kind}.onnx`)

/** The graph of a folder in one of these layouts. */
export function onnxIn(directory: string): string | undefined {
  const file = [GENAI, ...FILES, 'model.onnx'].find((name) => existsSync(join(directory, name)))
  return file && join(directory, file)
}

/** `path` is an .onnx file in one of the layouts, or a genai_config.json that names one. @throws ModelFileError. */
export async function openOnnxModel(path: string): Promise<ModelSource> {
  const parent = dirname(path)
  const directory = basename(parent) === 'onnx' ? dirname(parent) : parent
  const genai = existsSync(join(directory, GENAI))
  const config = await readJson(join(directory, genai ? GENAI : 'config.json'))
  return genai ? openGenai(directory, path, config) : openTransformersJs(directory, path, config)
}

async function openTransformersJs(directory: string, path: string, config: Fields): Promise<ModelSource> {
  const family = familyOf(config['model_type'], 'config.json')
  // What only the graph knows is put in below; the rest is checked first.
  const draft = shapeOf(config, { attentionBias: false, headNorms: false, tiedEmbeddings: false })
  const eosTokenIds = await endTokens(directory, config, 'config.json')
  return open(path, {
    directory,
    family,
    eosTokenIds,
    draft,
    frequencies: draft.ropeFrequencies,
    tied: config['tie_word_embeddings'] === true,
  })
}

async function openGenai(directory: string, path: string, config: Fields): Promise<ModelSource> {
  const model = fieldsOf(config['model'], 'model')
  const decoder = fieldsOf(model['decoder'], 'model.decoder')
  const number = (fields: Fields, key: string): number => {
    const value = fields[key]
    if (typeof value !== 'number') throw broken(`${GENAI}: ${key}: expected a number`)
    return value
  }
  const family = familyOf(model['type'], GENAI)
  for (const key of ['pipeline', 'sliding_window']) {
    if (decoder[key] !== undefined) throw broken(`${GENAI}: ${key} is not supported`)
  }
  const filename = decoder['filename']
  if (typeof filename !== 'string' || filename !== basename(filename) || !filename.endsWith('.onnx')) {
    throw broken(`${GENAI}: filename: expected an .onnx file of the same folder`)
  }
  return open(basename(path) === GENAI ? join(directory, filename) : path, {
    directory,
    family,
    eosTokenIds: tokenIds(model['eos_token_id'], GENAI),
    draft: {
      layers: number(decoder, 'num_hidden_layers'),
      hiddenSize: number(decoder, 'hidden_size'),
      heads: number(decoder, 'num_attention_heads'),
      kvHeads: number(decoder, 'num_key_value_heads'),
      headSize: number(decoder, 'head_size'),
      vocabularySize: number(model, 'vocab_size'),
      contextLength: number(model, 'context_length'),
    },
    frequencies: undefined,
    tied: false,
  })
}

function fieldsOf(value: unknown, what: string): Fields {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields
  throw broken(`${GENAI}: ${what}: expected an object`)
}

interface Described {
  readonly directory: string
  readonly family: ModelFamily
  readonly eosTokenIds: readonly number[]
  readonly draft: Pick<
    LlamaShape,
    'layers' | 'hiddenSize' | 'heads' | 'kvHeads' | 'headSize' | 'vocabularySize' | 'contextLength'
  > &
    Partial<LlamaShape>
  /** What the graph's rotary positions must be of, where the folder says. */
  readonly frequencies: Float64Array | undefined
  /** Whether the folder says that the output is the embedding once more. */
  readonly tied: boolean
}

async function open(path: string, described: Described): Promise<ModelSource> {
  const { directory, family, eosTokenIds, draft, frequencies, tied } = described
  const texts = await readTexts(directory)
  const file = await openOnnx(path)
  try {
    const llama = await readLlama(file, draft, frequencies)
    const shape = await shapeFrom(llama, draft, tied)
    checkSizes(llama, shape)
    return {
      family,
      title: 'Imported model',
      license: undefined,
      shape,
      eosTokenIds,
      ...texts,
      weights: weightsOf(llama),
      close: () => file.close(),
    }
  } catch (error) {
    await file.close()
    throw error
  }
}

async function shapeFrom(llama: OnnxLlama, draft: Described['draft'], tied: boolean): Promise<LlamaShape> {
  const { embedding, head, layers, ropeFrequencies, ropeInterleaved } = llama
  const [first] = layers
  if (first === undefined || layers.length !== draft.layers) {
    throw broken(`the graph has ${layers.length} layers, expected ${draft.layers}`)
  }
  // Half precision keeps no more than a few bits of numbers this small.
  const close = (expected: number): boolean => Math.abs(llama.normEpsilon - expected) <= expected * 0.05
  if (draft.normEpsilon !== undefined && !close(draft.normEpsilon)) {
    throw broken(`the norms of the graph have the epsilon ${llama.normEpsilon}, expected ${draft.normEpsilon}`)
  }
  return checkShape({
    ...draft,
    feedForwardSize: draft.feedForwardSize ?? first.matrices.gate.rows,
    // Of the numbers that are near what is kept in single precision, the one that people write.
    normEpsilon: draft.normEpsilon ?? Number(llama.normEpsilon.toPrecision(6)),
    ropeFrequencies,
    ropeInterleaved,
    attentionBias: first.vectors['q.bias'] !== undefined,
    headNorms: first.vectors['q.norm'] !== undefined,
    tiedEmbeddings: embedding.tensor === head.tensor || (tied && (await same(embedding, head))),
  })
}

/** A graph may keep the output in other bits than the embedding it once was. */
async function same(a: WeightMatrix, b: WeightMatrix): Promise<boolean> {
  if (a.rows !== b.rows || a.columns !== b.columns) return false
  const [first, second] = [await a.read(), await b.read()]
  return first.every((value, index) => value === second[index])
}

const MATRICES: readonly LayerMatrix[] = ['q', 'k', 'v', 'o', 'gate', 'up', 'down']

function checkSizes({ embedding, head, finalNorm, layers }: OnnxLlama, shape: LlamaShape): void {
  const expectSize = ({ name, rows, columns }: WeightMatrix, size: readonly [number, number]): void => {
    if (rows === size[0] && columns === size[1]) return
    throw broken(`${name}: expected ${size.join('×')} weights by output and input, got ${rows}×${columns}`)
  }
  const expectLength = (name: string, got: number, length: number): void => {
    if (got !== length) throw broken(`${name}: expected ${length} values, got ${got}`)
  }
  for (const table of [embedding, head]) expectSize(table, [shape.vocabularySize, shape.hiddenSize])
  expectLength(finalNorm.name, finalNorm.length, shape.hiddenSize)
  const vectors: LayerVector[] = ['norm1', 'norm2']
  if (shape.attentionBias) vectors.push('q.bias', 'k.bias', 'v.bias')
  if (shape.headNorms) vectors.push('q.norm', 'k.norm')
  for (const [index, layer] of layers.entries()) {
    for (const name of MATRICES) expectSize(layer.matrices[name], matrixSize(shape, name))
    if (Object.keys(layer.vectors).sort().join() !== [...vectors].sort().join()) {
      throw broken(`layer ${index}: expected ${vectors.join(', ')}, got ${Object.keys(layer.vectors).join(', ')}`)
    }
    for (const name of vectors) {
      const vector = layer.vectors[name]
      expectLength(vector?.name ?? name, vector?.length ?? 0, vectorLength(shape, name))
    }
  }
}

function weightsOf({ embedding, head, finalNorm, layers }: OnnxLlama): ModelSource['weights'] {
  const values = async (
    from: { readonly name: string; read(): Promise<Float32Array> } | undefined,
  ): Promise<Float32Array> => {
    if (from === undefined) throw broken('a weight is missing')
    return checkFinite(from.name, await from.read())
  }
  const matrix = async (from: WeightMatrix | undefined) => ({
    rows: from?.rows ?? 0,
    columns: from?.columns ?? 0,
    values: await values(from),
  })
  return {
    embedding: () => matrix(embedding),
    head: () => matrix(head),
    finalNorm: () => values(finalNorm),
    matrix: (layer, name) => matrix(layers[layer]?.matrices[name]),
    vector: (layer, name) => values(layers[layer]?.vectors[name]),
  }
}
