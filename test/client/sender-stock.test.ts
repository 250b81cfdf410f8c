/** Encapsulations made ahead: each for one key and one request, or the keystream of one would open another. */
import { describe, expect, it } from 'vitest'
import { createSenderStock } from '../../client/sender-stock.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { KEM_X25519_HKDF_SHA256 } from '../../verifier/protocol/hpke.js'
import { openRequest, type PreparedSender, prepareSender, sealPrepared } from '../../verifier/protocol/ohttp.js'
import { generateKeyConfiguration } from '../../verifier/protocol/ohttp-generate.js'
import { parseKeyConfiguration } from '../../verifier/protocol/ohttp-keys.js'
import { StreamReader, streamOf } from '../../verifier/protocol/streams.js'

const keyOf = (id: number) => generateKeyConfiguration(id, KEM_X25519_HKDF_SHA256)
const text = new TextEncoder().encode('a question')

describe('a prepared sender', () => {
  it('seals one request, which opens as any other, and no second', async () => {
    const key = await keyOf(1)
    const sender = await prepareSender(key.configuration)
    const { body } = await sealPrepared(sender, text)
    const opened = await openRequest(streamOf(body), () => key)
    expect(await new StreamReader(opened.plaintext, 'request').rest(100)).toEqual(text)
    await expect(sealPrepared(sender, text)).rejects.toThrow(TypeError)
  })
})

describe('the stock', () => {
  /** A stock, and the senders it made. */
  const counted = () => {
    const made: Promise<PreparedSender>[] = []
    const stock = createSenderStock((encoded) => {
      const sender = Promise.resolve().then(() => prepareSender(parseKeyConfiguration(encoded)))
      made.push(sender)
      return sender
    })
    return { stock, made }
  }
  const encodedKey = async (id: number) => (await keyOf(id)).configuration.encoded

  it('gives each one away once, and the one made ahead first', async () => {
    const encoded = await encodedKey(1)
    const { stock, made } = counted()
    stock.refill(encoded)
    stock.refill(encoded)
    expect(made).toHaveLength(1)
    const taken = await Promise.all([1, 2, 3].map(() => stock.take(encoded)))
    expect(taken).toEqual(await Promise.all(made))
    const sealed = await Promise.all(taken.map((sender) => sealPrepared(sender, text)))
    expect(new Set(sealed.map(({ enc }) => enc.join())).size).toBe(3)
  })

  it('knows a key by its bytes', async () => {
    const encoded = await encodedKey(1)
    const { stock, made } = counted()
    stock.refill(encoded)
    expect(await stock.take(encoded.slice())).toBe(await made[0])
    expect(made).toHaveLength(1)
  })

  it('never gives one of another key', async () => {
    const [old, next] = [await encodedKey(1), await encodedKey(1)]
    const stock = createSenderStock()
    stock.refill(old)
    expect((await stock.take(next)).configuration.encoded).toEqual(next)
    stock.refill(old)
    stock.refill(next)
    expect((await stock.take(old)).configuration.encoded).toEqual(old)
  })

  it('leaves a key that cannot be used to fail when it is used', async () => {
    const broken = (await encodedKey(1)).slice(0, -1)
    const stock = createSenderStock()
    stock.refill(broken)
    await new Promise((resolve) => setTimeout(resolve, 20))
    await expect(stock.take(broken)).rejects.toThrow(FormatError)
  })

  it('keeps nothing once it was dropped', async () => {
    const encoded = await encodedKey(1)
    const { stock, made } = counted()
    stock.refill(encoded)
    stock.drop()
    stock.refill(encoded)
    expect(await stock.take(encoded)).not.toBe(await made[0])
    expect(made).toHaveLength(2)
  })
})
