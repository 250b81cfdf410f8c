/**
 * One loaded graph under the C interface, and tensors over memory of ours: nothing is copied on the way in or out.
 */
import { EngineError } from '../errors.js'
import {
  addressOf,
  bindNames,
  callAsync,
  created,
  DEFAULT_MEMORY,
  DEVICE_ALLOCATOR,
  type Handle,
  type Names,
  type Runtime,
} from './c-api.js'
import type { Provider } from './provider.js'

/** ONNXTensorElementDataType. */
export const ELEMENT_TYPES = { float32: 1, int8: 3, int32: 6, int64: 7, float16: 10 } as const
export type ElementType = keyof typeof ELEMENT_TYPES

export interface BoundTensor {
  readonly address: bigint
  /** Kept so that the collector does not free what the runtime reads and writes. Undefined for memory of a device. */
  readonly memory: ArrayBufferView | undefined
  release(): void
}

/** A tensor in memory of a device, and what the runtime says is its address there. */
export interface DeviceTensor extends BoundTensor {
  readonly data: bigint
}

/** Memory of the device that a session computes on. */
export interface DeviceAllocator {
  allocate(type: ElementType, dimensions: readonly number[]): DeviceTensor
  /** A tensor over a part of another, in bytes; the other is released after it. */
  within(
    whole: DeviceTensor,
    type: ElementType,
    offset: number,
    length: number,
    dimensions: readonly number[],
  ): BoundTensor
  /** Everything allocated is released already. */
  close(): void
}

/** A tensor over `memory`. */
export function bindTensor(
  { functions, cpuMemory, check }: Runtime,
  type: ElementType,
  memory: ArrayBufferView,
  dimensions: readonly number[],
): BoundTensor {
  const shape = BigInt64Array.from(dimensions, BigInt)
  const value = created(check, (out) =>
    functions.createTensor(
      cpuMemory,
      addressOf(memory),
      memory.byteLength,
      shape,
      dimensions.length,
      ELEMENT_TYPES[type],
      out,
    ),
  )
  return { address: addressOf(value), memory, release: () => void functions.releaseValue(value) }
}

export interface Session {
  /**
   * Runs the graph once, off this thread. Tensors in the order of the names, the session's own unless others are given; an output may be an input's memory.
   * @throws EngineError `engine.failed`, or `aborted` after `interrupt`.
   */
  run(inputs: readonly BoundTensor[], outputs: readonly BoundTensor[], outputNames?: Names): Promise<void>
  /** Memory of that name. @throws EngineError `engine.failed` where the session has none. */
  openAllocator(memory: string): DeviceAllocator
  /** Ends the run in progress within milliseconds; without one it does nothing. */
  interrupt(): void
  /** No run may be in progress. */
  close(): void
}

export interface SessionOptions {
  readonly graph: Uint8Array
  /** Files of weights by the name the graph calls them. */
  readonly weights: ReadonlyMap<string, Uint8Array>
  readonly threads: number
  readonly inputNames: readonly string[]
  readonly outputNames: readonly string[]
  /** Where it computes, and every operator of it: one that would be computed elsewhere is refused. Default: on the CPU. */
  readonly provider?: Provider | undefined
}

