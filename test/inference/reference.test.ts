/** The engine computes what PyTorch computed: logits within the stated tolerance, and the same greedy answers. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { Decoder } from '../../enclave/inference/decoder.js'
import type { Engine } from '../../enclave/inference/engine.js'
import { createDecoder, createOrtEngine } from '../../enclave/inference/ort/engine.js'
import { loadModelPackage } from '../../enclave/inference/package.js'
import { BINDINGS, collect, GREEDY, loadReference, PACKAGE_DIRECTORY, type Reference, textOf } from './model.js'

function largestDifference(actual: Float32Array | undefined, expected: readonly number[] | undefined): number {
  expect(actual?.length).toBe(expected?.length)
  return Math.max(...(expected ?? []).map((value, i) => Math.abs(value - (actual?.[i] ?? Number.NaN))))
}

describe.each(BINDINGS)('%s', (binding) => {
  let reference: Reference
  let decoder: Decoder
  let engine: Engine

  beforeAll(async () => {
    const modelPackage = await loadModelPackage(PACKAGE_DIRECTORY)
    reference = await loadReference()
    decoder = (await createDecoder(modelPackage, { threads: 1, binding })).decoder
    engine = await createOrtEngine(modelPackage, { threads: 1, binding })
  })

  afterAll(async () => {
    await decoder.close()
    await engine.close()
  })

  it('logits match PyTorch after the prompt and in decode steps', async () => {
    expect(reference.tolerance).toBeLessThanOrEqual(1e-4)
    for (const { promptIds, nextIds, rows } of reference.logits) {
      expect(largestDifference(await decoder.prefill(3, promptIds), rows[0])).toBeLessThanOrEqual(reference.tolerance)
      for (const [i, tokenId] of nextIds.entries()) {
        const [logits] = await decoder.decode([{ slot: 3, tokenId }])
        expect(largestDifference(logits, rows[i + 1])).toBeLessThanOrEqual(reference.tolerance)
      }
      await decoder.clear(3)
    }
  })

  it('logits do not depend on how the prompt was cut into chunks', async () => {
    for (const { promptIds } of reference.logits) {
      const whole = (await decoder.prefill(0, promptIds)).slice()
      await decoder.prefill(1, promptIds.slice(0, 5))
      expect(await decoder.prefill(1, promptIds.slice(5))).toEqual(whole)
      for (const slot of [0, 1]) await decoder.clear(slot)
    }
  })

  describe('greedy transcripts', () => {
    it('tokenise chats as in training', async () => {
      for (const { messages, promptIds } of reference.transcripts)
        expect(await engine.tokenizeChat(messages)).toEqual(promptIds)
    })

    it('are reproduced token for token', async () => {
      for (const { promptIds, answerIds, answer } of reference.transcripts) {
        const events = await collect(engine.generate(promptIds, GREEDY))
        expect(textOf(events)).toBe(answer)
        expect(events.flatMap((event) => (event.type === 'token' ? [event.tokenId] : []))).toEqual(answerIds)
        expect(events.at(-1)).toEqual({
          type: 'done',
          finishReason: 'stop',
          usage: { promptTokens: promptIds.length, cachedTokens: 0, completionTokens: answerIds.length + 1 },
        })
      }
    })
  })
})
