/**
 * Workers for measuring the channel: the demo model and everything between it and the seal, on a machine that attests
 * nothing. And the same answers in the clear, which no worker can be told to give.
 */
import { once } from 'node:events'
import type { Server, ServerOptions } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createAdaptorServer } from '@hono/node-server'
import { createWorkerServer } from '../../enclave/channel-socket.js'
import { complete } from '../../enclave/completion.js'
import { embed, readEmbeddings } from '../../enclave/embeddings.js'
import { readChat, readCompletion } from '../../enclave/generation.js'
import type { Engine } from '../../enclave/inference/engine.js'
import { createOrtEngine } from '../../enclave/inference/ort/engine.js'
import { loadModelPackage, modelClaims } from '../../enclave/inference/package.js'
import { createKeyLadder } from '../../enclave/keys.js'
import { createLogger } from '../../enclave/log.js'
import { createMetrics } from '../../enclave/metrics.js'
import { errorBody, openAIErrorOf } from '../../enclave/openai-error.js'
import type { Platform } from '../../enclave/platforms/platform.js'
import { createReceiptBook } from '../../enclave/receipts.js'
import { defaultModelDirectory } from '../../enclave/serve.js'
import { createWorker, engineLabel, hostDataFor, type Worker } from '../../enclave/worker.js'
import { toBytes } from '../../verifier/protocol/bytes.js'
import { type KeyConfiguration, parseKeyConfigurations } from '../../verifier/protocol/ohttp-keys.js'
import type { ModelClaims, PaddingMode } from '../../verifier/protocol/statement.js'

export interface DemoModel {
  readonly engine: Engine
  readonly model: ModelClaims
}

/**
 * The demo model, or the package in `SUBROSA_BENCH_MODEL`: what the channel adds to a token is the same for every model, and a
 * smaller share the longer a token takes.
 */
export async function loadDemoModel(): Promise<DemoModel> {
  const modelPackage = await loadModelPackage(process.env['SUBROSA_BENCH_MODEL'] ?? defaultModelDirectory())
  return { engine: await createOrtEngine(modelPackage), model: modelClaims(modelPackage) }
}

export interface BenchWorker {
  readonly worker: Worker
  readonly configuration: KeyConfiguration
  /** Reports the machine has made. */
  readonly reports: () => number
}

const now = (): Date => new Date()
const nowS = (): number => Date.now() / 1000
const monotonicMs = (): number => performance.now()
const log = createLogger({ write: () => undefined, now })

/** A worker whose machine makes empty reports, each in `attestMs`. It protects nothing and no client accepts it. */
export async function createBenchWorker(
  { engine, model }: DemoModel,
  padding: PaddingMode,
  options: { readonly attestMs?: number; readonly keyLifetimeS?: number } = {},
): Promise<BenchWorker> {
  let reports = 0
  const platform: Platform = {
    name: 'bench',
    kind: 'snp',
    simulated: true,
    hostData: hostDataFor('snp', engine, model, { padding }),
    async attest() {
      reports += 1
      await new Promise((resolve) => setTimeout(resolve, options.attestMs ?? 0))
      return new Uint8Array(1184)
    },
    attestDevices: async () => ({ gpus: [], switches: [] }),
    endorsements: async () => [],
  }
  const worker = await createWorker({
    platform,
    engine,
    model,
    padding,
    now,
    monotonicMs,
    log,
    maxAnswers: 1000,
    ...(options.keyLifetimeS === undefined ? {} : { keyLifetimeS: options.keyLifetimeS }),
  })
  const keys = await worker.fetch(new Request('http://worker/.well-known/ohttp-keys'))
  const [configuration] = parseKeyConfigurations(new Uint8Array(await keys.arrayBuffer()))
  if (configuration === undefined) throw new Error('the worker publishes no key')
  return { worker, configuration, reports: () => reports }
}

/**
 * The same parsing, engine, padding and receipts with nothing around them: for one side of a comparison, and to be asked
 * by a worker as if it were another's server.
 */
export async function createPlainServer(
  { engine, model }: DemoModel,
  padding: PaddingMode,
): Promise<(request: Request) => Promise<Response>> {
  const keys = await createKeyLadder({
    now: nowS,
    statement: {
      model,
      runtime: { name: 'bench', version: '0.0.0', engine: engineLabel(engine) },
      serving: { padding, retention: 'none', logging: 'metadata', isolation: 'request', keyLifetimeS: 600 },
      configDigest: new Uint8Array(32),
    },
  })
  const { boot } = await keys.published()
  const receipts = createReceiptBook({ now: nowS })
  const channel = {
    exportSecret: async (_: string, length: number) => new Uint8Array(length),
    configuration: new Uint8Array(32),
  }
  const deps = { engine, padding, metrics: createMetrics(monotonicMs), log, now: nowS, timeoutMs: 300_000 }
  const answer = async (request: Request): Promise<Response> => {
    const { pathname } = new URL(request.url)
    if (pathname === '/health') return new Response('{}')
    const body = toBytes(new Uint8Array(await request.arrayBuffer()))
    const receipt = await receipts.open(channel, boot, body)
    const { statementDigest } = boot
    const { signal } = request
    if (pathname === '/v1/embeddings') {
      return embed(deps, { request: await readEmbeddings(engine, body), receipt, session: undefined, signal })
    }
    return complete(deps, {
      request: await (pathname === '/v1/completions' ? readCompletion : readChat)(engine, body),
      receipt,
      statementDigest,
      signal,
      release: () => undefined,
    })
  }
  return async (request) => {
    try {
      return await answer(request)
    } catch (error) {
      const refusal = openAIErrorOf(error)
      return Response.json(errorBody(refusal), { status: refusal.status })
    }
  }
}

/** As a provider's worker listens, on loopback, for as long as the process lives. */
export function workerOnLoopback(worker: Worker, options: ServerOptions = {}): Promise<URL> {
  return onLoopback(createWorkerServer(worker, log, options))
}

/** A server in the clear, on loopback, for as long as the process lives. */
export function plainOnLoopback(fetch: (request: Request) => Promise<Response>): Promise<URL> {
  return onLoopback(createAdaptorServer({ fetch, overrideGlobalObjects: false }) as Server)
}

async function onLoopback(server: Server): Promise<URL> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  server.unref()
  return new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`)
}
