/** Encapsulations made ahead: each for one key and one request, or the keystream of one would open another. */
import { describe, expect, it } from 'vitest'
import { createSenderStock } from '../../client/sender-stock.js'
import { KEM_X25519_HKDF_SHA256 } from '../../verifier/protocol/hpke.js'
import { openRequest, prepareSender, sealPrepared } from '../../verifier/protocol/ohttp.js'
import { generateKeyConfiguration } from '../../verifier/protocol/ohttp-generate.js'
import { parseKeyConfiguration } from '../../verifier/protocol/ohttp-keys.js'
import { StreamReader, streamOf } from '../../verifier/protocol/streams.js'

const keyOf = (id: number) => generateKeyConfiguration(id, KEM_X25519_HKDF_SHA256)
const text = new TextEncoder().encode('a question')

describe('a prepared sender', () => {
  it('seals one request, which opens as any other, and no second', async () => {
    const key = await keyOf(1)
    const sender = await prepareSender(key.configuration)
    const { body } = sealPrepared(sender, streamOf(text))
    const opened = await openRequest(body, () => key)
    expect(await new StreamReader(opened.plaintext, 'request').rest(100)).toEqual(text)
    expect(() => sealPrepared(sender, streamOf(text))).toThrow(TypeError)
  })
})

describe('the stock', () => {
  it('gives each one away once, and the one made ahead first', async () => {
    const { configuration } = await keyOf(1)
    const stock = createSenderStock()
    stock.refill(configuration)
    stock.refill(configuration)
    const taken = await Promise.all([1, 2, 3].map(() => stock.take(configuration)))
    expect(new Set(taken.map((sender) => sealPrepared(sender, streamOf(text)).enc.join())).size).toBe(3)
  })

  it('knows a key by its bytes', async () => {
    const { configuration } = await keyOf(1)
    const stock = createSenderStock()
    stock.refill(configuration)
    expect((await stock.take(parseKeyConfiguration(configuration.encoded))).configuration).toBe(configuration)
  })

  it('never gives one of another key', async () => {
    const [old, next] = [await keyOf(1), await keyOf(1)]
    const stock = createSenderStock()
    stock.refill(old.configuration)
    expect((await stock.take(next.configuration)).configuration).toBe(next.configuration)
    stock.refill(old.configuration)
    stock.refill(next.configuration)
    expect((await stock.take(old.configuration)).configuration).toBe(old.configuration)
  })

  it('leaves a key that cannot be used to fail when it is used', async () => {
    const { configuration } = await keyOf(1)
    const broken = { ...configuration, publicKey: new Uint8Array(3) }
    const stock = createSenderStock()
    stock.refill(broken)
    await new Promise((resolve) => setTimeout(resolve, 20))
    await expect(stock.take(broken)).rejects.toThrow()
  })

  it('keeps nothing once it was dropped', async () => {
    const { configuration } = await keyOf(1)
    const stock = createSenderStock()
    stock.refill(configuration)
    const parsed = parseKeyConfiguration(configuration.encoded)
    stock.drop()
    stock.refill(configuration)
    expect((await stock.take(parsed)).configuration).toBe(parsed)
  })
})
