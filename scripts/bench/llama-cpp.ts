/**
 * llama.cpp through node-llama-cpp, which is not a dependency: it is looked for in the folder that SUBROSA_LLAMA_CPP names.
 * Its lowest interface is used, one batch a call and no sampling, with flash attention: the fastest it offers.
 */
import { availableParallelism } from 'node:os'
import { resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { MissingInput } from './measure.js'

interface RawContext {
  setThreads(threads: number): void
  initBatch(size: number): void
  addToBatch(sequence: number, position: number, tokens: Uint32Array, logits: Uint32Array): void
  decodeBatch(): Promise<unknown>
  disposeSequence(sequence: number): void
}

interface LlamaContext {
  readonly _ctx: RawContext
  dispose(): Promise<void>
}

interface LlamaModel {
  createContext(options: object): Promise<LlamaContext>
  dispose(): Promise<void>
}

interface LlamaModule {
  getLlama(options: object): Promise<{ loadModel(options: object): Promise<LlamaModel> }>
  readonly LlamaLogLevel: { readonly error: unknown }
}

export interface LlamaRunner {
  /** Empties all sequences and fills each with `length` tokens. */
  fill(sequences: number, length: number): Promise<void>
  /** One token for each of the filled sequences. */
  step(): Promise<void>
  close(): Promise<void>
}

/** @throws MissingInput when node-llama-cpp is not at hand. */
export async function loadLlama(gguf: string, sequences: number, tokens: number): Promise<LlamaRunner> {
  const { getLlama, LlamaLogLevel } = await loadModule()
  const threads = availableParallelism()
  const llama = await getLlama({ gpu: false, build: 'never', maxThreads: threads, logLevel: LlamaLogLevel.error })
  const model = await llama.loadModel({ modelPath: gguf, gpuLayers: 0 })
  const context = await model.createContext({
    sequences,
    contextSize: tokens,
    batchSize: 512,
    threads,
    flashAttention: true,
  })
  const raw = context._ctx
  raw.setThreads(threads)
  let filled = 0
  let position = 0
  return {
    async fill(count, length) {
      for (let sequence = 0; sequence < sequences; sequence++) raw.disposeSequence(sequence)
      for (let sequence = 0; sequence < count; sequence++) {
        for (let at = 0; at < length; at += 512) {
          const part = Math.min(512, length - at)
          raw.initBatch(512)
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
    async close() {
      await context.dispose()
      await model.dispose()
    },
  }
}

function tokensOf(count: number): Uint32Array {
  return Uint32Array.from({ length: count }, (_, i) => 300 + ((i * 7919) % 40_000))
}

async function loadModule(): Promise<LlamaModule> {
  const folder = process.env['SUBROSA_LLAMA_CPP']
  const advice = 'install node-llama-cpp in a folder of its own and name that folder in SUBROSA_LLAMA_CPP'
  if (folder === undefined) throw new MissingInput(advice)
  try {
    // A package of another folder, which Node resolves from no file of ours.
    const entry = resolve(folder, 'node_modules', 'node-llama-cpp', 'dist', 'index.js')
    return (await import(pathToFileURL(entry).href)) as LlamaModule
  } catch {
    throw new MissingInput(`node-llama-cpp cannot be loaded from ${folder}: ${advice}`)
  }
}
