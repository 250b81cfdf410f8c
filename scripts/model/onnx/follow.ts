/** Steps that readers of graphs take from one value back to what it is made of. */
import { broken } from '../model-file.js'
import type { OnnxFile } from './file.js'
import type { Product, WeightReader } from './weights.js'

export function unlike(weights: WeightReader, name: string, what: string): Error {
  const node = weights.producer(name)
  return broken(`${name}: expected ${what}, got ${node?.operator ?? 'no operator'}`)
}

export function product(weights: WeightReader, name: string, what: string): Product {
  const found = weights.product(name)
  if (found === undefined) throw unlike(weights, name, `${what}: a product with weights`)
  return found
}

/** Skips what only changes how heads lie in memory. */
export function headed(weights: WeightReader, name: string): string {
  let at = weights.plain(name)
  // There are two at most, before and after a norm.
  for (let steps = 0; steps < 4; steps++) {
    const node = weights.producer(at)
    if (node?.operator !== 'Reshape') break
    at = weights.plain(node.inputs[0] ?? '')
  }
  return at
}

export interface Cone {
  readonly inputs: ReadonlySet<string>
  readonly tensors: ReadonlySet<string>
}

/** What values are made of, back to inputs, tensors, and the names at which `stop` says so. Shapes need not count as values. */
export function coneOf(
  file: OnnxFile,
  weights: WeightReader,
  from: readonly string[],
  stop: (name: string) => boolean,
  operators: ReadonlySet<string>,
  what: string,
  shapes = false,
): Cone {
  const [inputs, tensors, seen] = [new Set<string>(), new Set<string>(), new Set<string>()]
  const open = [...from]
  for (let name = open.pop(); name !== undefined; name = open.pop()) {
    if (name === '' || seen.has(name)) continue
    seen.add(name)
    if (file.inputs.has(name)) inputs.add(name)
    else if (file.tensors.has(name)) tensors.add(name)
    else if (!stop(name)) {
      const node = file.producers.get(name)
      if (node === undefined || !operators.has(node.operator)) throw unlike(weights, name, `${what} without weights`)
      if (node.operator !== 'Shape' || shapes) open.push(...node.inputs)
    }
  }
  return { inputs, tensors }
}
