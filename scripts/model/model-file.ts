/** Reading what somebody else wrote: a part of a model file, whole or not at all. */
import type { FileHandle } from 'node:fs/promises'
import { SubrosaError } from '../../verifier/protocol/errors.js'

/** One read of the system gives less than 2 GiB. */
const READ_BYTES = 1 << 30

/** The file is not what it should be. What to do: fetch it again, or another one. */
export class ModelFileError extends SubrosaError {}

export function broken(message: string): ModelFileError {
  return new ModelFileError('model.file', message)
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
