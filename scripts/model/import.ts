/**
 * Imports a model: any source in, a measured package out (PROTOCOL.md §8). The package is written beside its place and
 * moved there when it is whole and an engine has loaded it; a failure leaves nothing behind, and neither does a signal.
 */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { type FileHandle, mkdir, open, readdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join, resolve } from 'node:path'
import { findCutDependence } from '../../enclave/inference/attention-order.js'
import { openChats } from '../../enclave/inference/chat-trial.js'
import { createOrtEngine } from '../../enclave/inference/ort/engine.js'
import {
  checkModelFolder,
  loadModelPackage,
  type ModelFileRole,
  type ModelManifest,
} from '../../enclave/inference/package.js'
import { measureCacheScales, surprise } from './cache-scales.js'
import type { Format } from './formats.js'
import { openGguf } from './gguf-source.js'
import type { WeightPlace, WeightSink } from './graph-builder.js'
import type { LinearReport } from './linear.js'
import { type CacheScales, writeLlamaGraph } from './llama-graph.js'
import { broken, ModelFileError } from './model-file.js'
import { onnxIn, openOnnxModel } from './onnx-source.js'
import { copyOriginals } from './originals.js'
import { openFolder } from './safetensors-source.js'
import { checkHeads, checkRotary, checkShape, type ModelSource } from './source.js'
import { withUnfinished } from './unfinished.js'

export interface ImportOptions {
  /** `original`: nothing is converted; the source's own files become the package of a server. */
  readonly format: Format | 'original'
  readonly id: string
  /** SPDX expression; needed where the source names none. */
  readonly license?: string
  /** Most tokens of prompt and answer. Default: the model's own. */
  readonly contextLength?: number
  /**
   * What the engine keeps keys and values as, and computes attention in. Default: `fp16` for that format, `fp32` for others. With `int8`
   * the source is read twice.
   */
  readonly kv?: 'fp32' | 'fp16' | 'int8'
  readonly onProgress?: (done: number, of: number) => void
}

export interface Imported {
  readonly manifest: ModelManifest
  readonly reports: readonly LinearReport[]
  /** With `kv` `int8`: mean surprise at each token of a text, in nats, with keys and values in either. */
  readonly surprise?: { readonly fp32: number; readonly int8: number }
}

/** @throws ModelFileError, EngineError `package.unusable`. `out` must not be there yet, and the folder that it goes into must. */
export async function importModel(from: string, out: string, options: ImportOptions): Promise<Imported> {
  if (options.kv !== undefined && options.kv !== 'fp32' && options.format === 'original') {
    throw new ModelFileError('option.kv', 'the server of an original package keeps keys and values its own way')
  }
  const target = resolve(out)
  if (existsSync(target)) throw new ModelFileError('option.out', `${out} exists already; choose another`)
  const parent = await stat(dirname(target)).catch(() => undefined)
  if (parent?.isDirectory() !== true) {
    throw new ModelFileError(
      'option.out',
      `${dirname(target)}: expected a folder that is there, to write the package to`,
    )
  }
  const directory = `${target}.partial-${process.pid}`
  const source = await openSource(from)
  try {
    return await withUnfinished(directory, async () => {
      await createFolder(directory)
      const plain = await writePackage(source, from, directory, options)
      const imported = options.kv === 'int8' ? await withSmallCache(source, from, directory, options) : plain
      await tryPackage(directory, options.format)
      await rename(directory, target)
      return imported
    })
  } catch (error) {
    const code = (error as { code?: unknown }).code
    if (code !== 'ENOSPC' && code !== 'EDQUOT') throw error
    const message = `${dirname(target)}: no room for the package (${code}); free some or name another place. Nothing was left there`
    throw new ModelFileError('option.out', message, { cause: error })
  } finally {
    await source.close()
  }
}

async function createFolder(path: string): Promise<void> {
  try {
    await mkdir(path)
  } catch (cause) {
    const { code } = cause as { code?: string }
    throw new ModelFileError('option.out', `${path}: cannot be written to (${code ?? 'unknown'})`, { cause })
  }
}

/** Measures the package that was written, and writes it once more with the scales found. */
async function withSmallCache(
  source: ModelSource,
  from: string,
  directory: string,
  options: ImportOptions,
): Promise<Imported> {
  const plain = await loadModelPackage(directory)
  const scales = await measureCacheScales(plain)
  const fp32 = await surprise(plain)
  await rm(directory, { recursive: true })
  await mkdir(directory)
  const imported = await writePackage(source, from, directory, options, scales)
  return { ...imported, surprise: { fp32, int8: await surprise(await loadModelPackage(directory)) } }
}

/** The engine's own judgement, trial included, before anyone relies on it. */
async function tryPackage(directory: string, format: ImportOptions['format']): Promise<void> {
  if (format === 'original') return void (await checkOriginal(directory))
  const engine = await createOrtEngine(await loadModelPackage(directory))
  await engine.close()
}

/** Of a package for a server, all that the worker reads. @throws EngineError `package.…`. */
export async function checkOriginal(directory: string): Promise<ModelManifest> {
  const modelPackage = await checkModelFolder(directory)
  const { tokenizer } = await openChats(modelPackage)
  await tokenizer.close()
  return modelPackage.manifest
}

async function openSource(from: string): Promise<ModelSource> {
  const facts = await stat(from).catch(() => undefined)
  if (facts === undefined) throw new ModelFileError('file.missing', `${from}: there is no such file or folder`)
  if (!facts.isDirectory()) return from.endsWith('.onnx') ? openOnnxModel(from) : openGguf(from)
  const weights = (await readdir(from)).some((name) => name.endsWith('.safetensors'))
  const graph = weights ? undefined : onnxIn(from)
  return graph === undefined ? openFolder(from) : openOnnxModel(graph)
}

