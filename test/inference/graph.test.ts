/** Graphs whose rows influence each other are noticed, by operator and by trial, and then nobody shares a run. */
import { describe, expect, it } from 'vitest'
import { findCutDependence } from '../../enclave/inference/attention-order.js'
import type { Decoder } from '../../enclave/inference/decoder.js'
import { inspectGraph } from '../../enclave/inference/graph.js'
import { createWireWriter, type WireWriter } from '../../enclave/inference/onnx/wire.js'
import { createDecoder, createOrtEngine } from '../../enclave/inference/ort/engine.js'
import { loadModelPackage, type ModelPackage } from '../../enclave/inference/package.js'
import { rowsAreIndependent } from '../../enclave/inference/trial.js'
import { randomPackage, SMALL } from '../../scripts/bench/random-model.js'
import { createGraphBuilder } from '../../scripts/model/graph-builder.js'
import { ropeFrequencies } from '../../scripts/model/source.js'
import { toBytes } from '../../verifier/protocol/bytes.js'
import { ask, collect, GREEDY, PACKAGE_DIRECTORY, textOf } from './model.js'

const [VOCABULARY, SIZE, CONTEXT] = [1024, 16, 64]

/** One layer of attention between two products, the last of which takes one scale for all rows of a run, or one a row. */
async function smallPackage(
  dynamic: boolean,
  positions?: {
    readonly type: 'int32' | 'int64'
    readonly shape: readonly string[]
    readonly given: string | number
  },
): Promise<ModelPackage> {
  const demo = await loadModelPackage(PACKAGE_DIRECTORY)
  const graph = createGraphBuilder('small', {
    write: () => Promise.reject(new Error('not used')),
  })
  const wave = (length: number, step: number): Float32Array =>
    Float32Array.from({ length }, (_, i) => Math.sin(i * step))
  graph.input('input_ids', 'int64', ['batch', 'n'])
  graph.input('seqlens_k', 'int32', ['batch'])
  graph.input('total_seq', 'int32', [])
  graph.output('logits', 'float', ['batch', positions?.given ?? 1, VOCABULARY])
  for (const part of ['key', 'value']) {
    graph.input(`past_key_values.0.${part}`, 'float', ['batch', 1, 'past', SIZE])
    graph.output(`present.0.${part}`, 'float', ['batch', 1, 'total', SIZE])
  }
  graph.constant('embedding', 'float', [VOCABULARY, SIZE], wave(VOCABULARY * SIZE, 0.37))
  graph.constant('qkv', 'float', [SIZE, 3 * SIZE], wave(3 * SIZE * SIZE, 1.1))
  graph.constant('cos', 'float', [CONTEXT, SIZE / 2], new Float32Array((CONTEXT * SIZE) / 2).fill(1))
  graph.constant('sin', 'float', [CONTEXT, SIZE / 2], new Float32Array((CONTEXT * SIZE) / 2))
  if (positions === undefined) graph.constant('last', 'int64', [1], BigInt64Array.of(-1n))
  else graph.input('logit_positions', positions.type, positions.shape)
  const x = graph.node('Gather', ['embedding', 'input_ids'], { axis: 0 })
  graph.nodeWith(
    'GroupQueryAttention',
    [
      graph.node('MatMul', [x, 'qkv']),
      '',
      '',
      'past_key_values.0.key',
      'past_key_values.0.value',
      'seqlens_k',
      'total_seq',
      'cos',
      'sin',
    ],
    ['attended', 'present.0.key', 'present.0.value'],
    { num_heads: 1, kv_num_heads: 1, do_rotary: 1 },
  )
  const final = graph.node('Gather', ['attended', positions === undefined ? 'last' : 'logit_positions'], { axis: 1 })
  if (dynamic) {
    const codes = Int8Array.from({ length: SIZE * VOCABULARY }, (_, i) => (i * 7919) % 127)
    graph.constant('head', 'int8', [SIZE, VOCABULARY], codes)
    graph.constant('scale', 'float', [], Float32Array.of(0.01))
    graph.nodeWith('DynamicQuantizeMatMul', [final, 'head', 'scale'], ['logits'])
  } else {
    graph.constant('head', 'float', [SIZE, VOCABULARY], wave(SIZE * VOCABULARY, 0.71))
    graph.nodeWith('MatMul', [final, 'head'], ['logits'])
  }
  const architecture = { ...demo.manifest.architecture, layers: 1, hiddenSize: SIZE, contextLength: CONTEXT }
  return {
    ...demo,
    manifest: { ...demo.manifest, architecture },
    files: new Map([...demo.files, ['model.onnx', toBytes(graph.finish())]]),
  }
}

