/** Files of a folder that somebody else filled, read by a build that runs as root: what is no file of that folder is refused unread. */
import { constants } from 'node:fs'
import { type FileHandle, lstat, mkdir, open, realpath } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { EngineError } from '../../enclave/inference/errors.js'
import { ImageError } from './command.js'

/**
 * Copies `path` of the folder `root` to the same place below `to`, where it must not be yet.
 * @param root as `realpath` gives it. @param most length in bytes that the file may have at most. @param magic what it must begin with.
 * @throws ImageError for a link, at the file or on the way to it, anything but a regular file, and other first bytes; EngineError
 * `package.size` when it is longer, and then `most` bytes were read at most.
 */
export async function copyHostileFile(root: string, path: string, to: string, most: number, magic = ''): Promise<void> {
  const file = await openInside(root, path)
  try {
    const { size } = await file.stat()
    if (size > most) throw new EngineError('package.size', `${path}: expected at most ${most} bytes, got ${size}`)
    const start = Buffer.alloc(magic.length)
    await file.read(start, 0, start.length, 0)
    if (start.toString('latin1') !== magic) {
      throw new ImageError(`${path}: expected ${JSON.stringify(magic)} at its start, got something else; seal it again`)
    }
    await mkdir(dirname(join(to, path)), { recursive: true })
    const copy = await open(join(to, path), 'wx', 0o600)
    // To the length it had: what is appended meanwhile is not copied.
    await pipeline(
      size === 0 ? [] : file.createReadStream({ start: 0, end: size - 1, autoClose: false, highWaterMark: 1 << 20 }),
      copy.createWriteStream(),
    )
  } finally {
    await file.close()
  }
}

async function openInside(root: string, path: string): Promise<FileHandle> {
  const place = join(root, path)
  const real = await realpath(place).catch((cause: unknown) => {
    throw new EngineError('package.missing', `${path}: cannot be opened`, { cause })
  })
  // Looked at before it is opened: a pipe would wait for its writer, and a device may act.
  if (real !== place || !(await lstat(place)).isFile()) throw notOwn(path)
  const file = await open(place, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  if ((await file.stat()).isFile()) return file
  await file.close()
  throw notOwn(path)
}

function notOwn(path: string): ImageError {
  return new ImageError(
    `${path}: expected a regular file of the package, got a link or something else; copy the package with its files`,
  )
}
