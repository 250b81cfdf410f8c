/**
 * A worker on a socket: loads the model, chooses the platform, listens, and shuts down in order. The clock, the timers,
 * the network and the process's standard error enter here and nowhere below.
 */
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { fileURLToPath } from 'node:url'
import { type Bytes, concat, toBytes } from '../verifier/protocol/bytes.js'
import type { IsolationMode, ModelClaims, PaddingMode } from '../verifier/protocol/statement.js'
import { createWorkerServer } from './channel-socket.js'
import { WorkerError } from './errors.js'
import { DEFAULT_DEVICE, type Device } from './inference/device.js'
import type { Engine } from './inference/engine.js'
import { EngineError } from './inference/errors.js'
import { createLockedEngine, type LockedEngine } from './inference/locked.js'
import { createOrtEngine, describeOrtEngine } from './inference/ort/engine.js'
import { loadModelPackage, modelClaims } from './inference/package.js'
import { loadSealedPackage } from './inference/sealed-package.js'
import { startServerEngine } from './inference/server/start.js'
import { openHostConfiguration } from './launch-configuration.js'
import { createLogger, errorCode, type Logger, type LogLevel } from './log.js'
import { type Machine, openMachine } from './machine.js'
import type { Platform } from './platforms/platform.js'
import { createReadyKeeper } from './platforms/ready-keeper.js'
import { loadSimulatedPlatform } from './platforms/simulated.js'
import { extendRuntimeRegister } from './platforms/tdx-registers.js'
import { createWorker, type HostChoices, hostDataFor, type Worker } from './worker.js'

export interface ServeOptions {
  /** A simulated machine, which protects nothing. Without it, a machine without a TEE is refused. */
  readonly simulated?: boolean
  /** MEASUREMENT of the simulated machine, 48 bytes; for tests of what a verifier does about another one. */
  readonly simulatedLaunchDigest?: Bytes
  /** GPUs of the simulated machine, 0 to 8. Default 1. */
  readonly simulatedGpus?: number
  /** HOST_DATA of the simulated machine, 32 bytes; by default that of the configuration it serves. */
  readonly simulatedHostData?: Bytes
  /**
   * The host's configuration as it was handed over. Its digest is compared with the machine's before it is parsed, and it
   * then decides padding and operator.
   */
  readonly configuration?: Bytes
  /** Root hash of the measured root file system the worker was booted from, 32 bytes; the statement names it. */
  readonly imageDigest?: Bytes
  /** Model package; by default the one that comes with the worker. */
  readonly modelDirectory?: string
  /**
   * An OpenAI-compatible server to launch, which computes the answers in the place of the engine on ONNX Runtime; its
   * configuration as `inference/server/config.ts` has it. It must be given the model package's folder.
   */
  readonly server?: unknown
  /** Raw Ed25519 public key of the model's owner, 32 bytes: the package is sealed, and answers wait for the owner's release. */
  readonly modelOwnerKey?: Bytes
  /**
   * Also says configuration and model in RTMR3 of a TDX guest, for verifiers that pin it; the statement says both anyhow. A
   * register cannot be taken back: a worker that starts a second time in one boot extends it a second time.
   */
  readonly extendRuntimeRegister?: boolean
  /**
   * Relays for endorsements, `unix:PATH`, `tcp:HOST:PORT` or `vsock:CID:PORT`, asked in this order. What comes is stapled unread
   * and trusted by nobody; a machine's GPUs are not admitted without it.
   */
  readonly endorsementRelays?: readonly string[]
  /** File descriptor of a socket to the keeper of the GPUs' ready state, where this process may not set it itself. */
  readonly gpuReadyDescriptor?: number
  /** 0 takes any free port. Default 8080. */
  readonly port?: number
  /** Default 127.0.0.1. */
  readonly host?: string
  /** Default `tick`. `off` lets anyone on the network path count the tokens of an answer. */
  readonly padding?: PaddingMode
  /**
   * Where the engine on ONNX Runtime computes. Default `cpu`. On another device answers' bits depend on what else runs, and receipts
   * say `none`; what is computed there is as protected as that device is, which this worker's evidence covers only for
   * the GPUs it lists.
   */
  readonly device?: Device
  /** Default `request`. Under `session` a prompt may be kept for later requests of its own session; a server never does. */
  readonly isolation?: IsolationMode
  /** Raw Ed25519 public key of the operator, 32 bytes. */
  readonly operatorKey?: Bytes
  /** KEMs to publish, preferred first. Default: MLKEM768-X25519 only. */
  readonly kemIds?: readonly number[]
  /** Default `error`: one line for each failure and nothing else. */
  readonly logLevel?: LogLevel
  /** Receives log lines. Default: standard error. */
  readonly writeLog?: (line: string) => void
  /** In the place of the engine on ONNX Runtime and its model package; for tests. */
  readonly engine?: { readonly engine: Engine; readonly model: ModelClaims }
}