async function writePackage(
  source: ModelSource,
  from: string,
  directory: string,
  options: ImportOptions,
  scales?: CacheScales,
): Promise<Imported> {
  const license = options.license ?? source.license
  if (license === undefined)
    throw new ModelFileError('option.license', 'the model names no licence: say which with --license')
  const contextLength = Math.min(source.shape.contextLength, options.contextLength ?? source.shape.contextLength)
  const shape = checkShape({ ...source.shape, contextLength })
  const parameters = Object.values(parameterCounts(shape)).reduce((sum, count) => sum + count, 0)
  if (options.format !== 'original') {
    checkHeads(shape)
    checkRotary(shape, parameters)
  }
  const { graph, reports, files } = await writeWeights(source, from, directory, { ...options, shape, scales })
  const add = async (path: string, role: ModelFileRole, bytes: Uint8Array | string): Promise<void> => {
    const content = typeof bytes === 'string' ? Buffer.from(bytes) : bytes
    await writeFile(join(directory, path), content)
    files.push({ path, role, size: content.length, sha256: createHash('sha256').update(content).digest('hex') })
  }
  if (graph !== undefined) await add('model.onnx', 'graph', graph)
  await add('tokenizer.json', 'tokenizer', source.tokenizerJson)
  await add('tokenizer_config.json', 'tokenizer', source.tokenizerConfigJson)
  await add('chat_template.jinja', 'template', source.template)
  const manifest: ModelManifest = {
    schema: 'subrosa-model/1',
    id: options.id,
    title: source.title,
    license,
    architecture: {
      family: source.family,
      parameters,
      layers: shape.layers,
      hiddenSize: shape.hiddenSize,
      vocabularySize: shape.vocabularySize,
      contextLength,
      eosTokenIds: source.eosTokenIds,
    },
    determinism:
      options.format === 'original' || findCutDependence(shape.headSize) !== undefined ? 'single' : 'batch-invariant',
    format: options.format,
    files: files.sort((a, b) => (a.path < b.path ? -1 : 1)),
  }
  await writeFile(join(directory, 'manifest.json'), `${JSON.stringify(manifest, null, 2)}\n`)
  return { manifest, reports }
}

interface Written {
  /** Undefined for a server, which makes its own. */
  readonly graph: Uint8Array | undefined
  readonly reports: readonly LinearReport[]
  readonly files: ModelManifest['files'][number][]
}

async function writeWeights(
  source: ModelSource,
  from: string,
  directory: string,
  {
    format,
    shape,
    kv = format === 'fp16' ? 'fp16' : 'fp32',
    scales,
    onProgress,
  }: ImportOptions & { readonly shape: ModelSource['shape']; readonly scales: CacheScales | undefined },
): Promise<Written> {
  if (format === 'original') return { graph: undefined, reports: [], files: await copyOriginals(from, directory) }
  const sink = createFileSink(directory)
  const progress = (done: number): void => onProgress?.(done, shape.layers)
  // Without scales, int8 is written as fp32 first, for the scales to be measured.
  const cache = scales ?? (kv === 'int8' ? 'fp32' : kv)
  const { graph, reports } = await writeLlamaGraph(shape, source.weights, format, sink, progress, cache).finally(() =>
    sink.close(),
  )
  return { graph, reports, files: [...sink.files()] }
}

function parameterCounts(shape: ModelSource['shape']): Readonly<Record<string, number>> {
  const { layers, hiddenSize, heads, kvHeads, headSize, feedForwardSize, vocabularySize, tiedEmbeddings } = shape
  return {
    embeddings: vocabularySize * hiddenSize * (tiedEmbeddings ? 1 : 2),
    attention: layers * hiddenSize * headSize * (2 * heads + 2 * kvHeads),
    feedForward: layers * 3 * hiddenSize * feedForwardSize,
    norms: (2 * layers + 1) * hiddenSize,
  }
}

/** Weights side by side in files small enough to be read into one buffer each. */
const MAX_FILE_BYTES = 1 << 30
/** The runtime maps weights at multiples of a page. */
const ALIGNMENT = 4096

interface FileSink extends WeightSink {
  files(): readonly ModelManifest['files'][number][]
  close(): Promise<void>
}

function createFileSink(directory: string): FileSink {
  const done: ModelManifest['files'][number][] = []
  let current:
    | { readonly path: string; readonly file: FileHandle; readonly hash: ReturnType<typeof createHash> }
    | undefined
  let size = 0

  const append = async (bytes: Uint8Array): Promise<void> => {
    if (current === undefined) return
    await current.file.writeFile(bytes)
    current.hash.update(bytes)
    size += bytes.length
  }
  const finish = async (): Promise<void> => {
    if (current === undefined) return
    await current.file.close()
    done.push({ path: current.path, role: 'weights', size, sha256: current.hash.digest('hex') })
    current = undefined
    size = 0
  }
  return {
    async write(bytes): Promise<WeightPlace> {
      if (bytes.length > MAX_FILE_BYTES * 3) throw broken('a single weight is larger than this importer can write')
      if (current !== undefined && size + bytes.length > MAX_FILE_BYTES) await finish()
      if (current === undefined) {
        const path = `weights-${String(done.length + 1).padStart(3, '0')}.bin`
        current = { path, file: await open(join(directory, path), 'wx'), hash: createHash('sha256') }
      }
      await append(new Uint8Array((ALIGNMENT - (size % ALIGNMENT)) % ALIGNMENT))
      const place = { file: current.path, offset: size, length: bytes.length }
      await append(bytes)
      return place
    },
    files: () => done,
    close: finish,
  }
}
