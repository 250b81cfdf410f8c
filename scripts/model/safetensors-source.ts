/**
 * Models in Hugging Face folders: config.json, *.safetensors, tokenizer.json, and a chat template. Fields this reader does
 * not know are ignored, except those that change what is computed, which are refused.
 */
import { existsSync } from 'node:fs'
import { type FileHandle, open, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Matrix } from './formats.js'
import { broken } from './gguf.js'
import { decodeTensor, type GgmlType } from './gguf-blocks.js'
import { type LayerMatrix, type LayerVector, type LlamaShape, matrixSize, vectorLength } from './llama-graph.js'
import { checkFinite, checkShape, type ModelSource, ropeFrequencies } from './source.js'

const FAMILIES = ['llama', 'mistral', 'qwen2', 'qwen3'] as const
const MAX_HEADER_BYTES = 64 * 1024 * 1024
const MAX_JSON_BYTES = 64 * 1024 * 1024
const TYPES: Readonly<Record<string, GgmlType>> = { F32: 'F32', F16: 'F16', BF16: 'BF16' }

const MATRICES: Readonly<Record<LayerMatrix, string>> = {
  q: 'self_attn.q_proj',
  k: 'self_attn.k_proj',
  v: 'self_attn.v_proj',
  o: 'self_attn.o_proj',
  gate: 'mlp.gate_proj',
  up: 'mlp.up_proj',
  down: 'mlp.down_proj',
}
const VECTORS: Readonly<Record<LayerVector, string>> = {
  norm1: 'input_layernorm.weight',
  norm2: 'post_attention_layernorm.weight',
  'q.bias': 'self_attn.q_proj.bias',
  'k.bias': 'self_attn.k_proj.bias',
  'v.bias': 'self_attn.v_proj.bias',
  'q.norm': 'self_attn.q_norm.weight',
  'k.norm': 'self_attn.k_norm.weight',
}

type Fields = Readonly<Record<string, unknown>>

interface Placed {
  readonly file: FileHandle
  readonly type: GgmlType
  readonly shape: readonly number[]
  readonly offset: number
  readonly bytes: number
}

/** @throws ModelFileError. Files stay open until `close`. */
export async function openFolder(directory: string): Promise<ModelSource> {
  const config = await readJson(join(directory, 'config.json'))
  const family = FAMILIES.find((known) => known === config['model_type'])
  if (family === undefined) throw broken(`config.json: expected model_type to be one of ${FAMILIES.join(', ')}`)
  const tokenizerConfig = await readJson(join(directory, 'tokenizer_config.json'))
  const files: FileHandle[] = []
  const close = async (): Promise<void> => {
    for (const file of files) await file.close()
  }
  try {
    const tensors = await openTensors(directory, files)
    const shape = checkShape(shapeOf(config, tensors))
    const read = async (name: string, expected: readonly number[]): Promise<Float32Array> => {
      const placed = tensors.get(name)
      if (placed === undefined) throw broken(`${name}: is missing`)
      if (placed.shape.join() !== expected.join()) {
        throw broken(`${name}: expected the shape ${expected.join('×')}, got ${placed.shape.join('×')}`)
      }
      const bytes = Buffer.alloc(placed.bytes)
      await placed.file.read(bytes, 0, bytes.length, placed.offset)
      return checkFinite(name, decodeTensor(placed.type, bytes))
    }
    const matrix = async (name: string, rows: number, columns: number): Promise<Matrix> => ({
      rows,
      columns,
      values: await read(name, [rows, columns]),
    })
    const { vocabularySize, hiddenSize } = shape
    return {
      family,
      title: 'Imported model',
      license: undefined,
      shape,
      eosTokenIds: await endTokens(directory, config),
      tokenizerJson: await readBounded(join(directory, 'tokenizer.json')),
      tokenizerConfigJson: Buffer.from(JSON.stringify({ ...tokenizerConfig, chat_template: undefined })),
      template: await templateOf(directory, tokenizerConfig),
      weights: {
        embedding: () => matrix('model.embed_tokens.weight', vocabularySize, hiddenSize),
        head: () => matrix('lm_head.weight', vocabularySize, hiddenSize),
        finalNorm: () => read('model.norm.weight', [hiddenSize]),
        matrix: (layer, name) => matrix(`model.layers.${layer}.${MATRICES[name]}.weight`, ...matrixSize(shape, name)),
        vector: (layer, name) => read(`model.layers.${layer}.${VECTORS[name]}`, [vectorLength(shape, name)]),
      },
      close,
    }
  } catch (error) {
    await close()
    throw error
  }
}

function shapeOf(config: Fields, tensors: ReadonlyMap<string, Placed>): LlamaShape {
  const number = (key: string, fallback?: number): number => {
    const value = config[key] ?? fallback
    if (typeof value !== 'number') throw broken(`config.json: ${key}: expected a number`)
    return value
  }
  if ((config['hidden_act'] ?? 'silu') !== 'silu') throw broken('config.json: hidden_act: only silu is supported')
  if (config['use_sliding_window'] === true) throw broken('config.json: sliding windows are not supported')
  const window = config['sliding_window']
  const contextLength = number('max_position_embeddings')
  if (config['model_type'] === 'mistral' && typeof window === 'number' && window < contextLength) {
    throw broken('config.json: sliding windows are not supported')
  }
  const heads = number('num_attention_heads')
  const headSize = number('head_dim', number('hidden_size') / heads)
  return {
    layers: number('num_hidden_layers'),
    hiddenSize: number('hidden_size'),
    heads,
    kvHeads: number('num_key_value_heads', heads),
    headSize,
    feedForwardSize: number('intermediate_size'),
    vocabularySize: number('vocab_size'),
    contextLength,
    normEpsilon: number('rms_norm_eps'),
    ropeFrequencies: scaledFrequencies(
      Math.max(0, Math.min(4096, headSize)),
      number('rope_theta', 10_000),
      config['rope_scaling'],
    ),
    ropeInterleaved: false,
    attentionBias: tensors.has('model.layers.0.self_attn.q_proj.bias'),
    headNorms: tensors.has('model.layers.0.self_attn.q_norm.weight'),
    tiedEmbeddings: config['tie_word_embeddings'] === true || !tensors.has('lm_head.weight'),
  }
}

