/**
 * llama.cpp through node-llama-cpp, which is not a dependency (`extras.ts`). Its lowest interface is used, one batch a call and
 * no sampling, with flash attention: the fastest it offers.
 */
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { extra } from './extras.js'

interface RawContext {
  setThreads(threads: number): void
  initBatch(size: number): void
  /** Returns where the logits of the tokens named by `logits` will be. */
  addToBatch(sequence: number, position: number, tokens: Uint32Array, logits: Uint32Array): Uint32Array
  decodeBatch(): Promise<unknown>
  disposeSequence(sequence: number): void
  sampleToken(
    at: number,
    sampler: object,
    probabilities: boolean,
    confidence: boolean,
    logits: readonly [tokens: readonly number[], max: boolean, min: boolean, selected: boolean, top: number],
    totalWeight: boolean,
  ): Promise<
    readonly [
      token: number,
      probabilities: undefined,
      confidence: undefined,
      tokensAndLogits: readonly number[],
      totalWeight: number,
    ]
  >
}

interface LlamaContext {
  readonly _ctx: RawContext
  dispose(): Promise<void>
}

interface LlamaModel {
  readonly _model: object
  tokenize(text: string): readonly number[]
  createContext(options: object): Promise<LlamaContext>
  dispose(): Promise<void>
}

interface LlamaBindings {
  readonly AddonSampler: new (model: object) => { applyConfig(config: object): void; dispose(): void }
}

interface Llama {
  readonly _bindings: LlamaBindings
  loadModel(options: object): Promise<LlamaModel>
  dispose(): Promise<void>
}

interface LlamaModule {
  getLlama(options: object): Promise<Llama>
  readonly LlamaLogLevel: { readonly error: unknown }
}

export interface LlamaRunner {
  /** Empties all sequences and fills each with `length` tokens. */
  fill(sequences: number, length: number): Promise<void>
  /** One token for each of the filled sequences. */
  step(): Promise<void>
  /** Control tokens in `text` are text. */
  tokenize(text: string): readonly number[]
  /** What it holds of each token from position `from` on, given those before it. Empties all sequences. */
  judge(tokens: readonly number[], from: number): Promise<readonly Judgement[]>
  close(): Promise<void>
}

export interface Judgement {
  /** Natural logarithm of its probability. */
  readonly logprob: number
  /** How far its logit is behind that of the likeliest token: 0 for the one a greedy answer would take. */
  readonly behind: number
}

const BATCH = 512

/** `tokens`: room for each sequence. @throws MissingInput when node-llama-cpp is not to be had. */
export async function loadLlama(gguf: string, sequences: number, tokens: number): Promise<LlamaRunner> {
  const { getLlama, LlamaLogLevel } = await loadModule()
  const threads = availableParallelism()
  const llama = await getLlama({ gpu: false, build: 'never', maxThreads: threads, logLevel: LlamaLogLevel.error })
  const model = await llama.loadModel({ modelPath: gguf, gpuLayers: 0 })
  const context = await model.createContext({
    sequences,
    contextSize: tokens,
    batchSize: BATCH,
    threads,
    flashAttention: true,
  })
  const raw = context._ctx
  raw.setThreads(threads)
  const sampler = new llama._bindings.AddonSampler(model._model)
  sampler.applyConfig({ temperature: 0 })
  let filled = 0
  let position = 0
  const clear = (): void => {
    for (let sequence = 0; sequence < sequences; sequence++) raw.disposeSequence(sequence)
  }
  return {
    async fill(count, length) {
      clear()
      for (let sequence = 0; sequence < count; sequence++) {
        for (let at = 0; at < length; at += BATCH) {
          const part = Math.min(BATCH, length - at)
          raw.initBatch(BATCH)
          raw.addToBatch(sequence, at, tokensOf(part), Uint32Array.of(part - 1))
          await raw.decodeBatch()
        }
      }
      filled = count
      position = length
    },
    async step() {
      raw.initBatch(filled)
      for (let sequence = 0; sequence < filled; sequence++) {
        raw.addToBatch(sequence, position, Uint32Array.of(300 + sequence), Uint32Array.of(0))
      }
      await raw.decodeBatch()
      position += 1
    },
    tokenize: (text) => [...model.tokenize(text)],
    async judge(tokens, from) {
      clear()
      const judgements: Judgement[] = []
      for (let at = 0; at < tokens.length; at += BATCH) {
        const part = Uint32Array.from(tokens.slice(at, at + BATCH))
        // The logits of a token are about the one after it.
        const wanted = [...part.keys()].filter((i) => at + i + 1 >= from && at + i + 1 < tokens.length)
        raw.initBatch(BATCH)
        const places = raw.addToBatch(0, at, part, Uint32Array.from(wanted))
        await raw.decodeBatch()
        for (const [i, place] of places.entries()) {
          const token = tokens[at + (wanted[i] ?? 0) + 1] ?? 0
          judgements.push(await judgeOne(raw, sampler, place, token))
        }
      }
      clear()
      return judgements
    },
    async close() {
      sampler.dispose()
      await context.dispose()
      await model.dispose()
      await llama.dispose()
    },
  }
}

async function judgeOne(raw: RawContext, sampler: object, place: number, token: number): Promise<Judgement> {
  const answer = await raw.sampleToken(place, sampler, false, false, [[token], false, false, true, 0], true)
  const [likeliest, , , flat, totalWeight] = answer
  const logitOf = (wanted: number): number => {
    const at = flat.findIndex((value, i) => i % 2 === 0 && value === wanted)
    const logit = flat[at + 1]
    if (at < 0 || logit === undefined) throw new Error('llama.cpp returned no logit for a token it was asked about')
    return logit
  }
  const highest = logitOf(likeliest)
  // The total is of weights next to the highest one's.
  return { logprob: logitOf(token) - highest - Math.log(totalWeight), behind: highest - logitOf(token) }
}

function tokensOf(count: number): Uint32Array {
  return Uint32Array.from({ length: count }, (_, i) => 300 + ((i * 7919) % 40_000))
}

async function loadModule(): Promise<LlamaModule> {
  // A package of another folder, which Node resolves from no file of ours.
  const entry = join(await extra('llama.cpp'), 'node-llama-cpp', 'dist', 'index.js')
  return (await import(pathToFileURL(entry).href)) as LlamaModule
}
