/**
 * A worker put together: keys, attester, gateway, and the two applications outside and inside the encryption. It has no
 * socket and reads no clock of its own; `serve.ts` gives it both.
 */
import { type Bytes, equalBytes } from '../verifier/protocol/bytes.js'
import { MAX_KEY_LIFETIME_S, MAX_SEALED_REQUEST_BYTES } from '../verifier/protocol/constants.js'
import type { IsolationMode, ModelClaims, PaddingMode } from '../verifier/protocol/statement.js'
import { createApp } from './app.js'
import { createAttester } from './attester.js'
import { createGateway, type GatewayLimits, type Outer } from './channel.js'
import type { OuterAnswer } from './channel-response.js'
import { configurationDigest, encodeHostConfiguration, SOFTWARE_NAME, SOFTWARE_VERSION } from './config.js'
import { createDrain } from './drain.js'
import { WorkerError } from './errors.js'
import type { Device } from './inference/device.js'
import type { Engine } from './inference/engine.js'
import type { LockedEngine } from './inference/locked.js'
import { createKeyLadder } from './keys.js'
import { errorCode, type Logger } from './log.js'
import { createMetrics } from './metrics.js'
import { createModelLock } from './model-key.js'
import { createOpenAIApp } from './openai.js'
import type { Platform } from './platforms/platform.js'
import { createReceiptBook } from './receipts.js'

/** What a host may choose about a worker, beside the model package. */
export interface HostChoices {
  readonly padding: PaddingMode
  /** Where the engine computes; the engine's label says it too. Default: on the CPU. */
  readonly device?: Device
  /**
   * Under `session`, what is computed of a prompt may be kept for minutes, for later requests of the same session that ask for
   * it (PROTOCOL.md P-10.5). Default: `request`, nothing is.
   */
  readonly isolation?: IsolationMode
  /** Raw Ed25519 public key, 32 bytes. */
  readonly operatorKey?: Bytes
  /** Raw Ed25519 public key of the model's owner, 32 bytes: the weights are encrypted and only it may release their key. */
  readonly modelOwnerKey?: Bytes
}

export interface WorkerOptions extends HostChoices {
  /** Root hash of the measured root file system the worker was booted from, 32 bytes. */
  readonly imageDigest?: Bytes
  readonly platform: Platform
  readonly engine: Engine
  /** Where the weights are encrypted: how they are opened. It needs `modelOwnerKey`. */
  readonly locked?: LockedEngine
  readonly model: ModelClaims
  readonly now: () => Date
  /** Milliseconds, monotonic. */
  readonly monotonicMs: () => number
  readonly log: Logger
  /** Life of one HPKE key, in seconds. Default and most: 600. */
  readonly keyLifetimeS?: number
  /** KEMs to publish, preferred first. Default: MLKEM768-X25519 only. */
  readonly kemIds?: readonly number[]
  readonly limits?: Partial<GatewayLimits>
  /** Longest time one answer may take, in milliseconds. */
  readonly answerTimeoutMs?: number
  /** Answers in progress at once. */
  readonly maxAnswers?: number
}

export interface Worker {
  /**
   * Everything that comes from the network. `failed` takes what ends a sealed answer half way: its body then just ends, and whoever
   * sends it must not let that look like the end. Without it the body fails.
   */
  fetch(request: Request, failed?: (error: unknown) => void): Promise<Response>
  /** As `fetch` of a POST to the sealed channel, without web streams: for a server that has the request as it came. */
  sealed(outer: Outer): Promise<OuterAnswer>
  /** To be called every few seconds: rotates keys and drops expired ones even when nobody asks for any (P-5.3). */
  refresh(): Promise<void>
  /**
   * Turns new requests away and waits for the answers in progress: whether all of them ended within `timeoutMs`. The worker stays
   * attested and keeps its keys; `close` is still the caller's to call.
   */
  drain(timeoutMs: number): Promise<boolean>
  /** Of the statement that evidence shows now, 32 bytes; another one when its keys grow old. */
  bootId(): Promise<Bytes>
  /** Stops answering, ends running answers, forgets every key. */
  close(): Promise<void>
}

/** Engine, version and the code that computes, as the configuration and the statement name them. */
export function engineLabel({ info }: Pick<Engine, 'info'>): string {
  return `${info.name} ${info.version}${info.build === undefined ? '' : ` (${info.build})`}`
}

