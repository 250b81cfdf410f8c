/** X-Wing, whatever it is made of, gives the bytes that @noble's own X-Wing gives, both ways. */
import { ml_kem768_x25519 as MLKEM768X25519 } from '@noble/post-quantum/hybrid.js'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { fromHex } from '../../verifier/protocol/bytes.js'
import { nodeCrypto } from '../../verifier/protocol/node-crypto.js'
import { mlKem768X25519 } from '../../verifier/protocol/x-wing.js'
import { nobleMlKem, noblePrimitives } from '../../verifier/protocol/x-wing-noble.js'
import { nodePrimitives, opensslMlKem } from '../../verifier/protocol/x-wing-node.js'
import { failureOf } from './pieces.js'

const node = nodeCrypto()!
const openssl = opensslMlKem(node)
const kems = {
  '@noble': mlKem768X25519(noblePrimitives()),
  'Node and @noble': mlKem768X25519(nodePrimitives(node, nobleMlKem())),
  ...(openssl === undefined ? {} : { Node: mlKem768X25519(nodePrimitives(node, openssl)) }),
}

/** Points of small order: RFC 7748 §6.1 has both ends refuse what they agree on. */
const SMALL_ORDER = [
  '0000000000000000000000000000000000000000000000000000000000000000',
  '0100000000000000000000000000000000000000000000000000000000000000',
  'e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
]

describe.each(Object.entries(kems))('MLKEM768-X25519 by %s', (_, factory) => {
  const kem = factory()
  const seed = fc.uint8Array({ minLength: 32, maxLength: 32 })

  it('opens what @noble sealed, and @noble opens what it sealed', async () => {
    const property = fc.asyncProperty(seed, async (secret) => {
      const theirs = MLKEM768X25519.keygen(secret)
      const privateKey = await kem.DeserializePrivateKey(secret, false)
      const publicKey = await kem.DeserializePublicKey(theirs.publicKey)

      const sealed = MLKEM768X25519.encapsulate(theirs.publicKey)
      expect(await kem.Decap(new Uint8Array(sealed.cipherText), privateKey, undefined)).toEqual(
        new Uint8Array(sealed.sharedSecret),
      )

      const { enc, shared_secret } = await kem.Encap(publicKey)
      expect(MLKEM768X25519.decapsulate(enc, theirs.secretKey)).toEqual(shared_secret)
    })
    await fc.assert(property, { numRuns: 20 })
  })

  it('makes another secret of any changed encapsulation, as @noble does', async () => {
    const { publicKey, privateKey } = await kem.GenerateKeyPair(false)
    const { enc, shared_secret } = await kem.Encap(publicKey)
    for (const at of [0, 500, 1087, 1088, 1118]) {
      const changed = enc.slice()
      changed[at] = (changed[at] ?? 0) ^ 1
      expect(await kem.Decap(changed, privateKey, undefined)).not.toEqual(shared_secret)
    }
  })

  it('refuses points of small order, at either end', async () => {
    const { publicKey, privateKey } = await kem.GenerateKeyPair(false)
    const { enc } = await kem.Encap(publicKey)
    const raw = await kem.SerializePublicKey(publicKey)
    for (const point of SMALL_ORDER.map(fromHex)) {
      const [text, key] = [enc.slice(), raw.slice()]
      text.set(point, 1088)
      key.set(point, 1184)
      expect(await failureOf(() => kem.Decap(text, privateKey, undefined))).toBeInstanceOf(Error)
      expect(await failureOf(async () => kem.Encap(await kem.DeserializePublicKey(key)))).toBeInstanceOf(Error)
    }
  })

  it('gives no private key away and derives none', async () => {
    const { privateKey } = await kem.GenerateKeyPair(true)
    expect(await failureOf(() => kem.SerializePrivateKey(privateKey))).toBeInstanceOf(TypeError)
    expect(await failureOf(() => kem.DeriveKeyPair(new Uint8Array(32), true))).toBeInstanceOf(TypeError)
    expect(JSON.stringify(privateKey)).not.toContain('mlKem')
  })
})
