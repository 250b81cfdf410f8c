/**
 * Attention as exporters write it out, in tens of operators that change from version to version. Checked is that it is made
 * of one product each of queries, keys and values, of this layer's caches, and of nothing else that could be a weight or an
 * unusual factor. What lies between is taken to be what config.json says.
 */
import { broken } from '../model-file.js'
import type { Attention } from './attention.js'
import type { OnnxFile } from './file.js'
import { type Cone, coneOf, headed } from './follow.js'
import type { Norm } from './norm.js'
import type { Rotation } from './rotation.js'
import type { Product, WeightReader } from './weights.js'

/** What exporters write attention with. None has weights. */
const ATTENTION_OPERATORS: ReadonlySet<string> = new Set(
  `Add And Cast Concat Constant ConstantOfShape Cos Div Equal Expand Flatten Gather GatherND Greater GreaterOrEqual Identity
  IsNaN Less LessOrEqual MatMul Max Min Mul Neg Not Or Range ReduceSum Reshape ScatterND Shape Sin Slice Softmax Split Sqrt
  Squeeze Sub Transpose Trilu Unsqueeze Where`.split(/\s+/),
)

const CACHE = /^past_key_values\.(\d+)\.(key|value)$/

export function spelledAttention(
  file: OnnxFile,
  weights: WeightReader,
  norms: ReadonlyMap<string, Norm>,
  name: string,
  what: string,
): Attention {
  const found = new Map<string, { readonly product: Product; readonly norm: Norm | undefined }>()
  const stop = (at: string): boolean => {
    const norm = norms.get(at)
    const inner = weights.product(norm === undefined ? at : headed(weights, norm.stream))
    if (inner === undefined) return false
    found.set(at, { product: inner, norm })
    return true
  }
  const rootsOf = (from: string): { readonly roots: readonly string[]; readonly cone: Cone } => {
    found.clear()
    const cone = coneOf(file, weights, [from], stop, ATTENTION_OPERATORS, `${what}: attention`)
    return { roots: [...found.keys()], cone }
  }
  const whole = rootsOf(name)
  const all = new Map(found)
  const layer = [...whole.cone.inputs].map((input) => CACHE.exec(input)?.[1]).find((index) => index !== undefined)
  const single = (part: 'key' | 'value'): string => {
    const present = `present.${layer}.${part}`
    if (!file.outputs.has(present)) throw broken(`${what}: expected its ${part}s in ${present}`)
    const { roots } = rootsOf(present)
    const [root] = roots
    if (root !== undefined && roots.length === 1 && all.has(root)) return root
    throw broken(`${present}: expected one product with weights, got ${roots.length}`)
  }
  const [key, value] = [single('key'), single('value')]
  const queries = whole.roots.filter((root) => root !== key && root !== value)
  const [q, k, v] = [all.get(queries[0] ?? ''), all.get(key), all.get(value)]
  if (q === undefined || k === undefined || v === undefined || queries.length !== 1 || key === value || v.norm) {
    throw broken(`${what}: expected attention of queries, keys and values, got ${whole.roots.length} products`)
  }
  const tensors = [...whole.cone.tensors]
  const names = tensors.filter((tensor) => weights.vectorLike(tensor))
  const rotation: Rotation = {
    kind: 'frequencies',
    names,
    factors: tensors.filter((tensor) => !names.includes(tensor)),
  }
  const pasts = [...whole.cone.inputs].filter((input) => !['attention_mask', 'position_ids'].includes(input)).sort()
  const caches = [...pasts, ...['key', 'value'].map((part) => `present.${layer}.${part}`)]
  return { q: q.product, k: k.product, v: v.product, qNorm: q.norm, kNorm: k.norm, rotation, caches }
}
