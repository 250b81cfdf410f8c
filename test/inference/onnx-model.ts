/**
 * Small models as ONNX folders, with random weights: graphs as the builder of onnxruntime-genai writes them, and as exporters
 * for transformers.js do. A draft can be changed at will before it is encoded.
 */
import { copyFile, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createWireWriter, type WireWriter } from '../../enclave/inference/onnx/wire.js'
import { randomWeights, SMALL } from '../../scripts/bench/random-model.js'
import type { Matrix } from '../../scripts/model/formats.js'
import type { LlamaShape } from '../../scripts/model/llama-graph.js'
import { PACKAGE_DIRECTORY } from './model.js'

type Value = number | string | readonly number[] | { readonly float: number } | DraftTensor

export interface DraftTensor {
  name: string
  /** TensorProto.DataType. */
  type: number
  shape: number[]
  bytes: Uint8Array
  /** Entries of external_data that are to differ. */
  place?: Record<string, string>
}

export interface DraftNode {
  operator: string
  inputs: string[]
  outputs: string[]
  attributes: Record<string, Value>
}

export interface Draft {
  shape: LlamaShape
  nodes: DraftNode[]
  tensors: DraftTensor[]
  inputs: [name: string, type: number, shape: (number | string)[]][]
  outputs: [name: string, type: number, shape: (number | string)[]][]
  /** config.json or genai_config.json. */
  // biome-ignore lint/suspicious/noExplicitAny: the point is to break it
  config: any
}

/** How the matrices of a draft are kept. */
export type Kept = 'float' | 'half' | 'int4' | 'int4-zeros' | 'int8' | 'bytes' | 'codes'

export const INT64 = 7
const [FLOAT, UINT8, HALF] = [1, 2, 10]

export interface DraftOptions {
  readonly shape: LlamaShape
  readonly kept?: Kept
  /** The matrices are what `kept` makes of them, but kept as they are: what the same model in other bits is held against. */
  readonly decoded?: boolean
  readonly family?: string
}

interface Pen {
  readonly draft: Draft
  node(operator: string, inputs: string[], attributes?: Record<string, Value>, outputs?: string[]): string
  tensor(name: string, shape: number[], values: Float32Array): string
  whole(values: number[], shape?: number[]): string
  number(value: number): string
  /** `x · matrixᵀ`. */
  product(name: string, x: string, matrix: Matrix): string
}

