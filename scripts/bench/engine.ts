/**
 * How fast the engine is, with random weights of SmolLM2-135M's shape: decode steps and prompts against llama.cpp on a file of
 * the same shape and against the loop of transformers.js, the share of what memory can deliver, what a long prompt does to
 * running answers, and what many requests do to the event loop and to memory. Sides of a ratio are driven at their lowest
 * level, unsampled.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { MAX_CHUNK } from '../../enclave/inference/chunks.js'
import type { Decoder } from '../../enclave/inference/decoder.js'
import type { Engine, GenerateOptions } from '../../enclave/inference/engine.js'
import { createDecoder, createOrtEngine } from '../../enclave/inference/ort/engine.js'
import { loadModelPackage } from '../../enclave/inference/package.js'
import { createScheduler, type SequenceRequest } from '../../enclave/inference/scheduler.js'
import { defaultModelDirectory } from '../../enclave/serve.js'
import { BLOCK, WIDE_BLOCK } from '../model/formats.js'
import { createBandwidthMeter } from './bandwidth.js'
import { loadLlama } from './llama-cpp.js'
import { collectGarbage, type Figure, measure, median } from './measure.js'
import { createPublicLoop } from './public-loop.js'
import { writeRandomGguf } from './random-gguf.js'
import { randomPackage, SMOLLM2 } from './random-model.js'

const CONTEXT = 128
const LONG_CONTEXT = 1000
/** Where the whole cache is copied each step, how long it is decides; this is between the two. */
const LOOP_CONTEXT = 512
const STEPS_A_ROUND = 8
/** Long enough for a dozen passes over the meter's buffers. */
const BANDWIDTH_MS = 100
const PROMPT = 512

async function ours(slots: number, format: 'pr8' | 'int8' = 'pr8'): Promise<Decoder> {
  const { decoder } = await createDecoder(await randomPackage(SMOLLM2, format), { slots, binding: 'native' })
  return decoder
}

/** For people: how busy the machine was. A ratio bears it, what is measured against a clock does not. */
const load = (): string => `load ${(loadavg()[0] ?? 0).toFixed(1)}`

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

interface Target {
  readonly batch: number
  readonly type: 'Q8_0' | 'Q4_0'
  readonly context: number
  readonly target: number
}

function decoding({ batch, type, context, target }: Target): Figure {
  const suffix = context === CONTEXT ? '' : `.ctx${context}`
  return {
    name: `engine.b${batch}.${type.toLowerCase()}${suffix}`,
    unit: 'ratio',
    against: `llama.cpp ${type}, ${batch} sequences of ${context} tokens and more: tokens a second, ours in pr8`,
    target,
    better: 'higher',
    rounds: 12,
    figure: (rounds) =>
      withGguf(type, async (path) => {
        const room = context + STEPS_A_ROUND * rounds * 2
        const theirs = await loadLlama(path, batch, Math.ceil(room / 256) * 256)
        const decoder = await ours(batch)
        await theirs.fill(batch, context)
        for (let slot = 0; slot < batch; slot++) await fill(decoder, slot, context)
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
        return compared(batch * STEPS_A_ROUND, oursMs, theirsMs)
      }),
  }
}

/** Tokens a second of both sides. */
function compared(tokens: number, oursMs: number, theirsMs: number): { value: number; detail: string } {
  const perSecond = (ms: number): string => ((tokens * 1000) / ms).toFixed(0)
  return { value: theirsMs / oursMs, detail: `${perSecond(oursMs)} tok/s ÷ ${perSecond(theirsMs)} tok/s, ${load()}` }
}

const transformersJs: Figure = {
  name: 'engine.b8.transformersjs',
  unit: 'ratio',
  against: `the loop of transformers.js on the public binding, the same graph, 8 sequences of ${LOOP_CONTEXT} tokens and more: tokens a second`,
  target: 3,
  better: 'higher',
  rounds: 6,
  async figure(rounds) {
    const batch = 8
    const theirs = await createPublicLoop(await randomPackage(SMOLLM2, 'pr8'), batch)
    const decoder = await ours(batch)
    await theirs.fill(LOOP_CONTEXT)
    for (let slot = 0; slot < batch; slot++) await fill(decoder, slot, LOOP_CONTEXT)
    const rows = Array.from({ length: batch }, (_, slot) => ({ slot, tokenId: 300 + slot }))
    const steps = 2
    const { oursMs, theirsMs } = await measure(
      {
        async ours() {
          for (let i = 0; i < steps; i++) await decoder.decode(rows)
        },
        async theirs() {
          for (let i = 0; i < steps; i++) await theirs.step()
        },
      },
      rounds,
    )
    await theirs.close()
    await decoder.close()
    return compared(batch * steps, oursMs, theirsMs)
  },
}

/**
 * Bytes one token at batch 1 has to read in int8, everything once: each matrix with the fp32 scales of its blocks, the embedding
 * as the output, and the fp32 keys and values of the tokens before it.
 */
