/**
 * ONNX Runtime's C interface (onnxruntime_c_api.h, API version 22), as much of it as running one decoder takes.
 *
 * The public binding copies every output of a run, so the whole key-value cache at each token, and computes on the event
 * loop's thread. Here inputs and outputs are our own memory, and a run happens on a thread of the foreign-function library.
 * Only importer of it. The function table is append-only: an index never changes its meaning.
 */
// First, and kept first: see there.
import './no-telemetry.js'
import koffi from 'koffi'
import { EngineError } from '../errors.js'
import { RUNTIME_VERSION, type RuntimeLibrary } from './library.js'

type KoffiFunction = ReturnType<ReturnType<typeof koffi.load>['func']>

/** A pointer of the runtime's. */
export type Handle = unknown

const API_VERSION = 22

/** For the threads that runs happen on: drivers of devices compile their programs there, which the default is too small for. */
const RUN_STACK_BYTES = 8 * 1024 * 1024
koffi.config({ async_stack_size: RUN_STACK_BYTES })

/** OrtApi: position and C prototype of each function in use. All that return `status` return NULL for success. */
const TABLE = {
  getErrorMessage: [2, 'const char *OrtGetErrorMessage(void *status)'],
  createEnv: [3, 'void *OrtCreateEnv(int level, const char *id, _Out_ void **out)'],
  createSessionFromArray: [
    8,
    'void *OrtCreateSessionFromArray(void *env, void *data, size_t length, void *options, _Out_ void **out)',
  ],
  run: [
    9,
    'void *OrtRun(void *session, void *options, void *inputNames, void *inputs, size_t inputCount, void *outputNames, size_t outputCount, void *outputs)',
  ],
  createSessionOptions: [10, 'void *OrtCreateSessionOptions(_Out_ void **out)'],
  setIntraOpThreads: [24, 'void *OrtSetIntraOpNumThreads(void *options, int threads)'],
  setInterOpThreads: [25, 'void *OrtSetInterOpNumThreads(void *options, int threads)'],
  createRunOptions: [39, 'void *OrtCreateRunOptions(_Out_ void **out)'],
  setTerminate: [46, 'void *OrtRunOptionsSetTerminate(void *options)'],
  unsetTerminate: [47, 'void *OrtRunOptionsUnsetTerminate(void *options)'],
  createTensorOn: [
    48,
    'void *OrtCreateTensorAsOrtValue(void *allocator, void *shape, size_t rank, int type, _Out_ void **out)',
  ],
  createTensor: [
    49,
    'void *OrtCreateTensorWithDataAsOrtValue(void *info, void *data, size_t length, void *shape, size_t rank, int type, _Out_ void **out)',
  ],
  tensorAddress: [51, 'void *OrtGetTensorMutableData(void *value, _Out_ void **out)'],
  createMemoryInfo: [
    68,
    'void *OrtCreateMemoryInfo(const char *name, int allocator, int id, int memory, _Out_ void **out)',
  ],
  createCpuMemoryInfo: [69, 'void *OrtCreateCpuMemoryInfo(int allocator, int memory, _Out_ void **out)'],
  releaseStatus: [93, 'void OrtReleaseStatus(void *status)'],
  releaseMemoryInfo: [94, 'void OrtReleaseMemoryInfo(void *info)'],
  releaseSession: [95, 'void OrtReleaseSession(void *session)'],
  releaseValue: [96, 'void OrtReleaseValue(void *value)'],
  releaseRunOptions: [97, 'void OrtReleaseRunOptions(void *options)'],
  releaseSessionOptions: [100, 'void OrtReleaseSessionOptions(void *options)'],
  addConfigEntry: [130, 'void *OrtAddSessionConfigEntry(void *options, const char *key, const char *value)'],
  createAllocator: [131, 'void *OrtCreateAllocator(void *session, void *info, _Out_ void **out)'],
  releaseAllocator: [132, 'void OrtReleaseAllocator(void *allocator)'],
  appendCuda: [204, 'void *OrtSessionOptionsAppendExecutionProvider_CUDA_V2(void *options, void *cudaOptions)'],
  createCudaOptions: [205, 'void *OrtCreateCUDAProviderOptions(_Out_ void **out)'],
  updateCudaOptions: [206, 'void *OrtUpdateCUDAProviderOptions(void *options, void *keys, void *values, size_t count)'],
  releaseCudaOptions: [208, 'void OrtReleaseCUDAProviderOptions(void *options)'],
  appendProvider: [
    216,
    'void *OrtSessionOptionsAppendExecutionProvider(void *options, const char *name, void *keys, void *values, size_t count)',
  ],
  addExternalInitializers: [
    279,
    'void *OrtAddExternalInitializersFromFilesInMemory(void *options, void *names, void *buffers, void *lengths, size_t count)',
  ],
} as const satisfies Record<string, readonly [number, string]>