function createPen({ shape, kept = 'float', decoded = false }: DraftOptions): Pen {
  const draft: Draft = { shape, nodes: [], tensors: [], inputs: [], outputs: [], config: {} }
  let count = 0
  const raw = (name: string, type: number, dims: number[], data: ArrayBufferView): string => {
    draft.tensors.push({
      name,
      type,
      shape: dims,
      bytes: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
    })
    return name
  }
  const pen: Pen = {
    draft,
    node(operator, inputs, attributes = {}, outputs = [`${operator.split(':').at(-1)}_${count++}`]) {
      draft.nodes.push({ operator, inputs, outputs, attributes })
      return outputs[0] ?? ''
    },
    tensor(name, dims, values) {
      return kept === 'half' && !decoded
        ? raw(name, HALF, dims, Uint16Array.from(values, toHalf))
        : raw(name, FLOAT, dims, values)
    },
    whole(values, dims = [values.length]) {
      const value: DraftTensor = {
        name: '',
        type: INT64,
        shape: dims,
        bytes: new Uint8Array(BigInt64Array.from(values, BigInt).buffer),
      }
      return pen.node('Constant', [], { value })
    },
    number(value) {
      const bytes = new Uint8Array(
        kept === 'half' && !decoded ? Uint16Array.of(toHalf(value)).buffer : Float32Array.of(value).buffer,
      )
      const type = kept === 'half' && !decoded ? HALF : FLOAT
      return pen.node('Constant', [], { value: { name: '', type, shape: [], bytes } })
    },
    product(name, x, matrix) {
      const { rows, columns } = matrix
      if (decoded || kept === 'float' || kept === 'half') {
        const { values } = decoded ? decode(matrix, kept) : matrix
        return pen.node('MatMul', [x, pen.tensor(`${name}.weight`, [columns, rows], turn({ rows, columns, values }))])
      }
      if (kept === 'bytes' || kept === 'codes') {
        const { codes, scale, zero } = inBytes(matrix)
        const data = raw(
          `${name}.weight_quantized`,
          UINT8,
          [columns, rows],
          Uint8Array.from(turn({ rows, columns, values: Float32Array.from(codes) })),
        )
        const scaled = raw(`${name}.weight_scale`, FLOAT, [], Float32Array.of(scale))
        const zeros = raw(`${name}.weight_zero_point`, UINT8, [], Uint8Array.of(zero))
        if (kept === 'codes') return pen.node('MatMul', [x, pen.node('DequantizeLinear', [data, scaled, zeros])])
        const [input, by, from] = ['q', 's', 'z'].map((part) => `${name}.input.${part}`) as [string, string, string]
        pen.node('DynamicQuantizeLinear', [x], {}, [input, by, from])
        const sum = pen.node('Cast', [pen.node('MatMulInteger', [input, data, from, zeros])], { to: FLOAT })
        return pen.node('Mul', [sum, pen.node('Mul', [by, scaled])])
      }
      const { codes, scales, zeros, bits } = inBlocks(matrix, kept)
      const perRow = Math.ceil(columns / BLOCK)
      const inputs = [
        x,
        raw(`${name}.weight_Q${bits}`, UINT8, [rows, perRow, (BLOCK * bits) / 8], pack(codes, bits)),
        raw(`${name}.weight_scales`, FLOAT, [rows * perRow], scales),
      ]
      // Each row of zero points is of whole bytes.
      if (kept === 'int4-zeros') {
        const stride = perRow + (perRow % 2)
        const padded = new Uint8Array(rows * stride)
        for (const [at, zero] of zeros.entries()) padded[Math.floor(at / perRow) * stride + (at % perRow)] = zero
        inputs.push(raw(`${name}.weight_zp`, UINT8, [(rows * stride) / 2], pack(padded, 4)))
      }
      return pen.node('com.microsoft:MatMulNBits', inputs, { K: columns, N: rows, bits, block_size: BLOCK })
    },
  }
  return pen
}