function bytesOfStep(context: number): number {
  const { layers, hiddenSize, heads, kvHeads, headSize, feedForwardSize, vocabularySize } = SMOLLM2
  const attention = hiddenSize * headSize * (2 * heads + 2 * kvHeads)
  const branch = hiddenSize * feedForwardSize
  const wide = layers * 2 * branch + vocabularySize * hiddenSize
  const others = layers * (attention + branch)
  const scales = wide / WIDE_BLOCK + others / BLOCK
  return wide + others + 4 * scales + context * layers * 2 * kvHeads * headSize * 4
}

const roofline: Figure = {
  name: 'engine.b1.roofline',
  unit: 'share',
  against:
    'what this machine reads from memory, measured before and after the steps of each round: bytes a second that steps at batch 1 have to read, in int8',
  target: 0.6,
  better: 'higher',
  rounds: 24,
  async figure(rounds) {
    const meter = await createBandwidthMeter()
    const decoder = await ours(1, 'int8')
    await fill(decoder, 0, CONTEXT)
    const [shares, read, steps]: [number[], number[], number[]] = [[], [], []]
    let context = CONTEXT
    let before = await meter.measure(BANDWIDTH_MS)
    for (let round = 0; round < rounds; round++) {
      const stepMs: number[] = []
      const bytes = bytesOfStep(context)
      for (let i = 0; i < STEPS_A_ROUND; i++, context++) {
        const started = performance.now()
        await decoder.decode([{ slot: 0, tokenId: 300 }])
        stepMs.push(performance.now() - started)
      }
      const after = await meter.measure(BANDWIDTH_MS)
      // What memory gives changes within a minute, with whoever shares the machine: each round by what it had.
      const available = (before + after) / 2
      shares.push((bytes * 1000) / median(stepMs) / available)
      read.push(available)
      steps.push(median(stepMs))
      before = after
    }
    await decoder.close()
    await meter.close()
    const inGb = (value: number): string => `${(value / 1e9).toFixed(1)} GB/s`
    return {
      value: median(shares),
      detail: `median of ${rounds} rounds, ${Math.min(...shares).toFixed(2)} to ${Math.max(...shares).toFixed(2)}; memory ${inGb(median(read))}, step ${median(steps).toFixed(1)} ms, ${load()}`,
    }
  },
}

function prefill(type: 'Q8_0' | 'Q4_0'): Figure {
  return {
    name: `engine.prefill.${type.toLowerCase()}`,
    unit: 'ratio',
    against: `llama.cpp ${type}, a prompt of ${PROMPT} tokens: tokens a second, ours in pr8`,
    target: 1,
    better: 'higher',
    rounds: 8,
    figure: (rounds) =>
      withGguf(type, async (path) => {
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
        return compared(PROMPT, oursMs, theirsMs)
      }),
  }
}

const LONG_PROMPT = 4000
const STREAMS = 8

const stall: Figure = {
  name: 'engine.stall',
  unit: 'ratio',
  against: `the same tokens of the same ${STREAMS} answers undisturbed: 99th percentile between tokens while a prompt of ${LONG_PROMPT} tokens is computed`,
  target: 2.5,
  rounds: 3,
  async figure(rounds) {
    const decoder = await ours(STREAMS + 1)
    const [ratios, worse, usual, steps]: [number[], number[], number[], number[]] = [[], [], [], []]
    for (let round = 0; round < rounds; round++) {
      // Answers get slower as they get longer, so both sides are of the same positions: as many as the prompt takes.
      const disturbed = await gapsBetween(decoder, 'prompt')
      const quiet = await gapsBetween(decoder, disturbed.length)
      const [high, low] = [percentile(disturbed, 0.99), percentile(quiet, 0.99)]
      ratios.push(high / low)
      worse.push(high)
      usual.push(low)
      steps.push(disturbed.length / STREAMS)
    }
    await decoder.close()
    return {
      value: median(ratios),
      detail: `median of ${rounds} rounds, ${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)}; ${median(worse).toFixed(1)} ms ÷ ${median(usual).toFixed(1)} ms, ${median(steps).toFixed(0)} steps, ${load()}`,
    }
  },
}

/** Tokens of each answer before anything is measured. */
const SETTLED = 64

/** Times between the tokens of all answers, for as many tokens, or for as long as a long prompt is computed beside them. */
async function gapsBetween(decoder: Decoder, until: number | 'prompt'): Promise<readonly number[]> {
  const scheduler = createScheduler({ decoder, maxWaiting: 1, monotonicMs: () => performance.now() })
  const gaps: number[] = []
  let state: 'settling' | 'measuring' | 'ended' = 'settling'
  await new Promise<void>((resolve) => {
    const end = (): void => {
      state = 'ended'
      resolve()
    }
    const readPrompt = (): undefined => {
      end()
    }
    for (let stream = 0; stream < STREAMS; stream++) {
      let last = performance.now()
      let own = 0
      const readToken = (): number => {
        const now = performance.now()
        if (state === 'measuring') gaps.push(now - last)
        last = now
        own += 1
        if (own === SETTLED && state === 'settling') {
          state = 'measuring'
          if (until === 'prompt') scheduler.submit(unread(LONG_PROMPT, readPrompt))
        }
        if (gaps.length === until) end()
        return 300
      }
      scheduler.submit(unread(64, readToken))
    }
  })
  await scheduler.close()
  return gaps
}

