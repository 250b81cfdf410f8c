/**
 * What an answer is made of does not depend on anyone else: the logits of a sequence are the same to the last bit alone and
 * in batches with changing neighbours, however its prompt is cut, with one thread and with two.
 *
 * Schedules are drawn at random: prompts cut anywhere, interleaved, joining and leaving, in any slot, and some of them behind
 * what an earlier prompt left there. Each step's logits are compared with those of the same sequence alone, computed whole.
 * The number of schedules is printed.
 */
import { createHash } from 'node:crypto'
import { afterAll, describe, expect, it } from 'vitest'
import { MAX_CHUNK, nextChunk } from '../../enclave/inference/chunks.js'
import type { Decoder } from '../../enclave/inference/decoder.js'
import { createKeptSlots, type KeptSlots } from '../../enclave/inference/kept-slots.js'
import { createDecoder } from '../../enclave/inference/ort/engine.js'
import { findLibrary } from '../../enclave/inference/ort/library.js'
import { loadModelPackage, type ModelPackage } from '../../enclave/inference/package.js'
import { createRandom } from '../../enclave/inference/sampler.js'
import { withImported } from '../../scripts/bench/quality.js'
import { randomPackage, SMALL, SMOLLM2 } from '../../scripts/bench/random-model.js'
import { findSmolLm2 } from '../../scripts/model/fetch.js'
import { ropeFrequencies } from '../../scripts/model/source.js'
import { PACKAGE_DIRECTORY } from './model.js'

/** SUBROSA_SCHEDULES multiplies the number of schedules, for a longer search. */
const FACTOR = Math.max(1, Math.floor(Number(process.env['SUBROSA_SCHEDULES'] ?? 1)) || 1)
const SLOTS = 16
const DECODE_STEPS = 3
const REAL_MODEL = process.env['SUBROSA_MODEL']
const CACHED = await findSmolLm2()

/** A prompt and forced continuations, and a digest of the logits at each step when it is alone. */
interface Sample {
  readonly prompt: readonly number[]
  readonly forced: readonly number[]
  readonly alone: readonly string[]
}

const bits = (logits: Float32Array | undefined): string =>
  createHash('sha256')
    .update(new Uint8Array(logits?.buffer ?? new ArrayBuffer(0), logits?.byteOffset, logits?.byteLength))
    .digest('hex')

async function aloneWith(decoder: Decoder, prompt: readonly number[], forced: readonly number[]): Promise<string[]> {
  let steps: string[] = []
  for (let at = 0; at < prompt.length; ) {
    const size = nextChunk(prompt.length - at, MAX_CHUNK)
    steps = [bits(await decoder.prefill(0, prompt.slice(at, at + size)))]
    at += size
  }
  for (const tokenId of forced) steps.push(bits((await decoder.decode([{ slot: 0, tokenId }]))[0]))
  await decoder.clear(0)
  return steps
}

interface Row {
  readonly sample: Sample
  readonly slot: number
  filled: number
  step: number
}

/** A decoder, and which of its slots are free or hold a prompt from an earlier schedule. */
interface Place {
  readonly decoder: Decoder
  readonly free: number[]
  readonly kept: KeptSlots
}

const placeOf = (decoder: Decoder): Place => ({
  decoder,
  free: Array.from({ length: SLOTS }, (_, slot) => slot),
  // Kept as the scheduler keeps them, all under one key.
  kept: createKeptSlots({ keepMs: 1e9, monotonicMs: () => 0, onExpired: () => undefined }),
})

