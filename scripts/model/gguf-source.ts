/** Models in GGUF files: llama (with its relatives mistral and smollm), qwen2 and qwen3. */
import type { Matrix } from './formats.js'
import { type GgufHeader, type GgufTensor, readGgufHeader } from './gguf.js'
import { decodeTensor } from './gguf-blocks.js'
import { readGgufTokenizer } from './gguf-tokenizer.js'
import { type LayerMatrix, type LayerVector, type LlamaShape, matrixSize, vectorLength } from './llama-graph.js'
import { broken, openRegular, readPart } from './model-file.js'
import { checkFinite, checkShape, type ModelSource, ropeFrequencies } from './source.js'

const ARCHITECTURES = ['llama', 'qwen2', 'qwen3'] as const

/** What a layer's matrices are called in such files, between `blk.N.` and `.weight`. */
export const MATRICES: Readonly<Record<LayerMatrix, string>> = {
  q: 'attn_q',
  k: 'attn_k',
  v: 'attn_v',
  o: 'attn_output',
  gate: 'ffn_gate',
  up: 'ffn_up',
  down: 'ffn_down',
}
const VECTORS: Readonly<Record<LayerVector, string>> = {
  norm1: 'attn_norm.weight',
  norm2: 'ffn_norm.weight',
  'q.bias': 'attn_q.bias',
  'k.bias': 'attn_k.bias',
  'v.bias': 'attn_v.bias',
  'q.norm': 'attn_q_norm.weight',
  'k.norm': 'attn_k_norm.weight',
}

/** @throws ModelFileError. The file stays open until `close`. */
export async function openGguf(path: string): Promise<ModelSource> {
  const { file } = await openRegular(path, path)
  try {
    const header = await readGgufHeader(file)
    const { metadata, tensors } = header
    const architecture = metadata.get('general.architecture')
    const family = ARCHITECTURES.find((known) => known === architecture)
    if (family === undefined) {
      const got = typeof architecture === 'string' ? architecture.slice(0, 40) : 'none'
      throw broken(`expected an architecture of ${ARCHITECTURES.join(', ')}, got ${got}`)
    }
    if ([...tensors.keys()].some((name) => name.includes('_exps')))
      throw broken('mixtures of experts are not supported')
    const tokenizer = readGgufTokenizer(header)
    const read = async (name: string, shape: readonly number[]): Promise<Float32Array> => {
      const tensor = tensorOf(header, name)
      if (tensor.shape.join() !== shape.join()) {
        throw broken(`${name}: expected the shape ${shape.join('×')}, got ${tensor.shape.join('×')}`)
      }
      return checkFinite(name, decodeTensor(tensor.type, await readPart(file, tensor.offset, tensor.bytes, name)))
    }
    const factors = tensors.has('rope_freqs.weight')
      ? await read('rope_freqs.weight', tensorOf(header, 'rope_freqs.weight').shape)
      : undefined
    const shape = checkShape(shapeOf(header, family, tokenizer.vocabularySize, factors))
    const matrix = async (name: string, rows: number, columns: number): Promise<Matrix> => ({
      rows,
      columns,
      values: await read(name, [columns, rows]),
    })
    const { hiddenSize, vocabularySize } = shape
    return {
      family,
      title: titleOf(metadata.get('general.name')),
      license: licenseOf(metadata.get('general.license')),
      shape,
      eosTokenIds: tokenizer.eosTokenIds,
      tokenizerJson: Buffer.from(JSON.stringify(tokenizer.tokenizer)),
      tokenizerConfigJson: Buffer.from(JSON.stringify(tokenizer.config)),
      template: templateOf(metadata.get('tokenizer.chat_template')),
      weights: {
        embedding: () => matrix('token_embd.weight', vocabularySize, hiddenSize),
        head: () => matrix('output.weight', vocabularySize, hiddenSize),
        finalNorm: () => read('output_norm.weight', [hiddenSize]),
        matrix: (layer, name) => matrix(`blk.${layer}.${MATRICES[name]}.weight`, ...matrixSize(shape, name)),
        vector: (layer, name) => read(`blk.${layer}.${VECTORS[name]}`, [vectorLength(shape, name)]),
      },
      close: () => file.close(),
    }
  } catch (error) {
    await file.close()
    throw error
  }
}

function tensorOf({ tensors }: GgufHeader, name: string): GgufTensor {
  const tensor = tensors.get(name)
  if (tensor === undefined) throw broken(`${name}: is missing`)
  return tensor
}

function shapeOf(
  { metadata, tensors }: GgufHeader,
  family: (typeof ARCHITECTURES)[number],
  vocabularySize: number,
  factors: Float32Array | undefined,
): LlamaShape {
  const number = (key: string, fallback?: number): number => {
    const value = metadata.get(`${family}.${key}`) ?? fallback
    if (typeof value !== 'number') throw broken(`${family}.${key}: expected a number`)
    return value
  }
  const scaling = metadata.get(`${family}.rope.scaling.type`)
  if (scaling !== undefined && scaling !== 'none') throw broken('this way of scaling rotary positions is not supported')
  const heads = number('attention.head_count')
  const hiddenSize = number('embedding_length')
  const headSize = number('attention.key_length', hiddenSize / heads)
  return {
    layers: number('block_count'),
    hiddenSize,
    heads,
    kvHeads: number('attention.head_count_kv', heads),
    headSize,
    feedForwardSize: number('feed_forward_length'),
    vocabularySize,
    contextLength: number('context_length'),
    normEpsilon: number('attention.layer_norm_rms_epsilon'),
    ropeFrequencies: ropeFrequencies(Math.max(0, Math.min(4096, headSize)), number('rope.freq_base', 10_000), factors),
    // Converters reorder the rows of Llama's queries and keys, so that pairs are neighbours.
    ropeInterleaved: family === 'llama',
    attentionBias: tensors.has('blk.0.attn_q.bias'),
    headNorms: tensors.has('blk.0.attn_q_norm.weight'),
    tiedEmbeddings: !tensors.has('output.weight'),
  }
}

function titleOf(value: unknown): string {
  const title =
    typeof value === 'string'
      ? value
          .slice(0, 1000)
          .replace(/\p{Cc}/gu, ' ')
          .trim()
          .slice(0, 200)
      : ''
  return title === '' ? 'Imported model' : title
}

function licenseOf(value: unknown): string | undefined {
  if (typeof value !== 'string' || !/^[A-Za-z0-9 .+()-]{1,200}$/.test(value)) return undefined
  return value === 'apache-2.0' ? 'Apache-2.0' : value === 'mit' ? 'MIT' : value
}

function templateOf(value: unknown): string {
  if (typeof value === 'string' && value.length > 0 && value.length < 1 << 20) return value
  throw broken('the file has no chat template')
}
