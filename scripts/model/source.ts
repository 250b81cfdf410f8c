/** What an importer makes of a model it was given, whatever form that had. */
import { MODEL_LIMITS, type ModelFamily } from '../../enclave/inference/package.js'
import type { LlamaShape, LlamaWeights } from './llama-graph.js'
import { broken } from './model-file.js'

export interface ModelSource {
  readonly family: ModelFamily
  readonly title: string
  /** SPDX expression, where the source names one. */
  readonly license: string | undefined
  readonly shape: LlamaShape
  readonly weights: LlamaWeights
  readonly eosTokenIds: readonly number[]
  readonly tokenizerJson: Uint8Array
  readonly tokenizerConfigJson: Uint8Array
  readonly template: string
  close(): Promise<void>
}

/** Models beyond these are refused before anything is allocated for them. */
const LIMITS = { ...MODEL_LIMITS, matrix: 2 ** 31 }
const HEAD_MULTIPLE = 16
/** Of the larger table of rotary positions, whatever the model's own size. */
const ROTARY_VALUES = 2 ** 22

/** @throws ModelFileError unless the numbers fit each other and this machine. */
export function checkShape(shape: LlamaShape): LlamaShape {
  const positive = (name: string, value: number, most: number): void => {
    if (!Number.isSafeInteger(value) || value < 1 || value > most)
      throw broken(`${name}: expected 1 to ${most}, got ${value}`)
  }
  positive('layers', shape.layers, LIMITS.layers)
  positive('hidden size', shape.hiddenSize, LIMITS.size)
  positive('feed-forward size', shape.feedForwardSize, LIMITS.size)
  positive('heads', shape.heads, 4096)
  positive('key-value heads', shape.kvHeads, shape.heads)
  positive('head size', shape.headSize, 4096)
  positive('vocabulary', shape.vocabularySize, LIMITS.vocabulary)
  positive('context', shape.contextLength, LIMITS.context)
  const { hiddenSize, feedForwardSize, vocabularySize, heads, headSize } = shape
  positive(
    'weights of one matrix',
    hiddenSize * Math.max(feedForwardSize, vocabularySize, heads * headSize),
    LIMITS.matrix,
  )
  if (shape.headSize % 8 !== 0) throw broken(`head size: expected a multiple of 8, got ${shape.headSize}`)
  if (shape.heads % shape.kvHeads !== 0) throw broken('heads: expected a multiple of the key-value heads')
  if (!(shape.normEpsilon > 0 && shape.normEpsilon < 1)) throw broken('norm epsilon: expected a small positive number')
  if (!shape.ropeFrequencies.every((f) => Number.isFinite(f) && f >= 0))
    throw broken('rotary positions: expected finite frequencies')
  return shape
}

/** What the runtime's attention computes. @throws ModelFileError. */
export function checkHeads({ headSize }: LlamaShape): void {
  if (headSize % HEAD_MULTIPLE !== 0) {
    throw broken(`head size: expected a multiple of ${HEAD_MULTIPLE}, got ${headSize}: keep it for a server (original)`)
  }
}

/**
 * A graph has a row of rotary positions for each token of the context, and no file holds those: a small file could ask for any
 * number. @throws ModelFileError where they would outgrow the weights.
 */
export function checkRotary({ contextLength, headSize }: LlamaShape, parameters: number): void {
  const most = Math.floor(Math.max(ROTARY_VALUES, parameters) / (headSize / 2))
  if (contextLength <= most) return
  throw broken(
    `context: expected at most ${most} tokens for a model of this size, got ${contextLength}: choose with --context`,
  )
}

/** Several tensors in one place would let a small file grow into a large package. @throws ModelFileError. */
export function expectApart(
  file: string,
  tensors: Iterable<{ readonly offset: number; readonly bytes: number }>,
): void {
  let end = 0
  for (const { offset, bytes } of [...tensors].sort((a, b) => a.offset - b.offset)) {
    if (offset < end) throw broken(`${file}: two tensors lie in the same place`)
    end = offset + bytes
  }
}

/** @throws ModelFileError for weights that are not numbers: one of them would poison every answer. */
export function checkFinite(name: string, values: Float32Array): Float32Array {
  for (const value of values) if (!Number.isFinite(value)) throw broken(`${name}: has weights that are not finite`)
  return values
}

export function ropeFrequencies(headSize: number, base: number, factors?: Float32Array): Float64Array {
  return Float64Array.from({ length: headSize / 2 }, (_, i) => base ** ((-2 * i) / headSize) / (factors?.[i] ?? 1))
}
