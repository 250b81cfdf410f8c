/**
 * ONNX files with their weights, wherever those are: in the file or in files beside it. Refused: weights outside the folder,
 * and weights that lie outside their file or do not fill their shape.
 */
import type { FileHandle } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { FormatError } from '../../../verifier/protocol/errors.js'
import { broken, openRegular, readPart } from '../model-file.js'
import { byteLength, type OnnxNode, readGraph, type TensorDraft, type TensorFacts } from './graph.js'

/** Protocol Buffers messages end here anyway. */
const MAX_FILE_BYTES = 2 ** 31 - 1

export interface OnnxTensor extends TensorFacts {
  readonly data: Uint8Array | { readonly file: FileHandle; readonly offset: number }
}

export interface OnnxFile {
  readonly inputs: ReadonlySet<string>
  readonly outputs: ReadonlySet<string>
  /** By each of their outputs. No node needs itself, so that following inputs ends. */
  readonly producers: ReadonlyMap<string, OnnxNode>
  /** Initialisers, and what Constant nodes give. */
  readonly tensors: ReadonlyMap<string, OnnxTensor>
  /** The bytes of a tensor: little endian, row after row, two elements a byte where they have four bits. */
  read(tensor: OnnxTensor): Promise<Buffer>
  close(): Promise<void>
}

/** @throws ModelFileError. Files with weights stay open until `close`. */
export async function openOnnx(path: string): Promise<OnnxFile> {
  const files = new Map<string, { readonly file: FileHandle; readonly size: number }>()
  const close = async (): Promise<void> => {
    for (const { file } of files.values()) await file.close()
  }
  try {
    const graph = readGraph(await readWhole(path))
    const tensors = new Map<string, OnnxTensor>()
    for (const draft of graph.tensors.values()) tensors.set(draft.name, await placed(draft, dirname(path), files))
    const { inputs, outputs, producers } = graph
    return { inputs, outputs, producers, tensors, read: readTensor, close }
  } catch (cause) {
    await close()
    if (cause instanceof FormatError) {
      throw broken(`${basename(path)}: ${cause.message}`)
    }
    throw cause
  }
}

async function readWhole(path: string): Promise<Buffer> {
  const file = await openRegular(path, basename(path))
  try {
    if (file.size > MAX_FILE_BYTES) {
      throw broken(`${basename(path)}: expected at most ${MAX_FILE_BYTES} bytes, got ${file.size}`)
    }
    return await readPart(file.file, 0, file.size, basename(path))
  } finally {
    await file.file.close()
  }
}

async function readTensor(tensor: OnnxTensor): Promise<Buffer> {
  const { data } = tensor
  if (data instanceof Uint8Array) return Buffer.from(data.buffer, data.byteOffset, data.byteLength)
  return readPart(data.file, data.offset, byteLength(tensor), tensor.name)
}

/** Finds weights kept beside the graph, and checks that they are there. */
async function placed(
  draft: TensorDraft,
  directory: string,
  files: Map<string, { readonly file: FileHandle; readonly size: number }>,
): Promise<OnnxTensor> {
  const { data } = draft
  const bytes = byteLength(draft)
  if (data instanceof Uint8Array) {
    if (data.length === bytes) return { ...draft, data }
    throw broken(`${draft.name}: expected ${bytes} bytes for its shape, got ${data.length}`)
  }
  const location = data.get('location') ?? ''
  // What the runtime would open is for the writer of the graph to say: other folders are none of their business.
  if (!/^[A-Za-z0-9_][A-Za-z0-9._-]{0,254}$/.test(location)) {
    throw broken(`${draft.name}: expected its weights in a file of the same folder, got “${location.slice(0, 80)}”`)
  }
  const known = files.get(location) ?? (await openRegular(join(directory, location), location))
  files.set(location, known)
  const number = (key: string, fallback: number): number => {
    const text = data.get(key) ?? String(fallback)
    if (/^\d{1,16}$/.test(text) && Number.isSafeInteger(Number(text))) return Number(text)
    throw broken(`${draft.name}: ${key}: expected a number of bytes, got “${text.slice(0, 40)}”`)
  }
  const offset = number('offset', 0)
  const length = number('length', bytes)
  if (length !== bytes) throw broken(`${draft.name}: expected ${bytes} bytes for its shape, got ${length}`)
  if (offset + length > known.size) throw broken(`${draft.name}: lies outside ${location}`)
  return { ...draft, data: { file: known.file, offset } }
}
