/**
 * Model packages: a folder with a `manifest.json` of schema `subrosa-model/1` and the files it lists (PROTOCOL.md §8).
 *
 * Each file is read once, into memory, and checked against the manifest; the engine is built from those very bytes, so
 * what was hashed is what runs. Files the manifest does not list are never opened. Refused: other schemas, unknown or
 * missing fields, paths that could leave the folder, duplicates, any size or digest that differs.
 *
 * A manifest is not a trust anchor. What makes a package trustworthy is that its digests are part of the attested statement.
 */
import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { type FileHandle, open, readdir, stat } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { type Bytes, fromHex, fromUtf8, toHex } from '../../verifier/protocol/bytes.js'
import { encodeCbor } from '../../verifier/protocol/cbor.js'
import { sha256 } from '../../verifier/protocol/hash.js'
import { merkleRoot } from '../../verifier/protocol/merkle.js'
import type { ModelClaims } from '../../verifier/protocol/statement.js'
import { EngineError } from './errors.js'

const MODEL_SCHEMA = 'subrosa-model/1'
export const MANIFEST_FILE = 'manifest.json'
export const MAX_MANIFEST_BYTES = 1024 * 1024
const MAX_FILES = 4096

const ROLES = ['graph', 'weights', 'tokenizer', 'template', 'license', 'card'] as const
export type ModelFileRole = (typeof ROLES)[number]

/** Of the files that the weights digest names, and that a sealed package encrypts. */
type MeasuredRole = 'graph' | 'weights'

export function isMeasuredRole(role: ModelFileRole): role is MeasuredRole {
  return role === 'graph' || role === 'weights'
}

export interface ModelFile {
  /** Relative to the package, `/` between folders. */
  readonly path: string
  readonly role: ModelFileRole
  /** Length in bytes. */
  readonly size: number
  /** SHA-256, 64 lower-case hexadecimal digits. */
  readonly sha256: string
}

/** What a model may have at most, in a manifest and in what is imported: beyond it something else is wrong. */
export const MODEL_LIMITS = { layers: 512, size: 2 ** 20, vocabulary: 2 ** 21, context: 2 ** 24 } as const

const FAMILIES = ['llama', 'mistral', 'qwen2', 'qwen3'] as const
export type ModelFamily = (typeof FAMILIES)[number]

const FORMATS = ['fp32', 'fp16', 'int8', 'int4', 'pr8', 'original'] as const
/** How the large matrices are kept: scripts/model/formats.ts says what each is. `original`: in its publisher's files, for a server. */
export type ModelFormat = (typeof FORMATS)[number]

export interface ModelManifest {
  readonly schema: typeof MODEL_SCHEMA
  readonly id: string
  readonly title: string
  /** SPDX expression. */
  readonly license: string
  readonly architecture: {
    readonly family: ModelFamily
    readonly parameters: number
    readonly layers: number
    readonly hiddenSize: number
    readonly vocabularySize: number
    /** Tokens the model can hold: prompt and answer together. */
    readonly contextLength: number
    readonly eosTokenIds: readonly number[]
  }
  readonly determinism: 'batch-invariant' | 'single'
  readonly format: ModelFormat
  /** In ascending order of path. */
  readonly files: readonly ModelFile[]
}

export interface ModelPackage {
  readonly manifest: ModelManifest
  /** SHA-256 of manifest.json as read, 32 bytes: it covers every file, and what the manifest says of the architecture. */
  readonly manifestDigest: Bytes
  /** The checked bytes of every file in the manifest. Not to be written to. */
  readonly files: ReadonlyMap<string, Bytes>
}

/**
 * Reads and checks the package in `directory`.
 * @throws EngineError `package.manifest`, `package.path`, `package.missing`, `package.size` or `package.digest`.
 */
export async function loadModelPackage(directory: string): Promise<ModelPackage> {
  const { manifest, manifestDigest } = await loadManifest(directory)
  const files = new Map<string, Bytes>()
  for (const file of manifest.files) files.set(file.path, await readListed(directory, file))
  return { manifest, manifestDigest, files }
}

/** The manifest alone, and its digest. @throws EngineError `package.manifest`, `package.path` or `package.missing`. */
export async function loadManifest(directory: string): Promise<Omit<ModelPackage, 'files'>> {
  const { value, bytes } = await readManifest(directory)
  return { manifest: parseManifest(value), manifestDigest: sha256(bytes) }
}