function unread(promptTokens: number, next: SequenceRequest['next']): SequenceRequest {
  return {
    promptTokens: Array.from({ length: promptTokens }, (_, i) => 300 + (i % 4000)),
    tenant: undefined,
    signal: undefined,
    wanted: () => true,
    failed: () => undefined,
    next,
  }
}

function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}

const SAMPLED: GenerateOptions = {
  maxTokens: 40,
  temperature: 0.8,
  topP: 0.95,
  topK: 0,
  minP: 0,
  seed: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  stop: [],
}

async function readAll(engine: Engine, prompt: readonly number[], options: GenerateOptions): Promise<void> {
  for await (const _ of engine.generate(prompt, options)) {
    // Only read.
  }
}

const loop: Figure = {
  name: 'engine.loop',
  unit: 'milliseconds',
  against: 'nothing: 99th percentile of how late the event loop is while 16 sampled answers run',
  target: 10,
  rounds: 1,
  async figure() {
    const engine = await createOrtEngine(await randomPackage(SMOLLM2, 'pr8'), { slots: 16, binding: 'native' })
    const resolutionMs = 1
    const delay = monitorEventLoopDelay({ resolution: resolutionMs })
    const prompt = Array.from({ length: 64 }, (_, i) => 300 + i)
    await readAll(engine, prompt, { ...SAMPLED, maxTokens: 4 })
    delay.enable()
    await Promise.all(Array.from({ length: 16 }, (_, i) => readAll(engine, prompt, { ...SAMPLED, seed: i })))
    delay.disable()
    await engine.close()
    const inMs = (share: number): number => Math.max(0, delay.percentile(share) / 1e6 - resolutionMs)
    return { value: inMs(99), detail: `median ${inMs(50).toFixed(2)} ms, most ${inMs(100).toFixed(1)} ms, ${load()}` }
  },
}

const REQUESTS = 10_000

const memory: Figure = {
  name: 'engine.memory',
  unit: 'mebibytes',
  against: `nothing: how much the process grew between the ${REQUESTS / 5}th and the ${REQUESTS}th request to the demo model, 16 at once, some abandoned`,
  target: 8,
  rounds: 1,
  async figure() {
    const engine = await createOrtEngine(await loadModelPackage(defaultModelDirectory()), { binding: 'native' })
    let sent = 0
    const lane = async (until: number): Promise<void> => {
      while (sent < until) {
        const i = sent++
        const prompt = Array.from({ length: 4 + (i % 40) }, (_, at) => 5 + ((i + at * 7) % 700))
        const answer = engine.generate(prompt, { ...SAMPLED, maxTokens: 4, seed: i })
        for await (const _ of answer) if (i % 7 === 0) break
      }
    }
    const grown = async (until: number): Promise<number> => {
      await Promise.all(Array.from({ length: 16 }, () => lane(until)))
      collectGarbage()
      return process.memoryUsage.rss() / 2 ** 20
    }
    const before = await grown(REQUESTS / 5)
    const after = await grown(REQUESTS)
    await engine.close()
    return { value: after - before, detail: `${before.toFixed(0)} MiB, then ${after.toFixed(0)} MiB, ${load()}` }
  },
}

const TARGETS: readonly Target[] = [
  { batch: 1, type: 'Q8_0', context: CONTEXT, target: 1 },
  { batch: 4, type: 'Q8_0', context: CONTEXT, target: 1.2 },
  { batch: 8, type: 'Q8_0', context: CONTEXT, target: 1.4 },
  { batch: 16, type: 'Q8_0', context: CONTEXT, target: 1.4 },
  { batch: 1, type: 'Q4_0', context: CONTEXT, target: 0.6 },
  { batch: 4, type: 'Q4_0', context: CONTEXT, target: 1 },
  { batch: 8, type: 'Q4_0', context: CONTEXT, target: 1.2 },
  { batch: 16, type: 'Q4_0', context: CONTEXT, target: 1.2 },
  ...[1, 4, 8, 16].flatMap((batch) =>
    (['Q8_0', 'Q4_0'] as const).map((type) => ({
      batch,
      type,
      context: LONG_CONTEXT,
      target: batch === 1 && type === 'Q4_0' ? 0.6 : 1,
    })),
  ),
]

export const ENGINE_BENCHMARKS: readonly Figure[] = [
  ...TARGETS.map(decoding),
  prefill('Q8_0'),
  prefill('Q4_0'),
  transformersJs,
  roofline,
  stall,
  loop,
  memory,
]
