/** A GGUF file of a shape with random blocks: speed does not depend on the weights, and another runtime reads only these. */
import { open } from 'node:fs/promises'
import { createRandom } from '../../enclave/inference/sampler.js'
import { GGML_TYPES } from '../model/gguf-blocks.js'
import { MATRICES } from '../model/gguf-source.js'
import { type LayerMatrix, type LlamaShape, matrixSize } from '../model/llama-graph.js'

const u32 = (value: number): Buffer => Buffer.from(Uint32Array.of(value).buffer)
const u64 = (value: number): Buffer => Buffer.from(BigUint64Array.of(BigInt(value)).buffer)
const text = (value: string): Buffer => Buffer.concat([u64(Buffer.byteLength(value)), Buffer.from(value)])
const [U32, F32, STRING, ARRAY, I32] = [4, 6, 8, 9, 5] as const

/** Scales that keep outputs near the size of inputs: 1.0 / √inputs over the spread of the codes, as a half of about that. */
const HALF_SCALE = { Q8_0: 0x1000, Q4_0: 0x2000 } as const

export async function writeRandomGguf(path: string, shape: LlamaShape, type: 'Q8_0' | 'Q4_0'): Promise<void> {
  const { layers, hiddenSize, vocabularySize } = shape
  const tensors: { name: string; dims: number[]; plain: boolean }[] = []
  const add = (name: string, dims: number[]): void => void tensors.push({ name, dims, plain: dims.length === 1 })
  add('token_embd.weight', [hiddenSize, vocabularySize])
  for (let layer = 0; layer < layers; layer++) {
    add(`blk.${layer}.attn_norm.weight`, [hiddenSize])
    add(`blk.${layer}.ffn_norm.weight`, [hiddenSize])
    for (const [name, key] of Object.entries(MATRICES) as [LayerMatrix, string][]) {
      const [rows, columns] = matrixSize(shape, name)
      add(`blk.${layer}.${key}.weight`, [columns, rows])
    }
  }
  add('output_norm.weight', [hiddenSize])

  const metadata = metadataOf(shape)
  const { blockBytes } = GGML_TYPES[type]
  let offset = 0
  const entries = tensors.map(({ name, dims, plain }) => {
    const entry = Buffer.concat([
      text(name),
      u32(dims.length),
      ...dims.map(u64),
      u32(plain ? 0 : GGML_TYPES[type].code),
      u64(offset),
    ])
    const count = dims.reduce((product, n) => product * n, 1)
    const bytes = plain ? count * 4 : (count / 32) * blockBytes
    offset += Math.ceil(bytes / 32) * 32
    return { entry, bytes, plain }
  })
  const file = await open(path, 'wx')
  try {
    const head = Buffer.concat([
      Buffer.from('GGUF'),
      u32(3),
      u64(tensors.length),
      u64(metadata.length),
      ...metadata,
      ...entries.map(({ entry }) => entry),
    ])
    await file.writeFile(Buffer.concat([head, Buffer.alloc((32 - (head.length % 32)) % 32)]))
    for (const { bytes, plain } of entries) {
      const data = plain
        ? Buffer.from(new Float32Array(bytes / 4).fill(1).buffer)
        : randomBlocks(bytes, blockBytes, HALF_SCALE[type])
      await file.writeFile(Buffer.concat([data, Buffer.alloc((32 - (data.length % 32)) % 32)]))
    }
  } finally {
    await file.close()
  }
}

function randomBlocks(bytes: number, blockBytes: number, scale: number): Buffer {
  const random = createRandom(7)
  // A stretch of a prime number of blocks, repeated: no two rows are alike, and it takes no time.
  const stretch = Buffer.alloc(blockBytes * 4099)
  for (let at = 0; at < stretch.length; at++) stretch[at] = Math.floor(random() * 256)
  for (let at = 0; at < stretch.length; at += blockBytes) stretch.writeUInt16LE(scale, at)
  return Buffer.alloc(bytes, stretch)
}

function metadataOf(shape: LlamaShape): Buffer[] {
  const entry = (key: string, type: number, value: Buffer): Buffer => Buffer.concat([text(key), u32(type), value])
  const number = (key: string, value: number): Buffer => entry(`llama.${key}`, U32, u32(value))
  const words = Array.from({ length: shape.vocabularySize }, (_, i) => (i < 2 ? ['<|s|>', '<|e|>'][i] : `w${i}`) ?? '')
  return [
    entry('general.architecture', STRING, text('llama')),
    number('block_count', shape.layers),
    number('context_length', shape.contextLength),
    number('embedding_length', shape.hiddenSize),
    number('feed_forward_length', shape.feedForwardSize),
    number('attention.head_count', shape.heads),
    number('attention.head_count_kv', shape.kvHeads),
    number('rope.dimension_count', shape.headSize),
    entry('llama.attention.layer_norm_rms_epsilon', F32, Buffer.from(Float32Array.of(shape.normEpsilon).buffer)),
    entry('tokenizer.ggml.model', STRING, text('gpt2')),
    entry('tokenizer.ggml.pre', STRING, text('smollm')),
    entry('tokenizer.ggml.tokens', ARRAY, Buffer.concat([u32(STRING), u64(words.length), ...words.map(text)])),
    entry(
      'tokenizer.ggml.token_type',
      ARRAY,
      Buffer.concat([u32(I32), u64(words.length), ...words.map((_, i) => u32(i < 2 ? 3 : 1))]),
    ),
    entry('tokenizer.ggml.merges', ARRAY, Buffer.concat([u32(STRING), u64(1), text('a b')])),
    entry('tokenizer.ggml.bos_token_id', U32, u32(0)),
    entry('tokenizer.ggml.eos_token_id', U32, u32(1)),
  ]
}
