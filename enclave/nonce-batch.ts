/**
 * One batch of client nonces as an RFC 9162 §2.1 tree, with the inclusion proof of every leaf at once. Proof by proof
 * (`verifier/protocol/merkle.ts`) would hash the whole tree for each client, which a flood of nonces could turn into work.
 */
import { type Bytes, concat } from '../verifier/protocol/bytes.js'
import { sha256 } from '../verifier/protocol/hash.js'
import { type InclusionProof, leafHash } from '../verifier/protocol/merkle.js'

interface Subtree {
  readonly root: Bytes
  /** For each leaf, in order, the hashes from that leaf upwards. */
  readonly paths: readonly Bytes[][]
}

/** @throws RangeError on an empty batch. */
export function nonceTree(nonces: readonly Bytes[]): {
  readonly root: Bytes
  readonly proofs: readonly InclusionProof[]
} {
  if (nonces.length === 0) throw new RangeError('a batch has at least one nonce')
  const { root, paths } = subtree(nonces.map(leafHash))
  return { root, proofs: paths.map((path, index) => ({ index, size: nonces.length, path })) }
}

function subtree(hashes: readonly Bytes[]): Subtree {
  const [only] = hashes
  if (hashes.length === 1 && only !== undefined) return { root: only, paths: [[]] }
  // The largest power of two smaller than the number of leaves.
  let k = 1
  while (2 * k < hashes.length) k *= 2
  const left = subtree(hashes.slice(0, k))
  const right = subtree(hashes.slice(k))
  for (const path of left.paths) path.push(right.root)
  for (const path of right.paths) path.push(left.root)
  return { root: sha256(concat(new Uint8Array([1]), left.root, right.root)), paths: [...left.paths, ...right.paths] }
}
