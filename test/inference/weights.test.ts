/** Weights that are no numbers, or overflow, are found when a package is loaded, not by whoever has the token they are for. */
import { describe, expect, it } from 'vitest'
import { inspectGraph } from '../../enclave/inference/graph.js'
import { readGraphFacts } from '../../enclave/inference/onnx/graph-facts.js'
import { checkWeights } from '../../enclave/inference/onnx/weights-check.js'
import { createWireWriter, type WireWriter } from '../../enclave/inference/onnx/wire.js'
import { createDecoder } from '../../enclave/inference/ort/engine.js'
import type { ModelPackage } from '../../enclave/inference/package.js'
import { packageOf, randomWeights, SMALL } from '../../scripts/bench/random-model.js'
import type { Format, Matrix } from '../../scripts/model/formats.js'
import type { LlamaWeights } from '../../scripts/model/llama-graph.js'
import { BINDINGS } from './model.js'

const SHAPE = {
  ...SMALL,
  layers: 1,
  hiddenSize: 64,
  heads: 4,
  kvHeads: 2,
  headSize: 16,
  feedForwardSize: 64,
  vocabularySize: 1024,
  contextLength: 64,
}
const UNUSABLE = expect.objectContaining({ code: 'package.unusable' })

/** Every matrix changed in its place. */
function changed(change: (values: Float32Array) => void): LlamaWeights {
  const weights = randomWeights(SHAPE, 1)
  const matrix = async (made: Promise<Matrix>): Promise<Matrix> => {
    const own = await made
    change(own.values)
    return own
  }
  return {
    ...weights,
    embedding: () => matrix(weights.embedding()),
    matrix: (layer, name) => matrix(weights.matrix(layer, name)),
  }
}

describe('weights that are not finite (P-8.12)', () => {
  it.each<readonly [string, Format, LlamaWeights]>([
    [
      'one of a token that no trial computes',
      'fp32',
      changed((values) => void values.fill(Number.NaN, 40_000, 40_001)),
    ],
    ['an infinite one', 'fp32', changed((values) => void values.fill(Number.NEGATIVE_INFINITY, 77, 78))],
    ['a scale of codes', 'int8', changed((values) => void values.fill(Number.POSITIVE_INFINITY, 64, 96))],
    [
      'a gain inside the graph',
      'int8',
      { ...randomWeights(SHAPE, 1), finalNorm: async () => new Float32Array(SHAPE.hiddenSize).fill(Number.NaN) },
    ],
  ])('are refused: %s', async (_, format, weights) => {
    const modelPackage = await packageOf(SHAPE, weights, format)
    expect(() => checkWeights(modelPackage)).toThrowError(UNUSABLE)
    await expect(createDecoder(modelPackage, { threads: 1 })).rejects.toThrowError(/not finite/)
  })

  it('are refused in half precision', async () => {
    const modelPackage = await packageOf(SHAPE, randomWeights(SHAPE, 1), 'fp16')
    const weights = modelPackage.files.get('weights.bin')?.slice() ?? new Uint8Array()
    weights.set([0x00, 0xfc], weights.length - 2)
    const infinite: ModelPackage = { ...modelPackage, files: new Map(modelPackage.files).set('weights.bin', weights) }
    expect(() => checkWeights(infinite)).toThrowError(/not finite/)
  })

  it('are not what whole packages have, in any format', async () => {
    for (const format of ['fp32', 'fp16', 'int8', 'int4', 'pr8'] as const) {
      const modelPackage = await packageOf(SHAPE, randomWeights(SHAPE, 1), format)
      expect(() => checkWeights(modelPackage), format).not.toThrow()
    }
  })

  it('are refused where they cannot be seen: behind the end of their file', async () => {
    const modelPackage = await packageOf(SHAPE, randomWeights(SHAPE, 1), 'fp32')
    const weights = modelPackage.files.get('weights.bin') ?? new Uint8Array()
    const cut: ModelPackage = {
      ...modelPackage,
      files: new Map(modelPackage.files).set('weights.bin', weights.slice(0, -64)),
    }
    expect(() => checkWeights(cut)).toThrowError(/lies outside its file/)
  })
})

