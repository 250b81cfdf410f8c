/** Reading what somebody else wrote: a part of a model file, whole or not at all, and never anything but a file. */
import { constants } from 'node:fs'
import { type FileHandle, open, stat } from 'node:fs/promises'
import { SubrosaError } from '../../verifier/protocol/errors.js'

/** One read of the system gives less than 2 GiB. */
const READ_BYTES = 1 << 30

/** The file is not what it should be. What to do: fetch it again, or another one. */
export class ModelFileError extends SubrosaError {}

export function broken(message: string): ModelFileError {
  return new ModelFileError('model.file', message)
}

/**
 * A file to be read, and its length in bytes. Links are followed. @throws ModelFileError, calling it `name`, for anything else: a
 * pipe would wait for its writer, and a device may act when it is opened.
 */
export async function openRegular(
  path: string,
  name: string,
): Promise<{ readonly file: FileHandle; readonly size: number }> {
  const failed = (cause: unknown): never => {
    throw broken(`${name}: cannot be opened (${(cause as { code?: string }).code ?? 'unknown'})`)
  }
  if (!(await stat(path).catch(failed)).isFile()) throw broken(`${name}: is not a file`)
  // It may have been replaced meanwhile.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(failed)
  const facts = await file.stat()
  if (facts.isFile()) return { file, size: facts.size }
  await file.close()
  throw broken(`${name}: is not a file`)
}

/** `length` bytes from `offset` on. @throws ModelFileError, calling them `name`, where the file ends before. */
export async function readPart(file: FileHandle, offset: number, length: number, name: string): Promise<Buffer> {
  const bytes = Buffer.allocUnsafe(length)
  for (let at = 0; at < length; ) {
    const { bytesRead } = await file.read(bytes, at, Math.min(READ_BYTES, length - at), offset + at)
    if (bytesRead === 0) throw broken(`${name}: the file is cut short`)
    at += bytesRead
  }
  return bytes
}
