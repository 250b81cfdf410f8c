/**
 * Which graphs are said to keep rows apart (PROTOCOL.md P-8.7): all that this project writes, and none of those in which one thing
 * is changed so that a row, or the cut of a prompt, could show in another row's logits.
 */
import { beforeAll, describe, expect, it } from 'vitest'
import { inspectGraph } from '../../enclave/inference/graph.js'
import { createWireWriter } from '../../enclave/inference/onnx/wire.js'
import { createDecoder } from '../../enclave/inference/ort/engine.js'
import { loadModelPackage, type ModelPackage } from '../../enclave/inference/package.js'
import { randomPackage, SMALL } from '../../scripts/bench/random-model.js'
import { FORMATS } from '../../scripts/model/formats.js'
import type { Cache, LlamaShape } from '../../scripts/model/llama-graph.js'
import {
  constant,
  type EditedGraph,
  editGraph,
  header,
  integer,
  integers,
  newNode,
  nodeOf,
  whole,
} from './edited-graph.js'
import { PACKAGE_DIRECTORY } from './model.js'
import { SHAPE as IMPORTED } from './onnx-model.js'

const SHAPE: LlamaShape = { ...IMPORTED, layers: 4, contextLength: 64, tiedEmbeddings: SMALL.tiedEmbeddings }
const SCALES: Cache = Array.from({ length: SHAPE.layers }, () => ({ key: 0.04, value: 0.03 }))

describe('graphs of this project', () => {
  const shapes: readonly [string, Partial<LlamaShape>][] = [
    ['tied', {}],
    ['untied', { tiedEmbeddings: false }],
    ['with biases', { attentionBias: true }],
    ['with norms of heads', { headNorms: true, tiedEmbeddings: false }],
    ['with both', { attentionBias: true, headNorms: true }],
    ['with pairs that are neighbours, and inputs that fill no block', { ropeInterleaved: true, feedForwardSize: 80 }],
  ]
  const cases = FORMATS.flatMap((format) =>
    shapes.flatMap(([name, shape]) =>
      (name === 'tied' ? (['fp32', 'fp16', SCALES] as const) : (['fp32'] as const)).map((cache) => ({
        name: `${format}, ${name}, keys and values in ${typeof cache === 'string' ? cache : 'int8'}`,
        make: () => randomPackage({ ...SHAPE, ...shape }, format, 1, cache),
      })),
    ),
  )

  it.each(cases)('keep rows apart: $name', async ({ make }) => {
    expect(inspectGraph(await make())).toMatchObject({ determinism: 'batch-invariant', dependence: undefined })
  })

  it('keep rows apart: the demo model', async () => {
    const { determinism, dependence } = inspectGraph(await loadModelPackage(PACKAGE_DIRECTORY))
    expect([determinism, dependence]).toEqual(['batch-invariant', undefined])
  })
})

