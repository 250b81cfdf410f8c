/**
 * Merkle tree hash and inclusion proofs of RFC 9162 §2.1, SHA-256. Client nonces are batched under such a root, and
 * so are the files of a model package. Trees of at most `MAX_LEAVES` leaves.
 */
import { type Bytes, concat, equalBytes } from './bytes.js'
import { FormatError } from './errors.js'
import { sha256 } from './hash.js'

/** Largest batch: 2^16 leaves, so that a proof never has more than 16 hashes. */
export const MAX_LEAVES = 65_536
const LEAF = new Uint8Array([0])
const NODE = new Uint8Array([1])

/** RFC 9162 §2.1.3: where a leaf stands in a tree, and the hashes that lead from it to the root. */
export interface InclusionProof {
  /** Zero-based position of the leaf. */
  readonly index: number
  /** Number of leaves in the tree. */
  readonly size: number
  /** Sibling hashes from the leaf upwards, 32 bytes each. */
  readonly path: readonly Bytes[]
}

export function leafHash(leaf: Uint8Array): Bytes {
  return sha256(concat(LEAF, leaf))
}

function nodeHash(left: Uint8Array, right: Uint8Array): Bytes {
  return sha256(concat(NODE, left, right))
}

function split(size: number): number {
  let k = 1
  while (2 * k < size) k *= 2
  return k
}

/** A tree: its root, and the hashes from each leaf upwards, in the order of the leaves. */
interface Subtree {
  readonly root: Bytes
  readonly paths: readonly Bytes[][]
}

function subtree(hashes: readonly Bytes[]): Subtree {
  const [only] = hashes
  if (hashes.length === 1 && only !== undefined) return { root: only, paths: [[]] }
  const k = split(hashes.length)
  const left = subtree(hashes.slice(0, k))
  const right = subtree(hashes.slice(k))
  for (const path of left.paths) path.push(right.root)
  for (const path of right.paths) path.push(left.root)
  return { root: nodeHash(left.root, right.root), paths: [...left.paths, ...right.paths] }
}

/**
 * The root over `leaves`, 32 bytes, and the inclusion proof of every leaf at once: one pass, however many ask.
 * @throws RangeError unless there are 1 to `MAX_LEAVES` leaves.
 */
export function merkleTree(leaves: readonly Uint8Array[]): {
  readonly root: Bytes
  readonly proofs: readonly InclusionProof[]
} {
  if (leaves.length < 1 || leaves.length > MAX_LEAVES) throw new RangeError('a tree has 1 to 65536 leaves')
  const { root, paths } = subtree(leaves.map(leafHash))
  return { root, proofs: paths.map((path, index) => ({ index, size: leaves.length, path })) }
}

/** The root over `leaves`, 32 bytes. @throws RangeError unless there are 1 to `MAX_LEAVES` leaves. */
export function merkleRoot(leaves: readonly Uint8Array[]): Bytes {
  return merkleTree(leaves).root
}

/** The inclusion proof of the leaf at `index`. @throws RangeError when there is no such leaf. */
export function inclusionProof(leaves: readonly Uint8Array[], index: number): InclusionProof {
  const proof = merkleTree(leaves).proofs[index]
  if (proof === undefined) throw new RangeError('no such leaf')
  return proof
}

/**
 * Whether `leaf` stands at `proof.index` in the tree of `proof.size` leaves whose root is `root` (RFC 9162 §2.1.3.2).
 * @throws FormatError when index, size and path length cannot belong together.
 */
export function verifyInclusion(leaf: Uint8Array, proof: InclusionProof, root: Uint8Array): boolean {
  const { index, size, path } = proof
  if (!Number.isSafeInteger(size) || size < 1 || size > MAX_LEAVES || !Number.isSafeInteger(index)) {
    throw new FormatError('merkle.proof', 'inclusion proof: expected a tree of 1 to 65536 leaves')
  }
  if (index < 0 || index >= size) throw new FormatError('merkle.proof', 'inclusion proof: index outside the tree')
  let fn = index
  let sn = size - 1
  let hash = leafHash(leaf)
  for (const sibling of path) {
    if (sibling.length !== 32 || sn === 0)
      throw new FormatError('merkle.proof', 'inclusion proof: path of wrong length')
    if (fn % 2 === 1 || fn === sn) {
      hash = nodeHash(sibling, hash)
      while (fn % 2 === 0 && fn !== 0) {
        fn = Math.floor(fn / 2)
        sn = Math.floor(sn / 2)
      }
    } else {
      hash = nodeHash(hash, sibling)
    }
    fn = Math.floor(fn / 2)
    sn = Math.floor(sn / 2)
  }
  if (sn !== 0) throw new FormatError('merkle.proof', 'inclusion proof: path of wrong length')
  return equalBytes(hash, root)
}