describe('weights that overflow', () => {
  it.each([3e38, 0])('and leave nothing to choose by are refused: all %d', async (value) => {
    const modelPackage = await packageOf(
      SHAPE,
      changed((values) => void values.fill(value)),
      'fp32',
    )
    checkWeights(modelPackage)
    for (const binding of BINDINGS) {
      await expect(createDecoder(modelPackage, { threads: 1, binding })).rejects.toThrowError(UNUSABLE)
    }
    const single: ModelPackage = { ...modelPackage, manifest: { ...modelPackage.manifest, determinism: 'single' } }
    await expect(createDecoder(single, { threads: 1 })).rejects.toThrowError(/computes no logits/)
  })
})

describe('weights as a graph lists them', () => {
  const graphOf = (...tensors: readonly WireWriter[]): Uint8Array => {
    const graph = createWireWriter()
    for (const tensor of tensors) graph.message(5, tensor)
    return createWireWriter().message(7, graph).finish()
  }
  const tensor = (name: string): WireWriter => createWireWriter().int(2, 1).bytes(8, name)

  it('have their shape in either form', () => {
    const one = tensor('one').int(1, 300).int(1, 2).bytes(9, Uint8Array.of(1, 2))
    const packed = tensor('packed').bytes(1, Uint8Array.of(0xac, 0x02, 0x02))
    expect(readGraphFacts(graphOf(one, packed)).tensors).toEqual([
      { name: 'one', elementType: 1, shape: [300, 2], data: Uint8Array.of(1, 2) },
      { name: 'packed', elementType: 1, shape: [300, 2], data: undefined },
    ])
  })

  it.each<readonly [string, Uint8Array]>([
    ['twice', graphOf(tensor('a'), tensor('a'))],
    ['in parts', graphOf(tensor('a').bytes(9, Uint8Array.of(1)).bytes(9, Uint8Array.of(2)))],
    ['in bytes and in numbers', graphOf(tensor('a').bytes(9, Uint8Array.of(1)).bytes(4, Uint8Array.of(2)))],
    ['of a dimension without an end', graphOf(tensor('a').bytes(1, new Uint8Array(12).fill(0xff)))],
    ...['-1', '1e3', ''].map((offset): readonly [string, Uint8Array] => [
      `at the offset “${offset}”`,
      graphOf(
        tensor('a')
          .message(13, createWireWriter().bytes(1, 'location').bytes(2, 'w'))
          .message(13, createWireWriter().bytes(1, 'offset').bytes(2, offset)),
      ),
    ]),
    [
      'in two places',
      graphOf(
        tensor('a')
          .message(13, createWireWriter().bytes(1, 'location').bytes(2, 'w'))
          .message(13, createWireWriter().bytes(1, 'location').bytes(2, 'v')),
      ),
    ],
  ])('are refused %s', (_, graph) => {
    expect(() => readGraphFacts(graph)).toThrowError(UNUSABLE)
  })

  it('are named by the nodes that rotate positions', async () => {
    const modelPackage = await packageOf(SHAPE, randomWeights(SHAPE, 1), 'fp32')
    const graph = modelPackage.files.get('model.onnx') ?? new Uint8Array()
    expect(readGraphFacts(graph).rotaryTables).toEqual(new Set(['rope.cos', 'rope.sin']))
    const rotated = createWireWriter()
      .bytes(1, 'x')
      .bytes(1, 'p')
      .bytes(1, 'c')
      .bytes(1, 's')
      .bytes(4, 'RotaryEmbedding')
    const model = (node: WireWriter) => createWireWriter().message(7, createWireWriter().message(1, node)).finish()
    expect(readGraphFacts(model(rotated)).rotaryTables).toEqual(new Set(['p', 'c']))
    expect(readGraphFacts(model(rotated.bytes(7, 'com.microsoft'))).rotaryTables).toEqual(new Set(['c', 's']))
    const { manifest } = modelPackage
    const architecture = { ...manifest.architecture, contextLength: SHAPE.contextLength + 1 }
    expect(() => inspectGraph({ ...modelPackage, manifest: { ...manifest, architecture } })).toThrowError(
      /for 64 tokens/,
    )
  })
})
