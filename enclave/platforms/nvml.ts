/**
 * NVIDIA GPUs through the management library of their driver (`libnvidia-ml.so.1`): mode, evidence over a nonce, and the ready
 * state. One call at a time, each with a deadline, on another thread: these calls wait for the GPU.
 *
 * Driver version, mode and ready state are the driver's own words, which no evidence covers: the worker acts on them because
 * the driver is part of its measured image. Evidence goes out as it came.
 *
 * Not here: NVSwitches (libnvidia-nscq). Boards in protected PCIe mode need their evidence, so verifiers refuse them.
 */
import { type Bytes, equalBytes, toHex } from '../../verifier/protocol/bytes.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { encodeGpuEvidence } from '../../verifier/protocol/gpu-evidence.js'
import { within } from '../deadline.js'
import { WorkerError } from '../errors.js'
import { derItems } from './certificate-table.js'
import { exists } from './kernel-files.js'
import { loadLibrary, type NativeLibrary } from './native.js'
import {
  CERTIFICATE,
  ENVIRONMENTS,
  PERSISTENCE_ENABLED,
  PROTOTYPES,
  READY,
  REPORT,
  RETURN_CODES,
  SETTINGS,
  STATE,
} from './nvml-layout.js'

const LIBRARY = 'libnvidia-ml.so.1'
/** Present wherever the kernel driver is loaded. */
const DRIVER_FILE = '/proc/driver/nvidia/version'
const CALL_TIMEOUT_MS = 5000
const VERSION_BYTES = 80
const MAX_DEVICES = 16
/** The request inside an SPDM transcript: version, code, two parameters, then the nonce. */
const TRANSCRIPT_NONCE_AT = 4

/** How the driver says the system runs. Enumerations of nvml.h, in words. */
export interface ConfidentialMode {
  readonly environment: string
  readonly confidential: boolean
  readonly devTools: boolean
  readonly multiGpu: 'none' | 'protected-pcie' | 'other'
}

export interface Nvml {
  driverVersion(): Promise<string>
  /** Handles are kept: a GPU that vanishes later is an error and not a smaller number. */
  readonly count: number
  mode(): Promise<ConfidentialMode>
  /** Keeps the driver's state when no program uses the GPU; in confidential mode a GPU starts once for each reset. */
  persistent(index: number): Promise<boolean>
  makePersistent(index: number): Promise<void>
  /** Whether the GPUs accept work. One state for all of them. */
  ready(): Promise<boolean>
  setReady(ready: boolean): Promise<void>
  /** Evidence over a 32-byte nonce, encoded as bundles carry it. */
  evidence(index: number, nonce: Bytes): Promise<Bytes>
  close(): Promise<void>
}

export interface NvmlOptions {
  /** Default: the system's. */
  readonly library?: string
  /** Whether the kernel driver is there, as a library that is missing then is a broken machine and not one without GPUs. */
  readonly driverLoaded?: boolean
  readonly timeoutMs?: number
  /** Sets the ready state in the place of this process, and returns the driver's answer to it. May throw. */
  readonly setReady?: (ready: boolean) => Promise<number>
}

/**
 * Undefined on a machine without an NVIDIA driver.
 * @throws WorkerError `worker.gpu` when there is a driver and it does not answer, or answers that it has no GPU.
 */
export async function openNvml(options: NvmlOptions = {}): Promise<Nvml | undefined> {
  const { library = LIBRARY, timeoutMs = CALL_TIMEOUT_MS } = options
  let native: NativeLibrary
  try {
    native = loadLibrary(library, PROTOTYPES)
  } catch (cause) {
    if (!(options.driverLoaded ?? (await exists(DRIVER_FILE)))) return undefined
    throw new WorkerError('worker.gpu', `the NVIDIA driver is loaded but ${library} is not there`, { cause })
  }
  const call = serialised(native, timeoutMs)
  await call('nvmlInit_v2')
  try {
    const count = await integer(call, 'nvmlDeviceGetCount_v2')
    if (count === 0 || count > MAX_DEVICES) {
      throw new WorkerError('worker.gpu', `the NVIDIA driver counts ${count} GPUs, expected 1 to ${MAX_DEVICES}`)
    }
    const handles: bigint[] = []
    for (let index = 0; index < count; index++) {
      const out = new Uint8Array(8)
      await call('nvmlDeviceGetHandleByIndex_v2', index, out)
      handles.push(new DataView(out.buffer).getBigUint64(0, true))
    }
    return nvmlOver(call, handles, options.setReady)
  } catch (error) {
    await call('nvmlShutdown').catch(() => undefined)
    throw error
  }
}

type FunctionName = keyof typeof PROTOTYPES
type Call = (name: FunctionName, ...args: readonly (number | bigint | Bytes)[]) => Promise<void>

/** @throws WorkerError `worker.gpu` naming function and reason. */
function serialised(native: NativeLibrary, timeoutMs: number): Call {
  let last: Promise<unknown> = Promise.resolve()
  let hanging = false
  const late = (name: string) => (): WorkerError => {
    hanging = true
    return new WorkerError('worker.gpu', `${name}: the GPU driver gave no answer within ${timeoutMs} ms`)
  }
  return (name, ...args) => {
    const next = last.then(async () => {
      // What hangs is not interrupted; another call would only wait behind it on one more thread.
      if (hanging) throw new WorkerError('worker.gpu', `${name}: the GPU driver has stopped answering`)
      const { value } = await within(native.call(name, ...args), timeoutMs, late(name))
      requireSuccess(name, value)
    })
    last = next.catch(() => undefined)
    return next
  }
}

