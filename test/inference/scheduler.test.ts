/** Who runs when: with a decoder that computes nothing and remembers everything. */
import { describe, expect, it } from 'vitest'
import { createChunkPacer } from '../../enclave/inference/chunks.js'
import type { Decoder } from '../../enclave/inference/decoder.js'
import { type EngineError, OverloadedError } from '../../enclave/inference/errors.js'
import { createDecoder } from '../../enclave/inference/ort/engine.js'
import { loadModelPackage } from '../../enclave/inference/package.js'
import {
  createScheduler,
  type Scheduler,
  type SequenceRequest,
  type Ticket,
} from '../../enclave/inference/scheduler.js'
import { BINDINGS, PACKAGE_DIRECTORY } from './model.js'

interface FakeDecoder extends Decoder {
  readonly runs: string[]
  readonly cleared: number[]
  readonly cut: string[]
}

function fakeDecoder(
  slots: number,
  options: { maxRows?: number; fail?: (slot: number) => boolean; failClear?: (slot: number) => boolean } = {},
): FakeDecoder {
  const runs: string[] = []
  const cleared: number[] = []
  const cut: string[] = []
  const check = (slot: number): void => {
    if (options.fail?.(slot)) throw new Error('broken')
  }
  return {
    runtime: { name: 'fake', version: '0.0.0' },
    slots,
    slotTokens: 10_000,
    maxRows: options.maxRows ?? slots,
    runs,
    cleared,
    cut,
    async prefill(slot, tokenIds) {
      runs.push(`p${slot}:${tokenIds.length}`)
      check(slot)
      return new Float32Array(1)
    },
    async decode(rows) {
      runs.push(`d${rows.map(({ slot }) => slot).join()}`)
      for (const { slot } of rows) check(slot)
      return rows.map(() => new Float32Array(1))
    },
    interrupt: () => void runs.push('interrupt'),
    async clear(slot) {
      if (options.failClear?.(slot)) throw new Error('broken')
      cleared.push(slot)
    },
    async truncate(slot, tokens) {
      cut.push(`${slot}:${tokens}`)
    },
    close: async () => undefined,
  }
}

interface Run {
  readonly ticket: Ticket
  readonly tokens: () => number
  readonly ended: Promise<EngineError | undefined>
}

function submit(
  scheduler: Scheduler,
  count: number,
  options: Partial<Omit<SequenceRequest, 'promptTokens'>> & { prompt?: number; onToken?: (n: number) => void } = {},
): Run {
  let tokens = 0
  let finish: (error?: EngineError) => void = () => {}
  const ended = new Promise<EngineError | undefined>((resolve) => {
    finish = resolve
  })
  const ticket = scheduler.submit({
    promptTokens: Array.from({ length: options.prompt ?? 4 }, () => 1),
    tenant: undefined,
    signal: undefined,
    wanted: () => true,
    failed: finish,
    next() {
      tokens += 1
      options.onToken?.(tokens)
      if (tokens < count) return 1
      finish()
      return undefined
    },
    ...options,
  })
  return { ticket, tokens: () => tokens, ended }
}

const create = (decoder: Decoder, maxWaiting = 100): Scheduler =>
  createScheduler({ decoder, maxWaiting, monotonicMs: () => performance.now() })