/**
 * Checks a package whose weights another program in this machine will read from the same folder: every listed file, without
 * keeping graph and weights, and that nothing else lies there that the program could read in their place.
 * @throws EngineError as `loadModelPackage`, and `package.unlisted`.
 */
export async function checkModelFolder(directory: string): Promise<ModelPackage> {
  const { manifest, manifestDigest } = await loadManifest(directory)
  await expectOnlyListed(directory, manifest)
  const files = new Map<string, Bytes>()
  for (const file of manifest.files) {
    if (isMeasuredRole(file.role)) await checkListed(directory, file)
    else files.set(file.path, await readListed(directory, file))
  }
  return { manifest, manifestDigest, files }
}

/** What a server may find beside graph and weights, none of which changes what it computes of the weights. */
const BESIDE: Readonly<Record<Exclude<ModelFileRole, MeasuredRole>, RegExp>> = {
  tokenizer: /^tokenizer(_config)?\.json$/,
  template: /^chat_template\.jinja$/,
  license: /^LICEN[CS]E(\.(txt|md))?$/,
  card: /^[A-Z_]+\.md$/,
}

async function expectOnlyListed(directory: string, { files }: ModelManifest): Promise<void> {
  const stray = files.find(({ path, role }) => !isMeasuredRole(role) && !BESIDE[role].test(path))
  if (stray !== undefined) {
    throw new EngineError('package.unlisted', `${stray.path}: expected to be of role weights, as a server may read it`)
  }
  const listed = new Set([MANIFEST_FILE, ...files.map(({ path }) => path)])
  for (const entry of await readdir(directory, { withFileTypes: true, recursive: true })) {
    const path = relative(directory, join(entry.parentPath, entry.name))
    if (entry.isDirectory() || (entry.isFile() && listed.has(path))) continue
    throw new EngineError('package.unlisted', `${path}: expected only regular files that the manifest lists`)
  }
}

/** Piece by piece: weights may be larger than memory. @throws EngineError as `readListed`. */
export async function checkListed(directory: string, file: ModelFile): Promise<void> {
  const handle = await openRegular(directory, file.path)
  try {
    const hash = createHash('sha256')
    let size = 0
    for await (const piece of handle.createReadStream({ autoClose: false, highWaterMark: 1 << 20 })) {
      hash.update(piece as Buffer)
      size += (piece as Buffer).length
    }
    expectDigest(file, size, hash.digest('hex'))
  } finally {
    await handle.close()
  }
}

/** The checked bytes of one listed file. @throws EngineError `package.missing`, `package.size` or `package.digest`. */
export async function readListed(directory: string, file: ModelFile): Promise<Bytes> {
  const bytes = await readExactly(directory, file)
  checkFile(file, bytes)
  return bytes
}

/** @throws EngineError `package.size` or `package.digest` unless these bytes are the ones the manifest lists. */
export function checkFile(file: ModelFile, bytes: Bytes): void {
  expectDigest(file, bytes.length, bytes.length === file.size ? toHex(sha256(bytes)) : '')
}

function expectDigest(file: ModelFile, size: number, digest: string): void {
  if (size !== file.size) {
    throw new EngineError('package.size', `${file.path}: expected ${file.size} bytes, got ${size}`)
  }
  if (digest !== file.sha256) {
    throw new EngineError('package.digest', `${file.path}: expected SHA-256 ${file.sha256}, got ${digest}`)
  }
}

/**
 * RFC 9162 root over the files of role graph and weights in order of path, 32 bytes. A leaf is the deterministic CBOR
 * array [path, size, SHA-256].
 */
export function computeWeightsRoot(manifest: ModelManifest): Bytes {
  const measured = manifest.files.filter(({ role }) => isMeasuredRole(role))
  return merkleRoot(measured.map((file) => encodeCbor([file.path, file.size, fromHex(file.sha256)])))
}

/** What the attested statement says about the model. */
export function modelClaims({ manifest, manifestDigest }: Omit<ModelPackage, 'files'>): ModelClaims {
  return {
    id: manifest.id,
    weightsRoot: computeWeightsRoot(manifest),
    tokenizerDigest: fromHex(fileNamed(manifest, 'tokenizer.json').sha256),
    templateDigest: fromHex(onlyFile(manifest, 'template').sha256),
    manifestDigest,
  }
}

/** The checked bytes of the one file with this role. @throws EngineError `package.unusable` unless there is exactly one. */
export function fileByRole(modelPackage: ModelPackage, role: ModelFileRole): Bytes {
  return fileBytes(modelPackage, onlyFile(modelPackage.manifest, role).path)
}

