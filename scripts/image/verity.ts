/**
 * The dm-verity hash tree (Linux Documentation/admin-guide/device-mapper/verity.rst, version 1, SHA-256, 4096-byte blocks, no
 * salt), appended to the data without a superblock: what a guest would have to parse of it is nothing.
 */
import { createHash } from 'node:crypto'

export const VERITY_BLOCK_BYTES = 4096
const DIGEST_BYTES = 32
const DIGESTS_IN_BLOCK = VERITY_BLOCK_BYTES / DIGEST_BYTES

export interface VerityTree {
  /** 32 bytes. */
  readonly rootHash: Buffer
  readonly dataBlocks: number
  /** To be appended to the data: the top level first, the hashes of the data last. */
  readonly tree: Buffer
}

/** @throws RangeError when `data` is empty or no whole number of blocks. */
export function verityTree(data: Buffer): VerityTree {
  if (data.length === 0 || data.length % VERITY_BLOCK_BYTES !== 0) {
    throw new RangeError(`data: expected whole blocks of ${VERITY_BLOCK_BYTES} bytes, got ${data.length} bytes`)
  }
  const levels: Buffer[] = []
  let below = data
  do {
    below = hashLevel(below)
    levels.unshift(below)
  } while (below.length > VERITY_BLOCK_BYTES)
  return { rootHash: sha256(below), dataBlocks: data.length / VERITY_BLOCK_BYTES, tree: Buffer.concat(levels) }
}

function hashLevel(below: Buffer): Buffer {
  const blocks = below.length / VERITY_BLOCK_BYTES
  const level = Buffer.alloc(Math.ceil(blocks / DIGESTS_IN_BLOCK) * VERITY_BLOCK_BYTES)
  for (let i = 0; i < blocks; i++) {
    sha256(below.subarray(i * VERITY_BLOCK_BYTES, (i + 1) * VERITY_BLOCK_BYTES)).copy(level, i * DIGEST_BYTES)
  }
  return level
}

function sha256(bytes: Buffer): Buffer {
  return createHash('sha256').update(bytes).digest()
}
