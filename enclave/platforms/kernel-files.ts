/**
 * Files of the kernel's virtual file systems: read to the end within a bound, because their sizes lie or are unknown, and
 * written in one call between open and close, because some commit only then.
 */
import { access, type FileHandle, mkdir, open, rmdir } from 'node:fs/promises'
import { type Bytes, concat, toBytes } from '../../verifier/protocol/bytes.js'
import { FormatError } from '../../verifier/protocol/errors.js'

/** The operations the platforms need, so that a test can stand in for a kernel. */
export interface KernelFiles {
  makeFolder(path: string): Promise<void>
  removeFolder(path: string): Promise<void>
  /** @throws FormatError when there is more than `maxBytes`. */
  read(path: string, maxBytes: number): Promise<Bytes>
  write(path: string, bytes: Bytes): Promise<void>
}

const PIECE_BYTES = 64 * 1024

export const kernelFiles: KernelFiles = {
  async makeFolder(path) {
    await mkdir(path)
  },
  removeFolder: rmdir,
  async read(path, maxBytes) {
    const file = await open(path, 'r')
    try {
      const pieces: Uint8Array[] = []
      for (let size = 0; ; ) {
        // No position: these files cannot seek.
        const { bytesRead, buffer } = await file.read(new Uint8Array(PIECE_BYTES), 0, PIECE_BYTES, null)
        if (bytesRead === 0) return toBytes(concat(...pieces))
        size += bytesRead
        if (size > maxBytes) throw new FormatError('kernel.too-large', `${path}: more than ${maxBytes} bytes`)
        pieces.push(buffer.subarray(0, bytesRead))
      }
    } finally {
      await file.close()
    }
  },
  async write(path, bytes) {
    const file = await open(path, 'w')
    try {
      const { bytesWritten } = await file.write(bytes, 0, bytes.length, null)
      if (bytesWritten !== bytes.length) {
        throw new FormatError('kernel.short-write', `${path}: took ${bytesWritten} of ${bytes.length} bytes`)
      }
    } finally {
      await file.close()
    }
  },
}

/** For reading and writing. @throws Error of the system */
export function openDevice(path: string): Promise<FileHandle> {
  return open(path, 'r+')
}

export function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

/** `ENOENT`, `EBUSY`, …; `unknown` where the error names none. */
export function errnoOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'unknown'
}
