import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { toHex, utf8 } from '../../verifier/protocol/bytes.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { sha256 } from '../../verifier/protocol/hash.js'
import { inclusionProof, leafHash, merkleRoot, verifyInclusion } from '../../verifier/protocol/merkle.js'

const leaves = (count: number) => Array.from({ length: count }, (_, i) => sha256(utf8(`leaf ${i}`)))

describe('Merkle tree of RFC 9162 §2.1', () => {
  it('takes the leaf hash of a single leaf as the root', () => {
    const [leaf] = leaves(1)
    expect(toHex(merkleRoot([leaf!]))).toBe(toHex(leafHash(leaf!)))
  })

  it('has the root that §2.1.1 defines, written down once more', () => {
    const mth = (hashes: readonly Uint8Array[]): Uint8Array => {
      if (hashes.length === 1) return hashes[0]!
      const k = 2 ** Math.ceil(Math.log2(hashes.length) - 1)
      return sha256(new Uint8Array([1, ...mth(hashes.slice(0, k)), ...mth(hashes.slice(k))]))
    }
    for (let size = 1; size <= 40; size++) {
      const all = leaves(size)
      expect(toHex(merkleRoot(all))).toBe(toHex(mth(all.map(leafHash))))
    }
  })

  it('proves every leaf of every tree up to 33 leaves, and only at its own place', () => {
    for (let size = 1; size <= 33; size++) {
      const all = leaves(size)
      const root = merkleRoot(all)
      for (const [index, leaf] of all.entries()) {
        const proof = inclusionProof(all, index)
        expect(verifyInclusion(leaf, proof, root)).toBe(true)
        expect(verifyInclusion(sha256(leaf), proof, root)).toBe(false)
        if (size > 1) expect(verifyInclusion(all[(index + 1) % size]!, proof, root)).toBe(false)
      }
    }
  })

  it('refuses a proof whose path does not fit the tree', () => {
    const all = leaves(7)
    const proof = inclusionProof(all, 3)
    const root = merkleRoot(all)
    expect(() => verifyInclusion(all[3]!, { ...proof, path: proof.path.slice(1) }, root)).toThrow(FormatError)
    expect(() => verifyInclusion(all[3]!, { ...proof, path: [...proof.path, root] }, root)).toThrow(FormatError)
    expect(() => verifyInclusion(all[3]!, { ...proof, index: 7 }, root)).toThrow(FormatError)
    expect(() => verifyInclusion(all[3]!, { ...proof, size: 0 }, root)).toThrow(FormatError)
    expect(() => verifyInclusion(all[3]!, { ...proof, size: 1e9 }, root)).toThrow(FormatError)
  })

  it('does not let an inner node stand for a leaf', () => {
    const all = leaves(2)
    const root = merkleRoot(all)
    const inner = new Uint8Array([...leafHash(all[0]!), ...leafHash(all[1]!)])
    expect(verifyInclusion(inner, { index: 0, size: 1, path: [] }, root)).toBe(false)
  })

  it('never accepts an altered proof', () => {
    const all = leaves(21)
    const root = merkleRoot(all)
    fc.assert(
      fc.property(fc.nat(20), fc.nat(), fc.integer({ min: 0, max: 7 }), (index, byte, bit) => {
        const proof = inclusionProof(all, index)
        const flat = proof.path.map((hash) => new Uint8Array(hash))
        const at = byte % (flat.length * 32)
        const hash = flat[Math.floor(at / 32)]!
        hash[at % 32] = hash[at % 32]! ^ (1 << bit)
        expect(verifyInclusion(all[index]!, { ...proof, path: flat }, root)).toBe(false)
      }),
    )
  })
})