export interface RunningWorker {
  readonly url: string
  readonly platform: Pick<Platform, 'name' | 'kind' | 'simulated'>
  /** `sealed`: at the start no chat is answered, because the weights wait for their key. */
  readonly model: { readonly id: string; readonly title: string; readonly sealed: boolean }
  readonly padding: PaddingMode
  /** Only of a simulated machine: its throw-away roots, in PEM. */
  readonly rootsPem?: string
  /** Takes no new prompts and waits up to that long for the answers in progress; whether all of them ended. */
  drain(timeoutMs?: number): Promise<boolean>
  /** Of the statement that evidence shows now, 32 bytes. */
  bootId(): Promise<Bytes>
  /** Ends running answers, forgets the keys, closes the socket. */
  close(): Promise<void>
}

export const DEFAULT_PORT = 8080
const REFRESH_INTERVAL_MS = 5000
const CLOSE_GRACE_MS = 2000
/** Longer than almost every answer takes. */
const DEFAULT_DRAIN_MS = 60_000
/** Longer than an unstreamed answer may take, because nothing is written until it is whole. */
const IDLE_TIMEOUT_MS = 330_000

/** @throws WorkerError, one sentence for whoever typed the command. */
export async function serve(options: ServeOptions = {}): Promise<RunningWorker> {
  const now = (): Date => new Date()
  const monotonicMs = (): number => performance.now()
  const log = createLogger({
    write: options.writeLog ?? ((line) => void process.stderr.write(line)),
    level: options.logLevel ?? 'error',
    now,
  })
  // Without a TEE nothing is loaded: the refusal should not take the time of a model.
  const machine =
    options.simulated === true
      ? undefined
      : await openMachine({
          relays: options.endorsementRelays ?? [],
          now,
          log,
          ...(options.gpuReadyDescriptor === undefined
            ? {}
            : { setReady: createReadyKeeper(options.gpuReadyDescriptor) }),
        })
  try {
    return await serveOn(machine, options, { now, monotonicMs, log })
  } catch (error) {
    await machine?.close()
    throw error
  }
}

interface World {
  readonly now: () => Date
  readonly monotonicMs: () => number
  readonly log: Logger
}

