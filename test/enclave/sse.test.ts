import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { HOLD_TICKS, PADDING_BLOCK_BYTES, padBody, RECORD_BYTES, TICK_MS, takeRecord } from '../../enclave/padding.js'
import { encodeEvent, packRecords, type TickClock } from '../../enclave/sse.js'
import { type Bytes, fromUtf8, utf8 } from '../../verifier/protocol/bytes.js'
import { eventsOf } from './stub.js'

/** Time that passes only when somebody sleeps. */
function fakeClock(): TickClock & { advance(ms: number): void } {
  let at = 0
  return {
    now: () => at,
    async sleep(ms) {
      const until = at + ms
      await new Promise((resolve) => setTimeout(resolve, 0))
      at = Math.max(at, until)
    },
    advance(ms) {
      at += ms
    },
  }
}

async function collect(source: AsyncIterable<Uint8Array>): Promise<Bytes[]> {
  const out: Bytes[] = []
  for await (const item of source) out.push(new Uint8Array(item))
  return out
}

const textOf = (records: readonly Uint8Array[]): string => Buffer.concat(records).toString('utf8')
const event = (length: number): string => `data: ${'x'.repeat(length - 8)}\n\n`

describe('padding (P-7.7)', () => {
  it('makes records of one size and bodies multiples of 512 without changing what they say', () => {
    fc.assert(
      fc.property(fc.array(fc.string({ unit: 'grapheme', maxLength: 600 }), { maxLength: 6 }), (texts) => {
        const waiting = texts.map((text) => utf8(encodeEvent({ text })))
        const records: Uint8Array[] = []
        while (waiting.length > 0) records.push(takeRecord(waiting))
        expect(records.every((record) => record.length === RECORD_BYTES)).toBe(true)
        expect(eventsOf(textOf(records)).map((data) => JSON.parse(data).text)).toEqual(texts)
        const body = padBody('tick', JSON.stringify(texts))
        expect(body.length % PADDING_BLOCK_BYTES).toBe(0)
        expect(JSON.parse(fromUtf8(body))).toEqual(texts)
      }),
    )
  })

  it('fills any gap with lines that mean nothing', () => {
    for (let length = RECORD_BYTES - 20; length <= RECORD_BYTES + 20; length++) {
      const waiting = [utf8(event(300)), utf8(event(length - 300)), utf8(event(length))]
      const records: Uint8Array[] = []
      while (waiting.length > 0) records.push(takeRecord(waiting))
      const lines = textOf(records).split('\n')
      expect(records.every((record) => record.length === RECORD_BYTES)).toBe(true)
      expect(lines.filter((line) => line !== '' && !/^: *$/.test(line)).map((line) => line.length)).toEqual([
        298,
        length - 302,
        length - 2,
      ])
    }
  })

  it('leaves bodies alone when it is off', () => {
    expect(padBody('off', '{}')).toHaveLength(2)
  })
})

describe('packRecords (P-7.7)', () => {
  it('fills records, sends the first one early and loses nothing', async () => {
    const clock = fakeClock()
    const times: number[] = []
    async function* source(): AsyncGenerator<string> {
      for (let i = 0; i < 9; i++) {
        clock.advance(13)
        yield encodeEvent({ i, text: 'x'.repeat(240) })
        await new Promise((resolve) => setTimeout(resolve, 5))
      }
    }
    const records: Uint8Array[] = []
    for await (const record of packRecords(source(), clock)) {
      records.push(record)
      times.push(clock.now())
    }
    expect(eventsOf(textOf(records)).map((data) => JSON.parse(data).i)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8])
    expect(new Set(records.map(({ length }) => length))).toEqual(new Set([RECORD_BYTES]))
    expect(times[0]).toBeLessThanOrEqual(TICK_MS)
    expect(times.every((time) => time % TICK_MS === 0)).toBe(true)
  })

  it('holds a record that is not full for a few ticks and no longer', async () => {
    const clock = fakeClock()
    let at = 0
    async function* source(): AsyncGenerator<string> {
      yield event(300)
      await new Promise((resolve) => setTimeout(resolve, 20))
      at = clock.now()
      yield event(300)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    const times: number[] = []
    for await (const _ of packRecords(source(), clock)) times.push(clock.now())
    expect(times[0]).toBe(TICK_MS)
    expect((times[1] ?? 0) - at).toBe(HOLD_TICKS * TICK_MS)
  })

  it('passes a failure on after what came before it', async () => {
    async function* source(): AsyncGenerator<string> {
      yield event(20)
      throw new Error('broken')
    }
    const out: Uint8Array[] = []
    const reading = (async () => {
      for await (const item of packRecords(source(), fakeClock())) out.push(item)
    })()
    await expect(reading).rejects.toThrow('broken')
    expect(eventsOf(textOf(out))).toHaveLength(1)
  })

  it('is empty for an empty source', async () => {
    async function* source(): AsyncGenerator<string> {}
    expect(await collect(packRecords(source(), fakeClock()))).toEqual([])
  })

  it('returns the source when the reader leaves', async () => {
    let returned = false
    async function* source(): AsyncGenerator<string> {
      try {
        for (;;) {
          await new Promise((resolve) => setTimeout(resolve, 0))
          yield event(20)
        }
      } finally {
        returned = true
      }
    }
    for await (const _ of packRecords(source(), fakeClock())) break
    await new Promise((resolve) => setTimeout(resolve, 10))
    expect(returned).toBe(true)
  })

  it('sends in time even from a source that never waits', async () => {
    async function* source(): AsyncGenerator<string> {
      for (;;) yield event(20)
    }
    for await (const record of packRecords(source())) {
      expect(record).toHaveLength(RECORD_BYTES)
      break
    }
  })
})