describe('the scheduler', () => {
  it('computes the rows of all running answers in one run', async () => {
    const decoder = fakeDecoder(4)
    const scheduler = create(decoder)
    await Promise.all([1, 2, 3].map(() => submit(scheduler, 4).ended))
    expect(decoder.runs).toEqual(['p0:4', 'p1:4', 'p2:4', 'd0,1,2', 'd0,1,2', 'd0,1,2'])
    await scheduler.close()
    expect(decoder.cleared.sort()).toEqual([0, 1, 2])
  })

  it('gives a slot to nobody that could not be emptied: everything ends, and nothing more is taken', async () => {
    const decoder = fakeDecoder(2, { failClear: (slot) => slot === 0 })
    const scheduler = create(decoder)
    expect(scheduler.healthy()).toBe(true)
    const first = submit(scheduler, 2)
    const others = [submit(scheduler, 1000), submit(scheduler, 1000)]
    expect(await first.ended).toBeUndefined()
    const errors = await Promise.all(others.map(({ ended }) => ended))
    expect(errors.map((error) => error?.code)).toEqual(['engine.failed', 'engine.failed'])
    expect(scheduler.healthy()).toBe(false)
    const runs = decoder.runs.length
    expect(() => submit(scheduler, 1)).toThrowError(expect.objectContaining({ code: 'closed' }))
    await new Promise((resolve) => setTimeout(resolve, 5))
    expect(decoder.runs).toHaveLength(runs)
    await scheduler.close()
  })

  it('computes one row a run where rows could influence each other, and cuts prompts one way', async () => {
    const decoder = fakeDecoder(4, { maxRows: 1 })
    const scheduler = create(decoder)
    await Promise.all([submit(scheduler, 300).ended, submit(scheduler, 2, { prompt: 300 }).ended])
    expect(decoder.runs.filter((run) => run.includes(','))).toEqual([])
    expect(decoder.runs.filter((run) => run.startsWith('p1'))).toEqual(['p1:128', 'p1:128', 'p1:44'])
    await scheduler.close()
  })

  it('lets a running answer have a token between any two parts of a long prompt', async () => {
    const decoder = fakeDecoder(2)
    const scheduler = create(decoder)
    const running = submit(scheduler, 500)
    const long = submit(scheduler, 1, { prompt: 4000 })
    await long.ended
    running.ticket.leave()
    const parts = decoder.runs.map((run, i) => (run.startsWith('p1') ? i : -1)).filter((i) => i >= 0)
    expect(parts.length).toBeGreaterThan(30)
    for (const [k, at] of parts.entries()) if (k > 0) expect(at - (parts[k - 1] ?? 0)).toBeGreaterThanOrEqual(2)
    await scheduler.close()
  })

  it('gives a slot to the tenant that holds the fewest', async () => {
    const decoder = fakeDecoder(2)
    const scheduler = create(decoder)
    const order: string[] = []
    const named = (tenant: string): Run =>
      submit(scheduler, 3, { tenant, onToken: (n) => (n === 1 ? void order.push(tenant) : undefined) })
    const runs = [named('a'), named('a'), named('a'), named('a'), named('b'), named('c')]
    await Promise.all(runs.map(({ ended }) => ended))
    // One of a's is first, then those who hold nothing, however long a's queue is.
    expect(order.slice(0, 2)).toEqual(['a', 'b'])
    expect(order.indexOf('c')).toBeLessThan(4)
    await scheduler.close()
  })

  it('refuses what would wait too long, with a time', async () => {
    const decoder = fakeDecoder(1)
    const scheduler = create(decoder, 2)
    const runs = [1, 2, 3].map(() => submit(scheduler, 2))
    try {
      submit(scheduler, 2)
      expect.unreachable()
    } catch (error) {
      expect(error).toBeInstanceOf(OverloadedError)
      expect((error as OverloadedError).retryAfterS).toBeGreaterThanOrEqual(1)
    }
    await Promise.all(runs.map(({ ended }) => ended))
    await submit(scheduler, 1).ended
    await scheduler.close()
  })

  it('frees the slot of an aborted answer within one step, running or waiting', async () => {
    const decoder = fakeDecoder(1)
    const scheduler = create(decoder)
    const [first, second] = [new AbortController(), new AbortController()]
    const running = submit(scheduler, 1000, { signal: first.signal, onToken: (n) => void (n === 3 && first.abort()) })
    const waiting = submit(scheduler, 5, { signal: second.signal })
    const behind = submit(scheduler, 2)
    second.abort()
    expect(await waiting.ended).toMatchObject({ code: 'aborted' })
    expect(await running.ended).toMatchObject({ code: 'aborted' })
    expect(await behind.ended).toBeUndefined()
    expect(running.tokens()).toBe(3)
    expect(decoder.runs).toEqual(['p0:4', 'd0', 'd0', 'p0:4', 'd0'])
    expect(decoder.cleared[0]).toBe(0)
    await scheduler.close()
  })

  it('pauses an answer nobody reads, and goes on when it is wanted', async () => {
    const decoder = fakeDecoder(2)
    const scheduler = create(decoder)
    let wanted = true
    const paused = submit(scheduler, 10, {
      wanted: () => wanted,
      onToken(n) {
        if (n === 4) wanted = false
      },
    })
    await submit(scheduler, 20).ended
    expect(paused.tokens()).toBe(4)
    wanted = true
    paused.ticket.wake()
    await paused.ended
    expect(paused.tokens()).toBe(10)
    await scheduler.close()
  })

  it('ends the row that made a run fail, and its neighbours go on as if it had not been there', async () => {
    let broken = false
    const decoder = fakeDecoder(3, { fail: (slot) => broken && slot === 1 })
    const scheduler = create(decoder)
    const runs = [0, 1, 2].map((i) =>
      submit(scheduler, 6, {
        onToken(n) {
          if (i === 0 && n === 3) broken = true
        },
      }),
    )
    const errors = await Promise.all(runs.map(({ ended }) => ended))
    expect(errors.map((error) => error?.code)).toEqual([undefined, 'engine.failed', undefined])
    expect(runs.map(({ tokens }) => tokens())).toEqual([6, 3, 6])
    expect(decoder.runs.filter((run) => run.startsWith('d'))).toEqual([
      ...['d0,1,2', 'd0,1,2', 'd0,1,2'],
      ...['d0', 'd1', 'd2', 'd0,2', 'd0,2'],
    ])
    await scheduler.close()
  })

  it('ends the rows of a run that failed, and nobody else', async () => {
    let broken = true
    const decoder = fakeDecoder(2, { fail: (slot) => broken && slot === 1 })
    const scheduler = create(decoder)
    const [good, bad] = [submit(scheduler, 5), submit(scheduler, 5)]
    expect(await bad.ended).toMatchObject({ code: 'engine.failed' })
    expect(await good.ended).toBeUndefined()
    broken = false
    expect(await submit(scheduler, 5).ended).toBeUndefined()
    await scheduler.close()
  })
})

