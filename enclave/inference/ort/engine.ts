/**
 * The engine on ONNX Runtime: a decoder on its C interface where the library is known, or on the public binding; the
 * scheduler over it; and what the graph's nodes and a trial run say about how requests may share a run.
 *
 * Slots are overwritten when a request ends, or, where it had a `reuseKey`, some minutes later at most. Prompts and answers as text are dropped, but JavaScript cannot promise to
 * erase them: they stay in the memory of the measured machine until it is reused.
 */
import { availableParallelism, totalmem } from 'node:os'
import { startAnswer } from '../answer.js'
import { findCutDependence } from '../attention-order.js'
import { createBackground } from '../background.js'
import { openChats } from '../chat-trial.js'
import type { Decoder } from '../decoder.js'
import { DEFAULT_DEVICE, type Device } from '../device.js'
import { embedText } from '../embedding.js'
import type { EmbedOptions, Engine, EngineEvent, EngineInfo } from '../engine.js'
import { ContextOverflowError, closedError, EngineError } from '../errors.js'
import { createMatcherFactory } from '../grammar/matcher.js'
import { CACHE_ELEMENT_BYTES, type DecoderGraph, inspectGraph } from '../graph.js'
import { checkWeights } from '../onnx/weights-check.js'
import { checkOptions } from '../options.js'
import type { ModelManifest, ModelPackage } from '../package.js'
import { createScheduler } from '../scheduler.js'
import { givesLogits, rowsAreIndependent } from '../trial.js'
import { levelTwoCacheBytes } from './c-api.js'
import { findDeviceLibrary } from './device-library.js'
import { createNativeDecoder, type DecoderOptions, nativeRuntime } from './native-decoder.js'
import { providerFor } from './provider.js'

export interface OrtEngineOptions {
  /** Where to compute. On another device than the CPU nothing is promised about the bits of an answer. Default `cpu`. */
  readonly device?: Device
  /** Threads a run may use; by default the processors this process may use. */
  readonly threads?: number
  /** `native` runs only with a known library, `portable` never uses it. Default: native where it is known. */
  readonly binding?: 'native' | 'portable'
  /** Most answers computed at once. Default 16, or as many as `cacheBytes` has room for. */
  readonly slots?: number
  /** Most memory for keys and values, in bytes. Default: a quarter of the machine's; on a device two GiB of its own. */
  readonly cacheBytes?: number
  /** Most requests waiting for a slot; more are refused with `overloaded`. Default 64. */
  readonly maxWaiting?: number
  /** Milliseconds, monotonic. */
  readonly monotonicMs?: () => number
  /** How long a prompt is kept for requests with the same `reuseKey`, in milliseconds. Default five minutes. */
  readonly keepMs?: number
  /** Size of the processor's second-level cache, in bytes. Default: what the C library says, as it does to the runtime. */
  readonly l2Bytes?: number | undefined
}

const DEFAULT_SLOTS = 16
const DEFAULT_WAITING = 64
const DEFAULT_KEEP_MS = 300_000
const DEVICE_CACHE_BYTES = 2 ** 31

/**
 * An engine over the checked bytes of a package; nothing is read from disk again.
 * @throws EngineError `package.unusable`, or `engine.failed` when the runtime library is not the pinned one.
 */
