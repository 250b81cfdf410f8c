/** HKDF by Node's HMAC gives the bytes that @noble's gives, which is what browsers have. */
import { KDF_HKDF_SHA256 } from '@panva/hpke-noble'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { nodeHkdf } from '../../verifier/protocol/hkdf-node.js'
import { nodeCrypto } from '../../verifier/protocol/node-crypto.js'
import { failureOf } from './pieces.js'

const node = nodeHkdf(nodeCrypto()!)
const noble = KDF_HKDF_SHA256()
const bytes = fc.uint8Array({ maxLength: 150 })

describe('HKDF-SHA256 by node:crypto and by @noble', () => {
  it('agree, for empty salts and keys too', async () => {
    const property = fc.asyncProperty(
      bytes,
      bytes,
      bytes,
      fc.integer({ min: 1, max: 300 }),
      async (a, b, info, length) => {
        const prk = await node.Extract(a, b)
        expect(prk).toEqual(await noble.Extract(a, b))
        expect(await node.Expand(prk, info, length)).toEqual(await noble.Expand(prk, info, length))
      },
    )
    await fc.assert(property, { numRuns: 300 })
    const nothing = new Uint8Array(0)
    expect(await node.Extract(nothing, nothing)).toEqual(await noble.Extract(nothing, nothing))
  })

  it('gives up to 255 blocks and no more (RFC 5869 §2.3)', async () => {
    const prk = new Uint8Array(32).fill(1)
    expect(await node.Expand(prk, prk, 8160)).toEqual(await noble.Expand(prk, prk, 8160))
    expect(await failureOf(async () => node.Expand(prk, prk, 8161))).toBeInstanceOf(RangeError)
  })
})