/** The checked bytes of a listed file. @throws EngineError `package.unusable` when it is not listed. */
export function fileBytes(modelPackage: ModelPackage, path: string): Bytes {
  const bytes = modelPackage.files.get(path)
  if (bytes === undefined) throw new EngineError('package.unusable', `the package has no ${path}`)
  return bytes
}

function onlyFile(manifest: ModelManifest, role: ModelFileRole): ModelFile {
  const [file, ...others] = manifest.files.filter((candidate) => candidate.role === role)
  if (file === undefined || others.length > 0) {
    throw new EngineError('package.unusable', `expected exactly one file of role ${role}`)
  }
  return file
}

function fileNamed(manifest: ModelManifest, path: string): ModelFile {
  const file = manifest.files.find((candidate) => candidate.path === path)
  if (file === undefined) throw new EngineError('package.unusable', `the package has no ${path}`)
  return file
}

async function readManifest(directory: string): Promise<{ value: unknown; bytes: Bytes }> {
  const bytes = await readUpTo(directory, MANIFEST_FILE, MAX_MANIFEST_BYTES, 'package.manifest')
  try {
    return { value: JSON.parse(fromUtf8(bytes)), bytes }
  } catch (cause) {
    throw new EngineError('package.manifest', 'expected the manifest to be JSON', { cause })
  }
}

async function readExactly(directory: string, file: ModelFile): Promise<Bytes> {
  const handle = await openRegular(directory, file.path)
  try {
    const { size } = await handle.stat()
    const bytes = size === file.size ? await readInto(handle, size) : undefined
    if (bytes?.length !== file.size) {
      throw new EngineError('package.size', `${file.path}: expected ${file.size} bytes, got ${bytes?.length ?? size}`)
    }
    return bytes
  } finally {
    await handle.close()
  }
}

/** A regular file of the package's folder, whole. @throws EngineError `package.missing`, or `tooLarge` above `maxBytes`. */
export async function readUpTo(
  directory: string,
  path: string,
  maxBytes: number,
  tooLarge: 'package.size' | 'package.manifest' = 'package.size',
): Promise<Bytes> {
  const handle = await openRegular(directory, path)
  try {
    const { size } = await handle.stat()
    if (size > maxBytes) {
      throw new EngineError(tooLarge, `${path}: expected at most ${maxBytes} bytes, got ${size}`)
    }
    return await readInto(handle, size)
  } finally {
    await handle.close()
  }
}

/** @throws EngineError `package.missing` unless it is a regular file that can be read. */
export async function expectThere(directory: string, path: string): Promise<void> {
  await (await openRegular(directory, path)).close()
}

async function openRegular(directory: string, path: string): Promise<FileHandle> {
  const handle = await openIfRegular(join(directory, path)).catch((cause: unknown) => {
    throw new EngineError('package.missing', `${path}: cannot be opened`, { cause })
  })
  if (handle !== undefined) return handle
  throw new EngineError('package.missing', `${path}: expected a regular file`)
}

/**
 * A file to be read, links followed; undefined for anything else. Looked at before it is opened, and opened without waiting: a
 * pipe would wait for its writer, and a device may act. @throws the system's errors.
 */
export async function openIfRegular(path: string): Promise<FileHandle | undefined> {
  if (!(await stat(path)).isFile()) return undefined
  const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK)
  // It may have been replaced meanwhile.
  if ((await handle.stat()).isFile()) return handle
  await handle.close()
  return undefined
}

/** Up to `size` bytes: the file may have shrunk since its length was taken. */
async function readInto(handle: FileHandle, size: number): Promise<Bytes> {
  const bytes = new Uint8Array(size)
  let length = 0
  while (length < size) {
    const { bytesRead } = await handle.read(bytes, length, Math.min(size - length, 1 << 30), length)
    if (bytesRead === 0) return bytes.subarray(0, length)
    length += bytesRead
  }
  return bytes
}

