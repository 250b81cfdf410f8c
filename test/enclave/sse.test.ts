import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { PADDING_BLOCK_BYTES, padBody, padRecord } from '../../enclave/padding.js'
import { coalesce, DONE_EVENT, encodeEvent, type TickClock } from '../../enclave/sse.js'
import { eventsOf } from './stub.js'

/** Time that passes only when somebody sleeps. */
function fakeClock(): TickClock & { advance(ms: number): void } {
  let at = 0
  return {
    now: () => at,
    async sleep(ms) {
      await new Promise((resolve) => setTimeout(resolve, 0))
      at += ms
    },
    advance(ms) {
      at += ms
    },
  }
}

async function collect(source: AsyncIterable<string>): Promise<string[]> {
  const out: string[] = []
  for await (const item of source) out.push(item)
  return out
}

describe('padding (P-7.7)', () => {
  it('makes records and bodies multiples of 512 without changing what they say', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'grapheme', maxLength: 600 }), { maxLength: 4 }), (texts) => {
        const events = texts.map((text) => encodeEvent({ text })).join('')
        const record = padRecord('tick', events)
        expect(record.length % PADDING_BLOCK_BYTES).toBe(0)
        const decoded = new TextDecoder().decode(record)
        expect(eventsOf(decoded).map((data) => JSON.parse(data).text)).toEqual(texts)
        expect(decoded.slice(events.length)).toMatch(/^(: *\n)?$/)
        const body = padBody('tick', JSON.stringify(texts))
        expect(body.length % PADDING_BLOCK_BYTES).toBe(0)
        expect(JSON.parse(new TextDecoder().decode(body))).toEqual(texts)
      }),
    )
  })

  it('finds room for a comment where one byte is missing', () => {
    for (let length = 500; length <= 530; length++) {
      expect(padRecord('tick', 'x'.repeat(length)).length % PADDING_BLOCK_BYTES).toBe(0)
    }
    expect(padRecord('tick', 'x'.repeat(511))).toHaveLength(1024)
    expect(padRecord('tick', 'x'.repeat(512))).toHaveLength(512)
  })

  it('leaves everything alone when it is off', () => {
    expect(padRecord('off', DONE_EVENT)).toHaveLength(DONE_EVENT.length)
    expect(padBody('off', '{}')).toHaveLength(2)
  })
})

describe('coalesce', () => {
  it('joins what arrives within one tick and loses nothing', async () => {
    const clock = fakeClock()
    async function* source(): AsyncGenerator<string> {
      for (const letter of 'abcdef') yield letter
    }
    const out = await collect(coalesce(source(), 40, clock))
    expect(out.join('')).toBe('abcdef')
    expect(out.length).toBeLessThan(6)
  })

  it('sends on the grid of ticks, whatever the source did', async () => {
    const clock = fakeClock()
    async function* source(): AsyncGenerator<string> {
      for (const pause of [3, 41, 95, 1]) {
        clock.advance(pause)
        yield 'x'
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
    }
    const times: number[] = []
    for await (const _ of coalesce(source(), 40, clock)) times.push(clock.now() % 40)
    expect(times.every((time) => time === 0)).toBe(true)
  })

  it('passes a failure on after what came before it', async () => {
    async function* source(): AsyncGenerator<string> {
      yield 'a'
      throw new Error('broken')
    }
    const out: string[] = []
    const reading = (async () => {
      for await (const item of coalesce(source(), 40, fakeClock())) out.push(item)
    })()
    await expect(reading).rejects.toThrow('broken')
    expect(out).toEqual(['a'])
  })

  it('returns the source when the reader leaves', async () => {
    let returned = false
    async function* source(): AsyncGenerator<string> {
      try {
        for (;;) {
          await new Promise((resolve) => setTimeout(resolve, 0))
          yield 'x'
        }
      } finally {
        returned = true
      }
    }
    for await (const _ of coalesce(source(), 40, fakeClock())) break
    await new Promise((resolve) => setTimeout(resolve, 10))
    expect(returned).toBe(true)
  })

  it('sends in time even from a source that never waits', async () => {
    async function* source(): AsyncGenerator<string> {
      for (;;) yield 'x'
    }
    for await (const record of coalesce(source(), 5)) {
      expect(record.length).toBeGreaterThan(1)
      break
    }
  })
})