function requireSuccess(name: FunctionName, value: number): void {
  if (value !== 0) throw new WorkerError('worker.gpu', `${name}: ${RETURN_CODES[value] ?? `error ${value}`}`)
}

function nvmlOver(call: Call, handles: readonly bigint[], setReady: NvmlOptions['setReady']): Nvml {
  const handleOf = (index: number): bigint => {
    const handle = handles[index]
    if (handle === undefined) throw new RangeError(`expected a GPU index below ${handles.length}, got ${index}`)
    return handle
  }
  return {
    count: handles.length,
    async driverVersion() {
      const text = new Uint8Array(VERSION_BYTES)
      await call('nvmlSystemGetDriverVersion', text, VERSION_BYTES)
      return new TextDecoder('latin1').decode(text).split('\0')[0] ?? ''
    },
    mode: () => readMode(call),
    async persistent(index) {
      return (await integer(call, 'nvmlDeviceGetPersistenceMode', handleOf(index))) === PERSISTENCE_ENABLED
    },
    makePersistent: (index) => call('nvmlDeviceSetPersistenceMode', handleOf(index), PERSISTENCE_ENABLED),
    async ready() {
      return (await integer(call, 'nvmlSystemGetConfComputeGpusReadyState')) === READY
    },
    async setReady(ready) {
      const name = 'nvmlSystemSetConfComputeGpusReadyState'
      if (setReady === undefined) return call(name, ready ? READY : 0)
      requireSuccess(name, await setReady(ready))
    },
    async evidence(index, nonce) {
      const handle = handleOf(index)
      const report = await readReport(call, handle, nonce)
      return encodeGpuEvidence({ report, chain: await readChain(call, handle) })
    },
    close: () => call('nvmlShutdown'),
  }
}

/** Settings know the multi-GPU mode; drivers without them have the older structure. */
async function readMode(call: Call): Promise<ConfidentialMode> {
  const settings = new Uint8Array(SETTINGS.bytes)
  const view = new DataView(settings.buffer)
  view.setUint32(SETTINGS.versionAt, SETTINGS.version, true)
  try {
    await call('nvmlSystemGetConfComputeSettings', settings)
    const multiGpu = view.getUint32(SETTINGS.multiGpuMode, true)
    return modeOf(view, SETTINGS, multiGpu === 0 ? 'none' : multiGpu === 1 ? 'protected-pcie' : 'other')
  } catch {
    const state = new Uint8Array(STATE.bytes)
    await call('nvmlSystemGetConfComputeState', state)
    return modeOf(new DataView(state.buffer), STATE, 'none')
  }
}

function modeOf(
  view: DataView,
  at: Pick<typeof STATE | typeof SETTINGS, 'environment' | 'ccFeature' | 'devToolsMode'>,
  multiGpu: ConfidentialMode['multiGpu'],
): ConfidentialMode {
  return {
    environment: ENVIRONMENTS[view.getUint32(at.environment, true)] ?? 'unknown',
    confidential: view.getUint32(at.ccFeature, true) === 1,
    // Anything but off is on: a value of tomorrow is no reason to trust.
    devTools: view.getUint32(at.devToolsMode, true) !== 0,
    multiGpu,
  }
}

async function readReport(call: Call, handle: bigint, nonce: Bytes): Promise<Bytes> {
  if (nonce.length !== REPORT.nonceBytes) {
    throw new RangeError(`nonce: expected ${REPORT.nonceBytes} bytes, got ${nonce.length}`)
  }
  const buffer = new Uint8Array(REPORT.bytes)
  buffer.set(nonce, REPORT.nonce)
  await call('nvmlDeviceGetConfComputeGpuAttestationReport', handle, buffer)
  const report = sized(buffer, REPORT.reportSize, REPORT.report, REPORT.reportMaxBytes, 'report')
  const signed = report.slice(TRANSCRIPT_NONCE_AT, TRANSCRIPT_NONCE_AT + REPORT.nonceBytes)
  if (!equalBytes(signed, nonce)) {
    throw new WorkerError(
      'worker.gpu',
      `the GPU answered for the nonce ${toHex(signed)} instead of the one it was given`,
    )
  }
  return report
}

async function readChain(call: Call, handle: bigint): Promise<readonly Bytes[]> {
  const buffer = new Uint8Array(CERTIFICATE.bytes)
  await call('nvmlDeviceGetConfComputeGpuCertificate', handle, buffer)
  const { attestationSize, attestation, attestationMaxBytes } = CERTIFICATE
  const pem = sized(buffer, attestationSize, attestation, attestationMaxBytes, 'certificate chain')
  let chain: readonly Bytes[] = []
  try {
    chain = derItems(pem)
  } catch (error) {
    if (!(error instanceof FormatError)) throw error
  }
  if (chain.length === 0) throw new WorkerError('worker.gpu', 'the GPU gave no certificates')
  return chain
}

/** Exactly as many bytes as the driver says: one more would be no report any more. */
function sized(buffer: Bytes, sizeAt: number, at: number, max: number, what: string): Bytes {
  const size = new DataView(buffer.buffer).getUint32(sizeAt, true)
  if (size === 0 || size > max) throw new WorkerError('worker.gpu', `the GPU gave a ${what} of ${size} bytes`)
  return buffer.slice(at, at + size)
}

async function integer(call: Call, name: FunctionName, ...args: readonly (number | bigint)[]): Promise<number> {
  const out = new Uint8Array(4)
  await call(name, ...args, out)
  return new DataView(out.buffer).getUint32(0, true)
}
