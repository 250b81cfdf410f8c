/**
 * Answers verified several tokens a run (PROTOCOL.md P-8.10): their logits are those a prompt's run would give, whatever was
 * proposed, with whatever neighbours.
 */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { MAX_CHUNK, nextChunk } from '../../enclave/inference/chunks.js'
import { type Decoder, MAX_VERIFIED } from '../../enclave/inference/decoder.js'
import type { Engine, EngineEvent, GenerateOptions } from '../../enclave/inference/engine.js'
import { createDecoder, createOrtEngine } from '../../enclave/inference/ort/engine.js'
import { loadModelPackage } from '../../enclave/inference/package.js'
import { createPromptLookup } from '../../enclave/inference/prompt-lookup.js'
import { createRandom } from '../../enclave/inference/sampler.js'
import { createScheduler, type Scheduler } from '../../enclave/inference/scheduler.js'
import { randomPackage, SMALL } from '../../scripts/bench/random-model.js'
import { BINDINGS, collect, GREEDY, PACKAGE_DIRECTORY } from './model.js'

const SHAPE = { ...SMALL, layers: 2, vocabularySize: 1024, contextLength: 256 }

const SHAPE_SCALES = { fp32: undefined, int8: Array.from({ length: 2 }, () => ({ key: 0.04, value: 0.03 })) } as const

const bits = (logits: Float32Array | undefined): string =>
  Buffer.from(logits?.buffer ?? new ArrayBuffer(0), logits?.byteOffset, logits?.byteLength).toString('base64')

/** The logits behind a text that is computed whole, as a prompt. */
async function behind(decoder: Decoder, tokens: readonly number[]): Promise<string> {
  let logits: Float32Array | undefined
  for (let at = 0; at < tokens.length; ) {
    const size = nextChunk(tokens.length - at, MAX_CHUNK)
    logits = await decoder.prefill(0, tokens.slice(at, at + size))
    at += size
  }
  const found = bits(logits)
  await decoder.clear(0)
  return found
}

const FORMATS = ['fp32', 'int8', 'int4', 'pr8'] as const
const CASES = BINDINGS.flatMap((binding) => [
  ...FORMATS.map((format) => ({ binding, format, cache: 'fp32' as const })),
  { binding, format: 'pr8' as const, cache: 'int8' as const },
])

describe.each(CASES)('$format with keys in $cache on the $binding decoder', ({ binding, format, cache }) => {
  it('verifies with the bits of prompts', async () => {
    const scales = SHAPE_SCALES[cache]
    const { decoder } = await createDecoder(await randomPackage(SHAPE, format, 1, scales), { binding, slots: 3 })
    if (decoder.verify === undefined) throw new Error('the graph gives no logits but the last')
    const random = createRandom(5)
    const below = (n: number): number => Math.floor(random() * n)
    const tokens = (length: number): number[] => Array.from({ length }, () => below(1024))
    const [prompt, answer] = [tokens(30), tokens(40)]
    const cold: string[] = []
    for (let i = 0; i <= answer.length; i++) cold.push(await behind(decoder, [...prompt, ...answer.slice(0, i)]))
    let compared = 0
    for (let round = 0; round < 6; round++) {
      const slot = below(3)
      const other = (slot + 1) % 3
      await decoder.prefill(other, tokens(9))
      await decoder.prefill(slot, prompt)
      for (let at = 0; at < answer.length - 1; ) {
        const count = 2 + below(MAX_VERIFIED - 1)
        const good = Math.min(1 + below(count), answer.length - at)
        // What was proposed beyond is wrong, and taken back.
        const run = [...answer.slice(at, at + good), ...tokens(count - good)]
        const logits = await decoder.verify(slot, run)
        for (let i = 0; i < good; i++) {
          expect(bits(logits[i])).toBe(cold[at + i + 1])
          compared += 1
        }
        await decoder.truncate(slot, prompt.length + at + good)
        at += good
        await decoder.decode([{ slot: other, tokenId: below(1024) }])
      }
      await decoder.clear(slot)
      await decoder.clear(other)
    }
    expect(compared).toBeGreaterThan(200)
    await decoder.close()
  }, 120_000)
})

const ANSWER: GenerateOptions = { ...GREEDY, maxTokens: 24, logprobs: 20 }

