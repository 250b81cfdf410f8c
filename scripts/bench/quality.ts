/**
 * How good an imported model is: SmolLM2-135M-Instruct in each weight format against llama.cpp on the very file it was
 * imported from. Perplexity is of the same tokens in the same windows; transcripts are greedy answers of ours, each token of
 * which llama.cpp is asked about.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MAX_CHUNK } from '../../enclave/inference/chunks.js'
import type { Engine } from '../../enclave/inference/engine.js'
import { createDecoder, createOrtEngine } from '../../enclave/inference/ort/engine.js'
import { loadModelPackage, type ModelPackage } from '../../enclave/inference/package.js'
import { logProbabilities } from '../../enclave/inference/sampler.js'
import { createTokenizer } from '../../enclave/inference/tokenizer.js'
import { SubrosaError } from '../../verifier/protocol/errors.js'
import { fetchSmolLm2 } from '../model/fetch.js'
import type { Format } from '../model/formats.js'
import { importModel } from '../model/import.js'
import { brownText } from './brown.js'
import { type Judgement, loadLlama } from './llama-cpp.js'
import { type Figure, MissingInput } from './measure.js'

export interface Windows {
  /** Token ids; all of one length. */
  readonly windows: readonly (readonly number[])[]
  /** Tokens at the beginning of each that are read and not scored. */
  readonly context: number
}

const WINDOW = 512
const CONTEXT = 64
const ROWS = 16

/** The first `count` windows of a text. @throws RangeError when it is too short. */
export function windowsOf(tokenIds: readonly number[], count: number): Windows {
  const windows = Array.from({ length: count }, (_, i) => tokenIds.slice(i * WINDOW, (i + 1) * WINDOW))
  if (windows.at(-1)?.length !== WINDOW) {
    throw new RangeError(`expected ${count * WINDOW} tokens, got ${tokenIds.length}: bring more text`)
  }
  return { windows, context: CONTEXT }
}

/** Mean of the negative logarithms of the scored tokens' probabilities, as our decoder has them, 16 windows a run. */
export async function ourLoss(modelPackage: ModelPackage, { windows, context }: Windows): Promise<number> {
  const { decoder } = await createDecoder(modelPackage, { slots: Math.min(ROWS, windows.length) })
  let [sum, count] = [0, 0]
  const score = (logits: Float32Array | undefined, token: number | undefined): void => {
    if (logits === undefined || token === undefined) throw new Error('a run returned too few logits')
    sum -= logProbabilities(logits, token, 0).chosen
    count += 1
  }
  try {
    for (let at = 0; at < windows.length; at += decoder.slots) {
      const rows = windows.slice(at, at + decoder.slots)
      for (const [slot, tokens] of rows.entries()) {
        for (let from = 0; from < context; from += MAX_CHUNK) {
          const logits = await decoder.prefill(slot, tokens.slice(from, Math.min(context, from + MAX_CHUNK)))
          if (from + MAX_CHUNK >= context) score(logits, tokens[context])
        }
      }
      for (let i = context; i < WINDOW - 1; i++) {
        const all = await decoder.decode(rows.map((tokens, slot) => ({ slot, tokenId: tokens[i] ?? 0 })))
        for (const [slot, tokens] of rows.entries()) score(all[slot], tokens[i + 1])
      }
      for (const slot of rows.keys()) await decoder.clear(slot)
    }
  } finally {
    await decoder.close()
  }
  return sum / count
}

/** The same of llama.cpp. */
export async function theirLoss(gguf: string, { windows, context }: Windows): Promise<number> {
  const llama = await loadLlama(gguf, 1, WINDOW)
  try {
    let [sum, count] = [0, 0]
    for (const window of windows) {
      for (const { logprob } of await llama.judge(window, context)) {
        sum -= logprob
        count += 1
      }
    }
    return sum / count
  } finally {
    await llama.close()
  }
}

const QUESTIONS = [
  'What is the capital of France?',
  'Write a short poem about the sea.',
  'Explain in two sentences how rain forms.',
  'List five fruits that are red.',
  'What is 17 plus 25?',
  'Why is the sky blue?',
  'Write a Python function that reverses a string.',
  'Who wrote Romeo and Juliet?',
  'Give me three tips for sleeping better.',
  'Translate "good morning" into Spanish.',
  'What does a compiler do?',
  'Describe a forest in autumn.',
  'How many legs does a spider have?',
  'Summarise the story of Cinderella in three sentences.',
  'What is the difference between weather and climate?',
  'Name a planet that has rings, and say what they are made of.',
]
const ANSWER = 64

/** Token ids of a text as it is. */
export async function tokensOf(modelPackage: ModelPackage, text: string): Promise<readonly number[]> {
  const tokenizer = await createTokenizer(modelPackage)
  try {
    return await tokenizer.encode([text])
  } finally {
    await tokenizer.close()
  }
}