/** As onnxruntime-genai's builder writes decoders for processors. */
export async function genaiDraft(options: DraftOptions): Promise<Draft> {
  const pen = createPen(options)
  const { shape } = options
  const { draft, node, tensor, whole, product } = pen
  const weights = randomWeights(shape, 3)
  const { hiddenSize, heads, kvHeads, headSize, vocabularySize, contextLength } = shape
  const type = options.kept === 'half' && !options.decoded ? HALF : FLOAT
  const epsilon = { float: shape.normEpsilon }
  draft.inputs.push(['input_ids', INT64, ['batch', 'sequence']], ['attention_mask', INT64, ['batch', 'total']])
  draft.outputs.push(['logits', type, ['batch', 'sequence', vocabularySize]])
  const one = whole([1])
  const lengths = node('Cast', [node('Sub', [node('ReduceSum', ['attention_mask', one], { keepdims: 0 }), one])], {
    to: 6,
  })
  const total = node('Cast', [node('Gather', [node('Shape', ['attention_mask']), whole([1], [])], { axis: 0 })], {
    to: 6,
  })
  for (const [name, wave] of [
    ['cos_cache', Math.cos],
    ['sin_cache', Math.sin],
  ] as const) {
    const half = headSize / 2
    const values = Float32Array.from({ length: contextLength * half }, (_, at) =>
      wave(Math.fround(Math.floor(at / half) * (shape.ropeFrequencies[at % half] ?? 0))),
    )
    tensor(name, [contextLength, half], values)
  }
  const kept = options.kept ?? 'float'
  const inBits = kept.startsWith('int') && shape.tiedEmbeddings
  const table = await weights.embedding()
  // Where the output is the embedding once more, there is one tensor for both.
  let x: string
  if (shape.tiedEmbeddings && kept === 'float') {
    x = node('Gather', [node('Transpose', ['lm_head.weight'], { perm: [1, 0] }), 'input_ids'])
  } else if (inBits && !options.decoded) {
    const bits = kept === 'int8' ? 8 : 4
    const data = node('Reshape', [`lm_head.weight_Q${bits}`, whole([vocabularySize, (hiddenSize * bits) / 8])])
    const inputs = [data, 'input_ids', 'lm_head.weight_scales', ...(kept === 'int4-zeros' ? ['lm_head.weight_zp'] : [])]
    x = node('com.microsoft:GatherBlockQuantized', inputs, {
      bits,
      block_size: BLOCK,
      gather_axis: 0,
      quantize_axis: 1,
    })
  } else {
    const { values } = options.decoded && (kept === 'half' || inBits) ? decode(table, kept) : table
    x = node('Gather', [tensor('model.embed_tokens.weight', [vocabularySize, hiddenSize], values), 'input_ids'])
  }
  let branch = ''
  const norm = (name: string, gain: Float32Array): string => {
    const by = tensor(name, [hiddenSize], gain)
    if (branch === '') return node('SimplifiedLayerNormalization', [x, by], { axis: -1, epsilon, stash_type: 1 })
    const outputs = [`${name}.out`, '', '', `${name}.sum`]
    node('com.microsoft:SkipSimplifiedLayerNormalization', [x, branch, by], { epsilon }, outputs)
    x = `${name}.sum`
    return `${name}.out`
  }
  for (let layer = 0; layer < shape.layers; layer++) {
    const p = `model.layers.${layer}`
    const h = norm(`${p}.input_layernorm.weight`, await weights.vector(layer, 'norm1'))
    const parts = await Promise.all((['q', 'k', 'v'] as const).map((name) => weights.matrix(layer, name)))
    const all = {
      rows: parts.reduce((sum, part) => sum + part.rows, 0),
      columns: hiddenSize,
      values: joined(parts.map((part) => part.values)),
    }
    let qkv = product(`${p}.attn.qkv_proj`, h, all)
    if (shape.attentionBias) {
      const biases = await Promise.all((['q', 'k', 'v'] as const).map((name) => weights.vector(layer, `${name}.bias`)))
      qkv = node('Add', [qkv, tensor(`${p}.attn.qkv_proj.Add.bias`, [all.rows], joined(biases))])
    }
    let operands = [qkv, '', '']
    if (shape.headNorms) {
      const split = ['q', 'k', 'v'].map((name) => `${p}.${name}.split`)
      node('Split', [qkv, whole(parts.map(({ rows }) => rows))], { axis: -1 }, split)
      operands = [...split]
      for (const [index, name] of (['q', 'k'] as const).entries()) {
        const gain = tensor(`${p}.attn.${name}_norm.weight`, [headSize], await weights.vector(layer, `${name}.norm`))
        const apart = node('Reshape', [split[index] ?? '', whole([0, -1, headSize])])
        const normed = node('SimplifiedLayerNormalization', [apart, gain], { axis: -1, epsilon, stash_type: 1 })
        operands[index] = node('Reshape', [normed, whole([0, -1, parts[index]?.rows ?? 0])])
      }
    }
    const names = ['key', 'value'].map((part) => `${layer}.${part}`)
    for (const name of names) {
      draft.inputs.push([`past_key_values.${name}`, type, ['batch', kvHeads, 'past', headSize]])
      draft.outputs.push([`present.${name}`, type, ['batch', kvHeads, 'total', headSize]])
    }
    const attended = node(
      'com.microsoft:GroupQueryAttention',
      [
        ...operands,
        ...names.map((name) => `past_key_values.${name}`),
        lengths,
        total,
        'cos_cache',
        'sin_cache',
        '',
        '',
        '',
      ],
      {
        num_heads: heads,
        kv_num_heads: kvHeads,
        scale: { float: headSize ** -0.5 },
        local_window_size: -1,
        softcap: { float: 0 },
        do_rotary: 1,
        rotary_interleaved: 0,
      },
      [`${p}.attended`, ...names.map((name) => `present.${name}`)],
    )
    branch = product(`${p}.attn.o_proj`, attended, await weights.matrix(layer, 'o'))
    const m = norm(`${p}.post_attention_layernorm.weight`, await weights.vector(layer, 'norm2'))
    branch = await feedForward(pen, weights, p, layer, m)
  }
  const final = norm('model.norm.weight', await weights.finalNorm())
  await addHead(pen, weights, final)
  draft.config = {
    model: {
      bos_token_id: 1,
      eos_token_id: [2],
      context_length: contextLength,
      vocab_size: vocabularySize,
      type: options.family ?? 'llama',
      decoder: {
        filename: 'model.onnx',
        head_size: headSize,
        hidden_size: hiddenSize,
        num_attention_heads: heads,
        num_key_value_heads: kvHeads,
        num_hidden_layers: shape.layers,
      },
    },
    search: { max_length: contextLength },
  }
  return draft
}

