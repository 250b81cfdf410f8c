/** Whether a file has a text in it, piece by piece: disks may be larger than what Node reads at once. */
import { createReadStream } from 'node:fs'

const PIECE_BYTES = 1024 * 1024

export async function fileIncludes(file: string, text: string, pieceBytes = PIECE_BYTES): Promise<boolean> {
  const wanted = Buffer.from(text)
  let tail: Buffer = Buffer.alloc(0)
  for await (const piece of createReadStream(file, { highWaterMark: pieceBytes })) {
    const seen = Buffer.concat([tail, piece as Buffer])
    if (seen.includes(wanted)) return true
    // It may lie across two pieces.
    tail = wanted.length > 1 ? seen.subarray(-(wanted.length - 1)) : Buffer.alloc(0)
  }
  return false
}
