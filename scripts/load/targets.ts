/** What `subrosa bench` can measure: a model in this process, a server it launches, or a worker elsewhere. */
import { EventSourceParserStream } from 'eventsource-parser/stream'
import type { WorkerSession } from '../../client/session.js'
import { DEFAULT_DEVICE, type Device } from '../../enclave/inference/device.js'
import type { Engine, GenerateOptions } from '../../enclave/inference/engine.js'
import { createOrtEngine } from '../../enclave/inference/ort/engine.js'
import { loadModelPackage } from '../../enclave/inference/package.js'
import { startServerEngine } from '../../enclave/inference/server/start.js'
import { SubrosaError } from '../../verifier/errors.js'
import { printable } from '../../verifier/text.js'
import type { Target } from './measure.js'

const OPTIONS: Omit<GenerateOptions, 'maxTokens' | 'seed'> = {
  temperature: 0.8,
  topP: 0.95,
  topK: 0,
  minP: 0,
  presencePenalty: 0,
  frequencyPenalty: 0,
  stop: [],
}

/** @throws EngineError as the package and the engine do. */
export async function engineTarget(
  directory: string,
  mostReaders: number,
  { server, device = DEFAULT_DEVICE }: { readonly server?: unknown; readonly device?: Device } = {},
): Promise<Target> {
  if (server !== undefined) return overEngine((await startServerEngine(directory, server, true)).engine)
  return overEngine(await createOrtEngine(await loadModelPackage(directory), { maxWaiting: mostReaders, device }), () =>
    process.memoryUsage.rss(),
  )
}

function overEngine(engine: Engine, memory?: () => number): Target {
  const { manifest, name, version, build } = engine.info
  return {
    title: `${manifest.title}, ${manifest.format}, on ${name} ${version}`,
    path: `the engine alone${build === undefined ? '' : ` (${build})`}: no attestation, no sealing, no network`,
    async ask({ number, promptTokens, answerTokens }, onToken) {
      const tokens = (await engine.tokenizeText(wordy(number, promptTokens))).slice(0, promptTokens)
      for await (const event of engine.generate(tokens, { ...OPTIONS, maxTokens: answerTokens, seed: number })) {
        if (event.type === 'token') onToken()
      }
    },
    ...(memory === undefined ? {} : { memory }),
    close: () => engine.close(),
  }
}

/** A verified worker, as a client sees it. The session stays the caller's. */
export function workerTarget(worker: WorkerSession, url: string): Target {
  const { id } = worker.worker.statement.model
  return {
    title: printable(`${id} at ${url}`),
    path: 'a verified worker through the sealed channel, padding and network included; pieces of text are counted as tokens',
    async ask({ number, promptTokens, answerTokens }, onToken) {
      const response = await worker.fetch(`${worker.baseURL}/chat/completions`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({
          model: id,
          messages: [{ role: 'user', content: wordy(number, promptTokens) }],
          max_tokens: answerTokens,
          temperature: OPTIONS.temperature,
          top_p: OPTIONS.topP,
          seed: number,
          stream: true,
        }),
      })
      if (!response.ok || response.body === null) {
        throw new SubrosaError('bench.refused', `the worker answered ${response.status}`)
      }
      const events = response.body
        .pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>)
        .pipeThrough(new EventSourceParserStream())
      for await (const { data } of events) if (hasText(data)) onToken()
    },
    close: async () => undefined,
  }
}

/** Whether an event of a streamed answer brings text. @throws SubrosaError `bench.refused` when it brings an error. */
function hasText(data: string): boolean {
  if (data === '[DONE]') return false
  const { choices, error } = JSON.parse(data) as { choices?: { delta?: { content?: string } }[]; error?: unknown }
  if (error !== undefined) throw new SubrosaError('bench.refused', 'the worker broke an answer off')
  return (choices?.[0]?.delta?.content ?? '') !== ''
}

const WORDS = ['river', 'stone', 'light', 'paper', 'garden', 'winter', 'letter', 'bridge', 'copper', 'window']

/** Text of at least so many tokens, which begins like no other question's. */
function wordy(number: number, tokens: number): string {
  const words = Array.from(
    { length: tokens },
    (_, i) => WORDS[(i * 7 + number * 3 + Math.floor(i / 10)) % WORDS.length],
  )
  return `${number} ${words.join(' ')}`
}