/** What llama.cpp holds of each token of our greedy answers, one list for each answer. */
export async function judgeAnswers(
  engine: Engine,
  gguf: string,
  questions: readonly string[] = QUESTIONS,
): Promise<readonly (readonly Judgement[])[]> {
  const llama = await loadLlama(gguf, 1, WINDOW)
  try {
    const judged: (readonly Judgement[])[] = []
    for (const content of questions) {
      const prompt = await engine.tokenizeChat([{ role: 'user', content }])
      const answer: number[] = []
      for await (const event of engine.generate(prompt, { ...GREEDY, maxTokens: ANSWER })) {
        if (event.type === 'token') answer.push(event.tokenId)
      }
      judged.push(await llama.judge([...prompt, ...answer], prompt.length))
    }
    return judged
  } finally {
    await llama.close()
  }
}

const GREEDY = {
  temperature: 0,
  topP: 1,
  topK: 0,
  minP: 0,
  seed: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  stop: [],
} as const

/** 21,504 scored tokens. */
const WINDOWS = 48
/** Enough text for them, at less than six characters a token. */
const CHARACTERS = 140_000

async function gguf(): Promise<string> {
  try {
    return await fetchSmolLm2()
  } catch (error) {
    if (error instanceof SubrosaError) throw new MissingInput(error.message)
    throw error
  }
}

/** Imports in `format`, for the time of `use`. */
export async function withImported<T>(
  path: string,
  format: Format,
  use: (modelPackage: ModelPackage) => Promise<T>,
): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'subrosa-quality-'))
  try {
    const out = join(folder, format)
    await importModel(path, out, { format, id: 'smollm2', license: 'Apache-2.0', contextLength: WINDOW })
    return await use(await loadModelPackage(out))
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

const LIMITS: Readonly<Record<Format, { readonly percent: number; readonly share: number }>> = {
  fp32: { percent: 1, share: 0.95 },
  fp16: { percent: 1, share: 0.95 },
  int8: { percent: 1, share: 0.95 },
  pr8: { percent: 3, share: 0.93 },
  int4: { percent: 3, share: 0.85 },
}

/** Computed once for all formats. */
let theirs: Promise<number> | undefined

function perplexity(format: Format): Figure {
  return {
    name: `quality.${format}.perplexity`,
    unit: 'percent',
    against: `llama.cpp's perplexity on the same file, tokens and windows: how far apart, ${WINDOWS * (WINDOW - CONTEXT)} scored tokens of the Brown corpus`,
    target: LIMITS[format].percent,
    rounds: 1,
    figure: async () => {
      const [path, text] = [await gguf(), await brownText(CHARACTERS)]
      return withImported(path, format, async (modelPackage) => {
        const windows = windowsOf(await tokensOf(modelPackage, text), WINDOWS)
        theirs ??= theirLoss(path, windows)
        const [our, their] = [Math.exp(await ourLoss(modelPackage, windows)), Math.exp(await theirs)]
        const detail = `${our.toFixed(3)} ÷ ${their.toFixed(3)} = ${(our / their).toFixed(4)}`
        return { value: Math.abs(our / their - 1) * 100, detail }
      })
    },
  }
}

function transcripts(format: Format): Figure {
  return {
    name: `quality.${format}.transcripts`,
    unit: 'share',
    against: 'llama.cpp on the same file: tokens of our greedy answers that it finds likeliest too',
    target: LIMITS[format].share,
    better: 'higher',
    rounds: 1,
    figure: async () => {
      const path = await gguf()
      return withImported(path, format, async (modelPackage) => {
        const engine = await createOrtEngine(modelPackage, { slots: 1 })
        const judged = await judgeAnswers(engine, path).finally(() => engine.close())
        const tokens = judged.flat()
        const agreed = tokens.filter(({ behind }) => behind === 0).length
        const whole = judged.filter((answer) => answer.every(({ behind }) => behind === 0)).length
        const worst = Math.max(...tokens.map(({ behind }) => behind))
        return {
          value: agreed / tokens.length,
          detail: `${agreed} of ${tokens.length} tokens, ${whole} of ${judged.length} answers whole; furthest behind its likeliest ${worst.toFixed(2)}`,
        }
      })
    },
  }
}

const tokens: Figure = {
  name: 'quality.tokens',
  unit: 'share',
  against: "llama.cpp's own tokenizer on the same text: lines of the Brown corpus with the same token ids",
  target: 1,
  better: 'higher',
  rounds: 1,
  figure: async () => {
    const [path, text] = [await gguf(), await brownText(CHARACTERS)]
    return withImported(path, 'int4', async (modelPackage) => {
      const tokenizer = await createTokenizer(modelPackage)
      const llama = await loadLlama(path, 1, WINDOW)
      const lines = text.split('\n').filter((line) => line !== '')
      let same = 0
      for (const line of lines) if ((await tokenizer.encode([line])).join() === llama.tokenize(line).join()) same++
      await tokenizer.close()
      await llama.close()
      return { value: same / lines.length, detail: `${same} of ${lines.length} lines` }
    })
  },
}

export const QUALITY_BENCHMARKS: readonly Figure[] = [
  tokens,
  ...(['fp32', 'int8', 'pr8', 'int4'] as const).flatMap((format) => [perplexity(format), transcripts(format)]),
]
