/** ONNX folders that cannot be understood, or are not what they should be: refused by name, and nothing left behind. */
import { mkdtemp, readdir, rm, symlink, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createWireWriter } from '../../enclave/inference/onnx/wire.js'
import { importModel } from '../../scripts/model/import.js'
import { readGraph } from '../../scripts/model/onnx/graph.js'
import { openOnnxModel } from '../../scripts/model/onnx-source.js'
import { SubrosaError } from '../../verifier/protocol/errors.js'
import {
  type Draft,
  type DraftOptions,
  encodeDraft,
  genaiDraft,
  INT64,
  type Kept,
  type Layout,
  nodeOf as of,
  SHAPE,
  tensorNamed as tensor,
  writeDraft,
  writeModel,
} from './onnx-model.js'

let folder: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'onnx-import-'))
})

afterEach(() => rm(folder, { recursive: true }))

const OPTIONS = { format: 'fp32', id: 'imported', license: 'MIT' } as const

const write = (layout: Layout, options: DraftOptions, change?: (draft: Draft) => void) =>
  writeModel(join(folder, 'source'), layout, options, change)
/** One number as a tensor of the graph; returns its name. */
function wholeNumber(draft: Draft, value: number): string {
  const bytes = new Uint8Array(BigInt64Array.of(BigInt(value)).buffer)
  draft.tensors.push({ name: `whole.${value}`, type: INT64, shape: [1], bytes })
  return `whole.${value}`
}
const set =
  (operator: string, attributes: Record<string, number | string | { float: number }>) =>
  (draft: Draft): void =>
    void Object.assign(of(draft, operator).attributes, attributes)