/** @throws EngineError `package.unusable` when the runtime does not load the graph, `device.unavailable`. */
export function createSession(runtime: Runtime, options: SessionOptions): Session {
  const { functions, check } = runtime
  const session = loadGraph(runtime, options)
  const runOptions = created(check, (out) => functions.createRunOptions(out))
  const inputNames = bindNames(options.inputNames)
  const ownOutputs = bindNames(options.outputNames)
  let running = false
  let interrupted = false

  return {
    async run(inputs, outputs, outputNames = ownOutputs) {
      // Both stay referenced until the run is over, and so do the tensors' memories.
      const inputPointers = BigUint64Array.from(inputs, ({ address }) => address)
      const outputPointers = BigUint64Array.from(outputs, ({ address }) => address)
      running = true
      try {
        const status = await callAsync(
          functions.run,
          session,
          runOptions,
          inputNames.pointers,
          inputPointers,
          inputPointers.length,
          outputNames.pointers,
          outputPointers.length,
          outputPointers,
        )
        check(status)
      } catch (error) {
        if (interrupted) throw new EngineError('aborted', 'the run was interrupted', { cause: error })
        throw error
      } finally {
        running = false
        if (interrupted) check(functions.unsetTerminate(runOptions))
        interrupted = false
      }
      keep(inputNames, outputNames, inputs, outputs)
    },
    openAllocator: (memory) => openAllocator(runtime, session, memory),
    interrupt() {
      if (!running || interrupted) return
      interrupted = true
      check(functions.setTerminate(runOptions))
    },
    close() {
      functions.releaseRunOptions(runOptions)
      functions.releaseSession(session)
      // The runtime may use the weights where they lie, for as long as the session lives.
      keep(options)
    },
  }
}

function openAllocator({ functions, check }: Runtime, session: Handle, name: string): DeviceAllocator {
  const info = created(check, (out) => functions.createMemoryInfo(name, DEVICE_ALLOCATOR, 0, DEFAULT_MEMORY, out))
  const allocator = created(check, (out) => functions.createAllocator(session, info, out))
  const tensor = (value: Handle): BoundTensor => ({
    address: addressOf(value),
    memory: undefined,
    release: () => void functions.releaseValue(value),
  })
  return {
    allocate(type, dimensions) {
      const shape = BigInt64Array.from(dimensions, BigInt)
      const value = created(check, (out) =>
        functions.createTensorOn(allocator, shape, shape.length, ELEMENT_TYPES[type], out),
      )
      const data = created(check, (out) => functions.tensorAddress(value, out))
      return { ...tensor(value), data: addressOf(data) }
    },
    within(whole, type, offset, length, dimensions) {
      const shape = BigInt64Array.from(dimensions, BigInt)
      const address = whole.data + BigInt(offset)
      return tensor(
        created(check, (out) =>
          functions.createTensor(info, address, length, shape, shape.length, ELEMENT_TYPES[type], out),
        ),
      )
    },
    close() {
      functions.releaseAllocator(allocator)
      functions.releaseMemoryInfo(info)
    },
  }
}

function loadGraph(runtime: Runtime, { graph, weights, threads, provider }: SessionOptions): Handle {
  const { functions, check, env } = runtime
  const sessionOptions = created(check, (out) => functions.createSessionOptions(out))
  try {
    check(functions.setIntraOpThreads(sessionOptions, threads))
    check(functions.setInterOpThreads(sessionOptions, 1))
    provider?.append(runtime, sessionOptions)
    if (weights.size > 0) {
      const names = bindNames([...weights.keys()])
      const buffers = BigUint64Array.from(weights.values(), addressOf)
      const lengths = BigUint64Array.from(weights.values(), ({ length }) => BigInt(length))
      check(functions.addExternalInitializers(sessionOptions, names.pointers, buffers, lengths, weights.size))
    }
    return created(check, (out) =>
      functions.createSessionFromArray(env, addressOf(graph), graph.length, sessionOptions, out),
    )
  } catch (cause) {
    if (cause instanceof EngineError && cause.code === 'device.unavailable') throw cause
    if (provider === undefined)
      throw new EngineError('package.unusable', 'the runtime cannot load the graph', { cause })
    const reason = cause instanceof Error ? ` (${cause.message})` : ''
    throw new EngineError(
      'package.unusable',
      `the runtime cannot load the whole graph on that device: choose another format of weights, or of keys and values${reason}`,
      { cause },
    )
  } finally {
    functions.releaseSessionOptions(sessionOptions)
  }
}

/** Marks what foreign code reads as used up to here, which the collector cannot know. */
function keep(..._values: readonly unknown[]): void {}
