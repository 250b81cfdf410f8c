/** SHA-256 of a file, in hex: piece by piece, for disks that are larger than what Node reads at once. */
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'

const PIECE_BYTES = 1024 * 1024

export async function fileDigest(file: string): Promise<string> {
  const hash = createHash('sha256')
  for await (const piece of createReadStream(file, { highWaterMark: PIECE_BYTES })) hash.update(piece as Buffer)
  return hash.digest('hex')
}