describe('what cannot be mapped is refused by name, and leaves nothing behind', () => {
  it.each<readonly [string, Layout, (draft: Draft) => void, RegExp]>([
    // The folder.
    [
      'another family',
      'genai',
      (d) => {
        d.config.model.type = 'phi3'
      },
      /genai_config.*llama.*got phi3/,
    ],
    [
      'another model type',
      'transformers.js',
      (d) => {
        d.config.model_type = 'gemma'
      },
      /config.json.*got gemma/,
    ],
    ['no decoder', 'genai', (d) => void delete d.config.model.decoder, /model.decoder: expected an object/],
    [
      'a pipeline of graphs',
      'genai',
      (d) => {
        d.config.model.decoder.pipeline = []
      },
      /pipeline is not supported/,
    ],
    [
      'a window',
      'genai',
      (d) => {
        d.config.model.decoder.sliding_window = {}
      },
      /sliding_window is not supported/,
    ],
    [
      'a graph elsewhere',
      'genai',
      (d) => {
        d.config.model.decoder.filename = '../model.onnx'
      },
      /filename/,
    ],
    [
      'a graph that is none',
      'genai',
      (d) => {
        d.config.model.decoder.filename = 'tokenizer.json'
      },
      /filename/,
    ],
    [
      'a size that is no number',
      'genai',
      (d) => {
        d.config.model.decoder.head_size = '16'
      },
      /head_size: expected a number/,
    ],
    [
      'a huge context',
      'genai',
      (d) => {
        d.config.model.context_length = 2 ** 40
      },
      /context: expected/,
    ],
    ['no end', 'genai', (d) => void delete d.config.model.eos_token_id, /no token that ends/],
    [
      'fewer layers than it says',
      'genai',
      (d) => {
        d.config.model.decoder.num_hidden_layers = 3
      },
      /2 layers, expected 3/,
    ],
    [
      'other words than it says',
      'genai',
      (d) => {
        d.config.model.vocab_size = 1000
      },
      /embed_tokens.weight: expected 1000×64/,
    ],
    [
      'other heads than it says',
      'genai',
      (d) => {
        d.config.model.decoder.num_key_value_heads = 4
      },
      /expected 4 heads of queries and 4/,
    ],
    [
      'another head size',
      'genai',
      (d) => {
        d.config.model.decoder.head_size = 32
      },
      /scale of its own|waves/,
    ],
    [
      'another epsilon',
      'transformers.js',
      (d) => {
        d.config.rms_norm_eps = 1e-3
      },
      /epsilon/,
    ],
    [
      'another base of positions',
      'transformers.js',
      (d) => {
        d.config.rope_theta = 5e5
      },
      /inv_freq: expected the frequencies of config.json/,
    ],
    [
      'another feed-forward',
      'transformers.js',
      (d) => {
        d.config.intermediate_size = 128
      },
      /gate_proj.weight: expected 128×64/,
    ],
    // Inputs and outputs.
    [
      'no mask',
      'genai',
      (d) => {
        d.inputs[1]![0] = 'mask'
      },
      /attention_mask/,
    ],
    [
      'no logits',
      'genai',
      (d) => {
        d.outputs[0]![0] = 'scores'
      },
      /no output logits/,
    ],
    // Attention as one operator.
    ['a local window', 'genai', set('GroupQueryAttention', { local_window_size: 64 }), /local_window_size 64/],
    ['softcap', 'genai', set('GroupQueryAttention', { softcap: { float: 30 } }), /softcap 30/],
    ['another scale', 'genai', set('GroupQueryAttention', { scale: { float: 0.5 } }), /scale of its own/],
    [
      'an unknown setting',
      'genai',
      set('GroupQueryAttention', { kv_cache_bit_width: 8 }),
      /kv_cache_bit_width is not supported/,
    ],
    [
      'attention sinks',
      'genai',
      (d) => {
        of(d, 'GroupQueryAttention').inputs[11] = 'cos_cache'
      },
      /more than the usual inputs/,
    ],
    [
      'another layer’s cache',
      'genai',
      (d) => {
        of(d, 'GroupQueryAttention').inputs[3] = 'past_key_values.1.key'
      },
      /layer 0: expected the caches past_key_values.0.key/,
    ],
    [
      'caches that are no outputs',
      'genai',
      (d) => {
        of(d, 'GroupQueryAttention').outputs[1] = 'elsewhere'
      },
      /no outputs/,
    ],
    [
      'lengths of something else',
      'genai',
      (d) => {
        of(d, 'ReduceSum').inputs[0] = 'input_ids'
      },
      /not made of attention_mask/,
    ],
    [
      'lengths made with weights',
      'genai',
      (d) => {
        of(d, 'ReduceSum').operator = 'Exp'
      },
      /got Exp/,
    ],
    [
      'no tables',
      'genai',
      (d) => {
        of(d, 'GroupQueryAttention').inputs[7] = ''
      },
      /layers of the graph do not rotate|tables of cosines/,
    ],
    ['tables that are no waves', 'genai', (d) => void tensor(d, 'cos_cache').bytes.fill(63, 4000), /not of waves/],
    ['tables that grow', 'genai', (d) => scaleTables(d, 1.2), /not of waves/],
    [
      'a product that is too small',
      'genai',
      (d) => {
        d.config.model.decoder.head_size = 24
      },
      /scale of its own/,
    ],
    ['no rotation', 'genai', set('GroupQueryAttention', { do_rotary: 0 }), /rotary positions/],
    // The rest of a layer.
    [
      'another activation',
      'genai',
      (d) => {
        of(d, 'Sigmoid').operator = 'Tanh'
      },
      /SwiGLU/,
    ],
    [
      'an unknown operator',
      'genai',
      (d) => {
        of(d, 'MatMul').operator = 'com.example:MatMul'
      },
      /got com.example:MatMul/,
    ],
    [
      'another norm',
      'genai',
      (d) => {
        of(d, 'SimplifiedLayerNormalization').operator = 'LayerNormalization'
      },
      /got LayerNormalization/,
    ],
    ['norms that differ', 'genai', set('SimplifiedLayerNormalization', { epsilon: { float: 0.1 } }), /same epsilon/],
    ['a norm over another axis', 'genai', set('SimplifiedLayerNormalization', { axis: 1 }), /norm of layer/],
    [
      'a written-out norm over another axis',
      'transformers.js',
      (d) => {
        of(d, 'ReduceMean').inputs[1] = wholeNumber(d, 1)
      },
      /norm of layer/,
    ],
    [
      'a written-out norm over all axes',
      'transformers.js',
      (d) => {
        of(d, 'ReduceMean').inputs.length = 1
      },
      /norm of layer/,
    ],
    ['a written-out norm that drops its axis', 'transformers.js', set('ReduceMean', { keepdims: 0 }), /norm of layer/],
    ['a scaled embedding', 'genai', scaledEmbedding, /the embedding, got Mul/],
    [
      'a skipped sum',
      'genai',
      (d) => {
        of(d, 'SkipSimplifiedLayerNormalization').inputs[0] = 'layers.0.other'
      },
      /used and not there/,
    ],
    ['a bias elsewhere', 'genai', (d) => addBias(d, 'o_proj'), /bias.*queries, keys and values only/],
    [
      'a bias for one layer',
      'genai',
      (d) => addBias(d, 'layers.1.attn.qkv_proj'),
      /layer 1: expected norm1, norm2, got/,
    ],
    ['a factor in attention', 'transformers.js', (d) => lessenScores(d), /factor 0.30/],
    [
      'an operator in attention',
      'transformers.js',
      (d) => {
        of(d, 'Softmax').operator = 'Hardmax'
      },
      /got Hardmax/,
    ],
    ['another layer’s cache in attention', 'transformers.js', (d) => swapCaches(d), /expected/],
    // Weights.
    [
      'a weight that is missing',
      'genai',
      (d) => void d.tensors.splice(d.tensors.indexOf(tensor(d, 'gate_proj')), 1),
      /gate_proj.weight: is used and not there/,
    ],
    [
      'a weight that is not used',
      'genai',
      (d) => void d.tensors.push({ ...tensor(d, 'gate_proj'), name: 'lora_A' }),
      /lora_A: is a weight that no part/,
    ],
    ['a weight twice', 'genai', (d) => void d.tensors.push(tensor(d, 'gate_proj')), /is there twice/],
    [
      'a weight of another shape',
      'genai',
      (d) => void tensor(d, 'gate_proj').shape.reverse(),
      /gate_proj.weight: expected 64×64 weights by output and input, got 64×96/,
    ],
    [
      'a weight of another type',
      'genai',
      (d) => {
        tensor(d, 'gate_proj').type = 6
      },
      /a product with weights/,
    ],
    [
      'a weight of an unknown type',
      'genai',
      (d) => {
        tensor(d, 'gate_proj').type = 99
      },
      /elements of type 99/,
    ],
    [
      'dimensions that overflow',
      'genai',
      (d) => {
        tensor(d, 'gate_proj').shape = [2 ** 40, 2 ** 40]
      },
      /has no size/,
    ],
    [
      'a negative dimension',
      'genai',
      (d) => {
        tensor(d, 'gate_proj').shape = [-64, -96]
      },
      /has no size/,
    ],
    [
      'more dimensions than anything has',
      'genai',
      (d) => {
        tensor(d, 'gate_proj').shape = Array.from({ length: 99 }, () => 1)
      },
      /too many dimensions/,
    ],
    [
      'a weight that is not a number',
      'genai',
      (d) => void tensor(d, 'gate_proj').bytes.fill(255, 0, 4),
      /gate_proj.weight: has weights that are not finite/,
    ],
    // The graph.
    [
      'a name beyond reason',
      'genai',
      (d) => {
        of(d, 'MatMul').outputs[0] = 'x'.repeat(5000)
      },
      /names of at most/,
    ],
    [
      'a node with a thousand inputs and more',
      'genai',
      (d) => void of(d, 'MatMul').inputs.push(...Array.from({ length: 1100 }, () => '')),
      /too many inputs/,
    ],
    [
      'a value twice',
      'genai',
      (d) => {
        of(d, 'MatMul').outputs = of(d, 'MatMul', 1).outputs
      },
      /is there twice/,
    ],
    [
      'nodes that need themselves',
      'genai',
      (d) => {
        of(d, 'Cast').inputs = of(d, 'Cast').outputs
      },
      /need themselves/,
    ],
    ['a value passed on without end', 'genai', (d) => chain(d, 'Cast', {}), /passed on more than/],
    ['weights turned without end', 'genai', (d) => chain(d, 'Transpose', { perm: [1, 0] }), /turned more than/],
    [
      'weights without bytes',
      'genai',
      (d) => {
        tensor(d, 'gate_proj').bytes = new Uint8Array()
      },
      /expected 24576 bytes/,
    ],
    // Where weights are.
    [
      'weights in another folder',
      'genai',
      (d) => {
        tensor(d, 'gate_proj').place = { location: '../model.onnx.data' }
      },
      /same folder/,
    ],
    [
      'weights at the root',
      'genai',
      (d) => {
        tensor(d, 'gate_proj').place = { location: '/etc/passwd' }
      },
      /same folder/,
    ],
    [
      'weights up the tree',
      'genai',
      (d) => {
        tensor(d, 'gate_proj').place = { location: '..' }
      },
      /same folder/,
    ],
    [
      'weights behind backslashes',
      'genai',
      (d) => {
        tensor(d, 'gate_proj').place = { location: '..\\model.onnx.data' }
      },
      /same folder/,
    ],
    [
      'weights in a file without a name',
      'genai',
      (d) => {
        tensor(d, 'gate_proj').place = { location: '' }
      },
      /same folder/,
    ],
    [
      'weights in a file that is not there',
      'genai',
      (d) => {
        tensor(d, 'gate_proj').place = { location: 'other' }
      },
      /other: cannot be opened/,
    ],
    [
      'weights behind the end',
      'genai',
      (d) => {
        tensor(d, 'gate_proj').place = { offset: '9007199254740000' }
      },
      /lies outside/,
    ],
    [
      'an offset that is none',
      'genai',
      (d) => {
        tensor(d, 'gate_proj').place = { offset: '-4' }
      },
      /offset: expected a number/,
    ],
    [
      'another length',
      'genai',
      (d) => {
        tensor(d, 'gate_proj').place = { length: '4' }
      },
      /expected 24576 bytes for its shape, got 4/,
    ],
  ])('%s (%s)', async (_, layout, change, message) => {
    const { directory } = await write(layout, { shape: SHAPE }, change)
    const error = await importModel(directory, join(folder, 'out'), OPTIONS).catch((e: unknown) => e)
    expect(error).toBeInstanceOf(SubrosaError)
    expect((error as Error).message).toMatch(message)
    expect(await readdir(folder)).toEqual(['source'])
  })

  it.each<readonly [string, Kept, (draft: Draft) => void, RegExp]>([
    ['blocks of a size that does not fit', 'int4', set('MatMulNBits', { block_size: 33 }), /blocks of 33/],
    ['blocks of another size', 'int4', set('MatMulNBits', { block_size: 16 }), /in blocks of 16, got/],
    ['bits nobody has', 'int4', set('MatMulNBits', { bits: 3 }), /3 bits are not supported/],
    ['more outputs than weights', 'int4', set('MatMulNBits', { N: 2 ** 30 }), /expected 1073741824×64/],
    ['a size that is no number', 'int4', set('MatMulNBits', { N: 'many' }), /expected N to be a number/],
    ['an unknown setting', 'int4', set('MatMulNBits', { weight_prepacked: 1 }), /weight_prepacked is not supported/],
    [
      'an order of weights',
      'int4',
      (d) => void of(d, 'MatMulNBits').inputs.push('', tensor(d, 'weight_scales').name),
      /g_idx/,
    ],
    [
      'codes that are no weights',
      'int4',
      (d) => {
        of(d, 'MatMulNBits').inputs[1] = 'input_ids'
      },
      /expected codes in the file/,
    ],
    ['scales that are too few', 'int4', (d) => shorten(d, 'qkv_proj.weight_scales'), /scales/],
    ['zero points that are too few', 'int4-zeros', (d) => shorten(d, 'qkv_proj.weight_zp'), /zero points/],
    [
      'scales that are not numbers',
      'int4',
      (d) => void tensor(d, 'qkv_proj.weight_scales').bytes.fill(255),
      /not finite/,
    ],
    [
      'one scale too many',
      'codes',
      (d) => lengthen(d, 'qkv_proj.weight_scale'),
      /expected 128 scales|expected 1 scales/,
    ],
    ['scales along no axis', 'codes', set('DequantizeLinear', { axis: 2 }), /way of keeping scales/],
  ])('%s, in %s', async (_, kept, change, message) => {
    const { directory } = await write('genai', { shape: SHAPE, kept }, change)
    const error = await importModel(directory, join(folder, 'out'), OPTIONS).catch((e: unknown) => e)
    expect(error).toBeInstanceOf(SubrosaError)
    expect((error as Error).message).toMatch(message)
    expect(await readdir(folder)).toEqual(['source'])
  })

  it('a graph with weights beyond memory, in a file that only pretends to have them', async () => {
    const huge = 2 ** 31 - 64
    const { directory } = await write('genai', { shape: SHAPE }, (draft) => {
      draft.config.model.vocab_size = huge / 64
      for (const [name, shape] of [
        ['embed_tokens', [huge / 64, 64]],
        ['lm_head', [64, huge / 64]],
      ] as const) {
        Object.assign(tensor(draft, name), { shape: [...shape], place: { offset: '0', length: String(huge * 4) } })
      }
    })
    await truncate(join(directory, 'model.onnx.data'), huge * 4)
    await expect(importModel(directory, join(folder, 'out'), OPTIONS)).rejects.toThrowError(/vocabulary: expected/)
  })

  it('a graph for servers that load other files', async () => {
    const { directory, graph } = await write('genai', { shape: SHAPE })
    for (const [from, expected] of [
      [graph, /servers load; got an ONNX file/],
      [directory, /has no \*.safetensors file/],
    ] as const) {
      const original = importModel(from, join(folder, 'out'), { ...OPTIONS, format: 'original' })
      await expect(original).rejects.toThrowError(expected)
      expect(await readdir(folder)).toEqual(['source'])
    }
  })

  it('a graph that is a folder, that is too large, or that leads nowhere', async () => {
    const { directory, graph } = await write('genai', { shape: SHAPE })
    await truncate(graph, 2 ** 31)
    await expect(importModel(directory, join(folder, 'out'), OPTIONS)).rejects.toThrowError(/expected at most/)
    await rm(graph)
    await symlink(directory, graph)
    await expect(importModel(directory, join(folder, 'out'), OPTIONS)).rejects.toThrowError(/is not a file/)
    await rm(graph)
    await expect(importModel(directory, join(folder, 'out'), OPTIONS)).rejects.toThrowError(/cannot be opened/)
  })

  it('a file that is cut short anywhere, or has bytes that are others', async () => {
    const draft = await genaiDraft({ shape: SHAPE, kept: 'int4' })
    const { directory, graph } = await writeDraft(join(folder, 'source'), 'genai', draft)
    const { model } = encodeDraft(draft, 'model.onnx.data')
    const changed = fc.oneof(
      fc.nat(model.length - 1).map((length) => model.slice(0, length)),
      fc.array(fc.tuple(fc.nat(model.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 }).map((changes) => {
        const bytes = model.slice()
        for (const [at, value] of changes) bytes[at] = value
        return bytes
      }),
    )
    await fc.assert(
      fc.asyncProperty(changed, async (bytes) => {
        await writeFile(graph, bytes)
        const source = await openOnnxModel(join(directory, 'genai_config.json')).catch((e: unknown) => e)
        if (source instanceof Error) expect(source).toBeInstanceOf(SubrosaError)
        else await (source as Awaited<ReturnType<typeof openOnnxModel>>).close()
      }),
      { numRuns: 300 },
    )
  })

  it('any bytes, in bounded depth', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        // A graph of anything, in a model.
        const model = Buffer.concat([Uint8Array.of(0x3a, bytes.length & 0x7f), bytes.subarray(0, bytes.length & 0x7f)])
        for (const input of [bytes, model]) {
          try {
            readGraph(input)
          } catch (error) {
            expect(error).toBeInstanceOf(SubrosaError)
          }
        }
      }),
      { numRuns: 2000 },
    )
  })

  it.each<readonly [string, (draft: Draft) => Uint8Array, RegExp]>([
    ['functions', (d) => message(encodeDraft(d, undefined).model, 25, new Uint8Array()), /functions/],
    ['two graphs', (d) => message(encodeDraft(d, undefined).model, 7, new Uint8Array()), /several/],
    ['no graph', () => new Uint8Array(), /without a graph/],
    [
      'a graph inside a node',
      () =>
        graphOf(
          message(new Uint8Array(), 1, message(new Uint8Array(), 5, message(new Uint8Array(), 6, new Uint8Array()))),
        ),
      /graphs inside nodes/,
    ],
    ['sparse weights', () => graphOf(message(new Uint8Array(), 15, new Uint8Array())), /sparse/],
  ])('a graph with %s', async (_, make, expected) => {
    const draft = await genaiDraft({ shape: SHAPE })
    const { directory, graph } = await writeDraft(join(folder, 'source'), 'genai', draft)
    await writeFile(graph, make(draft))
    await expect(importModel(directory, join(folder, 'out'), OPTIONS)).rejects.toThrowError(expected)
    expect(await readdir(folder)).toEqual(['source'])
  })
})

