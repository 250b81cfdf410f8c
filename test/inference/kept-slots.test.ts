/**
 * Prompts kept for their own session (PROTOCOL.md P-10.5, P-10.6): what is reused, what never is, and that nothing of it
 * stays. First with a decoder that computes nothing and remembers who wrote what, then with real ones and their memory.
 */
import fc from 'fast-check'
import { afterEach, describe, expect, it, vi } from 'vitest'
import type { Decoder } from '../../enclave/inference/decoder.js'
import type { GenerateOptions } from '../../enclave/inference/engine.js'
import type { EngineError } from '../../enclave/inference/errors.js'
import { createKeptSlots, type KeptSlots, MIN_KEPT_TOKENS } from '../../enclave/inference/kept-slots.js'
import { createOrtEngine } from '../../enclave/inference/ort/engine.js'
import { loadModelPackage, type ModelPackage } from '../../enclave/inference/package.js'
import { createRandom } from '../../enclave/inference/sampler.js'
import { createScheduler, type Scheduler } from '../../enclave/inference/scheduler.js'
import { BINDINGS, collect, GREEDY, PACKAGE_DIRECTORY } from './model.js'

const range = (length: number, from = 0): number[] => Array.from({ length }, (_, i) => from + i)

describe('kept slots', () => {
  const clock = { now: 0 }
  const create = (onExpired: () => void = () => undefined): KeptSlots =>
    createKeptSlots({ keepMs: 1000, monotonicMs: () => clock.now, onExpired })

  it('are given to the same key only, with what the prompts have in common', () => {
    const kept = create()
    expect(kept.keep(3, 'a', range(40))).toEqual([])
    expect(kept.take('b', range(50))).toBeUndefined()
    expect(kept.take('', range(50))).toBeUndefined()
    expect(kept.take('a', [...range(30), 99, 98, 97])).toEqual({ slot: 3, tokens: 30 })
    expect(kept.take('a', range(50))).toBeUndefined()
    expect(kept.size).toBe(0)
  })

  it('leave the last two tokens of a prompt to be computed', () => {
    const kept = create()
    for (const [length, tokens] of [
      [40, 38],
      [41, 39],
      [42, 40],
      [43, 40],
    ] as const) {
      kept.keep(0, 'a', range(40))
      expect(kept.take('a', range(length))).toEqual({ slot: 0, tokens })
    }
  })

  it('are not worth it for a few tokens, or for the beginning of something long', () => {
    const kept = create()
    kept.keep(0, 'a', range(200))
    expect(kept.take('a', [...range(MIN_KEPT_TOKENS - 1), 900, 901, 902])).toBeUndefined()
    expect(kept.take('a', [...range(99), 900, 901, 902])).toBeUndefined()
    expect(kept.take('a', [...range(100), 900, 901, 902])).toEqual({ slot: 0, tokens: 100 })
  })

  it('go to the prompt they save the most, and one serves for those it begins with', () => {
    const kept = create()
    kept.keep(0, 'a', range(40))
    kept.keep(1, 'a', [...range(30), 800])
    kept.keep(2, 'b', range(50))
    expect(kept.keep(3, 'a', range(60))).toEqual([0])
    expect(kept.keep(4, 'a', range(20))).toEqual([4])
    expect(kept.keep(5, 'a', [...range(30), 800])).toEqual([1])
    expect(kept.size).toBe(3)
    expect(kept.take('a', range(45))).toEqual({ slot: 3, tokens: 43 })
  })

  it('are lent in the order they were kept, and given up in time', () => {
    const kept = create()
    clock.now = 0
    kept.keep(0, 'a', range(20))
    clock.now = 600
    kept.keep(1, 'b', range(20))
    kept.keep(2, 'c', range(20))
    expect([kept.expired(), kept.takeExpired()]).toEqual([false, []])
    clock.now = 1000
    expect(kept.take('a', range(30))).toBeUndefined()
    expect([kept.expired(), kept.takeExpired(), kept.expired()]).toEqual([true, [0], false])
    expect([kept.takeOldest(), kept.takeOldest(), kept.takeOldest()]).toEqual([1, 2, undefined])
  })

  it('call when the time of the first one is over, and not when all are gone', () => {
    vi.useFakeTimers()
    try {
      clock.now = 0
      let calls = 0
      const kept = create(() => void calls++)
      const pass = (ms: number): void => {
        clock.now += ms
        vi.advanceTimersByTime(ms)
      }
      kept.keep(0, 'a', range(20))
      pass(500)
      kept.keep(1, 'a', range(20, 100))
      pass(499)
      expect(calls).toBe(0)
      pass(1)
      expect([calls, kept.takeExpired()]).toEqual([1, [0]])
      pass(500)
      expect([calls, kept.takeExpired()]).toEqual([2, [1]])
      kept.keep(2, 'a', range(20))
      kept.close()
      expect([vi.getTimerCount(), kept.size]).toEqual([0, 0])
    } finally {
      vi.useRealTimers()
    }
  })
})