/** Llama 3.1's rule: long waves are stretched, short ones kept, and those between blended. */
function scaledFrequencies(headSize: number, base: number, scaling: unknown): Float64Array {
  const plain = ropeFrequencies(headSize, base)
  if (scaling === undefined || scaling === null) return plain
  const fields = scaling as Fields
  if (fields['rope_type'] !== 'llama3') throw broken('config.json: rope_scaling: only llama3 is supported')
  const [factor, low, high, original] = [
    'factor',
    'low_freq_factor',
    'high_freq_factor',
    'original_max_position_embeddings',
  ].map((key) => Number(fields[key])) as [number, number, number, number]
  return plain.map((frequency) => {
    const length = (2 * Math.PI) / frequency
    if (length < original / high) return frequency
    if (length > original / low) return frequency / factor
    const blend = (original / length - low) / (high - low)
    return (1 - blend) * (frequency / factor) + blend * frequency
  })
}

async function openTensors(directory: string, files: FileHandle[]): Promise<ReadonlyMap<string, Placed>> {
  const tensors = new Map<string, Placed>()
  const names = (await readdir(directory)).filter((name) => name.endsWith('.safetensors')).sort()
  if (names.length === 0) throw broken('the folder has no .safetensors file')
  for (const name of names) {
    const file = await open(join(directory, name), 'r')
    files.push(file)
    const { size } = await file.stat()
    const prefix = Buffer.alloc(8)
    await file.read(prefix, 0, 8, 0)
    const length = Number(prefix.readBigUInt64LE())
    if (length > MAX_HEADER_BYTES || length + 8 > size)
      throw broken(`${name}: its header is larger than the file or than allowed`)
    const text = Buffer.alloc(length)
    await file.read(text, 0, length, 8)
    for (const [key, entry] of Object.entries(parseObject(text, name))) {
      if (key === '__metadata__') continue
      if (tensors.has(key)) throw broken(`${key.slice(0, 128)}: is there twice`)
      tensors.set(key, placed(file, name, entry as Fields, 8 + length, size))
    }
  }
  return tensors
}

function placed(file: FileHandle, name: string, entry: Fields, start: number, size: number): Placed {
  const type = TYPES[String(entry['dtype'])]
  const shape = entry['shape']
  const offsets = entry['data_offsets']
  if (type === undefined) throw broken(`${name}: tensors must be of ${Object.keys(TYPES).join(', ')}`)
  const whole = (list: unknown): list is number[] =>
    Array.isArray(list) && list.every((item) => Number.isSafeInteger(item) && item >= 0)
  if (!whole(shape) || !whole(offsets) || shape.length < 1 || shape.length > 4 || offsets.length !== 2) {
    throw broken(`${name}: a tensor has no shape or place`)
  }
  const [begin = 0, end = 0] = offsets
  const bytes = shape.reduce((product, dimension) => product * dimension, type === 'F32' ? 4 : 2)
  if (end - begin !== bytes || start + end > size) throw broken(`${name}: a tensor lies outside the file`)
  return { file, type, shape, offset: start + begin, bytes }
}

async function endTokens(directory: string, config: Fields): Promise<readonly number[]> {
  const path = join(directory, 'generation_config.json')
  const generation = existsSync(path) ? await readJson(path) : {}
  const ids = [generation['eos_token_id'] ?? config['eos_token_id']].flat()
  if (ids.length === 0 || !ids.every((id) => typeof id === 'number'))
    throw broken('config.json: names no token that ends an answer')
  return ids as number[]
}

async function templateOf(directory: string, tokenizerConfig: Fields): Promise<string> {
  const path = join(directory, 'chat_template.jinja')
  const template = existsSync(path) ? (await readBounded(path)).toString('utf8') : tokenizerConfig['chat_template']
  if (typeof template === 'string' && template !== '') return template
  throw broken('the folder has no chat template: neither chat_template.jinja nor one in tokenizer_config.json')
}

async function readJson(path: string): Promise<Fields> {
  return parseObject(await readBounded(path), path)
}

function parseObject(bytes: Buffer, what: string): Fields {
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'))
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields
  } catch {
    // Reported below, like any other text that is not an object.
  }
  throw broken(`${what}: expected a JSON object`)
}

async function readBounded(path: string): Promise<Buffer> {
  const file = await open(path, 'r').catch((cause: unknown) => {
    throw broken(`${path}: cannot be opened (${(cause as { code?: string }).code ?? 'unknown'})`)
  })
  try {
    const { size } = await file.stat()
    if (size > MAX_JSON_BYTES) throw broken(`${path}: expected at most ${MAX_JSON_BYTES} bytes, got ${size}`)
    return await readFile(file)
  } finally {
    await file.close()
  }
}