/** `before` with one more field, of bytes. */
function message(before: Uint8Array, field: number, bytes: Uint8Array): Uint8Array {
  return Buffer.concat([before, createWireWriter().bytes(field, bytes).finish()])
}

function graphOf(graph: Uint8Array): Uint8Array {
  return message(new Uint8Array(), 7, graph)
}

function scaleTables(draft: Draft, by: number): void {
  for (const name of ['cos_cache', 'sin_cache']) {
    const { bytes } = tensor(draft, name)
    const values = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)
    for (const [at, value] of values.entries()) values[at] = value * by
  }
}

function scaledEmbedding(draft: Draft): void {
  const gather = draft.nodes.find((node) => node.inputs[1] === 'input_ids')!
  const [output = ''] = gather.outputs
  gather.outputs[0] = 'unscaled'
  const norm = tensor(draft, 'input_layernorm').name
  draft.nodes.splice(draft.nodes.indexOf(gather) + 1, 0, {
    operator: 'Mul',
    inputs: ['unscaled', norm],
    outputs: [output],
    attributes: {},
  })
}

function addBias(draft: Draft, name: string): void {
  const weights = tensor(draft, name)
  const product = draft.nodes.find((node) => node.inputs.includes(weights.name))!
  const [output = ''] = product.outputs
  const count = weights.shape[1] ?? 0
  product.outputs[0] = 'unbiased'
  draft.tensors.push({ name: 'bias', type: 1, shape: [count], bytes: new Uint8Array(count * 4) })
  const sum = { operator: 'Add', inputs: ['unbiased', 'bias'], outputs: [output], attributes: {} }
  draft.nodes.splice(draft.nodes.indexOf(product) + 1, 0, sum)
}