type Functions = Record<keyof typeof TABLE, KoffiFunction>

/** Shared by every session of the process. */
export interface Runtime {
  readonly functions: Functions
  readonly env: Handle
  readonly cpuMemory: Handle
  /** @throws EngineError with the runtime's own words, which name operators and shapes and never contents. */
  check(status: Handle): void
}

/** Loaded once and never unloaded: the next call after an unload would jump into memory that is gone. */
let loaded: { readonly path: string; readonly runtime: Runtime; readonly library: object } | undefined

/** @throws EngineError `engine.failed` when the library is not of the pinned version. */
export function loadRuntime({ path }: RuntimeLibrary): Runtime {
  if (loaded?.path === path) return loaded.runtime
  const library = koffi.load(path)
  const base: unknown = library.func('void *OrtGetApiBase()')()
  // OrtApiBase: GetApi, then GetVersionString.
  const version: unknown = pointerTo(base, 1, 'const char *OrtGetVersionString()')()
  if (version !== RUNTIME_VERSION) {
    throw new EngineError('engine.failed', `expected ONNX Runtime ${RUNTIME_VERSION}, got ${String(version)}`)
  }
  const api: unknown = pointerTo(base, 0, 'void *OrtGetApi(uint32_t version)')(API_VERSION)
  const functions = Object.fromEntries(
    Object.entries(TABLE).map(([name, [index, prototype]]) => [name, pointerTo(api, index, prototype)]),
  ) as Functions

  const check = (status: Handle): void => {
    if (status === null) return
    const message: unknown = functions.getErrorMessage(status)
    functions.releaseStatus(status)
    throw new EngineError('engine.failed', `the runtime refused: ${String(message).slice(0, 400)}`)
  }
  const env = created(check, (out) => functions.createEnv(SILENT, 'subrosa', out))
  const cpuMemory = created(check, (out) => functions.createCpuMemoryInfo(ARENA, DEFAULT_MEMORY, out))
  const runtime: Runtime = { functions, env, cpuMemory, check }
  loaded = { path, runtime, library }
  return runtime
}

/** OrtLoggingLevel FATAL: the runtime would otherwise print each interrupted run. */
const SILENT = 4
/** OrtDeviceAllocator and OrtArenaAllocator. */
export const DEVICE_ALLOCATOR = 0
const ARENA = 1
/** OrtMemTypeDefault. */
export const DEFAULT_MEMORY = 0

/** What a function that fills an out parameter made. */
export function created(check: (status: Handle) => void, call: (out: unknown[]) => Handle): Handle {
  const out: unknown[] = [null]
  check(call(out))
  return out[0]
}

/** _SC_LEVEL2_CACHE_SIZE of glibc (bits/confname.h). */
const LEVEL2_CACHE_SIZE = 191

/** Size in bytes of the second-level cache, as the runtime asks for it; undefined elsewhere than on Linux, where the runtime needs glibc too. */
export function levelTwoCacheBytes(): number | undefined {
  if (process.platform !== 'linux') return undefined
  return Number(koffi.load('libc.so.6').func('long sysconf(int name)')(LEVEL2_CACHE_SIZE))
}

function pointerTo(table: unknown, index: number, prototype: string): KoffiFunction {
  const pointer: unknown = koffi.decode(table, index * 8, 'void *')
  return koffi.decode(pointer, koffi.proto(prototype)) as KoffiFunction
}

/** Address of the memory behind a view. The caller keeps the view alive for as long as the runtime may use it. */
export function addressOf(view: ArrayBufferView | Handle): bigint {
  return BigInt(koffi.address(view))
}

/** Names as the runtime takes them: an array of pointers to zero-terminated text. */
export interface Names {
  readonly pointers: BigUint64Array
  readonly texts: readonly Uint8Array[]
}

export function bindNames(names: readonly string[]): Names {
  const texts = names.map((name) => new Uint8Array(Buffer.from(`${name}\0`)))
  return { pointers: BigUint64Array.from(texts, addressOf), texts }
}

/**
 * Loads a shared library and keeps it, so that others that need one of this name get it. Why it cannot be loaded, in the
 * loader's words; undefined where it was.
 */
export function loadShared(name: string): string | undefined {
  try {
    held.push(koffi.load(name))
    return undefined
  } catch (error) {
    return error instanceof Error ? error.message : 'for a reason the loader does not give'
  }
}

const held: object[] = []

/** Calls on a worker thread of the library. */
export function callAsync(run: KoffiFunction, ...args: unknown[]): Promise<Handle> {
  return new Promise((resolve, reject) => {
    run.async(...args, (error: unknown, result: unknown) => {
      if (error === null || error === undefined) resolve(result)
      else reject(error)
    })
  })
}
