import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { concat } from '../../verifier/protocol/bytes.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { sha256 } from '../../verifier/protocol/hash.js'
import { KEM_MLKEM768_X25519, KEM_X25519_HKDF_SHA256 } from '../../verifier/protocol/hpke.js'
import { generateKeyConfiguration } from '../../verifier/protocol/ohttp-generate.js'
import {
  configurationHash,
  encodeKeyConfiguration,
  encodeKeyConfigurations,
  parseKeyConfiguration,
  parseKeyConfigurations,
  routingHint,
  suiteOf,
} from '../../verifier/protocol/ohttp-keys.js'

const u16 = () => fc.integer({ min: 0, max: 0xffff })
const configurations = fc
  .record({
    keyId: fc.integer({ min: 0, max: 255 }),
    publicKey: fc.uint8Array({ minLength: 32, maxLength: 32 }),
    algorithms: fc.array(fc.record({ kdfId: u16(), aeadId: u16() }), { minLength: 1, maxLength: 16 }),
  })
  .map((r) => encodeKeyConfiguration({ ...r, publicKey: new Uint8Array(r.publicKey), kemId: KEM_X25519_HKDF_SHA256 }))

describe('OHTTP key configurations', () => {
  it('parse inverts encode, one and many', () => {
    fc.assert(
      fc.property(fc.array(configurations, { maxLength: 8 }), (list) => {
        for (const one of list) expect(parseKeyConfiguration(one.encoded)).toEqual(one)
        expect(parseKeyConfigurations(encodeKeyConfigurations(list))).toEqual(list)
      }),
    )
  })

  it('any bytes parse or raise FormatError, nothing else', () => {
    const attempt = (parse: (bytes: Uint8Array) => unknown, bytes: Uint8Array) => {
      try {
        parse(bytes)
      } catch (error) {
        expect(error).toBeInstanceOf(FormatError)
      }
    }
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        attempt(parseKeyConfiguration, bytes)
        attempt(parseKeyConfigurations, bytes)
        attempt(parseKeyConfiguration, concat(new Uint8Array([1, 0, 0x20]), bytes))
      }),
    )
  })

  it.each([KEM_X25519_HKDF_SHA256, KEM_MLKEM768_X25519])(
    'a generated one for KEM %i survives its encoding',
    async (kemId) => {
      const { configuration } = await generateKeyConfiguration(7, kemId)
      expect(parseKeyConfiguration(configuration.encoded)).toEqual(configuration)
      expect(suiteOf(configuration)).toEqual({ kemId, kdfId: 1, aeadId: 2 })
      for (let length = 0; length < configuration.encoded.length; length++) {
        expect(() => parseKeyConfiguration(configuration.encoded.subarray(0, length))).toThrow(FormatError)
      }
      expect(() => parseKeyConfiguration(concat(configuration.encoded, new Uint8Array(1)))).toThrow(FormatError)
    },
  )

  it('a list skips KEMs it does not know and keeps the rest', async () => {
    const { configuration } = await generateKeyConfiguration(1, KEM_X25519_HKDF_SHA256)
    const foreign = { encoded: new Uint8Array([9, 0x12, 0x34, 1, 2, 3]) }
    expect(parseKeyConfigurations(encodeKeyConfigurations([foreign, configuration]))).toEqual([configuration])
  })

  it('the hint is the head of the hash, and the hash covers every byte', async () => {
    const { configuration } = await generateKeyConfiguration(1, KEM_X25519_HKDF_SHA256)
    expect(configurationHash(configuration.encoded)).toEqual(sha256(configuration.encoded))
    const hint = Buffer.from(sha256(configuration.encoded).subarray(0, 16)).toString('base64url')
    expect(routingHint(configuration.encoded)).toBe(hint)
  })

  it.each([0, 2, 6, 4 * 17])('%i bytes of algorithms are refused', (length) => {
    const head = new Uint8Array([1, 0, 0x20, ...new Uint8Array(32), 0, length])
    expect(() => parseKeyConfiguration(concat(head, new Uint8Array(length)))).toThrow(
      expect.objectContaining({ code: 'ohttp-keys.algorithms' }),
    )
  })

  it('a configuration without a usable suite is refused', () => {
    const none = encodeKeyConfiguration({
      keyId: 1,
      kemId: KEM_X25519_HKDF_SHA256,
      publicKey: new Uint8Array(32),
      algorithms: [{ kdfId: 1, aeadId: 0xffff }],
    })
    expect(() => suiteOf(none)).toThrow(FormatError)
  })
})