/** One position of a slot: which token, of whose request, and by what kind of run. */
interface Cell {
  readonly token: number
  readonly key: string | undefined
  readonly by: 'prefill' | 'decode'
}

interface Ledger extends Decoder {
  readonly cells: Map<number, Cell[]>
  readonly faults: string[]
  readonly prefilled: { readonly slot: number; readonly behind: number; readonly count: number }[]
  /** Whose prompt the slot is computed for; the test says so. */
  readonly owners: Map<number, string | undefined>
}

function ledger(slots: number, fail: () => boolean = () => false): Ledger {
  const cells = new Map<number, Cell[]>()
  const faults: string[] = []
  const prefilled: { slot: number; behind: number; count: number }[] = []
  const owners = new Map<number, string | undefined>()
  const at = (slot: number): Cell[] => {
    const known = cells.get(slot)
    if (known !== undefined) return known
    const fresh: Cell[] = []
    cells.set(slot, fresh)
    return fresh
  }
  // The first "logits" say everything the slot holds.
  const look = (slot: number): Float32Array => Float32Array.from(at(slot), ({ token }) => token)
  return {
    runtime: { name: 'ledger', version: '0.0.0' },
    slots,
    slotTokens: 10_000,
    maxRows: slots,
    cells,
    faults,
    prefilled,
    owners,
    async prefill(slot, tokenIds) {
      await null
      if (fail()) throw new Error('broken')
      const held = at(slot)
      if (held.some(({ by }) => by === 'decode')) faults.push('a prompt was computed behind tokens of an answer')
      prefilled.push({ slot, behind: held.length, count: tokenIds.length })
      held.push(...tokenIds.map((token) => ({ token, key: owners.get(token), by: 'prefill' as const })))
      const whose = new Set(held.map(({ key }) => key))
      if (whose.size > 1) faults.push(`the prompt of one session behind that of another: ${[...whose].join()}`)
      return look(slot)
    },
    async decode(rows) {
      await null
      if (fail()) throw new Error('broken')
      for (const { slot, tokenId } of rows) at(slot).push({ token: tokenId, key: undefined, by: 'decode' })
      return rows.map(({ slot }) => look(slot))
    },
    interrupt: () => undefined,
    async clear(slot) {
      await null
      cells.delete(slot)
    },
    async truncate(slot, tokens) {
      await null
      const held = at(slot)
      if (held.length < tokens) faults.push('cut behind its end')
      held.length = tokens
      if (held.some(({ by }) => by === 'decode')) faults.push('tokens of an answer were kept')
    },
    close: async () => undefined,
  }
}

interface Asked {
  readonly prompt: readonly number[]
  readonly key: string | undefined
  readonly answer: number
}

interface Outcome {
  readonly error: EngineError | undefined
  readonly reused: number
  /** What the slot held when the first token was drawn. */
  readonly seen: readonly number[]
}