/** @throws EngineError `package.manifest` or `package.path`. */
export function parseManifest(value: unknown): ModelManifest {
  const manifest = members(value, 'manifest', [
    'schema',
    'id',
    'title',
    'license',
    'architecture',
    'determinism',
    'format',
    'files',
  ])
  const architecture = members(manifest['architecture'], 'architecture', [
    'family',
    'parameters',
    'layers',
    'hiddenSize',
    'vocabularySize',
    'contextLength',
    'eosTokenIds',
  ])
  const vocabularySize = positive(architecture['vocabularySize'], 'vocabularySize', MODEL_LIMITS.vocabulary)
  return {
    schema: oneOf(manifest['schema'], 'schema', [MODEL_SCHEMA]),
    id: text(manifest['id'], 'id', /^[a-z0-9][a-z0-9._-]{0,99}$/),
    title: text(manifest['title'], 'title', /^[^\p{Cc}]{1,200}$/u),
    license: text(manifest['license'], 'license', /^[A-Za-z0-9 .+()-]{1,200}$/),
    architecture: {
      family: oneOf(architecture['family'], 'family', FAMILIES),
      parameters: positive(architecture['parameters'], 'parameters'),
      layers: positive(architecture['layers'], 'layers', MODEL_LIMITS.layers),
      hiddenSize: positive(architecture['hiddenSize'], 'hiddenSize', MODEL_LIMITS.size),
      vocabularySize,
      contextLength: positive(architecture['contextLength'], 'contextLength', MODEL_LIMITS.context),
      eosTokenIds: parseTokenIds(architecture['eosTokenIds'], vocabularySize),
    },
    determinism: oneOf(manifest['determinism'], 'determinism', ['batch-invariant', 'single']),
    format: oneOf(manifest['format'], 'format', FORMATS),
    files: parseFiles(manifest['files']),
  }
}

function parseTokenIds(value: unknown, vocabularySize: number): number[] {
  if (!Array.isArray(value) || value.length === 0 || value.length > 64) {
    throw new EngineError('package.manifest', 'eosTokenIds: expected a list of 1 to 64 token ids')
  }
  return value.map((id: unknown) => {
    if (typeof id === 'number' && Number.isSafeInteger(id) && id >= 0 && id < vocabularySize) return id
    throw new EngineError('package.manifest', 'eosTokenIds: expected ids inside the vocabulary')
  })
}

function parseFiles(value: unknown): ModelFile[] {
  if (!Array.isArray(value) || value.length === 0 || value.length > MAX_FILES) {
    throw new EngineError('package.manifest', `files: expected a list of 1 to ${MAX_FILES} files`)
  }
  const files = value.map(parseFile)
  files.forEach((file, i) => {
    const previous = files[i - 1]
    if (previous !== undefined && !(previous.path < file.path)) {
      throw new EngineError('package.manifest', `files: expected ascending paths without repetition at ${file.path}`)
    }
  })
  return files
}

function parseFile(value: unknown): ModelFile {
  const file = members(value, 'file', ['path', 'role', 'size', 'sha256'])
  const size = file['size']
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) {
    throw new EngineError('package.manifest', 'size: expected a length in bytes')
  }
  return {
    path: parsePath(file['path']),
    role: oneOf(file['role'], 'role', ROLES),
    size,
    sha256: text(file['sha256'], 'sha256', /^[0-9a-f]{64}$/),
  }
}

/** Plain names separated by `/`: no `.` or `..`, no root, no drive, no backslash, no name that begins with a dot. */
function parsePath(value: unknown): string {
  const name = '[A-Za-z0-9_-][A-Za-z0-9._-]*'
  if (typeof value === 'string' && value.length <= 255 && new RegExp(`^${name}(/${name})*$`).test(value)) {
    if (value !== MANIFEST_FILE) return value
  }
  throw new EngineError('package.path', 'path: expected plain names inside the package')
}

/** The members of an object that has exactly these. */
function members(value: unknown, what: string, names: readonly string[]): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new EngineError('package.manifest', `${what}: expected an object`)
  }
  for (const name of names) {
    if (!Object.hasOwn(value, name)) throw new EngineError('package.manifest', `${what}: ${name} is missing`)
  }
  for (const name of Object.keys(value)) {
    if (!names.includes(name))
      throw new EngineError('package.manifest', `${what}: unknown member ${JSON.stringify(name)}`)
  }
  return value as Record<string, unknown>
}

function oneOf<T extends string>(value: unknown, what: string, allowed: readonly T[]): T {
  const found = allowed.find((candidate) => candidate === value)
  if (found === undefined) throw new EngineError('package.manifest', `${what}: expected ${allowed.join(' or ')}`)
  return found
}

function text(value: unknown, what: string, pattern: RegExp): string {
  if (typeof value === 'string' && pattern.test(value)) return value
  throw new EngineError('package.manifest', `${what}: expected text matching ${pattern.source}`)
}

function positive(value: unknown, what: string, most: number = Number.MAX_SAFE_INTEGER): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value > 0 && value <= most) return value
  throw new EngineError('package.manifest', `${what}: expected an integer from 1 to ${most}`)
}