/** As exporters write what PyTorch does, operator by operator. */
export async function exportedDraft(options: DraftOptions): Promise<Draft> {
  const pen = createPen(options)
  const { shape } = options
  const { draft, node, tensor, whole, number, product } = pen
  const weights = randomWeights(shape, 3)
  const { hiddenSize, heads, kvHeads, headSize, vocabularySize } = shape
  draft.inputs.push(
    ['input_ids', INT64, ['batch', 'sequence']],
    ['attention_mask', INT64, ['batch', 'total']],
    ['position_ids', INT64, ['batch', 'sequence']],
  )
  draft.outputs.push(['logits', FLOAT, ['batch', 'sequence', vocabularySize]])
  const frequencies = tensor('rotary_emb.inv_freq', [1, headSize / 2, 1], Float32Array.from(shape.ropeFrequencies))
  const positions = node('Cast', [node('Unsqueeze', ['position_ids', whole([1])])], { to: FLOAT })
  const angles = node('Transpose', [node('MatMul', [frequencies, positions])], { perm: [0, 2, 1] })
  const both = node('Concat', [angles, angles], { axis: -1 })
  const [cos, sin] = ['Cos', 'Sin'].map((wave) =>
    node('Unsqueeze', [node('Mul', [node(wave, [both]), number(1)]), whole([1])]),
  ) as [string, string]
  const length = node('Gather', [node('Shape', ['attention_mask']), whole([1], [])], { axis: 0 })
  const range = node('Range', [whole([0], []), length, whole([1], [])])
  const seen = node('LessOrEqual', [range, node('Unsqueeze', ['position_ids', whole([1, 3])])])
  const mask = node('Where', [seen, number(0), number(-3.4028234663852886e38)])
  const table = await weights.embedding()
  const kept = options.kept === 'half' || options.kept === 'bytes' ? options.kept : 'float'
  const embedding = options.decoded ? decode(table, kept) : table
  let x: string
  if (options.kept === 'bytes' && !options.decoded) {
    const { codes, scale, zero } = inBytes(embedding)
    const quantised = {
      name: 'model.embed_tokens.weight_quantized',
      type: UINT8,
      shape: [vocabularySize, hiddenSize],
      bytes: codes,
    }
    draft.tensors.push(quantised)
    draft.tensors.push({
      name: 'embed.scale',
      type: FLOAT,
      shape: [],
      bytes: new Uint8Array(Float32Array.of(scale).buffer),
    })
    draft.tensors.push({ name: 'embed.zero', type: UINT8, shape: [], bytes: Uint8Array.of(zero) })
    x = node('DequantizeLinear', [node('Gather', [quantised.name, 'input_ids']), 'embed.scale', 'embed.zero'])
  } else {
    x = node('Gather', [
      tensor('model.embed_tokens.weight', [vocabularySize, hiddenSize], embedding.values),
      'input_ids',
    ])
  }
  const norm = (name: string, from: string, gain: Float32Array): string => {
    const square = node('Pow', [from, number(2)])
    const mean = node('ReduceMean', [square, whole([-1])], { keepdims: 1 })
    const root = node('Sqrt', [node('Add', [mean, number(shape.normEpsilon)])])
    const normed = node('Mul', [from, node('Div', [number(1), root])])
    return node('Mul', [tensor(name, [gain.length], gain), normed])
  }
  const rotate = (from: string): string => {
    const slice = (start: number, end: number): string =>
      node('Slice', [from, whole([start]), whole([end]), whole([3]), whole([1])])
    const turned = node('Concat', [node('Neg', [slice(headSize / 2, headSize)]), slice(0, headSize / 2)], { axis: -1 })
    return node('Add', [node('Mul', [from, cos]), node('Mul', [turned, sin])])
  }
  const repeat = (from: string): string => {
    const wide = node('Expand', [node('Unsqueeze', [from, whole([2])]), whole([1, 1, heads / kvHeads, 1, 1])])
    return node('Reshape', [wide, whole([1, heads, -1, headSize])])
  }
  for (let layer = 0; layer < shape.layers; layer++) {
    const p = `model.layers.${layer}`
    const h = norm(`${p}.input_layernorm.weight`, x, await weights.vector(layer, 'norm1'))
    const part = async (name: 'q' | 'k' | 'v', count: number): Promise<string> => {
      let out = product(`${p}.self_attn.${name}_proj`, h, await weights.matrix(layer, name))
      if (shape.attentionBias) {
        const bias = await weights.vector(layer, `${name}.bias`)
        out = node('Add', [tensor(`${p}.self_attn.${name}_proj.bias`, [bias.length], bias), out])
      }
      out = node('Reshape', [out, whole([0, 0, count, headSize])])
      if (shape.headNorms && name !== 'v')
        out = norm(`${p}.self_attn.${name}_norm.weight`, out, await weights.vector(layer, `${name}.norm`))
      return node('Transpose', [out], { perm: [0, 2, 1, 3] })
    }
    const q = rotate(await part('q', heads))
    for (const name of ['key', 'value']) {
      draft.inputs.push([`past_key_values.${layer}.${name}`, FLOAT, ['batch', kvHeads, 'past', headSize]])
      draft.outputs.push([`present.${layer}.${name}`, FLOAT, ['batch', kvHeads, 'total', headSize]])
    }
    const cached = (name: string, from: string): string =>
      node('Concat', [`past_key_values.${layer}.${name}`, from], { axis: -2 }, [`present.${layer}.${name}`])
    const k = repeat(cached('key', rotate(await part('k', kvHeads))))
    const v = repeat(cached('value', await part('v', kvHeads)))
    const scores = node('Mul', [
      node('MatMul', [q, node('Transpose', [k], { perm: [0, 1, 3, 2] })]),
      number(headSize ** -0.5),
    ])
    const shares = node('Softmax', [node('Add', [scores, mask])], { axis: -1 })
    const sum = node('Transpose', [node('MatMul', [shares, v])], { perm: [0, 2, 1, 3] })
    const attended = node('Reshape', [sum, whole([0, 0, -1])])
    x = node('Add', [x, product(`${p}.self_attn.o_proj`, attended, await weights.matrix(layer, 'o'))])
    const m = norm(`${p}.post_attention_layernorm.weight`, x, await weights.vector(layer, 'norm2'))
    x = node('Add', [x, await feedForward(pen, weights, p, layer, m)])
  }
  await addHead(pen, weights, norm('model.norm.weight', x, await weights.finalNorm()))
  draft.config = {
    model_type: options.family ?? 'llama',
    hidden_act: 'silu',
    hidden_size: hiddenSize,
    intermediate_size: shape.feedForwardSize,
    num_hidden_layers: shape.layers,
    num_attention_heads: heads,
    num_key_value_heads: kvHeads,
    head_dim: headSize,
    vocab_size: vocabularySize,
    max_position_embeddings: shape.contextLength,
    rms_norm_eps: shape.normEpsilon,
    rope_theta: 10_000,
    tie_word_embeddings: shape.tiedEmbeddings,
  }
  return draft
}