describe.each(BINDINGS)('answers with a prediction on the %s decoder', (binding) => {
  const range = (length: number, from: number): number[] => Array.from({ length }, (_, i) => from + i)
  const prompt = range(40, 100)

  /** Events but the last, and what the last says. */
  async function answer(engine: Engine, options: Partial<GenerateOptions>, tokens = prompt) {
    const events = await collect(engine.generate(tokens, { ...ANSWER, ...options }))
    const done = events.pop()
    if (done?.type !== 'done') throw new Error('no end')
    return { events, ...done }
  }
  const idsOf = (events: readonly EngineEvent[]): number[] =>
    events.flatMap((event) => (event.type === 'token' ? [event.tokenId] : []))

  const topOf = (event: EngineEvent | undefined) => (event?.type === 'token' ? event.logprobs?.top : undefined)

  /** Without its text, of which more comes out at an end. */
  const tokenOf = (event: EngineEvent) => (event.type === 'token' ? [event.tokenId, event.logprobs] : [])

  it('are what a prompt’s runs give, token by token, whatever is predicted and whoever else is answered', async () => {
    const engine = await createOrtEngine(await randomPackage(SHAPE, 'pr8'), { binding, slots: 4 })
    const sampled = { temperature: 1.2, topP: 0.95, seed: 3 }
    for (const options of [{}, sampled]) {
      const first = await answer(engine, { ...options, prediction: [] })
      const ids = idsOf(first.events)
      expect(ids).toHaveLength(24)
      for (let i = 0; i < ids.length; i += 3) {
        // The likeliest tokens do not depend on what was drawn, and stand for all logits.
        const alone = await answer(engine, { maxTokens: 1 }, [...prompt, ...ids.slice(0, i)])
        expect(topOf(alone.events[0])).toEqual(topOf(first.events[i]))
      }
      const predictions = [ids, ids.slice(7), [...ids.slice(0, 5), 3, 4, 5, ...ids.slice(5)], range(50, 500), [1]]
      const leave = new AbortController()
      const guests = [1, 2].map((i) =>
        collect(engine.generate(range(60, 10 * i), { ...GREEDY, maxTokens: 150, signal: leave.signal })).catch(
          () => [],
        ),
      )
      const all = await Promise.all(predictions.map((prediction) => answer(engine, { ...options, prediction })))
      leave.abort()
      await Promise.all(guests)
      for (const { events, finishReason } of all)
        expect({ events, finishReason }).toEqual({ events: first.events, finishReason: first.finishReason })
      const perfect = all[0]?.usage.predicted ?? { accepted: 0, rejected: 0 }
      expect(perfect.accepted).toBeGreaterThan(10)
    }
    await engine.close()
  }, 120_000)

  it('end where they would, at a stop, at the last token, and at the end of the context', async () => {
    const engine = await createOrtEngine(await randomPackage(SHAPE, 'pr8'), { binding, slots: 1 })
    const whole = await answer(engine, { prediction: [] })
    const ids = idsOf(whole.events)
    for (let maxTokens = 1; maxTokens < 12; maxTokens++) {
      const cut = await answer(engine, { prediction: ids, maxTokens })
      expect([cut.finishReason, cut.usage.completionTokens]).toEqual(['length', maxTokens])
      expect(cut.events.map(tokenOf)).toEqual(whole.events.slice(0, maxTokens).map(tokenOf))
    }
    const long = range(240, 300)
    const last = await answer(engine, { prediction: [], maxTokens: 16 }, long)
    expect(last.usage.completionTokens).toBe(16)
    const again = await answer(engine, { prediction: idsOf(last.events), maxTokens: 16 }, long)
    expect(again.events).toEqual(last.events)
    await engine.close()
  }, 60_000)

  it('leave a slot with nothing of them', async () => {
    const engine = await createOrtEngine(await randomPackage(SHAPE, 'pr8'), { binding, slots: 2 })
    const cold = await answer(engine, { prediction: [] })
    const kept = { reuseKey: 'a', prediction: idsOf(cold.events) }
    expect((await answer(engine, kept)).usage.cachedTokens).toBe(0)
    const again = await answer(engine, kept)
    expect([again.usage.cachedTokens, again.events]).toEqual([38, cold.events])
    // A prompt that contains the answer: no more than the prompt was kept.
    const longer = await answer(engine, { reuseKey: 'a', maxTokens: 2 }, [...prompt, ...idsOf(cold.events), 7, 8])
    expect(longer.usage.cachedTokens).toBe(40)
    await engine.close()
  }, 60_000)

  it('are refused with tokens that the model has not', async () => {
    const engine = await createOrtEngine(await randomPackage(SHAPE, 'pr8'), { binding, slots: 1 })
    for (const prediction of [[-1], [1024], [0.5]]) {
      expect(() => engine.generate(prompt, { ...ANSWER, prediction })).toThrowError(
        expect.objectContaining({ code: 'options.invalid' }),
      )
    }
    await engine.close()
  })
})

describe('a graph without positions', () => {
  it('answers one token a run, with the bits it always has', async () => {
    const engine = await createOrtEngine(await loadModelPackage(PACKAGE_DIRECTORY), { threads: 1, slots: 1 })
    const plain = await collect(engine.generate([5, 6, 7, 8], ANSWER))
    const predicted = await collect(engine.generate([5, 6, 7, 8], { ...ANSWER, prediction: [9, 10] }))
    expect(predicted.slice(0, -1)).toEqual(plain.slice(0, -1))
    expect(predicted.at(-1)).toMatchObject({ usage: { predicted: { accepted: 0, rejected: 0 } } })
    await engine.close()
  })
})

