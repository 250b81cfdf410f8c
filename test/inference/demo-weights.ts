/** The demo model's weights, read from its graph, so that it can be written again in another format. */
import { fileByRole, type ModelPackage } from '../../enclave/inference/package.js'
import type { Matrix } from '../../scripts/model/formats.js'
import { transpose } from '../../scripts/model/formats.js'
import type { LayerMatrix, LlamaShape, LlamaWeights } from '../../scripts/model/llama-graph.js'
import { readGraph } from '../../scripts/model/onnx/graph.js'

/** As scripts/train-demo-model/model.py has it. */
export const DEMO_SHAPE: LlamaShape = {
  layers: 4,
  hiddenSize: 128,
  heads: 4,
  kvHeads: 2,
  headSize: 32,
  feedForwardSize: 384,
  vocabularySize: 1024,
  contextLength: 1024,
  normEpsilon: 1e-5,
  ropeFrequencies: Float64Array.from({ length: 16 }, (_, i) => 10_000 ** (-i / 16)),
  ropeInterleaved: false,
  attentionBias: false,
  headNorms: false,
  tiedEmbeddings: true,
}

export function demoWeights(modelPackage: ModelPackage): LlamaWeights {
  const { tensors } = readGraph(fileByRole(modelPackage, 'graph'))
  const values = (name: string): { shape: readonly number[]; values: Float32Array } => {
    const tensor = tensors.get(name)
    if (tensor === undefined || !(tensor.data instanceof Uint8Array)) throw new Error(`the demo model has no ${name}`)
    return { shape: tensor.shape, values: new Float32Array(tensor.data.slice().buffer) }
  }
  // Kept with the inputs first.
  const matrix = (name: string): Matrix => {
    const { shape, values: all } = values(name)
    const [columns = 0, rows = 0] = shape
    return { rows, columns, values: transpose({ rows: columns, columns: rows, values: all }) }
  }
  const folder = (name: LayerMatrix): string => (name.length === 1 ? 'attention' : 'mlp')
  return {
    async embedding() {
      const { shape, values: all } = values('embedding')
      return { rows: shape[0] ?? 0, columns: shape[1] ?? 0, values: all }
    },
    head: () => Promise.reject(new Error('it is the embedding')),
    finalNorm: async () => values('final.norm.weight').values,
    matrix: async (layer, name) => matrix(`layer${layer}.${folder(name)}.${name}.weight`),
    vector: async (layer, name) => values(`layer${layer}.${name === 'norm1' ? 'attention' : 'mlp'}.norm.weight`).values,
  }
}