/** One schedule: `count` of the samples in random slots, their parts and steps interleaved at random. */
async function runSchedule(
  { decoder, free, kept }: Place,
  samples: readonly Sample[],
  count: number,
  random: () => number,
): Promise<number> {
  const below = (n: number): number => Math.floor(random() * n)
  free.sort(() => random() - 0.5)
  const running: Row[] = []
  const start = async (): Promise<void> => {
    const sample = samples[below(samples.length)]!
    const found = random() < 0.8 ? kept.take('key', sample.prompt) : undefined
    if (found !== undefined) {
      await decoder.truncate(found.slot, found.tokens)
      running.push({ sample, slot: found.slot, filled: found.tokens, step: 0 })
      totals.reused += 1
      return
    }
    const lent = free.length === 0 ? kept.takeOldest() : undefined
    if (lent !== undefined) await decoder.clear(lent)
    const slot = lent ?? free.pop()
    if (slot !== undefined) running.push({ sample, slot, filled: 0, step: 0 })
  }
  const end = async (row: Row): Promise<void> => {
    running.splice(running.indexOf(row), 1)
    const empty = [row.slot]
    if (row.filled > 0 && random() < 0.8) {
      await decoder.truncate(row.slot, row.filled)
      empty.splice(0, 1, ...kept.keep(row.slot, 'key', row.sample.prompt.slice(0, row.filled)))
    }
    for (const slot of empty) {
      await decoder.clear(slot)
      free.push(slot)
    }
  }
  let [compared, started] = [0, 0]
  while (running.length > 0 || started < count) {
    if (started < count && running.length < SLOTS && (running.length === 0 || random() < 0.5)) {
      await start()
      started += 1
      continue
    }
    const filling = running.filter(({ sample, filled }) => filled < sample.prompt.length)
    const ready = running.filter(({ sample, filled }) => filled === sample.prompt.length)
    if (filling.length > 0 && (ready.length === 0 || random() < 0.6)) {
      const row = filling[below(filling.length)]!
      const size = nextChunk(row.sample.prompt.length - row.filled, 2 + below(40))
      const logits = await decoder.prefill(row.slot, row.sample.prompt.slice(row.filled, row.filled + size))
      row.filled += size
      if (row.filled === row.sample.prompt.length) {
        expect(bits(logits)).toBe(row.sample.alone[0])
        compared += 1
      } else if (random() < 0.05) {
        await end(row)
      }
    } else {
      const rows = ready.filter(() => random() < 0.8).sort((a, b) => a.slot - b.slot)
      if (rows.length === 0) continue
      const all = await decoder.decode(rows.map(({ slot, sample, step }) => ({ slot, tokenId: sample.forced[step]! })))
      for (const [i, row] of rows.entries()) {
        row.step += 1
        expect(bits(all[i])).toBe(row.sample.alone[row.step])
        compared += 1
      }
    }
    for (const row of running.filter(({ step }) => step === DECODE_STEPS)) await end(row)
  }
  return compared
}

const INT8_SCALES = Array.from({ length: SMALL.layers }, () => ({ key: 0.04, value: 0.03 }))

interface Case {
  readonly name: string
  readonly load: () => Promise<ModelPackage>
  readonly schedules: number
  /** Of the prompts only each so-manieth: each is computed alone first. */
  readonly every?: number
}

const LARGE_HEADS = {
  ...SMALL,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  headSize: 128,
  ropeFrequencies: ropeFrequencies(128, 10_000),
}

const CASES: readonly Case[] = [
  { name: 'the demo model', load: () => loadModelPackage(PACKAGE_DIRECTORY), schedules: 500 * FACTOR },
  ...(['fp32', 'fp16', 'int8', 'int4', 'pr8'] as const).map((format) => ({
    name: `random weights, ${format}`,
    load: () => randomPackage(SMALL, format),
    schedules: 16 * FACTOR,
  })),
  // The largest heads whose sums do not depend on how many keys there are.
  {
    name: 'random weights, heads of 128, int8',
    load: () => randomPackage(LARGE_HEADS, 'int8'),
    schedules: 16 * FACTOR,
  },
  {
    name: 'random weights, pr8, keys and values in int8',
    load: () => randomPackage(SMALL, 'pr8', 1, INT8_SCALES),
    schedules: 16 * FACTOR,
  },
  // The whole depth: what thirty layers add up from one bit. Its positions are fewer, so that sixteen slots fit into memory.
  ...(['pr8', 'int8'] as const).map((format) => ({
    name: `random weights, 30 layers, ${format}`,
    load: () => randomPackage({ ...SMOLLM2, contextLength: SMALL.contextLength }, format),
    schedules: 2 * FACTOR,
    every: 3,
  })),
  // A real model, where one was imported: subrosa model fetch smollm2 --out DIR.
  ...(REAL_MODEL === undefined
    ? []
    : [{ name: 'a real model', load: () => loadModelPackage(REAL_MODEL), schedules: 16 * FACTOR }]),
  // Or is in the cache.
  ...(REAL_MODEL !== undefined || CACHED === undefined
    ? []
    : (['pr8', 'int8'] as const).map((format) => ({
        name: `SmolLM2, ${format}`,
        load: () => withImported(CACHED, format, async (modelPackage) => modelPackage),
        schedules: 2 * FACTOR,
        every: 3,
      }))),
]