describe('prompt lookup', () => {
  it('goes on as the latest of the longest matches did', () => {
    const lookup = createPromptLookup([1, 2, 3, 4, 5, 9, 3, 7, 8], [])
    lookup.push(3)
    expect(lookup.propose(3)).toEqual([7, 8, 3])
    lookup.push(4)
    // Two tokens alike beat one alike later on.
    expect(lookup.propose(2)).toEqual([5, 9])
    lookup.push(5)
    lookup.push(1)
    expect(lookup.tally()).toEqual({ accepted: 1, rejected: 4 })
    expect(createPromptLookup([1, 2, 3], []).propose(5)).toEqual([])
  })

  it('proposes only what was seen, no more than asked for, and counts all of it', () => {
    const tokens = fc.array(fc.integer({ min: 0, max: 4 }), { maxLength: 30 })
    fc.assert(
      fc.property(tokens, tokens, tokens, fc.integer({ min: 1, max: 7 }), (prompt, prediction, answer, most) => {
        const lookup = createPromptLookup(prompt, prediction)
        let proposed = 0
        let seen = [...prompt, ...prediction]
        for (const token of answer) {
          lookup.push(token)
          seen = [...seen, token]
          const next = lookup.propose(most)
          expect(next.length).toBeLessThanOrEqual(most)
          if (next.length > 0) expect(seen.join(',')).toContain([token, ...next].join(','))
          proposed += next.length
        }
        const { accepted, rejected } = lookup.tally()
        expect([accepted >= 0, accepted + rejected]).toEqual([true, proposed])
      }),
    )
  })
})

describe('the scheduler', () => {
  /** Logits say nothing; runs are remembered. */
  function fake(slots: number): Decoder & { readonly runs: string[] } {
    const runs: string[] = []
    const empty = new Float32Array(1)
    return {
      runtime: { name: 'fake', version: '0.0.0' },
      slots,
      slotTokens: 1000,
      maxRows: slots,
      runs,
      async prefill(slot, tokenIds) {
        runs.push(`p${slot}:${tokenIds.length}`)
        return empty
      },
      async verify(slot, tokenIds) {
        runs.push(`v${slot}:${tokenIds.join(',')}`)
        return tokenIds.map(() => empty)
      },
      async decode(rows) {
        runs.push(`d${rows.map(({ slot }) => slot).join()}`)
        return rows.map(() => empty)
      },
      interrupt: () => undefined,
      clear: async () => undefined,
      async truncate(slot, tokens) {
        runs.push(`t${slot}:${tokens}`)
      },
      close: async () => undefined,
    }
  }
  const create = (decoder: Decoder, verifies = true): Scheduler =>
    createScheduler({ decoder, maxWaiting: 10, monotonicMs: () => 0, verifies })
  /** An answer of 1, 2, 3 … up to `count`. */
  const count = (scheduler: Scheduler, last: number, propose?: (most: number) => readonly number[]): Promise<void> =>
    new Promise((resolve, reject) => {
      let token = 0
      scheduler.submit({
        promptTokens: [90, 91, 92],
        tenant: undefined,
        signal: undefined,
        wanted: () => true,
        failed: reject,
        ...(propose === undefined ? {} : { propose }),
        next() {
          token += 1
          if (token < last) return token
          resolve()
          return undefined
        },
      })
    })

  it('goes on as far as a proposal holds, and takes back the rest', async () => {
    const decoder = fake(2)
    const scheduler = create(decoder)
    const proposals = [[2, 3, 9, 9], [], [6, 7]]
    await count(scheduler, 8, () => proposals.shift() ?? [])
    expect(decoder.runs).toEqual(['p0:3', 'v0:1,2,3,9,9', 't0:6', 'v0:4,4', 't0:7', 'v0:5,6,7'])
    await scheduler.close()
  })

  it('lets every other answer have a token between any two runs of one', async () => {
    const decoder = fake(3)
    const scheduler = create(decoder)
    await Promise.all([count(scheduler, 20), count(scheduler, 20), count(scheduler, 40, () => [99])])
    const text = decoder.runs.filter((run) => !run.startsWith('t')).join(' ')
    const during = text.slice(text.indexOf('v2'), text.lastIndexOf('d0,1'))
    expect(
      during
        .split('v2')
        .slice(1, -1)
        .every((between) => between.includes('d0,1')),
    ).toBe(true)
    expect(text).not.toContain('d0,1,2')
    await scheduler.close()
  })

  it('asks for no more than the slot has room for, and for nothing where runs are not to be shared', async () => {
    const decoder = { ...fake(1), slotTokens: 8 }
    const asked: number[] = []
    const propose = (most: number): number[] => {
      asked.push(most)
      return [99]
    }
    const scheduler = create(decoder)
    await count(scheduler, 5, propose)
    expect(asked).toEqual([4, 3, 2, 1])
    await scheduler.close()
    const plain = fake(1)
    const other = create(plain, false)
    await count(other, 3, propose)
    expect(plain.runs).toEqual(['p0:3', 'd0', 'd0'])
    await other.close()
  })
})
