/** A worker without hardware, model or socket: what is stubbed is the machine and the engine, and nothing between them. */
import { fetchLine } from '../../client/lines.js'
import { createTransport, type Transport } from '../../client/transport.js'
import type { Engine, EngineEvent, GenerateOptions } from '../../enclave/inference/engine.js'
import { EngineError } from '../../enclave/inference/errors.js'
import { createLogger } from '../../enclave/log.js'
import type { Platform } from '../../enclave/platforms/platform.js'
import { createWorker, hostDataFor, type Worker, type WorkerOptions } from '../../enclave/worker.js'
import { type Bundle, parseBundle } from '../../verifier/protocol/bundle.js'
import { type Bytes, toBase64Url, toBytes } from '../../verifier/protocol/bytes.js'
import { sha256 } from '../../verifier/protocol/hash.js'
import { KEM_X25519_HKDF_SHA256 } from '../../verifier/protocol/hpke.js'
import { parseSignedKeyConfigurations } from '../../verifier/protocol/key-configuration.js'
import { type Claims, type ModelClaims, parseClaims } from '../../verifier/protocol/statement.js'

export const NOW = new Date('2026-03-01T12:00:00Z')

export const MODEL: ModelClaims = {
  id: 'stub-1',
  weightsRoot: sha256(toBytes(new Uint8Array([1]))),
  tokenizerDigest: sha256(toBytes(new Uint8Array([2]))),
  templateDigest: sha256(toBytes(new Uint8Array([3]))),
  manifestDigest: sha256(toBytes(new Uint8Array([4]))),
}

export interface StubEngine extends Engine {
  /** Every call of `generate`. */
  readonly calls: { readonly promptTokens: readonly number[]; readonly options: GenerateOptions; emitted: number }[]
  closed: boolean
}

/** One token a character; answers with `answer`, or never ends where that is infinite. */
export function stubEngine(
  options: {
    readonly answer?: Iterable<string>
    readonly contextLength?: number
    /** Awaited before each token. */
    readonly step?: () => Promise<void>
    readonly failAfter?: number
    /** Tokens of each prompt it says it had computed before. */
    readonly cachedTokens?: number
    /** What it says of what it guessed. */
    readonly predicted?: { readonly accepted: number; readonly rejected: number }
  } = {},
): StubEngine {
  const { answer = ['Hel', 'lo', ' there', '', '.'], contextLength = 1000, step = async () => undefined } = options
  const calls: StubEngine['calls'] = []
  const engine: StubEngine = {
    calls,
    closed: false,
    info: {
      name: 'stub',
      version: '1.0.0',
      determinism: 'single',
      contextLength,
      manifest: {
        schema: 'subrosa-model/1',
        id: MODEL.id,
        title: 'Stub',
        license: 'Apache-2.0',
        architecture: {
          family: 'llama',
          parameters: 1,
          layers: 1,
          hiddenSize: 1,
          vocabularySize: 256,
          contextLength,
          eosTokenIds: [0],
        },
        determinism: 'single',
        format: 'fp32',
        files: [],
      },
    },
    async tokenizeChat(messages) {
      if (messages.some(({ content }) => content.includes('<invalid>'))) {
        throw new EngineError('chat.invalid', messages.map(({ content }) => content).join())
      }
      return messages.flatMap(({ content }) => [...content].map((character) => character.codePointAt(0) ?? 0))
    },
    tokenizeText: async (text) => [...text].map((character) => character.codePointAt(0) ?? 0),
    generate(promptTokens, generateOptions) {
      const call = { promptTokens, options: generateOptions, emitted: 0 }
      calls.push(call)
      return (async function* events(): AsyncGenerator<EngineEvent> {
        for (const text of answer) {
          await step()
          if (generateOptions.signal?.aborted) throw new EngineError('aborted', 'aborted')
          if (call.emitted === options.failAfter) throw new Error(`engine choked on ${promptTokens.join()}`)
          if (call.emitted === generateOptions.maxTokens) break
          call.emitted += 1
          const chosen = { tokenId: 1, token: text, logprob: -0.5 }
          const top = Array.from({ length: generateOptions.logprobs ?? 0 }, () => chosen)
          yield {
            type: 'token',
            text,
            tokenId: 1,
            ...(generateOptions.logprobs === undefined ? {} : { logprobs: { chosen, top } }),
          }
        }
        yield {
          type: 'done',
          finishReason: call.emitted === generateOptions.maxTokens ? 'length' : 'stop',
          usage: {
            promptTokens: promptTokens.length,
            ...(options.cachedTokens === undefined ? {} : { cachedTokens: options.cachedTokens }),
            completionTokens: call.emitted,
            ...(options.predicted === undefined ? {} : { predicted: options.predicted }),
          },
        }
      })()
    },
    async close() {
      engine.closed = true
    },
  }
  return engine
}