type Weights = ReturnType<typeof randomWeights>

async function feedForward(
  { node, product }: Pen,
  weights: Weights,
  p: string,
  layer: number,
  h: string,
): Promise<string> {
  const gate = product(`${p}.mlp.gate_proj`, h, await weights.matrix(layer, 'gate'))
  const up = product(`${p}.mlp.up_proj`, h, await weights.matrix(layer, 'up'))
  const gated = node('Mul', [node('Mul', [gate, node('Sigmoid', [gate])]), up])
  return product(`${p}.mlp.down_proj`, gated, await weights.matrix(layer, 'down'))
}

async function addHead({ draft, node, product }: Pen, weights: Weights, final: string): Promise<void> {
  const matrix = draft.shape.tiedEmbeddings ? await weights.embedding() : await weights.head()
  node('Identity', [product('lm_head', final, matrix)], {}, ['logits'])
}

/** The shapes of all models here. */
export const SHAPE: LlamaShape = {
  ...SMALL,
  layers: 2,
  hiddenSize: 64,
  heads: 4,
  kvHeads: 2,
  headSize: 16,
  feedForwardSize: 96,
  vocabularySize: 1024,
  contextLength: 128,
  ropeFrequencies: Float64Array.from({ length: 8 }, (_, i) => 10_000 ** (-i / 8)),
  tiedEmbeddings: false,
}
export const FAMILIES = {
  llama: SHAPE,
  mistral: SHAPE,
  qwen2: { ...SHAPE, attentionBias: true, tiedEmbeddings: true },
  qwen3: { ...SHAPE, headNorms: true },
} as const
export type Family = keyof typeof FAMILIES
const DRAFTS = { genai: genaiDraft, 'transformers.js': exportedDraft } as const
export type Layout = keyof typeof DRAFTS
export const LAYOUTS: readonly Layout[] = ['genai', 'transformers.js']

