/**
 * One loaded graph under the C interface, and tensors over memory of ours: nothing is copied on the way in or out.
 */
import { EngineError } from '../errors.js'
import { addressOf, callAsync, created, type Handle, type Runtime } from './c-api.js'

/** ONNXTensorElementDataType. */
const ELEMENT_TYPES = { float32: 1, int8: 3, int32: 6, int64: 7 } as const

export interface BoundTensor {
  readonly address: bigint
  /** Kept so that the collector does not free what the runtime reads and writes. */
  readonly memory: ArrayBufferView
  release(): void
}

/** A tensor over `memory`. */
export function bindTensor(
  { functions, cpuMemory, check }: Runtime,
  type: keyof typeof ELEMENT_TYPES,
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

/** Names as the runtime takes them: an array of pointers to zero-terminated text. */
export interface Names {
  readonly pointers: BigUint64Array
  readonly texts: readonly Uint8Array[]
}

export function bindNames(names: readonly string[]): Names {
  const texts = names.map((name) => new Uint8Array(Buffer.from(`${name}\0`)))
  return { pointers: BigUint64Array.from(texts, addressOf), texts }
}

export interface Session {
  /**
   * Runs the graph once, off this thread. Tensors in the order of the names, the session's own unless others are given; an output may be an input's memory.
   * @throws EngineError `engine.failed`, or `aborted` after `interrupt`.
   */
  run(inputs: readonly BoundTensor[], outputs: readonly BoundTensor[], outputNames?: Names): Promise<void>
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
}

/** @throws EngineError `package.unusable` when the runtime does not load the graph. */
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

function loadGraph(runtime: Runtime, { graph, weights, threads }: SessionOptions): Handle {
  const { functions, check, env } = runtime
  const sessionOptions = created(check, (out) => functions.createSessionOptions(out))
  try {
    check(functions.setIntraOpThreads(sessionOptions, threads))
    check(functions.setInterOpThreads(sessionOptions, 1))
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
    throw new EngineError('package.unusable', 'the runtime cannot load the graph', { cause })
  } finally {
    functions.releaseSessionOptions(sessionOptions)
  }
}

/** Marks what foreign code reads as used up to here, which the collector cannot know. */
function keep(..._values: readonly unknown[]): void {}