describe('the pace of prompts', () => {
  it('follows how long the last part took, within bounds', () => {
    const pacer = createChunkPacer()
    expect(pacer.budgetMs()).toBeUndefined()
    pacer.decoded(10)
    const budget = pacer.budgetMs() ?? 0
    expect(pacer.next({ tokens: 40, ms: budget })).toBe(40)
    expect(pacer.next({ tokens: 40, ms: budget * 2 })).toBe(20)
    expect(pacer.next({ tokens: 40, ms: budget / 100 })).toBe(50)
    expect(pacer.next({ tokens: 40, ms: budget * 100 })).toBe(10)
    expect(pacer.next({ tokens: 2, ms: budget * 100 })).toBe(2)
    expect(pacer.next({ tokens: 2, ms: budget / 2 })).toBe(3)
    expect(pacer.next({ tokens: 128, ms: budget / 2 })).toBe(128)
  })

  it('begins a prompt as the last one of some length began', () => {
    const pacer = createChunkPacer()
    pacer.decoded(10)
    const budget = pacer.budgetMs() ?? 0
    pacer.began({ tokens: 64, ms: budget * 2 })
    pacer.began({ tokens: 3, ms: budget })
    expect(pacer.next(undefined)).toBe(32)
  })

  it('keeps running answers within two and a half steps of a long prompt, as long as a small part can', async () => {
    // A clock that only runs move: as one core was seen to take for SmolLM2-135M in pr8, in milliseconds.
    const stepMs = 35
    const partMs = (tokens: number, past: number): number => 14 + 0.7 * tokens + past * (0.0125 + 0.0007 * tokens)
    let now = 0
    const lengths = new Map<number, number>()
    const parts: { readonly tokens: number; readonly past: number }[] = []
    const base = fakeDecoder(9)
    const decoder: Decoder = {
      ...base,
      async prefill(slot, tokenIds) {
        const past = lengths.get(slot) ?? 0
        now += partMs(tokenIds.length, past)
        lengths.set(slot, past + tokenIds.length)
        if (slot === 8) parts.push({ tokens: tokenIds.length, past })
        return base.prefill(slot, tokenIds)
      },
      async decode(rows) {
        now += stepMs
        return base.decode(rows)
      },
    }
    const scheduler = createScheduler({ decoder, maxWaiting: 1, monotonicMs: () => now })
    const gaps: number[] = []
    let disturbed = false
    const streams = Array.from({ length: 8 }, () => {
      let last = now
      return submit(scheduler, Number.POSITIVE_INFINITY, {
        onToken() {
          if (disturbed) gaps.push(now - last)
          last = now
        },
      })
    })
    while (streams.some(({ tokens }) => tokens() < 20)) await new Promise((resolve) => setImmediate(resolve))
    disturbed = true
    await submit(scheduler, 1, { prompt: 4000 }).ended
    for (const { ticket } of streams) ticket.leave()
    await scheduler.close()
    const smallest = stepMs + partMs(3, 4000)
    expect(Math.max(...gaps)).toBeLessThan(Math.max(2.5 * stepMs, smallest))
    // While parts are cheap they are large, and every turn has one.
    const early = parts.filter(({ past }) => past < 1000)
    expect(1000 / early.length).toBeGreaterThan(16)
    expect(parts.reduce((sum, { tokens }) => sum + tokens, 0)).toBe(4000)
    expect(gaps.length / 8).toBeLessThanOrEqual(parts.length + 1)
  })

  it('computes several short prompts between two steps where they fit, and not more', async () => {
    let now = 0
    const base = fakeDecoder(12)
    const decoder: Decoder = {
      ...base,
      prefill(slot, tokenIds) {
        now += 3
        return base.prefill(slot, tokenIds)
      },
      decode(rows) {
        now += 10
        return base.decode(rows)
      },
    }
    const scheduler = createScheduler({ decoder, maxWaiting: 20, monotonicMs: () => now })
    const running = submit(scheduler, 1000)
    while (running.tokens() < 3) await new Promise((resolve) => setImmediate(resolve))
    const from = base.runs.length
    await Promise.all(Array.from({ length: 8 }, () => submit(scheduler, 1).ended))
    running.ticket.leave()
    await scheduler.close()
    const turns = base.runs
      .slice(from)
      .join(' ')
      .split(/d[\d,]+/)
    expect(Math.max(...turns.map((turn) => (turn.match(/p\d/g) ?? []).length))).toBe(4)
  })
})

