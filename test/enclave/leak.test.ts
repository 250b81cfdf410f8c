/** How much the sizes of sealed records say about an answer, over streams the demo model really produces (P-7.7). */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { LEAK_TARGETS, recordLeaks } from '../../scripts/bench/channel.js'
import { type DemoModel, loadDemoModel } from '../../scripts/bench/channel-worker.js'
import { leakOf, recordSizes } from '../../scripts/bench/leak.js'

let model: DemoModel

beforeAll(async () => {
  model = await loadDemoModel()
})
afterAll(() => model.engine.close())

describe('sizes of sealed records', () => {
  it('are measured as they are on the wire', () => {
    const response = (...sizes: number[]) =>
      Buffer.concat([
        new Uint8Array(32),
        ...sizes.map((size) => Buffer.concat([new Uint8Array([0x40, size - 2]), new Uint8Array(size - 2)])),
        new Uint8Array([0, ...new Uint8Array(16)]),
      ])
    expect(recordSizes(response(20, 40, 60))).toEqual([20, 40, 60, 17])
    expect(leakOf([response(20, 50, 50, 50, 40)]).bitsPerRecord).toBe(0)
    expect(leakOf([response(20, 50, 51, 40)]).bitsPerBodyRecord).toBe(1)
    expect(leakOf([response(20, 50, 40), response(21, 50, 40)]).bitsPerRecord).toBeCloseTo(2 / 8)
  })

  it('tell at most 0.05 bit a record at 1.4 times the bytes under tick, and a lot under off', async () => {
    const { tick, off } = await recordLeaks(model, 2)
    const ratio = tick.bytes / off.bytes
    for (const [mode, leak] of Object.entries({ tick, off })) {
      const bits = `${leak.bitsPerRecord.toFixed(3)} bit/record (${leak.bitsPerBodyRecord.toFixed(3)} of the body)`
      process.stdout.write(`leak ${mode}: ${bits}, ${leak.records} records, ${leak.bytes} bytes\n`)
    }
    process.stdout.write(`leak: tick takes ${ratio.toFixed(2)} times the bytes of off\n`)
    expect(tick.bitsPerRecord).toBeLessThanOrEqual(LEAK_TARGETS.bitsPerRecord)
    expect(ratio).toBeLessThanOrEqual(LEAK_TARGETS.bytesRatio)
    expect(off.bitsPerRecord).toBeGreaterThan(1)
  })
})
