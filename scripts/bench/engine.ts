/**
 * How fast the engine is: decode steps and prompts of SmolLM2-135M's shape with random weights against llama.cpp on a file of
 * the same shape, and what a long prompt does to running answers. Both sides are driven at their lowest level, unsampled.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MAX_CHUNK } from '../../enclave/inference/chunks.js'
import type { Decoder } from '../../enclave/inference/decoder.js'
import { createDecoder } from '../../enclave/inference/ort/engine.js'
import { createScheduler } from '../../enclave/inference/scheduler.js'
import { loadLlama } from './llama-cpp.js'
import { type Figure, measure } from './measure.js'
import { writeRandomGguf } from './random-gguf.js'
import { randomPackage, SMOLLM2 } from './random-model.js'

const CONTEXT = 128
const STEPS_A_ROUND = 8
const PROMPT = 512

async function ours(slots: number): Promise<Decoder> {
  const { decoder } = await createDecoder(await randomPackage(SMOLLM2, 'pr8'), { slots, binding: 'native' })
  return decoder
}

async function fill(decoder: Decoder, slot: number, length: number): Promise<void> {
  for (let at = 0; at < length; at += MAX_CHUNK) {
    const count = Math.min(MAX_CHUNK, length - at)
    await decoder.prefill(
      slot,
      Array.from({ length: count }, (_, i) => 300 + (((at + i) * 7919) % 40_000)),
    )
  }
}

async function withGguf<T>(type: 'Q8_0' | 'Q4_0', use: (path: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'subrosa-bench-'))
  try {
    const path = join(folder, 'random.gguf')
    await writeRandomGguf(path, SMOLLM2, type)
    return await use(path)
  } finally {
    await rm(folder, { recursive: true })
  }
}

function decoding(name: string, batch: number, type: 'Q8_0' | 'Q4_0', target: number): Figure {
  return {
    name,
    unit: 'ratio',
    against: `llama.cpp ${type}, ${batch} sequences of ${CONTEXT} tokens and more: tokens a second, ours in pr8`,
    target,
    better: 'higher',
    rounds: 12,
    figure: (rounds) =>
      withGguf(type, async (path) => {
        const theirs = await loadLlama(path, batch, batch * 512)
        const decoder = await ours(batch)
        await theirs.fill(batch, CONTEXT)
        for (let slot = 0; slot < batch; slot++) await fill(decoder, slot, CONTEXT)
        const rows = Array.from({ length: batch }, (_, slot) => ({ slot, tokenId: 300 + slot }))
        const { oursMs, theirsMs } = await measure(
          {
            async ours() {
              for (let i = 0; i < STEPS_A_ROUND; i++) await decoder.decode(rows)
            },
            async theirs() {
              for (let i = 0; i < STEPS_A_ROUND; i++) await theirs.step()
            },
          },
          rounds,
        )
        await theirs.close()
        await decoder.close()
        const perSecond = (ms: number): string => ((batch * STEPS_A_ROUND * 1000) / ms).toFixed(0)
        return { value: theirsMs / oursMs, detail: `${perSecond(oursMs)} tok/s ÷ ${perSecond(theirsMs)} tok/s` }
      }),
  }
}

const prefill: Figure = {
  name: 'engine.prefill.q8_0',
  unit: 'ratio',
  against: `llama.cpp Q8_0, a prompt of ${PROMPT} tokens: tokens a second, ours in pr8`,
  target: 1,
  better: 'higher',
  rounds: 8,
  figure: (rounds) =>
    withGguf('Q8_0', async (path) => {
      const theirs = await loadLlama(path, 1, PROMPT)
      const decoder = await ours(1)
      const { oursMs, theirsMs } = await measure(
        {
          before: () => decoder.clear(0),
          ours: () => fill(decoder, 0, PROMPT),
          theirs: () => theirs.fill(1, PROMPT),
        },
        rounds,
      )
      await theirs.close()
      await decoder.close()
      const perSecond = (ms: number): string => ((PROMPT * 1000) / ms).toFixed(0)
      return { value: theirsMs / oursMs, detail: `${perSecond(oursMs)} tok/s ÷ ${perSecond(theirsMs)} tok/s` }
    }),
}

const LONG_PROMPT = 4000
const STREAMS = 8

const stall: Figure = {
  name: 'engine.stall',
  unit: 'ratio',
  against: `the same ${STREAMS} answers undisturbed: 99th percentile between tokens while a prompt of ${LONG_PROMPT} tokens is computed`,
  target: 2.5,
  rounds: 1,
  async figure() {
    const decoder = await ours(STREAMS + 1)
    const scheduler = createScheduler({ decoder, maxWaiting: 1, monotonicMs: () => performance.now() })
    const gaps: { quiet: number[]; disturbed: number[] } = { quiet: [], disturbed: [] }
    let phase: keyof typeof gaps | undefined
    const streams = Array.from({ length: STREAMS }, () => {
      let last: number | undefined
      return scheduler.submit({
        promptTokens: Array.from({ length: 64 }, (_, i) => 300 + i),
        tenant: undefined,
        signal: undefined,
        wanted: () => true,
        failed: () => undefined,
        next() {
          const now = performance.now()
          if (phase !== undefined && last !== undefined) gaps[phase].push(now - last)
          last = now
          return 300
        },
      })
    })
    await new Promise((resolve) => setTimeout(resolve, 1500))
    phase = 'quiet'
    await new Promise((resolve) => setTimeout(resolve, 5000))
    phase = 'disturbed'
    await new Promise<void>((resolve) => {
      scheduler.submit({
        promptTokens: Array.from({ length: LONG_PROMPT }, (_, i) => 300 + (i % 4000)),
        tenant: undefined,
        signal: undefined,
        wanted: () => true,
        failed: () => resolve(),
        next() {
          resolve()
          return undefined
        },
      })
    })
    phase = undefined
    for (const stream of streams) stream.leave()
    await scheduler.close()
    await decoder.close()
    const [quiet, disturbed] = [percentile(gaps.quiet, 0.99), percentile(gaps.disturbed, 0.99)]
    return { value: disturbed / quiet, detail: `${disturbed.toFixed(1)} ms ÷ ${quiet.toFixed(1)} ms` }
  },
}

function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}

export const ENGINE_BENCHMARKS: readonly Figure[] = [
  decoding('engine.b1.q8_0', 1, 'Q8_0', 1),
  decoding('engine.b8.q8_0', 8, 'Q8_0', 1.4),
  decoding('engine.b16.q8_0', 16, 'Q8_0', 1.4),
  decoding('engine.b8.q4_0', 8, 'Q4_0', 1.2),
  prefill,
  stall,
]