export interface StubPlatform extends Platform {
  readonly reports: Bytes[]
}

/** Report data and host data where an SNP report has them; nothing is signed. */
export function stubPlatform(hostData: Bytes, attest: () => Promise<void> = async () => undefined): StubPlatform {
  const reports: Bytes[] = []
  return {
    name: 'stub',
    kind: 'snp',
    simulated: true,
    hostData,
    reports,
    async attest(reportData) {
      await attest()
      const report = new Uint8Array(1184)
      report[0] = 2
      report.set(reportData, 0x50)
      report.set(hostData, 0xc0)
      reports.push(report)
      return report
    },
    attestDevices: async () => ({ gpus: [], switches: [] }),
    endorsements: async () => [],
  }
}

export interface TestWorker {
  readonly worker: Worker
  readonly engine: StubEngine
  readonly platform: StubPlatform
  /** Every log line, at the most talkative level. */
  readonly lines: string[]
  /** Moves the worker's clock. */
  readonly clock: { at: Date }
  readonly transport: Transport
  /** Seals, sends and opens one request; `trailers` are those of the whole answer. */
  chat(body: unknown, init?: RequestInit): Promise<Response>
}

export async function testWorker(
  options: {
    readonly engine?: StubEngine
    readonly padding?: 'off' | 'tick'
    readonly worker?: Partial<WorkerOptions>
    readonly attest?: () => Promise<void>
  } = {},
): Promise<TestWorker> {
  const engine = options.engine ?? stubEngine()
  const owner = options.worker?.modelOwnerKey
  const choices = {
    padding: options.padding ?? 'tick',
    ...(owner === undefined ? {} : { modelOwnerKey: owner }),
    ...(options.worker?.isolation === undefined ? {} : { isolation: options.worker.isolation }),
  } as const
  const platform = stubPlatform(hostDataFor('snp', engine, MODEL, choices), options.attest)
  const lines: string[] = []
  const clock = { at: NOW }
  const worker = await createWorker({
    ...choices,
    platform,
    engine,
    model: MODEL,
    now: () => clock.at,
    monotonicMs: () => clock.at.getTime(),
    log: createLogger({ write: (line) => lines.push(line), now: () => clock.at }),
    kemIds: [KEM_X25519_HKDF_SHA256],
    ...options.worker,
  })
  const { bundle } = await fetchBundle(worker)
  const configuration = parseSignedKeyConfigurations(bundle.keys)[0]?.configuration
  if (configuration === undefined) throw new Error('no key configuration')
  const transport = createTransport({
    endpoint: new URL('http://worker.example/ohttp'),
    line: fetchLine((input, init) => worker.fetch(new Request(input, init))),
    keyConfiguration: () => configuration,
    now: () => clock.at,
    // A client that keeps to no limit, so that the worker's own are met.
    limits: { maxRequestBytes: 8 * 1024 * 1024 },
  })
  return {
    worker,
    engine,
    platform,
    lines,
    clock,
    transport,
    async chat(body, init = {}) {
      const text = typeof body === 'string' ? body : JSON.stringify(body)
      return (await transport(chatRequest(text, init))).response
    },
  }
}

export function chatRequest(body: string, init: RequestInit = {}): Request {
  return new Request('https://worker.example/v1/chat/completions', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body,
    ...init,
  })
}

export const HELLO = { model: MODEL.id, messages: [{ role: 'user', content: 'hello' }] } as const

export async function fetchBundle(
  worker: Pick<Worker, 'fetch'>,
  nonce: Bytes = crypto.getRandomValues(new Uint8Array(32)),
): Promise<{ bundle: Bundle; claims: Claims }> {
  const url = `http://worker.example/.well-known/attestation?nonce=${toBase64Url(nonce)}`
  const response = await worker.fetch(new Request(url))
  if (response.status !== 200) throw new Error(`status ${response.status}`)
  const bundle = parseBundle(new Uint8Array(await response.arrayBuffer()))
  return { bundle, claims: parseClaims(bundle.claims) }
}

/** The `data` of every event; comments are left out. */
export function eventsOf(text: string): string[] {
  return text
    .split('\n')
    .filter((line) => line.startsWith('data: '))
    .map((line) => line.slice(6))
}
