/**
 * What a Hugging Face folder says about a model beside its weights: config.json, generation_config.json, the tokenizer's
 * files and the chat template. Fields this reader does not know are ignored, except those that change what is computed,
 * which are refused.
 */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { ModelFamily } from '../../enclave/inference/package.js'
import type { LlamaShape } from './llama-graph.js'
import { broken, openRegular, readPart } from './model-file.js'
import { checkShape, type ModelSource, ropeFrequencies } from './source.js'

const FAMILIES = ['llama', 'mistral', 'qwen2', 'qwen3'] as const
const MAX_JSON_BYTES = 64 * 1024 * 1024
/** A file of 100,000 tensors has a million. */
const MAX_VALUES = 2_000_000
/** A vocabulary of 250,000 tokens, with its merges in pairs, has two million. */
const MAX_TOKENIZER_VALUES = 8_000_000
const MAX_DEPTH = 256
const [QUOTE, COMMA, OPEN_LIST, BACKSLASH, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT] = Buffer.from('",[\\]{}')

export type Fields = Readonly<Record<string, unknown>>

/** What the weights themselves say, and no field does in all versions of these files. */
export type WeightFacts = Pick<LlamaShape, 'attentionBias' | 'headNorms' | 'tiedEmbeddings'>

/** `type` is what `file` gives as its model type. @throws ModelFileError. */
export function familyOf(type: unknown, file: string): ModelFamily {
  const family = FAMILIES.find((known) => known === type)
  if (family !== undefined) return family
  throw broken(
    `${file}: expected a model type of ${FAMILIES.join(', ')}, got ${typeof type === 'string' ? type.slice(0, 40) : 'none'}`,
  )
}

/** @throws ModelFileError for sizes that do not fit, and for anything computed in a way that is not supported. */
export function shapeOf(config: Fields, facts: WeightFacts): LlamaShape {
  const number = (key: string, fallback?: number): number => {
    const value = config[key] ?? fallback
    if (typeof value !== 'number') throw broken(`config.json: ${key}: expected a number`)
    return value
  }
  refuseUnsupported(config, number('max_position_embeddings'))
  const heads = number('num_attention_heads')
  const headSize = number('head_dim', number('hidden_size') / heads)
  const base = number('rope_theta', 10_000)
  return checkShape({
    layers: number('num_hidden_layers'),
    hiddenSize: number('hidden_size'),
    heads,
    kvHeads: number('num_key_value_heads', heads),
    headSize,
    feedForwardSize: number('intermediate_size'),
    vocabularySize: number('vocab_size'),
    contextLength: number('max_position_embeddings'),
    normEpsilon: number('rms_norm_eps'),
    // Newer folders keep both in one field.
    ropeFrequencies: scaledFrequencies(
      Math.max(0, Math.min(4096, headSize)),
      base,
      config['rope_parameters'] ?? config['rope_scaling'],
    ),
    ropeInterleaved: false,
    ...facts,
  })
}

function refuseUnsupported(config: Fields, contextLength: number): void {
  if ((config['hidden_act'] ?? 'silu') !== 'silu') throw broken('config.json: hidden_act: only silu is supported')
  if (config['mlp_bias'] === true) throw broken('config.json: mlp_bias: biases of the feed-forward are not supported')
  const rotated = config['partial_rotary_factor']
  if (rotated !== undefined && rotated !== null && rotated !== 1)
    throw broken('config.json: partial_rotary_factor: only whole heads are rotated here')
  const window = config['sliding_window']
  const kinds = Array.isArray(config['layer_types']) ? (config['layer_types'] as unknown[]) : []
  const sliding =
    config['use_sliding_window'] === true ||
    (config['model_type'] === 'mistral' && typeof window === 'number' && window < contextLength) ||
    kinds.some((kind) => kind !== 'full_attention')
  if (sliding) throw broken('config.json: sliding windows are not supported')
}