function ask(
  scheduler: Scheduler,
  { prompt, key, answer }: Asked,
  signal?: AbortSignal,
  stopAt = -1,
): Promise<Outcome> {
  return new Promise((resolve) => {
    let [tokens, reused] = [0, 0]
    let seen: number[] = []
    const ticket = scheduler.submit({
      promptTokens: prompt,
      tenant: key,
      reuseKey: key,
      reused: (count) => {
        reused = count
      },
      signal,
      wanted: () => true,
      failed: (error) => resolve({ error, reused, seen }),
      next(logits) {
        if (tokens === 0) seen = [...logits]
        if (tokens === stopAt) {
          ticket.leave()
          resolve({ error: undefined, reused, seen })
          return undefined
        }
        tokens += 1
        if (tokens <= answer) return -tokens
        resolve({ error: undefined, reused, seen })
        return undefined
      },
    })
  })
}

const KEEP_MS = 60_000
const on = (decoder: Decoder, keepMs: number | undefined = KEEP_MS, monotonicMs = () => performance.now()): Scheduler =>
  createScheduler({ decoder, maxWaiting: 1000, monotonicMs, keepMs })
const settled = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 5))

describe('the scheduler', () => {
  const prompt = range(40)
  const longer = [...prompt, ...range(9, 500)]

  it('starts behind what an earlier request of the session computed of its prompt, never of its answer', async () => {
    const decoder = ledger(2)
    const scheduler = on(decoder)
    expect((await ask(scheduler, { prompt, key: 'a', answer: 3 })).reused).toBe(0)
    await settled()
    expect(decoder.cells.get(0)).toHaveLength(40)
    const next = await ask(scheduler, { prompt: longer, key: 'a', answer: 3 })
    expect([next.reused, next.seen]).toEqual([40, longer])
    expect(decoder.prefilled.at(-1)).toEqual({ slot: 0, behind: 40, count: 9 })
    // The same prompt again: its last two tokens are computed.
    expect((await ask(scheduler, { prompt: longer, key: 'a', answer: 3 })).reused).toBe(47)
    expect(decoder.faults).toEqual([])
    await scheduler.close()
  })

  it.each<[string, string | undefined, string | undefined]>([
    ['of another session', 'a', 'b'],
    ['without a session, by one with', undefined, 'a'],
    ['of a session, by one without', 'a', undefined],
    ['without a session, by another without', undefined, undefined],
  ])('reuses nothing %s', async (_, first, second) => {
    const decoder = ledger(4)
    const scheduler = on(decoder)
    await ask(scheduler, { prompt, key: first, answer: 2 })
    expect((await ask(scheduler, { prompt, key: second, answer: 2 })).reused).toBe(0)
    await settled()
    const left = [...decoder.cells.values()].filter(({ length }) => length > 0)
    expect(left).toHaveLength([first, second].filter((key) => key !== undefined).length)
    await scheduler.close()
  })

  it('keeps nothing where it was not told how long', async () => {
    const decoder = ledger(2)
    const scheduler = createScheduler({ decoder, maxWaiting: 10, monotonicMs: () => performance.now() })
    for (let i = 0; i < 2; i++) expect((await ask(scheduler, { prompt, key: 'a', answer: 2 })).reused).toBe(0)
    await settled()
    expect(decoder.cells.size).toBe(0)
    await scheduler.close()
  })

  it('gives two requests of one session at once a slot each', async () => {
    const decoder = ledger(3)
    const scheduler = on(decoder)
    await ask(scheduler, { prompt, key: 'a', answer: 1 })
    await settled()
    const both = await Promise.all([1, 2].map(() => ask(scheduler, { prompt: longer, key: 'a', answer: 20 })))
    expect(both.map(({ reused }) => reused)).toEqual([40, 0])
    expect(both.map(({ seen }) => seen)).toEqual([longer, longer])
    await settled()
    // Both held the same in the end; one is enough.
    expect([...decoder.cells.values()].filter(({ length }) => length > 0)).toHaveLength(1)
    await scheduler.close()
  })

  it('lends kept slots to whoever waits, the first kept first, emptied before', async () => {
    const decoder = ledger(2)
    const scheduler = on(decoder)
    await ask(scheduler, { prompt, key: 'a', answer: 1 })
    await ask(scheduler, { prompt: range(40, 100), key: 'b', answer: 1 })
    await settled()
    const other = await ask(scheduler, { prompt: range(30, 200), key: undefined, answer: 1 })
    expect([other.reused, other.seen]).toEqual([0, range(30, 200)])
    await settled()
    expect((await ask(scheduler, { prompt: range(50, 100), key: 'b', answer: 1 })).reused).toBe(40)
    expect((await ask(scheduler, { prompt, key: 'a', answer: 1 })).reused).toBe(0)
    await scheduler.close()
  })

  it('counts kept slots as free where it refuses what would wait too long', async () => {
    const decoder = ledger(2)
    const scheduler = createScheduler({ decoder, maxWaiting: 0, monotonicMs: () => performance.now(), keepMs: KEEP_MS })
    for (const key of ['a', 'b', 'c']) await ask(scheduler, { prompt, key, answer: 1 })
    await settled()
    const all = ['d', 'e'].map((key) => ask(scheduler, { prompt, key, answer: 1 }))
    expect((await Promise.all(all)).map(({ error }) => error)).toEqual([undefined, undefined])
    await scheduler.close()
  })

  it('keeps of an aborted request what was computed of its prompt, and of a failed one nothing', async () => {
    let broken = false
    const abort = new AbortController()
    const decoder = ledger(2, () => {
      if (decoder.prefilled.length === 2) abort.abort()
      return broken
    })
    const scheduler = on(decoder)
    const long = range(400)
    const running = ask(scheduler, { prompt: long, key: 'a', answer: 5 }, abort.signal)
    expect((await running).error).toMatchObject({ code: 'aborted' })
    await settled()
    const computed = decoder.cells.get(0)?.length ?? 0
    expect([computed > 0, computed < 400]).toEqual([true, true])
    expect((await ask(scheduler, { prompt: long, key: 'a', answer: 5 })).reused).toBe(computed)
    await settled()
    broken = true
    expect((await ask(scheduler, { prompt: long, key: 'a', answer: 5 })).error).toMatchObject({ code: 'engine.failed' })
    broken = false
    await settled()
    expect(decoder.cells.size).toBe(0)
    expect((await ask(scheduler, { prompt: long, key: 'a', answer: 5 })).reused).toBe(0)
    await scheduler.close()
  })

  it('empties idle slots when their time is over, though nobody asks for anything', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    try {
      const decoder = ledger(2)
      let now = 0
      const scheduler = on(decoder, 1000, () => now)
      await ask(scheduler, { prompt, key: 'a', answer: 1 })
      const turns = async (): Promise<void> => {
        for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve))
      }
      await turns()
      expect(decoder.cells.get(0)).toHaveLength(40)
      now = 999
      vi.advanceTimersByTime(999)
      await turns()
      expect(decoder.cells.get(0)).toHaveLength(40)
      now = 1000
      vi.advanceTimersByTime(1)
      await turns()
      expect(decoder.cells.size).toBe(0)
      await ask(scheduler, { prompt, key: 'a', answer: 1 })
      await turns()
      await scheduler.close()
      expect(vi.getTimerCount()).toBe(0)
    } finally {
      vi.useRealTimers()
    }
  })

  it('shows each request its own prompt only, in thousands of random schedules', async () => {
    const tally = { schedules: 0, requests: 0, reused: 0 }
    // Prompts of a session grow out of each other; sessions have tokens of their own, so that whose they are can be told.
    const request = fc.record({
      session: fc.integer({ min: -1, max: 2 }),
      shared: fc.integer({ min: 0, max: 70 }),
      own: fc.integer({ min: 1, max: 40 }),
      branch: fc.integer({ min: 0, max: 2 }),
      answer: fc.integer({ min: 0, max: 3 }),
      pause: fc.integer({ min: 0, max: 12 }),
      end: fc.constantFrom('whole', 'whole', 'whole', 'leave', 'abort'),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(request, { minLength: 2, maxLength: 14 }), fc.integer(), async (requests, seed) => {
        const random = createRandom(seed)
        const decoder = ledger(3, () => random() < 0.01)
        for (let session = -1; session < 3; session++) {
          for (let token = 0; token < 1000; token++) {
            decoder.owners.set(1000 * (session + 1) + token, session < 0 ? undefined : `s${session}`)
          }
        }
        const scheduler = on(decoder)
        const outcomes: Promise<void>[] = []
        for (const { session, shared, own, branch, answer, pause, end } of requests) {
          const from = 1000 * (session + 1)
          const prompt = [...range(shared, from), ...range(own, from + 100 * (branch + 1))]
          const abort = new AbortController()
          const key = session < 0 ? undefined : `s${session}`
          const stopAt = end === 'leave' ? answer : -1
          outcomes.push(
            ask(scheduler, { prompt, key, answer }, abort.signal, stopAt).then(({ seen, reused, error }) => {
              tally.requests += 1
              if (reused > 0) tally.reused += 1
              expect(reused === 0 || key !== undefined).toBe(true)
              expect(reused).toBeLessThanOrEqual(Math.max(0, prompt.length - 2))
              if (seen.length > 0 || error === undefined) expect(seen).toEqual(prompt)
            }),
          )
          for (let i = 0; i < pause; i++) await new Promise((resolve) => setImmediate(resolve))
          if (end === 'abort') abort.abort()
        }
        await Promise.all(outcomes)
        await scheduler.close()
        expect(decoder.faults).toEqual([])
        // No part that a whole prompt would not have had.
        for (const { behind, count } of decoder.prefilled) {
          if (count === 1) expect(behind).toBe(0)
          else expect(count % 16).not.toBe(1)
        }
        tally.schedules += 1
      }),
      { numRuns: 3000 },
    )
    expect(tally.reused).toBeGreaterThan(1000)
    process.stdout.write(
      `kept prompts: ${tally.schedules} schedules, ${tally.requests} requests, ${tally.reused} of them behind a kept prompt\n`,
    )
  }, 300_000)
})

