/** The engine computes what PyTorch computed: logits within the stated tolerance, and the same greedy answers. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Engine } from '../../enclave/inference/engine.js'
import { createOrtEngine } from '../../enclave/inference/ort/engine.js'
import { createOrtModel, type OrtModel } from '../../enclave/inference/ort/model.js'
import { loadModelPackage } from '../../enclave/inference/package.js'
import { collect, GREEDY, loadReference, PACKAGE_DIRECTORY, type Reference, textOf } from './model.js'

let reference: Reference
let model: OrtModel
let engine: Engine

beforeAll(async () => {
  const modelPackage = await loadModelPackage(PACKAGE_DIRECTORY)
  reference = await loadReference()
  model = await createOrtModel(modelPackage, 1)
  engine = await createOrtEngine(modelPackage, { threads: 1 })
})

afterAll(async () => {
  await model.close()
  await engine.close()
})

function largestDifference(actual: Float32Array, expected: readonly number[]): number {
  expect(actual.length).toBe(expected.length)
  return Math.max(...expected.map((value, i) => Math.abs(value - (actual[i] ?? Number.NaN))))
}

describe('logits', () => {
  it('match PyTorch after the prompt and in decode steps', async () => {
    expect(reference.tolerance).toBeLessThanOrEqual(1e-4)
    for (const { promptIds, nextIds, rows } of reference.logits) {
      let step = await model.run(promptIds, model.emptyCache)
      expect(largestDifference(step.logits, rows[0] ?? [])).toBeLessThanOrEqual(reference.tolerance)
      for (const [i, tokenId] of nextIds.entries()) {
        step = await model.run([tokenId], step.cache)
        expect(largestDifference(step.logits, rows[i + 1] ?? [])).toBeLessThanOrEqual(reference.tolerance)
      }
    }
  })

  it('do not depend on how the prompt was cut into chunks', async () => {
    for (const { promptIds } of reference.logits) {
      const whole = await model.run(promptIds, model.emptyCache)
      const first = await model.run(promptIds.slice(0, 5), model.emptyCache)
      const rest = await model.run(promptIds.slice(5), first.cache)
      expect(rest.logits).toEqual(whole.logits)
      expect(rest.cache.length).toBe(promptIds.length)
    }
  })
})

describe('greedy transcripts', () => {
  it('tokenise chats as in training', () => {
    for (const { messages, promptIds } of reference.transcripts)
      expect(engine.tokenizeChat(messages)).toEqual(promptIds)
  })

  it('are reproduced token for token', async () => {
    for (const { promptIds, answerIds, answer } of reference.transcripts) {
      const events = await collect(engine.generate(promptIds, GREEDY))
      expect(textOf(events)).toBe(answer)
      expect(events.flatMap((event) => (event.type === 'token' ? [event.tokenId] : []))).toEqual(answerIds)
      expect(events.at(-1)).toEqual({
        type: 'done',
        finishReason: 'stop',
        usage: { promptTokens: promptIds.length, completionTokens: answerIds.length + 1 },
      })
    }
  })
})