/** Plain, or Llama 3.1's rule: long waves are stretched, short ones kept, and those between blended. */
function scaledFrequencies(headSize: number, theta: number, scaling: unknown): Float64Array {
  if (scaling === undefined || scaling === null) return ropeFrequencies(headSize, theta)
  if (typeof scaling !== 'object') throw broken('config.json: rope_scaling: expected an object')
  const fields = scaling as Fields
  const number = (key: string, fallback?: number): number => {
    const value = fields[key] ?? fallback
    if (typeof value !== 'number' || !Number.isFinite(value)) throw broken(`config.json: ${key}: expected a number`)
    return value
  }
  const plain = ropeFrequencies(headSize, number('rope_theta', theta))
  const type = fields['rope_type'] ?? fields['type']
  if (type === 'default') return plain
  if (type !== 'llama3') throw broken('config.json: rope_scaling: only llama3 is supported')
  const [factor, low, high] = [number('factor'), number('low_freq_factor'), number('high_freq_factor')]
  const original = number('original_max_position_embeddings')
  return plain.map((frequency) => {
    const length = (2 * Math.PI) / frequency
    if (length < original / high) return frequency
    if (length > original / low) return frequency / factor
    const blend = (original / length - low) / (high - low)
    return (1 - blend) * (frequency / factor) + blend * frequency
  })
}

/** The parts of a source that are files beside the weights. */
export async function readTexts(
  directory: string,
): Promise<Pick<ModelSource, 'tokenizerJson' | 'tokenizerConfigJson' | 'template'>> {
  const config = await readJson(join(directory, 'tokenizer_config.json'))
  const tokenizerJson = await readBounded(join(directory, 'tokenizer.json'))
  checkJson(tokenizerJson, 'tokenizer.json', MAX_TOKENIZER_VALUES)
  return {
    tokenizerJson,
    tokenizerConfigJson: Buffer.from(JSON.stringify({ ...config, chat_template: undefined })),
    template: await templateOf(directory, config),
  }
}

/** Of generation_config.json where there is one, else of `config`, which `file` names. @throws ModelFileError. */
export async function endTokens(directory: string, config: Fields, file: string): Promise<readonly number[]> {
  const path = join(directory, 'generation_config.json')
  const generation = existsSync(path) ? await readJson(path) : {}
  return tokenIds(generation['eos_token_id'] ?? config['eos_token_id'], file)
}

/** One number, or a list of them. */
export function tokenIds(value: unknown, file: string): readonly number[] {
  const ids = [value].flat()
  if (ids.length === 0 || !ids.every((id) => typeof id === 'number'))
    throw broken(`${file}: names no token that ends an answer`)
  return ids as number[]
}

async function templateOf(directory: string, tokenizerConfig: Fields): Promise<string> {
  const path = join(directory, 'chat_template.jinja')
  const template = existsSync(path) ? (await readBounded(path)).toString('utf8') : tokenizerConfig['chat_template']
  if (typeof template === 'string' && template !== '') return template
  throw broken('the folder has no chat template: neither chat_template.jinja nor one in tokenizer_config.json')
}

export async function readJson(path: string): Promise<Fields> {
  return parseObject(await readBounded(path), path)
}

/** @throws ModelFileError for other JSON, and where `checkJson` does. */
export function parseObject(bytes: Buffer, what: string): Fields {
  checkJson(bytes, what, MAX_VALUES)
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'))
    if (isObject(value)) return value
  } catch {
    // Reported below, like any other text that is not an object.
  }
  throw broken(`${what}: expected a JSON object`)
}

/**
 * Refuses texts that would be far larger in memory than they are, and ones nested so deeply that nothing can be done with them.
 * @throws ModelFileError.
 */
function checkJson(bytes: Buffer, what: string, most: number): void {
  let [values, depth, inText] = [0, 0, false]
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at] ?? 0
    if (byte === BACKSLASH) at++
    else if (byte === QUOTE) inText = !inText
    else if (inText) continue
    else if (byte === COMMA) values++
    else if (byte === OPEN_LIST || byte === OPEN_OBJECT) {
      values++
      depth++
    } else if (byte === CLOSE_LIST || byte === CLOSE_OBJECT) depth--
    if (values > most) throw broken(`${what}: expected at most ${most} values`)
    if (depth > MAX_DEPTH) throw broken(`${what}: expected at most ${MAX_DEPTH} values inside each other`)
  }
}

export function isObject(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

async function readBounded(path: string): Promise<Buffer> {
  const { file, size } = await openRegular(path, path)
  try {
    if (size > MAX_JSON_BYTES) throw broken(`${path}: expected at most ${MAX_JSON_BYTES} bytes, got ${size}`)
    return await readPart(file, 0, size, path)
  } finally {
    await file.close()
  }
}