describe.each(BINDINGS)('answers of the %s decoder', (binding) => {
  it('are the same to the last bit behind a kept prompt', async () => {
    const modelPackage = await loadModelPackage(PACKAGE_DIRECTORY)
    const { vocabularySize } = modelPackage.manifest.architecture
    const [engine, cold] = await Promise.all(
      [4, 1].map((slots) => createOrtEngine(modelPackage, { binding, threads: 1, slots })),
    )
    if (engine === undefined || cold === undefined) throw new Error('no engine')
    const random = createRandom(7)
    const below = (n: number): number => Math.floor(random() * n)
    const tokens = (length: number): number[] => Array.from({ length }, () => 5 + below(vocabularySize - 5))
    const bases = [tokens(150), tokens(80), tokens(33)]
    const tally = { requests: 0, reused: 0 }
    const one = async (): Promise<void> => {
      const base = bases[below(bases.length)] ?? []
      const prompt = [...base.slice(0, 20 + below(base.length - 19)), ...tokens(below(4) === 0 ? 1 : below(30))]
      const options: GenerateOptions = {
        ...GREEDY,
        maxTokens: 1 + below(4),
        temperature: 1.5,
        seed: below(100),
        logprobs: 20,
      }
      const events = await collect(engine.generate(prompt, { ...options, reuseKey: `session ${below(2)}` }))
      const expected = await collect(cold.generate(prompt, options))
      const done = events.pop()
      if (done?.type !== 'done') throw new Error('no end')
      tally.requests += 1
      if ((done.usage.cachedTokens ?? 0) > 0) tally.reused += 1
      // Log-probabilities are a function of all logits' bits.
      expect(events).toEqual(expected.slice(0, -1))
    }
    const lane = async (count: number): Promise<void> => {
      for (let i = 0; i < count; i++) await one()
    }
    const each = binding === 'native' ? 200 : 20
    await Promise.all([1, 2, 3, 4, 5].map(() => lane(each)))
    expect(tally.reused).toBeGreaterThan(tally.requests / 10)
    await engine.close()
    await cold.close()
    process.stdout.write(`kept prompts, ${binding}: ${tally.requests} answers, ${tally.reused} behind a kept prompt\n`)
  }, 300_000)
})