describe('attention whose order of summation shows a cut', () => {
  const withHeads = (headSize: number): Promise<ModelPackage> =>
    randomPackage(
      {
        ...SMALL,
        layers: 1,
        hiddenSize: 64,
        heads: 2,
        kvHeads: 1,
        headSize,
        feedForwardSize: 64,
        ropeFrequencies: ropeFrequencies(headSize, 10_000),
      },
      'fp32',
    )

  it('is of class single where heads have more than 128 values (P-8.7)', async () => {
    for (const headSize of [144, 160, 256]) {
      const modelPackage = await withHeads(headSize)
      expect(inspectGraph(modelPackage)).toMatchObject({
        determinism: 'single',
        dependence: expect.stringContaining(`heads of ${headSize} values`),
        rowsApart: true,
      })
      const { decoder, determinism } = await createDecoder(modelPackage, { threads: 1, slots: 4 })
      expect([determinism, decoder.maxRows]).toEqual(['single', 1])
      await decoder.close()
    }
    expect(inspectGraph(await withHeads(128))).toMatchObject({ determinism: 'batch-invariant', dependence: undefined })
  })

  it('is of class single where the second-level cache leaves blocks that parts do not fill (P-8.7)', async () => {
    const kib = 1024
    const classOf = async (headSize: number, l2Bytes?: number): Promise<string> => {
      const options = { threads: 1, slots: 4, l2Bytes }
      const { decoder, determinism } = await createDecoder(await withHeads(headSize), options)
      await decoder.close()
      return determinism
    }
    expect(await classOf(96, 256 * kib)).toBe('single')
    expect(await classOf(96, 512 * kib)).toBe('batch-invariant')
    expect(await classOf(64, 256 * kib)).toBe('batch-invariant')
    // What this machine says of itself.
    expect(await classOf(64)).toBe('batch-invariant')
  })

  it.each([
    [64, undefined, true],
    [128, undefined, true],
    [129, undefined, false],
    // Blocks of 40 rows: a part of 41 leaves one over.
    [20, undefined, false],
    [96, 256, false],
    [80, 256, false],
    [64, 256, true],
    [96, 128, false],
    [128, 512, true],
    // No cache known, as the C library says it: one row a block.
    [96, 0, true],
  ])('heads of %d values and %s KiB: %s', (headSize, kib, apart) => {
    const found = findCutDependence(headSize, kib === undefined ? undefined : kib * 1024)
    expect(found === undefined).toBe(apart)
  })
})

describe('a graph with one scale for all rows', () => {
  it('is of class single whatever its manifest says, and its rows never share a run (P-8.7)', async () => {
    const modelPackage = await smallPackage(true)
    expect(modelPackage.manifest.determinism).toBe('batch-invariant')
    expect(inspectGraph(modelPackage)).toMatchObject({
      determinism: 'single',
      dependence: 'node 4, com.microsoft:DynamicQuantizeMatMul: no operator that is known to keep rows apart',
    })
    const { decoder, determinism } = await createDecoder(modelPackage, { threads: 1, slots: 4 })
    expect([determinism, decoder.maxRows]).toEqual(['single', 1])
    for (const slot of [0, 1]) await decoder.prefill(slot, [5])
    const rows = [0, 1].map((slot) => ({ slot, tokenId: 6 }))
    await expect(decoder.decode(rows)).rejects.toThrow(new RangeError('expected 1 rows in a run at most, got 2'))
    await decoder.close()
  })

  it('answers each request as if it were alone', async () => {
    const engine = await createOrtEngine(await smallPackage(true), { threads: 1, slots: 4 })
    expect(engine.info.determinism).toBe('single')
    const questions = ['Hello!', 'a', 'What is TDX?']
    const options = { maxTokens: 12 }
    const alone: string[] = []
    for (const question of questions) alone.push(textOf(await ask(engine, question, options)))
    const together = await Promise.all(questions.map((question) => ask(engine, question, options)))
    expect(together.map(textOf)).toEqual(alone)
    await engine.close()
  })

  it('is told from one without', async () => {
    const { decoder, determinism } = await createDecoder(await smallPackage(false), { threads: 1, slots: 4 })
    expect([determinism, decoder.maxRows]).toEqual(['batch-invariant', 4])
    await decoder.close()
  })
})