/** The digest that the machine's reports must carry for this worker to run there. */
export function hostDataFor(kind: Platform['kind'], engine: Engine, model: ModelClaims, choices: HostChoices): Bytes {
  return configurationDigest(
    kind,
    encodeHostConfiguration({
      model: {
        id: model.id,
        weightsRoot: model.weightsRoot,
        ...(choices.modelOwnerKey === undefined ? {} : { ownerKey: choices.modelOwnerKey }),
      },
      padding: choices.padding,
      engine: engineLabel(engine),
      ...(choices.device === undefined ? {} : { device: choices.device }),
      ...(choices.isolation === undefined ? {} : { isolation: choices.isolation }),
      ...(choices.operatorKey === undefined ? {} : { operatorKey: choices.operatorKey }),
    }),
  )
}

/** @throws WorkerError `worker.host-data` on a machine launched for another configuration. */
export async function createWorker(options: WorkerOptions): Promise<Worker> {
  const { platform, engine, model, padding, isolation = 'request', operatorKey, log } = options
  const nowS = (): number => options.now().getTime() / 1000
  const configDigest = hostDataFor(platform.kind, engine, model, options)
  if (!equalBytes(configDigest, platform.hostData)) {
    throw new WorkerError(
      'worker.host-data',
      'this machine was launched for another configuration: model, padding, engine and operator must be those of its launch',
    )
  }
  const metrics = createMetrics(options.monotonicMs)
  const keys = await createKeyLadder({
    now: nowS,
    statement: {
      model,
      runtime: {
        name: SOFTWARE_NAME,
        version: SOFTWARE_VERSION,
        engine: engineLabel(engine),
        ...(options.imageDigest === undefined ? {} : { imageDigest: options.imageDigest }),
      },
      serving: {
        padding,
        retention: 'none',
        logging: 'metadata',
        isolation,
        keyLifetimeS: options.keyLifetimeS ?? MAX_KEY_LIFETIME_S,
      },
      configDigest,
      ...(operatorKey === undefined ? {} : { operatorKey }),
    },
    ...(options.kemIds === undefined ? {} : { kemIds: options.kemIds }),
    onEvent: (event, count) => log.info(event, { count }),
  })
  const attester = createAttester({
    platform,
    keys,
    now: nowS,
    onBatch(count, error) {
      if (error !== undefined) return log.error('attestation.failed', { count, code: errorCode(error) })
      metrics.report(count)
      log.info('attestation.batch', { count })
    },
  })
  const { locked, modelOwnerKey } = options
  if ((locked === undefined) !== (modelOwnerKey === undefined)) {
    throw new WorkerError('worker.option', 'encrypted weights need the key of their owner, and only they do')
  }
  const lock =
    locked === undefined || modelOwnerKey === undefined
      ? undefined
      : createModelLock({ engine: locked, ownerKey: modelOwnerKey, now: nowS })
  let open = true
  const drain = createDrain()
  const gateway = createGateway({
    keys: keys.ring,
    now: options.now,
    padding,
    handler: createOpenAIApp({
      engine,
      keys,
      receipts: createReceiptBook({ now: nowS }),
      padding,
      isolation,
      metrics,
      log,
      now: nowS,
      monotonicMs: options.monotonicMs,
      ...(options.answerTimeoutMs === undefined ? {} : { timeoutMs: options.answerTimeoutMs }),
      ...(options.maxAnswers === undefined ? {} : { maxAnswers: options.maxAnswers }),
      ...(lock === undefined ? {} : { lock }),
    }),
    limits: { maxRequestBytes: MAX_SEALED_REQUEST_BYTES, maxPlainResponseBytes: 2 * 1024 * 1024, ...options.limits },
    onRefusal: (code) => log.info('request.refused', { route: 'ohttp', code }),
  })
  const app = createApp({
    attester,
    keys,
    gateway,
    enter: drain.enter,
    ready: () => open && !drain.draining() && lock?.locked() !== true && engine.healthy?.() !== false,
    metrics,
    log,
    monotonicMs: options.monotonicMs,
  })
  return {
    fetch: app.fetch,
    sealed: app.sealed,
    refresh: () => keys.refresh(),
    drain: (timeoutMs) => drain.drain(timeoutMs),
    bootId: async () => (await keys.published()).boot.statement.bootId,
    async close() {
      open = false
      attester.close()
      keys.close()
      await engine.close()
    },
  }
}