/** A third of the scores, on top of their usual factor. */
function lessenScores(draft: Draft): void {
  const softmax = of(draft, 'Softmax')
  const [from = ''] = softmax.inputs
  draft.tensors.push({ name: 'third', type: 1, shape: [], bytes: new Uint8Array(Float32Array.of(0.3).buffer) })
  softmax.inputs[0] = 'lessened'
  const product = { operator: 'Mul', inputs: [from, 'third'], outputs: ['lessened'], attributes: {} }
  draft.nodes.splice(draft.nodes.indexOf(softmax), 0, product)
}

/** Puts an operator before the weights of a product, thousands of times. */
function chain(draft: Draft, operator: string, attributes: Record<string, number | number[]>): void {
  const product = of(draft, 'MatMul')
  for (let at = 0; at < 20_000; at++) {
    const output = `${operator}.${at}`
    draft.nodes.unshift({ operator, inputs: [product.inputs[1] ?? ''], outputs: [output], attributes })
    product.inputs[1] = output
  }
}

function swapCaches(draft: Draft): void {
  const other: Record<string, string> = { 'past_key_values.0.key': 'past_key_values.1.key' }
  for (const node of draft.nodes) node.inputs = node.inputs.map((input) => other[input] ?? input)
}

function shorten(draft: Draft, name: string): void {
  const one = tensor(draft, name)
  const width = one.type === 1 ? 4 : 1
  one.bytes = one.bytes.slice(0, -width)
  one.shape = [one.bytes.length / width]
}

function lengthen(draft: Draft, name: string): void {
  const one = tensor(draft, name)
  one.bytes = Buffer.concat([one.bytes, one.bytes])
  one.shape = [2]
}
