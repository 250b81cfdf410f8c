/** What becomes of a constrained answer that gets no place. */
import { describe, expect, it } from 'vitest'
import { type AnswerParts, startAnswer } from '../../enclave/inference/answer.js'
import { OverloadedError } from '../../enclave/inference/errors.js'

describe('an answer that gets no place', () => {
  it('leaves the mask it had begun to work out, and nobody else with it', () => {
    const jobs: { readonly slice: () => boolean; readonly done: () => void }[] = []
    let prepared = 0
    const parts = {
      scheduler: {
        submit() {
          throw new OverloadedError(1)
        },
      },
      tokenizer: { decode: () => '', spell: () => '', controlTokens: [] },
      eosTokenIds: [0],
      matchers: {
        create: () => ({
          prepare() {
            prepared += 1
            return false
          },
        }),
      },
      background: {
        add(slice: () => boolean, done: () => void) {
          jobs.push({ slice, done })
        },
      },
    } as unknown as AnswerParts
    const options = { temperature: 0, topP: 1, topK: 0, minP: 0, presencePenalty: 0, frequencyPenalty: 0 }
    expect(() =>
      startAnswer(parts, [1], { ...options, stop: [], seed: 1, maxTokens: 4, grammar: {} } as never),
    ).toThrowError(OverloadedError)
    expect(jobs).toHaveLength(1)
    expect(jobs[0]?.slice()).toBe(true)
    expect(() => jobs[0]?.done()).not.toThrow()
    expect(prepared).toBe(1)
  })
})
