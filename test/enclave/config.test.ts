import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import {
  configurationDigest,
  encodeHostConfiguration,
  type HostConfiguration,
  parseHostConfiguration,
  SOFTWARE_VERSION,
} from '../../enclave/config.js'
import { decodeCbor, encodeCbor } from '../../verifier/protocol/cbor.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { sha256, sha384 } from '../../verifier/protocol/hash.js'

const configuration: HostConfiguration = {
  model: { id: 'demo', weightsRoot: new Uint8Array(32).fill(7) },
  padding: 'tick',
  engine: 'stub 1.0.0',
}

describe('host configuration', () => {
  it('survives its own encoding, with and without an operator', () => {
    const withOperator = { ...configuration, operatorKey: new Uint8Array(32).fill(9) }
    const withSessions = { ...configuration, isolation: 'session' } as const
    for (const value of [configuration, withOperator, withSessions]) {
      expect(parseHostConfiguration(encodeHostConfiguration(value))).toEqual(value)
    }
  })

  it('has one digest for each kind of machine', () => {
    const encoded = encodeHostConfiguration(configuration)
    expect(configurationDigest('snp', encoded)).toEqual(sha256(encoded))
    expect(configurationDigest('tdx', encoded)).toEqual(sha384(encoded))
  })

  it('changes its digest with every choice', () => {
    const variants: HostConfiguration[] = [
      configuration,
      { ...configuration, padding: 'off' },
      { ...configuration, isolation: 'session' },
      { ...configuration, engine: 'stub 1.0.1' },
      { ...configuration, device: 'cuda' },
      { ...configuration, device: 'webgpu' },
      { ...configuration, model: { ...configuration.model, id: 'other' } },
      { ...configuration, model: { ...configuration.model, weightsRoot: new Uint8Array(32) } },
      { ...configuration, operatorKey: new Uint8Array(32) },
    ]
    const digests = variants.map((value) => configurationDigest('snp', encodeHostConfiguration(value)).join())
    expect(new Set(digests).size).toBe(variants.length)
  })

  it('has one encoding for the default isolation and the default device', () => {
    const said = encodeHostConfiguration({ ...configuration, isolation: 'request', device: 'cpu' })
    expect(said).toEqual(encodeHostConfiguration(configuration))
  })

  it.each(['cuda', 'webgpu'] as const)('says device %s, and is read again (P-8.11)', (device) => {
    const encoded = encodeHostConfiguration({ ...configuration, device })
    expect(parseHostConfiguration(encoded)).toEqual({ ...configuration, device })
  })

  it.each([
    ['unknown member', 'extra', 1],
    ['unknown padding', 'padding', 'some'],
    ['the default isolation in so many words', 'isolation', 'request'],
    ['the default device in so many words', 'device', 'cpu'],
    ['an unknown device', 'device', 'tpu'],
    ['another schema', 'schema', 'subrosa-host-configuration/2'],
    ['a short operator key', 'operator', new Uint8Array(31)],
  ])('refuses %s', (_, key, value) => {
    const map = new Map(decodeCbor(encodeHostConfiguration(configuration)) as Map<string, never>)
    map.set(key, value as never)
    expect(() => parseHostConfiguration(encodeCbor(map))).toThrow(FormatError)
  })

  it('names the version that the package has', () => {
    const { version } = JSON.parse(readFileSync(new URL('../../enclave/package.json', import.meta.url), 'utf8'))
    expect(SOFTWARE_VERSION).toBe(version)
  })
})
