import { describe, expect, it } from 'vitest'
import { createKeyLadder, type KeyLadderOptions } from '../../enclave/keys.js'
import { KEM_MLKEM768_X25519, KEM_X25519_HKDF_SHA256 } from '../../verifier/protocol/hpke.js'
import { parseSignedKeyConfigurations, verifyKeyConfiguration } from '../../verifier/protocol/key-configuration.js'
import { parseKeyConfiguration, parseKeyConfigurations } from '../../verifier/protocol/ohttp-keys.js'
import { parseStatement } from '../../verifier/protocol/statement.js'
import { MODEL } from './stub.js'

const START = 1_772_366_400

async function ladder(options: Partial<KeyLadderOptions> = {}) {
  const clock = { s: START }
  const events: string[] = []
  const keys = await createKeyLadder({
    now: () => clock.s,
    kemIds: [KEM_X25519_HKDF_SHA256],
    statement: {
      model: MODEL,
      runtime: { name: 'subrosa', version: '0.1.0', engine: 'stub' },
      serving: { padding: 'tick', retention: 'none', logging: 'metadata', isolation: 'request', keyLifetimeS: 600 },
      configDigest: new Uint8Array(32),
    },
    onEvent: (event) => events.push(event),
    ...options,
  })
  return { keys, clock, events }
}

describe('key ladder', () => {
  it('publishes configurations that the statement vouches for, each of one suite (P-5.1, P-5.4)', async () => {
    const { keys } = await ladder({ kemIds: [KEM_MLKEM768_X25519, KEM_X25519_HKDF_SHA256] })
    const { boot, signed, plain, digests } = await keys.published()
    const list = parseSignedKeyConfigurations(signed)
    expect(list.map((item) => parseKeyConfiguration(item.configuration).kemId)).toEqual([
      KEM_MLKEM768_X25519,
      KEM_X25519_HKDF_SHA256,
    ])
    expect(parseKeyConfigurations(plain)).toHaveLength(2)
    expect(digests).toHaveLength(2)
    const { identity } = parseStatement(boot.statementBytes).keys
    for (const item of list) {
      expect(await verifyKeyConfiguration(identity, boot.statementDigest, item)).toBe(true)
      expect(parseKeyConfiguration(item.configuration).algorithms).toHaveLength(1)
      expect(item.notAfter - item.notBefore).toBeLessThanOrEqual(600)
      expect(item.notBefore).toBeLessThanOrEqual(START)
    }
  })

  it('replaces a key at half its life, opens with the old one until its end, then forgets it (P-5.3)', async () => {
    const { keys, clock, events } = await ladder()
    const first = parseKeyConfigurations((await keys.published()).plain)[0]
    clock.s += 200
    expect(parseKeyConfigurations((await keys.published()).plain)[0]).toEqual(first)
    clock.s += 150
    const second = parseKeyConfigurations((await keys.published()).plain)[0]
    expect(second?.keyId).not.toBe(first?.keyId)
    const old = keys.ring.find(first?.keyId ?? -1)
    expect(old?.configuration.encoded).toEqual(first?.encoded)
    expect(keys.ring.find(first?.keyId ?? -1)).toBe(old)
    clock.s = START + 600
    expect(keys.ring.find(first?.keyId ?? -1)).toBeUndefined()
    expect(keys.ring.find(second?.keyId ?? -1)).toBeDefined()
    expect(events).toContain('keys.dropped')
  })

  it('forgets an expired key when nobody asks for one', async () => {
    const { keys, clock, events } = await ladder()
    clock.s += 601
    await keys.refresh()
    expect(events).toEqual(['keys.dropped', 'keys.rotated'])
  })

  it('starts a new boot within 24 hours, with another statement and other keys (P-4.2)', async () => {
    const { keys, clock, events } = await ladder()
    const before = (await keys.published()).boot
    clock.s += 86_400 - 1100
    const after = (await keys.published()).boot
    expect(events).toContain('keys.epoch')
    expect(after.statement.bootId).not.toEqual(before.statement.bootId)
    expect(after.statement.keys.identity).not.toEqual(before.statement.keys.identity)
    expect(after.statement.keys.receipt).not.toEqual(before.statement.keys.receipt)
  })

  it('rotates once for callers that come together', async () => {
    const { keys, clock, events } = await ladder()
    clock.s += 400
    const all = await Promise.all(Array.from({ length: 10 }, () => keys.published()))
    expect(new Set(all).size).toBe(1)
    expect(events).toEqual(['keys.rotated'])
  })

  it('replaces a retired key at once', async () => {
    const { keys } = await ladder()
    const first = parseKeyConfigurations((await keys.published()).plain)[0]
    const held = keys.ring.find(first?.keyId ?? -1)
    if (held === undefined) throw new Error('no key')
    keys.ring.retire(held)
    expect(keys.ring.find(first?.keyId ?? -1)).toBeUndefined()
    expect(parseKeyConfigurations((await keys.published()).plain)[0]?.encoded).not.toEqual(first?.encoded)
  })

  it('keeps the receipt key inside WebCrypto', async () => {
    const { keys } = await ladder()
    const { receiptKey } = (await keys.published()).boot
    expect(receiptKey.extractable).toBe(false)
    await expect(crypto.subtle.exportKey('pkcs8', receiptKey)).rejects.toThrow()
  })

  it('refuses lifetimes beyond the protocol', async () => {
    const serving = { padding: 'tick', retention: 'none', logging: 'metadata', isolation: 'request' } as const
    const statement = {
      model: MODEL,
      runtime: { name: 'subrosa', version: '0.1.0', engine: 'stub' },
      serving: { ...serving, keyLifetimeS: 601 },
      configDigest: new Uint8Array(32),
    }
    await expect(createKeyLadder({ now: () => START, statement })).rejects.toThrow(RangeError)
  })
})