describe.skipIf(!BINDINGS.includes('native'))('the memory of slots', () => {
  afterEach(() => vi.restoreAllMocks())

  const SLOTS = 3

  /** An engine, and a look at its pools: for each slot, positions that hold anything. */
  async function watched(modelPackage: ModelPackage, keepMs: number) {
    const { layers, contextLength } = modelPackage.manifest.architecture
    // The one thing the decoder does to its pools in JavaScript is to overwrite them.
    const prototype = Object.getPrototypeOf(Float32Array.prototype) as Float32Array
    const pools = new Set<Float32Array>()
    const fill = vi.spyOn(prototype, 'fill').mockImplementation(function (this: Float32Array, value, start, end) {
      if (this instanceof Float32Array && this.length % (SLOTS * contextLength) === 0) pools.add(this)
      for (let i = start ?? 0; i < (end ?? this.length); i++) this[i] = value
      return this
    })
    const engine = await createOrtEngine(modelPackage, { binding: 'native', threads: 1, slots: SLOTS, keepMs })
    await collect(engine.generate(range(20, 10), { ...GREEDY, maxTokens: 1 }))
    fill.mockClear()
    expect(pools.size).toBe(2 * layers)
    const used = (): number[] =>
      Array.from({ length: SLOTS }, (_, slot) => {
        const positions = new Set<number>()
        for (const pool of pools) {
          const slotValues = pool.length / SLOTS
          // Heads lie behind each other, each with all positions.
          for (let i = 0; i < slotValues; i++) {
            if (pool[slot * slotValues + i] !== 0) positions.add(i)
          }
        }
        return positions.size
      })
    return { engine, used }
  }

  const run = async (
    { engine }: Awaited<ReturnType<typeof watched>>,
    prompt: readonly number[],
    options: Partial<GenerateOptions> = {},
  ): Promise<void> => {
    await collect(engine.generate(prompt, { ...GREEDY, temperature: 2, maxTokens: 6, ...options }))
  }

  it('holds a kept prompt exactly, and nothing of anyone without a session', async () => {
    const world = await watched(await loadModelPackage(PACKAGE_DIRECTORY), KEEP_MS)
    await run(world, range(40, 10))
    await settled()
    expect(world.used()).toEqual([0, 0, 0])
    await run(world, range(40, 10), { reuseKey: 'a' })
    await settled()
    const [first = 0, ...others] = world.used()
    expect([first > 0, ...others]).toEqual([true, 0, 0])
    // A prompt of twice the length takes up twice as much: no position of the answer is left.
    await run(world, range(80, 300), { reuseKey: 'b' })
    await settled()
    expect(world.used().sort((x, y) => x - y)).toEqual([0, first, 2 * first])
    // Two others at once take what is kept, and leave nothing of it.
    await Promise.all([1, 2, 3].map((i) => run(world, range(5, 100 * i), { maxTokens: 2 })))
    await settled()
    expect(world.used()).toEqual([0, 0, 0])
    await world.engine.close()
  })

  it('holds nothing once its time is over, nor after close', async () => {
    const world = await watched(await loadModelPackage(PACKAGE_DIRECTORY), 150)
    await run(world, range(40, 10), { reuseKey: 'a' })
    await expect.poll(() => world.used().some((count) => count > 0)).toBe(true)
    await expect.poll(() => world.used(), { timeout: 20_000 }).toEqual([0, 0, 0])
    await run(world, range(40, 10), { reuseKey: 'a' })
    const leave = new AbortController()
    const aborted = run(world, range(200, 10), { reuseKey: 'b', maxTokens: 500, signal: leave.signal })
    setTimeout(() => leave.abort(), 20)
    await aborted.catch(() => undefined)
    await world.engine.close()
    expect(world.used()).toEqual([0, 0, 0])
  })
})