export interface Written {
  readonly directory: string
  readonly graph: string
}

/** Weights of more than a few bytes go beside the graph, unless `inline`. */
export async function writeDraft(directory: string, layout: Layout, draft: Draft, inline = false): Promise<Written> {
  const at = layout === 'genai' ? directory : join(directory, 'onnx')
  await mkdir(at, { recursive: true })
  const file = layout === 'genai' ? 'model.onnx.data' : 'model.onnx_data'
  const { model, data } = encodeDraft(draft, inline ? undefined : file)
  await writeFile(join(at, 'model.onnx'), model)
  if (!inline) await writeFile(join(at, file), data)
  await writeFile(
    join(directory, layout === 'genai' ? 'genai_config.json' : 'config.json'),
    JSON.stringify(draft.config),
  )
  if (layout === 'transformers.js') await writeFile(join(directory, 'generation_config.json'), '{"eos_token_id":[2]}')
  for (const name of ['tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja']) {
    await copyFile(join(PACKAGE_DIRECTORY, name), join(directory, name))
  }
  return { directory, graph: join(at, 'model.onnx') }
}

export async function writeModel(
  directory: string,
  layout: Layout,
  options: DraftOptions,
  change: (draft: Draft) => void = () => undefined,
  inline = false,
): Promise<Written> {
  const draft = await DRAFTS[layout](options)
  change(draft)
  return writeDraft(directory, layout, draft, inline)
}

/** The first node of an operator, or another one. */
export function nodeOf(draft: Draft, operator: string, at = 0): DraftNode {
  const node = draft.nodes.filter((one) => one.operator.split(':').at(-1) === operator).at(at)
  if (node === undefined) throw new Error(`the draft has no ${operator}`)
  return node
}

export function tensorNamed(draft: Draft, part: string): DraftTensor {
  const tensor = draft.tensors.find(({ name }) => name.includes(part))
  if (tensor === undefined) throw new Error(`the draft has no ${part}`)
  return tensor
}

/** Rotary positions apart from attention, as for processors whose attention does not rotate. */
export function rotateBefore(draft: Draft): void {
  draft.inputs.push(['position_ids', 7, ['batch', 'sequence']])
  for (const node of [...draft.nodes]) {
    if (!node.operator.endsWith('GroupQueryAttention')) continue
    for (const at of [0, 1]) {
      const [from, output] = [node.inputs[at] ?? '', `${node.outputs[0]}.${at}`]
      const inputs = [from, 'position_ids', 'cos_cache', 'sin_cache']
      const attributes = { interleaved: 0, num_heads: 0, rotary_embedding_dim: 0 }
      const rotary = { operator: 'com.microsoft:RotaryEmbedding', inputs, outputs: [output], attributes }
      draft.nodes.splice(draft.nodes.indexOf(node), 0, rotary)
      node.inputs[at] = output
    }
    node.inputs[7] = node.inputs[8] = ''
    node.attributes['do_rotary'] = 0
  }
}