const native = (await findLibrary()) !== undefined
const totals = { schedules: 0, comparisons: 0, reused: 0 }

describe.skipIf(!native)('rows that share runs', () => {
  afterAll(() => {
    process.stdout.write(
      `invariance: ${totals.schedules} schedules, ${totals.comparisons} rows of logits compared bit for bit, ${totals.reused} sequences behind a kept prompt\n`,
    )
  })

  it.each(CASES)(
    '$name',
    async ({ name, load, schedules, every = 1 }) => {
      const modelPackage = await load()
      const random = createRandom(20_261_128)
      const { vocabularySize } = modelPackage.manifest.architecture
      const options = { binding: 'native', slots: SLOTS } as const
      const first = await createDecoder(modelPackage, { ...options, threads: 1 })
      const second = await createDecoder(modelPackage, { ...options, threads: 2 })
      expect([first.determinism, second.determinism]).toEqual(['batch-invariant', 'batch-invariant'])
      const tokens = (length: number): number[] => Array.from({ length }, () => Math.floor(random() * vocabularySize))
      const samples: Sample[] = []
      const stem = tokens(145)
      // Prompts of all kinds of lengths, and some that begin alike.
      const prompts = [
        ...[1, 2, 3, 7, 17, 33, 65, 100, 129, 145].map(tokens),
        ...[16, 18, 33, 65, 66, 97, 129].map((length) => [...stem.slice(0, length), ...tokens(2 + (length % 21))]),
        stem,
      ]
      for (const prompt of prompts.filter((_, i) => i % every === 0)) {
        const forced = tokens(DECODE_STEPS)
        samples.push({ prompt, forced, alone: await aloneWith(first.decoder, prompt, forced) })
      }
      const places = [first, second].map(({ decoder }) => placeOf(decoder))
      const before = { ...totals }
      for (let i = 0; i < schedules; i++) {
        totals.comparisons += await runSchedule(places[i % 2]!, samples, 2 + Math.floor(random() * (SLOTS - 1)), random)
        totals.schedules += 1
      }
      const counted = (key: keyof typeof totals): number => totals[key] - before[key]
      process.stdout.write(
        `invariance: ${name}: ${counted('schedules')} schedules, ${counted('comparisons')} rows of logits, ${counted('reused')} sequences behind a kept prompt\n`,
      )
      expect(counted('reused')).toBeGreaterThan(0)
      for (const { kept } of places) kept.close()
      await first.decoder.close()
      await second.decoder.close()
    },
    600_000,
  )
})

describe('cuts', () => {
  it('are never of one token more than a multiple of 16, and add up', () => {
    for (let length = 2; length < 400; length++) {
      for (let budget = 2; budget <= 130; budget++) {
        let at = 0
        while (at < length) {
          const size = nextChunk(length - at, budget)
          if (size % 16 === 1 || size < 2 || size > MAX_CHUNK || size > Math.max(3, budget)) {
            expect.unreachable(`${size} of ${length - at} within ${budget}`)
          }
          at += size
        }
        expect(at).toBe(length)
      }
    }
    expect(nextChunk(1, 100)).toBe(1)
  })
})