export async function createOrtEngine(modelPackage: ModelPackage, options: OrtEngineOptions = {}): Promise<Engine> {
  const { manifest } = modelPackage
  if (manifest.format === 'original') {
    throw new EngineError('package.unusable', 'the weights are in their publisher’s files, for a server: give --server')
  }
  const { vocabularySize, eosTokenIds } = manifest.architecture
  const { tokenizer, encoder } = await openChats(modelPackage)
  const { decoder, determinism } = await createDecoder(modelPackage, options).catch(async (error: unknown) => {
    await tokenizer.close()
    throw error
  })
  const contextLength = decoder.slotTokens
  const background = createBackground()
  const matchers = tokenizer.vocabulary && createMatcherFactory(tokenizer.vocabulary)
  const scheduler = createScheduler({
    decoder,
    maxWaiting: options.maxWaiting ?? DEFAULT_WAITING,
    monotonicMs: options.monotonicMs ?? (() => performance.now()),
    // Where the cut of a text can show in its logits, every prompt is computed whole and every answer token by token.
    ...(determinism === 'batch-invariant' ? { keepMs: options.keepMs ?? DEFAULT_KEEP_MS, verifies: true } : {}),
  })
  let closed: Promise<void> | undefined

  return {
    info: { ...decoder.runtime, determinism, manifest, contextLength },
    tokenizeChat: encoder.chat,
    tokenizeText: encoder.text,
    generate(promptTokens, generateOptions): AsyncIterable<EngineEvent> {
      if (closed !== undefined) throw closedError()
      checkOptions(generateOptions)
      checkPrompt(promptTokens, vocabularySize)
      checkTokens('prediction', generateOptions.prediction ?? [], vocabularySize)
      if (generateOptions.grammar !== undefined && matchers === undefined) {
        throw new EngineError(
          'schema.unsupported',
          "this model's tokenizer is of no kind that constrained answers know",
        )
      }
      if (promptTokens.length + generateOptions.maxTokens > contextLength) {
        throw new ContextOverflowError(promptTokens.length, generateOptions.maxTokens, contextLength)
      }
      return startAnswer(
        { scheduler, tokenizer, eosTokenIds, matchers, background },
        [...promptTokens],
        generateOptions,
      )
    },
    ...(decoder.embed === undefined
      ? {}
      : {
          async embed(promptTokens: readonly number[], embedOptions: EmbedOptions) {
            if (closed !== undefined) throw closedError()
            checkPrompt(promptTokens, vocabularySize)
            if (promptTokens.length > contextLength) {
              throw new ContextOverflowError(promptTokens.length, 0, contextLength)
            }
            return embedText(scheduler, promptTokens, embedOptions)
          },
        }),
    healthy: () => closed === undefined && tokenizer.healthy() && scheduler.healthy(),
    close() {
      closed ??= Promise.all([tokenizer.close(), scheduler.close()]).then(() => decoder.close())
      return closed
    },
  }
}

/** What the engine over such a package will say of itself, as far as that can be told without the weights. */
export async function describeOrtEngine(manifest: ModelManifest, device: Device = DEFAULT_DEVICE): Promise<EngineInfo> {
  const { architecture } = manifest
  const determinism = device === 'cpu' ? manifest.determinism : 'none'
  const library = await findDeviceLibrary(device)
  if (library === undefined && device !== 'cpu') throw unknownLibrary()
  const runtime =
    library === undefined ? (await import('./portable-decoder.js')).PORTABLE_RUNTIME : nativeRuntime(library)
  return { ...runtime, determinism, manifest, contextLength: architecture.contextLength }
}

/**
 * A decoder, and the class of its answers: on the CPU what the manifest claims, unless the graph or the trial speaks against
 * it; on a device `none`, whose kernels choose their order of summation by the size of a run.
 * @throws EngineError `package.unusable`, `device.unavailable`, `engine.failed`.
 */
export async function createDecoder(
  modelPackage: ModelPackage,
  options: OrtEngineOptions = {},
): Promise<{ readonly decoder: Decoder; readonly determinism: EngineInfo['determinism'] }> {
  const { device = DEFAULT_DEVICE } = options
  const graph = inspectGraph(modelPackage)
  checkWeights(modelPackage)
  const { slots, slotTokens } = slotsFor(graph, modelPackage.manifest.architecture.contextLength, options)
  const load = async (maxRows: number): Promise<Decoder> => {
    const decoder = await loadDecoder(modelPackage, options, {
      graph,
      threads: options.threads ?? availableParallelism(),
      slots,
      slotTokens,
      maxRows,
    })
    await expectLogits(decoder, graph, device).catch(async (error: unknown) => {
      await decoder.close()
      throw error
    })
    return decoder
  }
  if (device !== 'cpu') {
    // Rows of one run may share it where no node carries anything from one to another, only not to the last bit.
    return {
      decoder: await load(graph.rowsApart && providerFor(device)?.addressable === true ? slots : 1),
      determinism: 'none',
    }
  }
  const { l2Bytes = levelTwoCacheBytes() } = options
  const shared =
    modelPackage.manifest.determinism === 'batch-invariant' &&
    graph.determinism === 'batch-invariant' &&
    findCutDependence(graph.headSize, l2Bytes) === undefined
  if (!shared) return { decoder: await load(1), determinism: 'single' }
  const decoder = await load(slots)
  if (await rowsAreIndependent(decoder, graph.vocabularySize)) return { decoder, determinism: 'batch-invariant' }
  await decoder.close()
  return { decoder: await load(1), determinism: 'single' }
}