export function encodeDraft(
  draft: Draft,
  file: string | undefined,
): { readonly model: Uint8Array; readonly data: Uint8Array } {
  const graph = createWireWriter()
  const parts: Uint8Array[] = []
  let offset = 0
  for (const node of draft.nodes) {
    const [operator = '', domain = ''] = node.operator.split(':').reverse()
    const message = createWireWriter()
    for (const input of node.inputs) message.bytes(1, input)
    for (const output of node.outputs) message.bytes(2, output)
    message
      .bytes(3, node.outputs[0] ?? '')
      .bytes(4, operator)
      .bytes(7, domain)
    for (const [name, value] of Object.entries(node.attributes)) message.message(5, attributeOf(name, value))
    graph.message(1, message)
  }
  graph.bytes(2, 'main_graph')
  for (const tensor of draft.tensors) {
    const external = file !== undefined && (tensor.bytes.length > 64 || tensor.place !== undefined)
    const message = tensorOf(tensor, !external)
    if (external) {
      const entries = { location: file, offset: String(offset), length: String(tensor.bytes.length), ...tensor.place }
      for (const [key, value] of Object.entries(entries))
        message.message(13, createWireWriter().bytes(1, key).bytes(2, value))
      message.int(14, 1)
      parts.push(tensor.bytes)
      offset += tensor.bytes.length
    }
    graph.message(5, message)
  }
  for (const [field, values] of [
    [11, draft.inputs],
    [12, draft.outputs],
  ] as const) {
    for (const [name, type, shape] of values) graph.message(field, infoOf(name, type, shape))
  }
  const opset = (domain: string, version: number): WireWriter => createWireWriter().bytes(1, domain).int(2, version)
  const model = createWireWriter()
    .int(1, 10)
    .message(7, graph)
    .message(8, opset('', 21))
    .message(8, opset('com.microsoft', 1))
  return { model: model.finish(), data: joinedBytes(parts) }
}

function tensorOf({ name, type, shape, bytes }: DraftTensor, inline: boolean): WireWriter {
  const message = createWireWriter()
  for (const size of shape) message.int(1, size)
  message.int(2, type).bytes(8, name)
  return inline ? message.bytes(9, bytes) : message
}

function attributeOf(name: string, value: Value): WireWriter {
  const message = createWireWriter().bytes(1, name)
  if (typeof value === 'number') return message.int(3, value).int(20, 2)
  if (typeof value === 'string') return message.bytes(4, value).int(20, 3)
  if ('float' in value) return message.float(2, value.float).int(20, 1)
  if ('bytes' in value) return message.message(5, tensorOf(value, true)).int(20, 4)
  for (const item of value) message.int(8, item)
  return message.int(20, 7)
}

function infoOf(name: string, type: number, shape: readonly (number | string)[]): WireWriter {
  const dimensions = createWireWriter()
  for (const size of shape) {
    const dimension = createWireWriter()
    dimensions.message(1, typeof size === 'number' ? dimension.int(1, size) : dimension.bytes(2, size))
  }
  const tensorType = createWireWriter().int(1, type).message(2, dimensions)
  return createWireWriter().bytes(1, name).message(2, createWireWriter().message(1, tensorType))
}

const BLOCK = 32

interface Blocks {
  readonly codes: Uint8Array
  readonly scales: Float32Array
  readonly zeros: Uint8Array
  readonly bits: 4 | 8
}