describe.each(BINDINGS)('slots of the %s decoder', (binding) => {
  it('forget what they held', async () => {
    const modelPackage = await loadModelPackage(PACKAGE_DIRECTORY)
    const { decoder } = await createDecoder(modelPackage, { threads: 1, binding, slots: 2 })
    const prompt = [5, 6, 7, 8, 9, 10]
    const fresh = (await decoder.prefill(1, prompt)).slice()
    await decoder.clear(1)
    await decoder.prefill(1, [900, 901, 902, 903, 904, 905, 906])
    await decoder.clear(1)
    expect(await decoder.prefill(1, prompt)).toEqual(fresh)
    await decoder.close()
  })
})

it.each(BINDINGS)(
  'a run that fails moves no row on, so that the others can be computed again: %s decoder',
  async (binding) => {
    const { decoder } = await createDecoder(await loadModelPackage(PACKAGE_DIRECTORY), { binding, slots: 2 })
    const good = { slot: 0, tokenId: 7 }
    const begin = async () => {
      await decoder.prefill(0, [1, 2, 3])
      await decoder.prefill(1, [4, 5, 6])
    }
    await begin()
    const expected = (await decoder.decode([good]))[0]?.slice()
    for (const slot of [0, 1]) await decoder.clear(slot)
    await begin()
    await expect(decoder.decode([good, { slot: 1, tokenId: 9_999_999 }])).rejects.toMatchObject({
      code: 'engine.failed',
    })
    expect((await decoder.decode([good]))[0]).toEqual(expected)
    await decoder.close()
  },
)
