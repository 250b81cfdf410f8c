/** Reading what somebody else wrote: a part of a model file, whole or not at all, and never anything but a file. */
import type { FileHandle } from 'node:fs/promises'
import { openIfRegular } from '../../enclave/inference/package.js'
import { SubrosaError } from '../../verifier/protocol/errors.js'

/** One read of the system gives less than 2 GiB. */
const READ_BYTES = 1 << 30

/** The file is not what it should be. What to do: fetch it again, or another one. */
export class ModelFileError extends SubrosaError {}

export function broken(message: string): ModelFileError {
  return new ModelFileError('model.file', message)
}

/** A file to be read, and its length in bytes. Links are followed. @throws ModelFileError, calling it `name`, for anything else. */
export async function openRegular(
  path: string,
  name: string,
): Promise<{ readonly file: FileHandle; readonly size: number }> {
  const file = await openIfRegular(path).catch((cause: unknown) => {
    throw broken(`${name}: cannot be opened (${(cause as { code?: string }).code ?? 'unknown'})`)
  })
  if (file === undefined) throw broken(`${name}: is not a file`)
  return { file, size: (await file.stat()).size }
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
