/** Reading targets, endorsements, policies and trust anchors from disk, for the command line tools. Node only. */
import { createReadStream } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { UsageError } from './errors.js'
import type { AppraisalPolicy } from './policy.js'
import { parsePolicy } from './policy-text.js'
import { type Bytes, toBytes } from './protocol/bytes.js'

/** Largest file read, in bytes: 16 MiB of bundle, or its hex form. */
const MAX_FILE_BYTES = 33 * 1024 * 1024
const MAX_POLICY_BYTES = 1024 * 1024
const MAX_ENDORSEMENT_FILES = 10_000

/** @throws UsageError when the file is missing, unreadable, a folder, or too large. */
export async function loadFile(path: string, what: string, maxBytes: number = MAX_FILE_BYTES): Promise<Bytes> {
  try {
    const bytes = await readUpTo(path, what, maxBytes + 1)
    if (bytes.length <= maxBytes) return bytes
    throw new UsageError('file.too-large', `${what} ${path} has more than ${maxBytes} bytes, and no more are read`)
  } catch (error) {
    if (error instanceof UsageError) throw error
    throw new UsageError('file.unreadable', `cannot read ${what} ${path}: ${reasonOf(error)}`, { cause: error })
  }
}

/**
 * Evidence, as much of it as any reader takes: a larger file is cut and refused for its size by whoever parses it, so
 * that the verdict names the file malformed rather than the command line wrong.
 * @throws UsageError when the file is missing, unreadable or a folder.
 */
export async function loadEvidence(path: string): Promise<Bytes> {
  try {
    return await readUpTo(path, 'evidence', MAX_FILE_BYTES)
  } catch (error) {
    if (error instanceof UsageError) throw error
    throw new UsageError('file.unreadable', `cannot read evidence ${path}: ${reasonOf(error)}`, { cause: error })
  }
}

/** The first `length` bytes, or all there are. What a file says of its length is not believed: devices and pipes have none. */
async function readUpTo(path: string, what: string, length: number): Promise<Bytes> {
  if ((await stat(path)).isDirectory()) throw new UsageError('file.folder', `${what} ${path} is a folder; name a file`)
  const pieces: Buffer[] = []
  let read = 0
  for await (const piece of createReadStream(path, { highWaterMark: 256 * 1024 })) {
    const bytes = (piece as Buffer).subarray(0, length - read)
    pieces.push(bytes)
    read += bytes.length
    if (read === length) break
  }
  return toBytes(new Uint8Array(Buffer.concat(pieces)))
}

/** Every file under the given files and folders, in a stable order. @throws UsageError when a named path is missing. */
export async function loadEndorsements(paths: readonly string[]): Promise<{ name: string; bytes: Bytes }[]> {
  const files: string[] = []
  for (const path of paths) await collect(path, files)
  const items: { name: string; bytes: Bytes }[] = []
  for (const name of files) {
    const info = await stat(name)
    if (info.isFile() && info.size <= MAX_FILE_BYTES) items.push({ name, bytes: await loadFile(name, 'endorsement') })
  }
  return items
}

async function collect(path: string, files: string[]): Promise<void> {
  let isFolder: boolean
  try {
    isFolder = (await stat(path)).isDirectory()
  } catch (error) {
    throw new UsageError('file.unreadable', `cannot read endorsements ${path}: ${reasonOf(error)}`, { cause: error })
  }
  if (!isFolder) files.push(path)
  else for (const name of (await readdir(path)).sort()) await collect(join(path, name), files)
  if (files.length > MAX_ENDORSEMENT_FILES) {
    throw new UsageError('file.too-many', `more than ${MAX_ENDORSEMENT_FILES} endorsement files; name a smaller folder`)
  }
}

/** A policy from a document, YAML or JSON. @throws PolicyError naming file and line. */
export async function loadPolicy(path: string): Promise<AppraisalPolicy> {
  const bytes = await loadFile(path, 'policy', MAX_POLICY_BYTES)
  return parsePolicy(bytes, path)
}

function reasonOf(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code
  if (code === 'ENOENT') return 'there is no such file'
  if (code === 'EACCES' || code === 'EPERM') return 'permission denied'
  return error instanceof Error ? error.message : String(error)
}
