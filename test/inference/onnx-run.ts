/** Runs decoder graphs of the usual layouts as they are, with the runtime's public interface: what importers are held against. */
import { createRequire } from 'node:module'
import '../../enclave/inference/ort/no-telemetry.js'

interface PublicTensor {
  readonly data: Float32Array
  readonly dims: readonly number[]
}

interface InputMetadata {
  readonly name: string
  readonly type: string
  readonly shape: readonly (number | string)[]
}

interface PublicSession {
  readonly inputMetadata: readonly InputMetadata[]
  run(feeds: Readonly<Record<string, PublicTensor>>): Promise<Readonly<Record<string, PublicTensor>>>
  release(): Promise<void>
}

interface PublicBinding {
  readonly Tensor: new (type: string, data: ArrayBufferView, dims: readonly number[]) => PublicTensor
  readonly InferenceSession: { create(path: string, options: object): Promise<PublicSession> }
}

/** Logits after each of `tokens`, by a run over all of them and an empty past. Of graphs in single precision. */
export async function runSource(path: string, tokens: readonly number[]): Promise<readonly Float32Array[]> {
  // Only the engine imports the runtime; this borrows its copy.
  const { Tensor, InferenceSession } = createRequire(import.meta.url)('onnxruntime-node') as PublicBinding
  const session = await InferenceSession.create(path, { executionProviders: ['cpu'], intraOpNumThreads: 1 })
  const whole = (values: readonly number[]): PublicTensor =>
    new Tensor('int64', BigInt64Array.from(values, BigInt), [1, values.length])
  const feeds: Record<string, PublicTensor> = {}
  for (const { name, shape } of session.inputMetadata) {
    if (name === 'input_ids') feeds[name] = whole(tokens)
    else if (name === 'attention_mask') feeds[name] = whole(tokens.map(() => 1))
    else if (name === 'position_ids') feeds[name] = whole(tokens.map((_, index) => index))
    else feeds[name] = new Tensor('float32', new Float32Array(), [1, Number(shape[1]), 0, Number(shape[3])])
  }
  const { logits } = await session.run(feeds)
  await session.release()
  if (logits === undefined) throw new Error('the graph gave no logits')
  const [, , vocabulary = 0] = logits.dims
  const values = logits.data.slice()
  return tokens.map((_, index) => values.slice(index * vocabulary, (index + 1) * vocabulary))
}
