/** What the inference tests share: the committed package, the reference numbers, and small readers of engine events. */
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import type { ChatMessage, Engine, EngineEvent, GenerateOptions } from '../../enclave/inference/engine.js'
import { findLibrary } from '../../enclave/inference/ort/library.js'

/** Both ways to the runtime; the C interface where its library is known. */
export const BINDINGS: readonly ('native' | 'portable')[] =
  (await findLibrary()) === undefined ? (['portable'] as const) : (['native', 'portable'] as const)

export const PACKAGE_DIRECTORY: string = fileURLToPath(new URL('../../enclave/models/demo', import.meta.url))

/** Written by scripts/train-demo-model/package.py from PyTorch. */
export interface Reference {
  readonly tolerance: number
  /** Logits after the prompt, then after each of `nextIds`. */
  readonly logits: readonly {
    readonly promptIds: readonly number[]
    readonly nextIds: readonly number[]
    readonly rows: readonly (readonly number[])[]
  }[]
  readonly transcripts: readonly {
    readonly messages: readonly ChatMessage[]
    readonly promptIds: readonly number[]
    readonly answerIds: readonly number[]
    readonly answer: string
  }[]
}

export async function loadReference(): Promise<Reference> {
  return JSON.parse(await readFile(new URL('reference.json', import.meta.url), 'utf8')) as Reference
}

export const GREEDY: GenerateOptions = {
  maxTokens: 120,
  temperature: 0,
  topP: 1,
  topK: 0,
  minP: 0,
  seed: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  stop: [],
}

export async function collect(events: AsyncIterable<EngineEvent>): Promise<EngineEvent[]> {
  const all: EngineEvent[] = []
  for await (const event of events) all.push(event)
  return all
}

export function textOf(events: readonly EngineEvent[]): string {
  return events.map((event) => (event.type === 'token' ? event.text : '')).join('')
}

export async function ask(
  engine: Engine,
  question: string,
  options: Partial<GenerateOptions> = {},
): Promise<EngineEvent[]> {
  const prompt = await engine.tokenizeChat([{ role: 'user', content: question }])
  return collect(engine.generate(prompt, { ...GREEDY, ...options }))
}
