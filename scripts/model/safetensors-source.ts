/** Models in Hugging Face folders whose weights are in *.safetensors files. */
import { type FileHandle, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { Matrix } from './formats.js'
import { decodeTensor, type GgmlType } from './gguf-blocks.js'
import { endTokens, familyOf, isObject, parseObject, readJson, readTexts, shapeOf } from './hf-config.js'
import { type LayerMatrix, type LayerVector, matrixSize, vectorLength } from './llama-graph.js'
import { broken, openRegular, readPart } from './model-file.js'
import { checkFinite, expectApart, type ModelSource } from './source.js'

const MAX_HEADER_BYTES = 64 * 1024 * 1024
/** Each stays open while the model is read. */
const MAX_FILES = 512
const TYPES = ['F32', 'F16', 'BF16'] as const satisfies readonly GgmlType[]

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
  const family = familyOf(config['model_type'], 'config.json')
  const files: FileHandle[] = []
  const close = async (): Promise<void> => {
    for (const file of files) await file.close()
  }
  try {
    const tensors = await openTensors(directory, files)
    for (const name of ['self_attn.o_proj', 'mlp.gate_proj', 'mlp.up_proj', 'mlp.down_proj']) {
      const bias = `model.layers.0.${name}.bias`
      if (tensors.has(bias)) throw broken(`${bias}: biases are supported for queries, keys and values only`)
    }
    const shape = shapeOf(config, {
      attentionBias: tensors.has('model.layers.0.self_attn.q_proj.bias'),
      headNorms: tensors.has('model.layers.0.self_attn.q_norm.weight'),
      tiedEmbeddings: config['tie_word_embeddings'] === true || !tensors.has('lm_head.weight'),
    })
    const read = async (name: string, expected: readonly number[]): Promise<Float32Array> => {
      const placed = tensors.get(name)
      if (placed === undefined) throw broken(`${name}: is missing`)
      if (placed.shape.join() !== expected.join()) {
        throw broken(`${name}: expected the shape ${expected.join('×')}, got ${placed.shape.join('×')}`)
      }
      return checkFinite(
        name,
        decodeTensor(placed.type, await readPart(placed.file, placed.offset, placed.bytes, name)),
      )
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
      eosTokenIds: await endTokens(directory, config, 'config.json'),
      ...(await readTexts(directory)),
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

async function openTensors(directory: string, files: FileHandle[]): Promise<ReadonlyMap<string, Placed>> {
  const tensors = new Map<string, Placed>()
  const names = (await readdir(directory)).filter((name) => name.endsWith('.safetensors')).sort()
  if (names.length === 0) throw broken('the folder has no .safetensors file')
  if (names.length > MAX_FILES) throw broken(`expected at most ${MAX_FILES} .safetensors files, got ${names.length}`)
  for (const name of names) {
    const { file, size } = await openRegular(join(directory, name), name)
    files.push(file)
    const length = Number((await readPart(file, 0, 8, name)).readBigUInt64LE())
    if (length > MAX_HEADER_BYTES || length + 8 > size)
      throw broken(`${name}: its header is larger than the file or than allowed`)
    const text = await readPart(file, 8, length, name)
    const own: Placed[] = []
    for (const [key, entry] of Object.entries(parseObject(text, name))) {
      if (key === '__metadata__') continue
      if (tensors.has(key)) throw broken(`${key.slice(0, 128)}: is there twice`)
      const tensor = placed(file, name, entry, 8 + length, size)
      tensors.set(key, tensor)
      own.push(tensor)
    }
    expectApart(name, own)
  }
  return tensors
}

function placed(file: FileHandle, name: string, entry: unknown, start: number, size: number): Placed {
  if (!isObject(entry)) throw broken(`${name}: expected each tensor to be an object`)
  const type = TYPES.find((known) => known === entry['dtype'])
  const shape = entry['shape']
  const offsets = entry['data_offsets']
  if (type === undefined) throw broken(`${name}: tensors must be of ${TYPES.join(', ')}`)
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