async function serveOn(
  real: Machine | undefined,
  options: ServeOptions,
  { now, monotonicMs, log }: World,
): Promise<RunningWorker> {
  const { host = '127.0.0.1', port = DEFAULT_PORT } = options
  const choices = hostChoices(options, real?.platform)
  if (options.server !== undefined && choices.isolation === 'session') {
    throw new WorkerError(
      'worker.option',
      'no prompt is kept by a server: isolation session is for the built-in engine',
    )
  }
  if (options.server !== undefined && choices.device !== undefined && choices.device !== DEFAULT_DEVICE) {
    throw new WorkerError('worker.option', 'a server chooses its device itself: device is for the built-in engine')
  }
  const directory = options.modelDirectory ?? defaultModelDirectory()
  const loaded: LoadedModel =
    options.engine ??
    (options.server === undefined
      ? await loadModel(directory, choices.modelOwnerKey !== undefined, choices.device)
      : await loadServer(options.server, directory, options.simulated === true))
  const { engine, model, locked } = loaded
  const simulated =
    real !== undefined
      ? undefined
      : await loadSimulatedPlatform({
          hostData: options.simulatedHostData ?? hostDataFor('snp', engine, model, choices),
          now,
          ...(options.simulatedGpus === undefined ? {} : { gpus: options.simulatedGpus }),
          ...(options.simulatedLaunchDigest === undefined ? {} : { launchDigest: options.simulatedLaunchDigest }),
        })
  const machine = real?.platform ?? simulated
  if (machine === undefined) throw new WorkerError('worker.no-tee', 'no platform')
  const platform =
    options.extendRuntimeRegister === true ? await withRuntimeEvents(machine, model.weightsRoot) : machine

  const worker = await createWorker({
    ...choices,
    platform,
    engine,
    model,
    ...(locked === undefined ? {} : { locked }),
    ...(options.imageDigest === undefined ? {} : { imageDigest: options.imageDigest }),
    now,
    monotonicMs,
    log,
    ...(options.kemIds === undefined ? {} : { kemIds: options.kemIds }),
  })
  const server = await listen(worker, log, host, port).catch(async (error: unknown) => {
    await worker.close()
    throw error
  })
  const timer = setInterval(() => {
    worker.refresh().catch((error: unknown) => log.error('request.failed', { code: errorCode(error) }))
  }, REFRESH_INTERVAL_MS)
  timer.unref()
  const address = server.address() as AddressInfo
  log.info('worker.started', { port: address.port, platform: platform.name })

  let closing: Promise<void> | undefined
  return {
    url: `http://${urlHost(host)}:${address.port}`,
    platform: { name: platform.name, kind: platform.kind, simulated: platform.simulated },
    model: { id: model.id, title: engine.info.manifest.title, sealed: locked !== undefined },
    padding: choices.padding,
    ...(simulated === undefined ? {} : { rootsPem: simulated.rootsPem }),
    async drain(timeoutMs = DEFAULT_DRAIN_MS) {
      const ended = await worker.drain(timeoutMs)
      log.info('worker.drained')
      return ended
    },
    bootId: () => worker.bootId(),
    close() {
      closing ??= shutDown(server, worker, timer, log).finally(() => real?.close())
      return closing
    },
  }
}

/** @throws WorkerError `worker.option` on a machine without runtime registers. */
async function withRuntimeEvents(machine: Platform, model: Bytes): Promise<Platform> {
  const events =
    machine.kind === 'tdx' ? await extendRuntimeRegister({ configuration: machine.hostData, model }) : undefined
  if (events === undefined) {
    throw new WorkerError('worker.option', 'this machine offers no runtime registers: it takes TDX and Linux 6.16')
  }
  const { eventLog } = machine
  return eventLog === undefined
    ? machine
    : { ...machine, eventLog: toBytes(concat(eventLog, ...events.map(({ record }) => record))) }
}

/** From the configuration this machine was launched for, where there is one; otherwise from whoever typed the command. */
function hostChoices(options: ServeOptions, real: Platform | undefined): HostChoices {
  const { configuration, padding = 'tick', device, isolation, operatorKey, modelOwnerKey, simulatedHostData } = options
  if (configuration === undefined) {
    return {
      padding,
      ...(device === undefined ? {} : { device }),
      ...(isolation === undefined ? {} : { isolation }),
      ...(operatorKey === undefined ? {} : { operatorKey }),
      ...(modelOwnerKey === undefined ? {} : { modelOwnerKey }),
    }
  }
  const launch = real ?? (simulatedHostData && { kind: 'snp' as const, hostData: simulatedHostData })
  if (launch === undefined) {
    throw new WorkerError(
      'worker.option',
      'a configuration needs the digest it was launched with: give simulatedHostData',
    )
  }
  return openHostConfiguration(configuration, launch)
}

