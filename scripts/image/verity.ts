/**
 * The dm-verity hash tree (Linux Documentation/admin-guide/device-mapper/verity.rst, version 1, SHA-256, 4096-byte blocks, no
 * salt), appended to the data without a superblock: what a guest would have to parse of it is nothing.
 */
import { createHash } from 'node:crypto'
import { open } from 'node:fs/promises'

export const VERITY_BLOCK_BYTES = 4096
const DIGEST_BYTES = 32
const DIGESTS_IN_BLOCK = VERITY_BLOCK_BYTES / DIGEST_BYTES
/** Whole blocks of hashes come of it. */
const PIECE_BYTES = DIGESTS_IN_BLOCK * VERITY_BLOCK_BYTES

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
  return treeOver(hashLevel(data), data.length / VERITY_BLOCK_BYTES)
}

/** Fills a file up to whole blocks and appends its tree, reading it piece by piece: a model may be larger than memory. */
export async function appendVerityTree(file: string): Promise<Omit<VerityTree, 'tree'>> {
  const handle = await open(file, 'r+')
  try {
    const { size } = await handle.stat()
    const dataBlocks = Math.ceil(size / VERITY_BLOCK_BYTES)
    await handle.truncate(dataBlocks * VERITY_BLOCK_BYTES)
    const hashes: Buffer[] = []
    for (let at = 0; at < dataBlocks * VERITY_BLOCK_BYTES; at += PIECE_BYTES) {
      const piece = Buffer.alloc(Math.min(PIECE_BYTES, dataBlocks * VERITY_BLOCK_BYTES - at))
      for (let read = 0; read < piece.length; ) {
        const { bytesRead } = await handle.read(piece, read, piece.length - read, at + read)
        if (bytesRead === 0) throw new RangeError(`${file}: shorter than it was`)
        read += bytesRead
      }
      hashes.push(hashLevel(piece))
    }
    const { tree, rootHash } = treeOver(Buffer.concat(hashes), dataBlocks)
    await handle.write(tree, 0, tree.length, dataBlocks * VERITY_BLOCK_BYTES)
    return { rootHash, dataBlocks }
  } finally {
    await handle.close()
  }
}

/** `hashes`: of the data's blocks, filled up to a whole block. */
function treeOver(hashes: Buffer, dataBlocks: number): VerityTree {
  const levels = [hashes]
  let below = hashes
  while (below.length > VERITY_BLOCK_BYTES) {
    below = hashLevel(below)
    levels.unshift(below)
  }
  return { rootHash: sha256(below), dataBlocks, tree: Buffer.concat(levels) }
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