describe('one thing changed', () => {
  const packages = new Map<string, ModelPackage>()
  beforeAll(async () => {
    packages.set('pr8', await randomPackage(SHAPE, 'pr8'))
    packages.set('int4', await randomPackage({ ...SHAPE, headNorms: true, attentionBias: true }, 'int4'))
    packages.set('fp32', await randomPackage(SHAPE, 'fp32'))
    packages.set('int8 cache', await randomPackage(SHAPE, 'int8', 1, SCALES))
  })
  const judged = (from: string, change: (graph: EditedGraph) => void) => {
    const modelPackage = editGraph(packages.get(from)!, change)
    const { determinism, dependence } = inspectGraph(modelPackage)
    return { modelPackage, determinism, dependence }
  }
  /** Puts a node behind the first output of another, in its place for everything after. */
  const behind = (
    graph: EditedGraph,
    operator: string,
    at: number,
    make: (x: string, out: string) => EditedGraph['nodes'],
  ) => {
    const node = nodeOf(graph, operator, at)
    const [out = ''] = node.outputs
    node.outputs[0] = 'before'
    graph.nodes.splice(graph.nodes.indexOf(node) + 1, 0, ...make('before', out))
  }
  const H = SHAPE.hiddenSize
  const ramp = (length: number): Float32Array => Float32Array.from({ length }, (_, i) => (i === 42 ? 1e4 : 0))

  it('nothing at all is still invariant, through the tests’ own writer', () => {
    for (const from of packages.keys()) expect(judged(from, () => undefined).dependence).toBeUndefined()
  })

  /** What a neighbour feeds, in everybody's logits: every operator of it is one that importers use. */
  const spy = (graph: EditedGraph): void => {
    graph.tensors.set('spy.table', constant('spy.table', 'float', [1024, 1], ramp(1024)))
    graph.tensors.set('spy.slope', constant('spy.slope', 'float', [1024], ramp(1024)))
    graph.tensors.set('spy.axes', whole('spy.axes', [0, 1, 2]))
    behind(graph, 'Identity', -1, (logits, out) => [
      newNode('Gather', ['spy.table', 'input_ids'], ['spy.seen'], { axis: integer('axis', 0) }),
      newNode('ReduceMax', ['spy.seen', 'spy.axes'], ['spy.hit'], { keepdims: integer('keepdims', 1) }),
      newNode('Mul', ['spy.hit', 'spy.slope'], ['spy.told']),
      newNode('Add', [logits, 'spy.told'], [out]),
    ])
  }
  it('a spy among known operators never shares a run', async () => {
    const { modelPackage, dependence } = judged('pr8', spy)
    expect(dependence).toMatch(/ReduceMax: not in a form/)
    const { decoder, determinism } = await createDecoder(modelPackage, { threads: 1, slots: 4 })
    expect([determinism, decoder.maxRows]).toEqual(['single', 1])
    await decoder.close()
  })

  it.each<readonly [string, string, (graph: EditedGraph) => void, RegExp]>([
    ['pr8', 'the scale is of all rows', (g) => g.tensors.set('row.axis', whole('row.axis', [0])), /ReduceMax/],
    ['pr8', 'the scale is of all positions', (g) => g.tensors.set('row.axis', whole('row.axis', [1])), /ReduceMax/],
    ['pr8', 'the scale is of rows too', (g) => g.tensors.set('row.axis', whole('row.axis', [-1, 0])), /ReduceMax/],
    ['pr8', 'the scale is of everything', (g) => nodeOf(g, 'ReduceMax').inputs.pop(), /ReduceMax/],
    [
      'pr8',
      'the scale loses an axis',
      (g) => nodeOf(g, 'ReduceMax').attributes.set('keepdims', integer('keepdims', 0)),
      /ReduceMax/,
    ],
    [
      'pr8',
      'axes left out mean none',
      (g) => nodeOf(g, 'ReduceMax').attributes.set('noop', integer('noop_with_empty_axes', 1)),
      /ReduceMax/,
    ],
    [
      'pr8',
      'an axis in the field of another reader',
      (g) => g.tensors.set('row.axis', whole('row.axis', [-1]).int(7, 0)),
      /ReduceMax/,
    ],
    [
      'pr8',
      'an axis among numbers of another type',
      (g) => g.tensors.set('row.axis', header('row.axis', 'int64', [1]).bytes(4, new Uint8Array(8).fill(0xff))),
      /ReduceMax/,
    ],
    [
      'pr8',
      'an axis that is not in the graph itself',
      (g) =>
        g.tensors.set(
          'row.axis',
          header('row.axis', 'int64', [1])
            .message(13, createWireWriter().bytes(1, 'location').bytes(2, 'weights.bin'))
            .int(14, 1),
        ),
      /ReduceMax/,
    ],
    ['pr8', 'an axis of no dimension', (g) => g.tensors.set('row.axis', whole('row.axis', [-1], [])), /ReduceMax/],
    [
      'pr8',
      'an axis out of a node',
      (g) => {
        g.tensors.delete('row.axis')
        g.nodes.unshift(
          newNode('Constant', [], ['row.axis'], {
            value: createWireWriter()
              .bytes(1, 'value')
              .message(5, whole('', [-1]))
              .int(20, 4),
          }),
        )
      },
      /Constant/,
    ],
    [
      'pr8',
      'codes under a scale of each position',
      (g) => g.tensors.set('row.step', constant('row.step', 'float', [1], new Float32Array(1))),
      /QuantizeLinear/,
    ],
    [
      'pr8',
      'codes under a scale that is computed',
      (g) => {
        const node = nodeOf(g, 'QuantizeLinear')
        node.inputs[1] = nodeOf(g, 'Max').outputs[0]!
      },
      /QuantizeLinear/,
    ],
    [
      'pr8',
      'codes along another axis',
      (g) => nodeOf(g, 'QuantizeLinear').attributes.set('axis', integer('axis', 0)),
      /QuantizeLinear/,
    ],
    [
      'pr8',
      'a product under a scale that is computed',
      (g) => {
        nodeOf(g, 'MatMulIntegerToFloat').inputs[2] = nodeOf(g, 'Max').outputs[0]!
      },
      /MatMulIntegerToFloat/,
    ],
    ['pr8', 'a maximum of three', (g) => nodeOf(g, 'Max').inputs.push('row.least'), /Max/],
    [
      'int4',
      'sums over blocks of other positions',
      (g) => g.tensors.set('block.axis', whole('block.axis', [-3])),
      /ReduceSum/,
    ],
    [
      'int4',
      'sums that keep an axis',
      (g) => nodeOf(g, 'ReduceSum').attributes.set('keepdims', integer('keepdims', 1)),
      /ReduceSum/,
    ],
    [
      'int4',
      'lengths that join rows',
      (g) => g.tensors.set('layer0.q.split', whole('layer0.q.split', [1, -1, 4, 16])),
      /Reshape/,
    ],
    [
      'int4',
      'lengths that move positions',
      (g) => g.tensors.set('layer0.q.split', whole('layer0.q.split', [0, -1, 4, 16])),
      /Reshape/,
    ],
    [
      'int4',
      'zeros that are lengths',
      (g) => nodeOf(g, 'Reshape').attributes.set('allowzero', integer('allowzero', 1)),
      /Reshape/,
    ],
    [
      'int4',
      'lengths that are computed',
      (g) => {
        nodeOf(g, 'Reshape').inputs[1] = 'input_ids'
      },
      /Reshape/,
    ],
    [
      'int4',
      'a bias of each row',
      (g) => g.tensors.set('layer0.q.bias', constant('layer0.q.bias', 'float', [1, 1, 64], new Float32Array(64))),
      /Add/,
    ],
    [
      'int4',
      'products of other kernels',
      (g) => nodeOf(g, 'MatMulNBits').attributes.set('accuracy_level', integer('accuracy_level', 0)),
      /MatMulNBits/,
    ],
    [
      'int4',
      'blocks of another size',
      (g) => nodeOf(g, 'MatMulNBits').attributes.set('block_size', integer('block_size', 128)),
      /MatMulNBits/,
    ],
    [
      'int4',
      'an order of inputs that is computed',
      (g) => nodeOf(g, 'MatMulNBits').inputs.push('', 'input_ids'),
      /MatMulNBits/,
    ],
    [
      'fp32',
      'norms over rows',
      (g) => nodeOf(g, 'SimplifiedLayerNormalization').attributes.set('axis', integer('axis', 0)),
      /SimplifiedLayerNormalization/,
    ],
    [
      'fp32',
      'norms over positions',
      (g) => nodeOf(g, 'SimplifiedLayerNormalization').attributes.set('axis', integer('axis', 1)),
      /SimplifiedLayerNormalization/,
    ],
    [
      'fp32',
      'norms along what the runtime chooses',
      (g) => nodeOf(g, 'SimplifiedLayerNormalization').attributes.delete('axis'),
      /SimplifiedLayerNormalization/,
    ],
    [
      'fp32',
      'an attribute twice',
      (g) => nodeOf(g, 'SimplifiedLayerNormalization').attributes.set('again', integer('axis', 0)),
      /SimplifiedLayerNormalization/,
    ],
    [
      'fp32',
      'an attribute of two values',
      (g) => nodeOf(g, 'SimplifiedLayerNormalization').attributes.set('axis', integer('axis', -1).float(2, 0)),
      /SimplifiedLayerNormalization/,
    ],
    [
      'fp32',
      'an attribute of another type',
      (g) =>
        nodeOf(g, 'SimplifiedLayerNormalization').attributes.set(
          'axis',
          createWireWriter().bytes(1, 'axis').int(3, -1).int(20, 1),
        ),
      /SimplifiedLayerNormalization/,
    ],
    [
      'fp32',
      'a gain that is computed',
      (g) => {
        nodeOf(g, 'SkipSimplifiedLayerNormalization', 1).inputs[2] = nodeOf(g, 'SkipSimplifiedLayerNormalization')
          .outputs[0]!
      },
      /SkipSimplifiedLayerNormalization/,
    ],
    [
      'fp32',
      'a branch of weights for all rows',
      (g) => {
        g.tensors.set('branch', constant('branch', 'float', [1, 1, H], new Float32Array(H)))
        nodeOf(g, 'SkipSimplifiedLayerNormalization').inputs[1] = 'branch'
      },
      /SkipSimplifiedLayerNormalization/,
    ],
    [
      'fp32',
      'a bias besides',
      (g) => nodeOf(g, 'SkipSimplifiedLayerNormalization').inputs.push('norm.final'),
      /SkipSimplifiedLayerNormalization/,
    ],
    [
      'fp32',
      'a mean of rows put out',
      (g) => {
        nodeOf(g, 'SkipSimplifiedLayerNormalization').outputs[1] = 'mean'
      },
      /SkipSimplifiedLayerNormalization/,
    ],
    [
      'fp32',
      'tokens along another axis',
      (g) => nodeOf(g, 'Gather').attributes.set('axis', integer('axis', 1)),
      /Gather/,
    ],
    [
      'fp32',
      'rows picked, not positions',
      (g) => nodeOf(g, 'Gather', -1).attributes.set('axis', integer('axis', 0)),
      /Gather/,
    ],
    [
      'fp32',
      'the first position of a run',
      (g) => {
        g.tensors.set('first', whole('first', [0]))
        nodeOf(g, 'Gather', -1).inputs[1] = 'first'
      },
      /Gather/,
    ],
    [
      'fp32',
      'positions picked by tokens',
      (g) => {
        nodeOf(g, 'Gather', -1).inputs[1] = 'input_ids'
      },
      /Gather/,
    ],
    [
      'fp32',
      'one position in the place of all',
      (g) =>
        behind(g, 'SkipSimplifiedLayerNormalization', 0, (x, out) => [
          newNode('Gather', [x, 'logit_positions'], [out], { axis: integer('axis', 1) }),
        ]),
      /SkipSimplifiedLayerNormalization/,
    ],
    [
      'fp32',
      'attention over picked positions',
      (g) =>
        behind(g, 'SkipSimplifiedLayerNormalization', 1, (x, out) => [
          newNode('Gather', [x, 'logit_positions'], [out], { axis: integer('axis', 1) }),
        ]),
      /GroupQueryAttention/,
    ],
    [
      'fp32',
      'picked positions beside all of them',
      (g) => {
        const node = nodeOf(g, 'Gather', -1)
        g.nodes.splice(g.nodes.indexOf(node) + 1, 0, newNode('Mul', [node.inputs[0]!, node.outputs[0]!], ['mixed']))
      },
      /Mul/,
    ],
    [
      'fp32',
      'the logits of all positions',
      (g) => {
        const node = nodeOf(g, 'Gather', -1)
        nodeOf(g, 'MatMul', -1).inputs[0] = node.inputs[0]!
      },
      /logits/,
    ],
    [
      'fp32',
      'rows turned into positions',
      (g) =>
        behind(g, 'Gather', 0, (x, out) => [newNode('Transpose', [x], [out], { perm: integers('perm', [1, 0, 2]) })]),
      /Transpose/,
    ],
    [
      'fp32',
      'rows times rows',
      (g) => {
        const node = nodeOf(g, 'MatMul')
        node.inputs[1] = node.inputs[0]!
      },
      /MatMul/,
    ],
    [
      'fp32',
      'a matrix for each row',
      (g) => {
        g.tensors.set('matrices', constant('matrices', 'float', [1, H, H], new Float32Array(H * H)))
        nodeOf(g, 'MatMul', 1).inputs[1] = 'matrices'
      },
      /MatMul/,
    ],
    ['fp32', 'weights times rows', (g) => nodeOf(g, 'MatMul').inputs.reverse(), /MatMul/],
    [
      'fp32',
      'a product with weights that are wider than a row',
      (g) => {
        g.tensors.set('wide', constant('wide', 'float', [2, 96], new Float32Array(192)))
        nodeOf(g, 'Mul').inputs[1] = 'wide'
      },
      /Mul/,
    ],
    [
      'fp32',
      'a value of four axes beside one of three',
      (g) => {
        g.tensors.set('lengths', whole('lengths', [0, 0, 4, 24]))
        const node = nodeOf(g, 'Mul')
        const [gate = ''] = node.inputs
        g.nodes.splice(g.nodes.indexOf(node), 0, newNode('Reshape', [gate, 'lengths'], ['four']))
        node.inputs[1] = 'four'
      },
      /Mul/,
    ],
    [
      'fp32',
      'another layer’s cache',
      (g) => {
        const [first, second] = [nodeOf(g, 'GroupQueryAttention'), nodeOf(g, 'GroupQueryAttention', 1)]
        ;[first.inputs[3], second.inputs[3]] = [second.inputs[3]!, first.inputs[3]!]
      },
      /GroupQueryAttention/,
    ],
    [
      'fp32',
      'keys in the place of values',
      (g) => {
        const { inputs } = nodeOf(g, 'GroupQueryAttention')
        ;[inputs[3], inputs[4]] = [inputs[4]!, inputs[3]!]
      },
      /GroupQueryAttention/,
    ],
    [
      'fp32',
      'lengths of the rows as their longest',
      (g) => {
        nodeOf(g, 'GroupQueryAttention').inputs[6] = 'seqlens_k'
      },
      /GroupQueryAttention/,
    ],
    [
      'fp32',
      'a bias of attention',
      (g) => nodeOf(g, 'GroupQueryAttention').inputs.push('', 'layer0.norm1'),
      /GroupQueryAttention/,
    ],
    [
      'fp32',
      'attention of an option that is not known',
      (g) => nodeOf(g, 'GroupQueryAttention').attributes.set('local_window_size', integer('local_window_size', 8)),
      /GroupQueryAttention/,
    ],
    [
      'int8 cache',
      'a scale of keys that is computed',
      (g) => {
        nodeOf(g, 'GroupQueryAttention').inputs[12] = 'input_ids'
      },
      /GroupQueryAttention/,
    ],
    [
      'int8 cache',
      'scales of each channel',
      (g) =>
        nodeOf(g, 'GroupQueryAttention').attributes.set(
          'k_quant_type',
          createWireWriter().bytes(1, 'k_quant_type').bytes(4, 'PER_CHANNEL').int(20, 3),
        ),
      /GroupQueryAttention/,
    ],
    [
      'fp32',
      'a cache in the place of a row',
      (g) => {
        nodeOf(g, 'Mul').inputs[1] = 'past_key_values.0.key'
      },
      /Mul/,
    ],
    [
      'fp32',
      'the length of the longest row in the logits',
      (g) =>
        behind(g, 'Identity', -1, (x, out) => [
          newNode('Cast', ['total_seq'], ['longest'], { to: integer('to', 1) }),
          newNode('Add', [x, 'longest'], [out]),
        ]),
      /Cast/,
    ],
    [
      'fp32',
      'a cast to what is no fraction',
      (g) =>
        behind(g, 'Gather', 0, (x, out) => [
          newNode('Cast', [x], ['codes'], { to: integer('to', 6) }),
          newNode('Cast', ['codes'], [out], { to: integer('to', 1) }),
        ]),
      /Cast/,
    ],
    [
      'fp32',
      'a cache put out as it came',
      (g) => {
        nodeOf(g, 'GroupQueryAttention').outputs[1] = 'unused'
        g.nodes.push(newNode('Identity', ['past_key_values.0.key'], ['present.0.key']))
      },
      /GroupQueryAttention/,
    ],
    [
      'fp32',
      'an operator of another domain',
      (g) => {
        nodeOf(g, 'Sigmoid').domain = 'com.example'
      },
      /com\.example:Sigmoid/,
    ],
    [
      'fp32',
      'an operator that joins rows',
      (g) => behind(g, 'Gather', 0, (x, out) => [newNode('CumSum', [x, 'norm.final'], [out])]),
      /CumSum/,
    ],
    ...(
      [
        'Concat',
        'Slice',
        'Expand',
        'Squeeze',
        'Unsqueeze',
        'Softmax',
        'Where',
        'Shape',
        'Split',
        'ReduceMean',
        'TopK',
        'Loop',
        'RandomNormalLike',
        'toString',
        '__proto__',
      ] as const
    ).map(
      (operator) =>
        [
          'fp32',
          `${operator}`,
          (g: EditedGraph) => behind(g, 'Gather', 0, (x, out) => [newNode(operator, [x], [out])]),
          new RegExp(`${operator}: no operator`),
        ] as const,
    ),
    [
      'fp32',
      'an operator of another time',
      (g) => {
        g.opsets[0] = ['', 6]
      },
      /version 6/,
    ],
    ['fp32', 'a set of operators twice', (g) => g.opsets.push(['ai.onnx', 6]), /version 6/],
    [
      'fp32',
      'weights under the name of an input',
      (g) => g.tensors.set('input_ids', whole('input_ids', [1, 2, 3])),
      /Gather/,
    ],
    ['fp32', 'two values of one name', (g) => g.nodes.push(newNode('Abs', ['logits'], ['logits'])), /several values/],
    ['fp32', 'nodes in another order', (g) => g.nodes.reverse(), /node 0/],
    [
      'fp32',
      'a value that nothing makes',
      (g) => {
        nodeOf(g, 'Sigmoid').inputs[0] = 'nothing'
      },
      /Sigmoid/,
    ],
    [
      'fp32',
      'parts of a node that nothing is known of',
      (g) => {
        nodeOf(g, 'Sigmoid').extra = (node) => node.bytes(8, 'overload')
      },
      /Sigmoid/,
    ],
    [
      'fp32',
      'parts of the graph that nothing is known of',
      (g) => {
        g.extra = (graph) => graph.bytes(13, new Uint8Array())
      },
      /parts of the file/,
    ],
    [
      'fp32',
      'a node more than the logits need',
      (g) => g.nodes.push(newNode('Einsum', ['logits'], ['idle'])),
      /Einsum/,
    ],
  ])('is of class single, in %s: %s', (from, _, change, why) => {
    const { determinism, dependence } = judged(from, change)
    expect(dependence).toMatch(why)
    expect(determinism).toBe('single')
  })

  const fixed64 = (field: number, value: bigint): Uint8Array =>
    Uint8Array.of(field * 8 + 1, ...new Uint8Array(BigInt64Array.of(value).buffer))
  it.each<readonly [string, (graph: EditedGraph) => void]>([
    // The runtime leaves such a field out, and takes the axis for 0.
    [
      'an attribute in eight bytes',
      (g) =>
        nodeOf(g, 'SimplifiedLayerNormalization').attributes.set(
          'axis',
          new Uint8Array([
            ...createWireWriter().bytes(1, 'axis').finish(),
            ...fixed64(3, -1n),
            ...createWireWriter().int(20, 2).finish(),
          ]),
        ),
    ],
    [
      'an attribute in four bytes',
      (g) =>
        nodeOf(g, 'SimplifiedLayerNormalization').attributes.set(
          'axis',
          createWireWriter().bytes(1, 'axis').float(3, -1).int(20, 2),
        ),
    ],
    [
      'the name of an operator as a number',
      (g) => {
        nodeOf(g, 'Sigmoid').extra = (node) => node.int(4, 5)
      },
    ],
    [
      'a length in eight bytes',
      (g) =>
        g.tensors.set(
          'layer0.norm1',
          new Uint8Array([...fixed64(1, 64n), ...createWireWriter().int(2, 1).bytes(8, 'layer0.norm1').finish()]),
        ),
    ],
    [
      'positions that are turned by what is computed',
      (g) => {
        nodeOf(g, 'GroupQueryAttention').inputs[7] = 'input_ids'
      },
    ],
    ['an input of two names', (g) => g.inputs.push(createWireWriter().bytes(1, 'a').bytes(1, 'b'))],
    [
      'a body',
      (g) =>
        nodeOf(g, 'Sigmoid').attributes.set(
          'body',
          createWireWriter().bytes(1, 'body').message(6, createWireWriter()).int(20, 5),
        ),
    ],
  ])('is refused: %s', (_, change) => {
    expect(() => judged('fp32', change)).toThrowError(expect.objectContaining({ code: 'package.unusable' }))
  })
})