/** `enclave/models/demo` of the repository, whether this file runs from source or from `dist`. */
export function defaultModelDirectory(): string {
  const candidates = ['./models/demo', '../../enclave/models/demo'].map((path) =>
    fileURLToPath(new URL(path, import.meta.url)),
  )
  return candidates.find((path) => existsSync(path)) ?? (candidates[0] as string)
}

interface LoadedModel {
  readonly engine: Engine
  readonly model: ModelClaims
  readonly locked?: LockedEngine
}

async function loadModel(directory: string, sealed: boolean, device: Device = DEFAULT_DEVICE): Promise<LoadedModel> {
  try {
    if (sealed) {
      const modelPackage = await loadSealedPackage(directory)
      const locked = createLockedEngine(await describeOrtEngine(modelPackage.manifest, device), async (key) =>
        createOrtEngine(await modelPackage.open(key), { device }),
      )
      return { engine: locked.engine, model: modelClaims(modelPackage), locked }
    }
    const modelPackage = await loadModelPackage(directory)
    return { engine: await createOrtEngine(modelPackage, { device }), model: modelClaims(modelPackage) }
  } catch (cause) {
    if (!(cause instanceof EngineError)) throw cause
    if (cause.code === 'device.unavailable') throw new WorkerError('worker.device', cause.message, { cause })
    throw new WorkerError('worker.model', `the model package in ${directory} cannot be used: ${cause.message}`, {
      cause,
    })
  }
}

async function loadServer(config: unknown, directory: string, simulated: boolean): Promise<LoadedModel> {
  try {
    const { engine, modelPackage } = await startServerEngine(directory, config, simulated)
    return { engine, model: modelClaims(modelPackage) }
  } catch (cause) {
    if (!(cause instanceof EngineError)) throw cause
    throw new WorkerError('worker.model', `the inference server cannot be used: ${cause.message}`, { cause })
  }
}

async function listen(worker: Worker, log: Logger, host: string, port: number): Promise<Server> {
  const server = createWorkerServer(worker, log, {
    // Slow senders hold a socket, not a prompt: nothing is handled before it is whole.
    headersTimeout: 10_000,
    requestTimeout: 60_000,
    keepAliveTimeout: 5000,
    maxHeaderSize: 16 * 1024,
  })
  // A reader that stopped reading holds a place until then.
  server.setTimeout(IDLE_TIMEOUT_MS)
  try {
    server.listen(port, host)
    // Rejects with the server's error, if that comes first.
    await once(server, 'listening')
    server.on('error', (error) => log.error('request.failed', { code: errorCode(error) }))
    return server
  } catch (cause) {
    throw portError(cause, host, port)
  }
}

async function shutDown(server: Server, worker: Worker, timer: NodeJS.Timeout, log: Logger): Promise<void> {
  log.info('worker.stopping')
  clearInterval(timer)
  const closed = once(server, 'close')
  server.close()
  await worker.close()
  server.closeIdleConnections()
  const grace = setTimeout(() => server.closeAllConnections(), CLOSE_GRACE_MS)
  await closed
  clearTimeout(grace)
  log.info('worker.stopped')
}

function portError(cause: unknown, host: string, port: number): WorkerError {
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined
  const advice =
    code === 'EADDRINUSE'
      ? `port ${port} on ${host} is in use: stop what listens there, or choose another with --port`
      : code === 'EACCES'
        ? `port ${port} needs privileges this process does not have: choose one above 1023 with --port`
        : `cannot listen on ${host} port ${port}: check --host and --port`
  return new WorkerError('worker.port', advice, { cause })
}

function urlHost(host: string): string {
  return host.includes(':') ? `[${host}]` : host
}