async function loadDecoder(
  modelPackage: ModelPackage,
  { binding, device = DEFAULT_DEVICE }: OrtEngineOptions,
  decoderOptions: DecoderOptions,
): Promise<Decoder> {
  const library = binding === 'portable' ? undefined : await findDeviceLibrary(device)
  if (library !== undefined) {
    if (device !== 'cpu') expectComputable(decoderOptions.graph, device)
    return createNativeDecoder(modelPackage, library, decoderOptions)
  }
  if (binding === 'native' || device !== 'cpu') throw unknownLibrary()
  // Loaded only here: the public binding brings its own copy of everything.
  const { createPortableDecoder } = await import('./portable-decoder.js')
  return createPortableDecoder(modelPackage, decoderOptions)
}

function unknownLibrary(): EngineError {
  return new EngineError(
    'engine.failed',
    `no runtime library is known for ${process.platform}-${process.arch}: the public binding is what there is, on the CPU`,
  )
}

/** What is known not to be computed there, before the runtime says so without a name. @throws EngineError `device.unavailable`. */
function expectComputable({ cacheType }: DecoderGraph, device: Exclude<Device, 'cpu'>): void {
  if (cacheType === 'int8') {
    throw new EngineError(
      'device.unavailable',
      `device ${device}: keys and values in int8 are for the CPU: import without --kv int8`,
    )
  }
  if (device === 'cuda' && cacheType !== 'float16') {
    throw new EngineError(
      'device.unavailable',
      'device cuda: attention there is of fp16: import with --format fp16, or another one with --kv fp16',
    )
  }
}

/**
 * One step of either kind: a device that computes wrongly does so at once, and so do weights that overflow.
 * @throws EngineError `package.unusable` or `device.unavailable`.
 */
async function expectLogits(decoder: Decoder, { vocabularySize }: DecoderGraph, device: Device): Promise<void> {
  if (await givesLogits(decoder, vocabularySize)) return
  throw device === 'cpu'
    ? new EngineError('package.unusable', 'the graph computes no logits from its weights: not finite, or all the same')
    : new EngineError('device.unavailable', 'the device computes no logits from this package')
}

/** As many slots of the whole context as the memory holds; one shorter slot where not even one fits. */
function slotsFor(
  { layers, kvHeads, headSize, cacheType }: DecoderGraph,
  contextLength: number,
  {
    device = DEFAULT_DEVICE,
    slots = DEFAULT_SLOTS,
    cacheBytes = device === 'cpu' ? totalmem() / 4 : DEVICE_CACHE_BYTES,
  }: OrtEngineOptions,
): { readonly slots: number; readonly slotTokens: number } {
  const elementBytes = CACHE_ELEMENT_BYTES[cacheType]
  const tokenBytes = 2 * layers * kvHeads * headSize * elementBytes
  const fitting = Math.floor(cacheBytes / (tokenBytes * contextLength))
  if (fitting >= 1) return { slots: Math.min(slots, fitting), slotTokens: contextLength }
  const slotTokens = Math.floor(cacheBytes / tokenBytes)
  if (slotTokens >= 1) return { slots: 1, slotTokens }
  throw new EngineError(
    'package.unusable',
    `one token of this model takes ${tokenBytes} bytes of cache, and ${Math.floor(cacheBytes)} are allowed`,
  )
}

function checkPrompt(promptTokens: readonly number[], vocabularySize: number): void {
  if (promptTokens.length === 0) throw new EngineError('options.invalid', 'promptTokens: expected at least one token')
  checkTokens('promptTokens', promptTokens, vocabularySize)
}

function checkTokens(name: string, tokens: readonly number[], vocabularySize: number): void {
  for (const tokenId of tokens) {
    if (!(Number.isSafeInteger(tokenId) && tokenId >= 0 && tokenId < vocabularySize)) {
      throw new EngineError('options.invalid', `${name}: expected token ids from 0 to ${vocabularySize - 1}`)
    }
  }
}
