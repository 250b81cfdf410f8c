/** Reading targets, endorsements, policies and trust anchors from disk, for the command line tools. Node only. */
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { PolicyError, UsageError } from './errors.js'
import { type Bytes, fromUtf8, toBytes } from './protocol/bytes.js'

/** Largest file read, in bytes: 16 MiB of bundle, or its hex form. */
const MAX_FILE_BYTES = 33 * 1024 * 1024
const MAX_POLICY_BYTES = 1024 * 1024
const MAX_ENDORSEMENT_FILES = 10_000

/** @throws UsageError when the file is missing, unreadable, a folder, or too large. */
export async function loadFile(path: string, what: string, maxBytes: number = MAX_FILE_BYTES): Promise<Bytes> {
  try {
    const info = await stat(path)
    if (info.isDirectory()) throw new UsageError('file.folder', `${what} ${path} is a folder; name a file`)
    if (info.size > maxBytes) {
      throw new UsageError('file.too-large', `${what} ${path} has ${info.size} bytes; at most ${maxBytes} are read`)
    }
    return toBytes(new Uint8Array(await readFile(path)))
  } catch (error) {
    if (error instanceof UsageError) throw error
    throw new UsageError('file.unreadable', `cannot read ${what} ${path}: ${reasonOf(error)}`, { cause: error })
  }
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

/** A policy document as written, YAML or JSON. @throws PolicyError naming file and line. */
export async function loadPolicyDocument(path: string): Promise<unknown> {
  const bytes = await loadFile(path, 'policy', MAX_POLICY_BYTES)
  // Loaded only for those who have a policy: it would be a tenth of every other start.
  const { parse: parseYaml, YAMLParseError } = await import('yaml')
  try {
    return parseYaml(fromUtf8(bytes), { prettyErrors: true, strict: true, uniqueKeys: true, maxAliasCount: 0 })
  } catch (error) {
    const reason = error instanceof YAMLParseError ? (error.message.split('\n')[0] ?? '') : reasonOf(error)
    throw new PolicyError('policy.unreadable', `cannot read ${path}: ${reason}`, { cause: error })
  }
}

function reasonOf(error: unknown): string {
  const code = (error as { code?: unknown } | null)?.code
  if (code === 'ENOENT') return 'there is no such file'
  if (code === 'EACCES' || code === 'EPERM') return 'permission denied'
  return error instanceof Error ? error.message : String(error)
}
