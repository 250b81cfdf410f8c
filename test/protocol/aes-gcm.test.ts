/** Both ways of doing AES-GCM give the same bytes, and refuse the same ones. */
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { nodeAesGcm, webAesGcm } from '../../verifier/protocol/aes-gcm.js'
import { nodeCrypto } from '../../verifier/protocol/node-crypto.js'
import { failureOf } from './pieces.js'

const node = nodeAesGcm(nodeCrypto()!)
const web = webAesGcm()
const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length })

describe('AES-GCM by node:crypto and by WebCrypto', () => {
  it('agree', async () => {
    const key = fc.oneof(bytes(16), bytes(32))
    const property = fc.asyncProperty(
      key,
      bytes(12),
      fc.uint8Array({ maxLength: 20 }),
      fc.uint8Array({ maxLength: 300 }),
      async (k, nonce, aad, plaintext) => {
        const sealed = await node.seal(k, nonce, aad, plaintext)
        expect(sealed).toEqual(await web.seal(k, nonce, aad, plaintext))
        expect(await node.open(k, nonce, aad, sealed)).toEqual(new Uint8Array(plaintext))
        expect(await web.open(k, nonce, aad, sealed)).toEqual(new Uint8Array(plaintext))
      },
    )
    await fc.assert(property, { numRuns: 200 })
  })

  it.each(Object.entries({ node, web }))('%s refuses any changed or missing byte', async (_, aead) => {
    const key = new Uint8Array(32).fill(7)
    const nonce = new Uint8Array(12)
    const aad = new Uint8Array([1])
    const sealed = await aead.seal(key, nonce, aad, new Uint8Array(20))
    for (let at = 0; at < sealed.length; at++) {
      const changed = new Uint8Array(sealed)
      changed[at] = (changed[at] ?? 0) ^ 1
      expect(await failureOf(() => aead.open(key, nonce, aad, changed))).toBeInstanceOf(Error)
      expect(await failureOf(() => aead.open(key, nonce, aad, sealed.slice(0, at)))).toBeInstanceOf(Error)
    }
    expect(await failureOf(() => aead.open(key, nonce, new Uint8Array([2]), sealed))).toBeInstanceOf(Error)
    expect(
      await failureOf(() =>
        aead.open(
          key.map((b) => b ^ 1),
          nonce,
          aad,
          sealed,
        ),
      ),
    ).toBeInstanceOf(Error)
  })
})