/** Blocks along each row; the last one of a row may have room left. */
function inBlocks({ rows, columns, values }: Matrix, kept: Kept): Blocks {
  const bits = kept === 'int8' ? 8 : 4
  const perRow = Math.ceil(columns / BLOCK)
  const codes = new Uint8Array(rows * perRow * BLOCK)
  const [scales, zeros] = [new Float32Array(rows * perRow), new Uint8Array(rows * perRow)]
  for (let block = 0; block < rows * perRow; block++) {
    const start = Math.floor(block / perRow) * columns + (block % perRow) * BLOCK
    const part = values.subarray(start, Math.min(start + BLOCK, Math.floor(block / perRow + 1) * columns))
    const [low, high] = [Math.min(0, ...part), Math.max(0, ...part)]
    const most = 2 ** bits - 1
    const symmetric = kept !== 'int4-zeros'
    const scale = Math.fround(symmetric ? Math.max(-low, high) / (2 ** (bits - 1) - 1) : (high - low) / most)
    const zero = symmetric ? 2 ** (bits - 1) : Math.round(-low / scale)
    scales[block] = scale
    zeros[block] = zero
    for (const [index, value] of part.entries()) {
      codes[block * BLOCK + index] = Math.max(0, Math.min(most, Math.round(value / scale) + zero))
    }
  }
  return { codes, scales, zeros, bits }
}

function inBytes({ values }: Pick<Matrix, 'values'>): {
  readonly codes: Uint8Array
  readonly scale: number
  readonly zero: number
} {
  let [low, high] = [0, 0]
  for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)]
  const scale = Math.fround((high - low) / 255)
  const zero = Math.round(-low / scale)
  return {
    codes: Uint8Array.from(values, (value) => Math.max(0, Math.min(255, Math.round(value / scale) + zero))),
    scale,
    zero,
  }
}

/** What is left of a matrix after it was kept in fewer bits. */
function decode(matrix: Matrix, kept: Kept): Matrix {
  const { rows, columns, values } = matrix
  if (kept === 'float') return matrix
  if (kept === 'half') return { rows, columns, values: values.map((value) => fromHalf(toHalf(value))) }
  if (kept === 'bytes' || kept === 'codes') {
    const { codes, scale, zero } = inBytes(matrix)
    return { rows, columns, values: Float32Array.from(codes, (code) => (code - zero) * scale) }
  }
  const { codes, scales, zeros } = inBlocks(matrix, kept)
  const perRow = Math.ceil(columns / BLOCK)
  const decoded = values.map((_, index) => {
    const [row, column] = [Math.floor(index / columns), index % columns]
    const block = row * perRow + Math.floor(column / BLOCK)
    return ((codes[block * BLOCK + (column % BLOCK)] ?? 0) - (zeros[block] ?? 0)) * (scales[block] ?? 0)
  })
  return { rows, columns, values: decoded }
}

/** Two codes of four bits a byte, the lower first. */
function pack(codes: Uint8Array, bits: 4 | 8): Uint8Array {
  if (bits === 8) return codes
  return Uint8Array.from(
    { length: codes.length / 2 },
    (_, at) => (codes[2 * at] ?? 0) | ((codes[2 * at + 1] ?? 0) << 4),
  )
}

function turn({ rows, columns, values }: Matrix): Float32Array {
  const out = new Float32Array(values.length)
  for (let at = 0; at < values.length; at++) out[(at % columns) * rows + Math.floor(at / columns)] = values[at] ?? 0
  return out
}

/** IEEE 754 binary16, rounded to the nearest; for numbers of the size of weights. */
function toHalf(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0
  const size = Math.abs(value)
  if (size >= 65_504) return sign | 0x7bff
  const exponent = Math.max(-14, Math.floor(Math.log2(size || 2 ** -30)))
  const fraction = Math.round((size / 2 ** exponent) * 1024)
  return sign | (fraction < 1024 ? fraction : ((exponent + 15) << 10) + (fraction - 1024))
}

function fromHalf(half: number): number {
  const [exponent, fraction] = [(half >> 10) & 31, half & 1023]
  const size = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15)
  return half & 0x8000 ? -size : size
}

function joined(parts: readonly Float32Array[]): Float32Array {
  const out = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.length
  }
  return out
}

function joinedBytes(parts: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(parts)
}