describe('positions that a graph gives logits for', () => {
  const LIST = { type: 'int64', shape: ['positions'], given: 'positions' } as const

  it('are told from none', async () => {
    const given = await Promise.all([smallPackage(false), smallPackage(false, LIST)])
    expect(given.map((modelPackage) => inspectGraph(modelPackage).picksPositions)).toEqual([false, true])
    const decoders = await Promise.all(
      given.map((modelPackage) => createDecoder(modelPackage, { threads: 1, slots: 2 })),
    )
    expect(decoders.map(({ decoder }) => decoder.verify !== undefined)).toEqual([false, true])
    expect(decoders.map(({ determinism }) => determinism)).toEqual(['batch-invariant', 'batch-invariant'])
    for (const { decoder } of decoders) await decoder.close()
  })

  it.each([
    { type: 'int32', shape: ['positions'], given: 'positions' },
    { type: 'int64', shape: [], given: 'positions' },
    { type: 'int64', shape: ['batch', 'positions'], given: 'positions' },
    { type: 'int64', shape: ['positions'], given: 1 },
  ] as const)('are refused as $type of $shape, with logits for $given', async (positions) => {
    const modelPackage = await smallPackage(false, positions)
    expect(() => inspectGraph(modelPackage)).toThrowError(expect.objectContaining({ code: 'package.unusable' }))
  })

  it('are of no use where rows of a run influence each other (P-8.10)', async () => {
    const engine = await createOrtEngine(await smallPackage(true, LIST), { threads: 1, slots: 2 })
    expect(engine.info.determinism).toBe('single')
    const options = { ...GREEDY, maxTokens: 20, logprobs: 5 }
    const plain = await collect(engine.generate([5, 6, 7, 8], options))
    const predicted = await collect(engine.generate([5, 6, 7, 8], { ...options, prediction: [5, 6, 7, 8, 5, 6] }))
    expect(predicted.slice(0, -1)).toEqual(plain.slice(0, -1))
    await engine.close()
  })
})

describe('the trial', () => {
  const fake = (
    logits: (rows: number, length: number, before: number) => number,
    verified: (position: number) => number = () => 1,
  ): Decoder => {
    const lengths = new Map<number, number>()
    const decoded = new Set<number>()
    return {
      runtime: { name: 'fake', version: '0.0.0' },
      slots: 4,
      slotTokens: 100,
      maxRows: 4,
      async prefill(slot, tokenIds) {
        lengths.set(slot, (lengths.get(slot) ?? 0) + tokenIds.length)
        return Float32Array.of(logits(1, tokenIds.length, decoded.has(slot) ? 1 : 0))
      },
      async decode(rows) {
        for (const { slot } of rows) decoded.add(slot)
        return rows.map(() => Float32Array.of(logits(rows.length, 1, 0)))
      },
      verify: async (_, tokenIds) => tokenIds.map((_, position) => Float32Array.of(verified(position))),
      interrupt: () => undefined,
      async clear(slot) {
        lengths.delete(slot)
        decoded.delete(slot)
      },
      truncate: async (slot, tokens) => void lengths.set(slot, tokens),
      close: async () => undefined,
    }
  }

  it.each<readonly [string, (rows: number, length: number, before: number) => number, boolean]>([
    ['neither', () => 1, true],
    ['neighbours', (rows) => rows, false],
    ['the cut', (_, length) => length, false],
    ['what a slot held before', (_, __, before) => before, false],
  ])('notices what shows in the outcome: %s', async (_, logits, independent) => {
    expect(await rowsAreIndependent(fake(logits), 1024)).toBe(independent)
  })

  it('notices an answer that is another when several of its tokens are computed at once', async () => {
    expect(
      await rowsAreIndependent(
        fake(
          () => 1,
          (position) => position,
        ),
        1024,
      ),
    ).toBe(false)
  })
})

describe('graphs that are not plain', () => {
  const withModel = async (change: (model: WireWriter, graph: Uint8Array) => void): Promise<ModelPackage> => {
    const modelPackage = await smallPackage(false)
    const model = createWireWriter()
    change(model, modelPackage.files.get('model.onnx') ?? new Uint8Array())
    return { ...modelPackage, files: new Map([...modelPackage.files, ['model.onnx', toBytes(model.finish())]]) }
  }

  it.each<readonly [string, (model: WireWriter, graph: Uint8Array) => void]>([
    ['none', () => undefined],
    ['two graphs', (model) => void model.message(7, createWireWriter()).message(7, createWireWriter())],
    ['functions', (model) => void model.message(7, createWireWriter()).message(25, createWireWriter())],
    [
      'a graph inside a node',
      (model) => {
        const attribute = createWireWriter().bytes(1, 'body').message(6, createWireWriter())
        const node = createWireWriter().bytes(4, 'Loop').message(5, attribute)
        model.message(7, createWireWriter().message(1, node))
      },
    ],
    [
      'weights in a file of the system',
      (model) => {
        const entry = createWireWriter().bytes(1, 'location').bytes(2, '/etc/passwd')
        const tensor = createWireWriter().bytes(8, 'w').message(13, entry).int(14, 1)
        model.message(7, createWireWriter().message(5, tensor))
      },
    ],
    ['another model inside', (model, graph) => void model.bytes(7, graph)],
  ])('are refused: %s', async (_, change) => {
    const modelPackage = await withModel(change)
    expect(() => inspectGraph(modelPackage)).toThrowError(expect.objectContaining({ code: 'package.unusable' }))
  })
})
