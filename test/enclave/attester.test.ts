import { describe, expect, it } from 'vitest'
import { type AttesterOptions, createAttester } from '../../enclave/attester.js'
import { createKeyLadder } from '../../enclave/keys.js'
import { parseBundle } from '../../verifier/protocol/bundle.js'
import { type Bytes, toBase64Url } from '../../verifier/protocol/bytes.js'
import { sha256 } from '../../verifier/protocol/hash.js'
import { KEM_X25519_HKDF_SHA256 } from '../../verifier/protocol/hpke.js'
import { parseSignedKeyConfigurations } from '../../verifier/protocol/key-configuration.js'
import { inclusionProof, merkleRoot, merkleTree, verifyInclusion } from '../../verifier/protocol/merkle.js'
import { parseClaims, reportDataFor } from '../../verifier/protocol/statement.js'
import { MODEL, NOW, stubPlatform } from './stub.js'

const now = (): number => NOW.getTime() / 1000
const nonces = (count: number): Bytes[] =>
  Array.from({ length: count }, () => crypto.getRandomValues(new Uint8Array(32)))

async function attester(options: Partial<AttesterOptions> = {}, attest?: () => Promise<void>) {
  const platform = stubPlatform(new Uint8Array(32), attest)
  const keys = await createKeyLadder({
    now,
    kemIds: [KEM_X25519_HKDF_SHA256],
    statement: {
      model: MODEL,
      runtime: { name: 'subrosa', version: '0.1.0', engine: 'stub' },
      serving: { padding: 'tick', retention: 'none', logging: 'metadata', isolation: 'request', keyLifetimeS: 600 },
      configDigest: new Uint8Array(32),
    },
  })
  return { platform, attester: createAttester({ platform, keys, now, ...options }) }
}

describe('nonce tree', () => {
  it.each([1, 2, 3, 5, 8, 13, 33])('agrees with the protocol for %i nonces', (count) => {
    const leaves = nonces(count)
    const { root, proofs } = merkleTree(leaves)
    expect(root).toEqual(merkleRoot(leaves))
    expect(proofs).toEqual(leaves.map((_, i) => inclusionProof(leaves, i)))
    for (const [i, proof] of proofs.entries()) expect(verifyInclusion(leaves[i]!, proof, root)).toBe(true)
  })
})

describe('attester', () => {
  it('covers many clients with one report, each with its own proof (P-4.1, P-4.5)', async () => {
    const { platform, attester: a } = await attester()
    const mine = nonces(50)
    const bundles = (await Promise.all(mine.map((nonce) => a.bundle(nonce)))).map(parseBundle)
    expect(platform.reports).toHaveLength(1)
    for (const [i, bundle] of bundles.entries()) {
      const claims = parseClaims(bundle.claims)
      expect(bundle.cpu.evidence.slice(0x50, 0x90)).toEqual(reportDataFor(bundle.claims))
      expect(bundle.nonceProof?.nonce).toEqual(mine[i])
      expect(verifyInclusion(mine[i]!, bundle.nonceProof!, claims.fresh.nonceRoot)).toBe(true)
      expect(claims.fresh.keyConfigurations).toEqual(
        parseSignedKeyConfigurations(bundle.keys).map((item) => sha256(item.configuration)),
      )
      expect(claims.fresh.expiresAt - claims.fresh.issuedAt).toBeLessThanOrEqual(3600)
    }
  })

  it('draws a leaf of its own without a nonce', async () => {
    const { attester: a } = await attester()
    const [one, two] = (await Promise.all([a.bundle(), a.bundle()])).map(parseBundle)
    expect(toBase64Url(one!.nonceProof!.nonce)).not.toBe(toBase64Url(two!.nonceProof!.nonce))
  })

  it('makes one report at a time', async () => {
    let running = 0
    let most = 0
    const { platform, attester: a } = await attester({ maxBatch: 4, windowMs: 0 }, async () => {
      running += 1
      most = Math.max(most, running)
      await new Promise((resolve) => setTimeout(resolve, 5))
      running -= 1
    })
    await Promise.all(nonces(17).map((nonce) => a.bundle(nonce)))
    expect(most).toBe(1)
    expect(platform.reports).toHaveLength(5)
  })

  it('refuses what its queue cannot hold, and what is not a nonce', async () => {
    const { attester: a } = await attester({ maxQueue: 2 })
    const held = [a.bundle(), a.bundle()]
    await expect(a.bundle()).rejects.toMatchObject({ code: 'worker.busy' })
    expect(() => a.bundle(new Uint8Array(31))).toThrow(RangeError)
    await Promise.all(held)
  })

  it('tells every client of a batch that failed, and goes on', async () => {
    let failures = 1
    const seen: unknown[] = []
    const { attester: a } = await attester(
      { onBatch: (count, error) => seen.push([count, error !== undefined]) },
      () => (failures-- > 0 ? Promise.reject(new Error('no report')) : Promise.resolve()),
    )
    const first = await Promise.allSettled([a.bundle(), a.bundle()])
    expect(first.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
    expect(parseBundle(await a.bundle()).cpu.evidence).toHaveLength(1184)
    await new Promise((resolve) => setTimeout(resolve, 0))
    expect(seen).toEqual([
      [2, true],
      [1, false],
    ])
  })

  it('does not let a machine that hangs hold clients for ever, nor asks it again meanwhile', async () => {
    let calls = 0
    let wake = (): void => undefined
    const { attester: a } = await attester({ timeoutMs: 20 }, () => {
      calls += 1
      return new Promise((resolve) => {
        wake = resolve
      })
    })
    await expect(a.bundle()).rejects.toMatchObject({ code: 'worker.platform' })
    const second = a.bundle().catch(() => undefined)
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(calls).toBe(1)
    wake()
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(calls).toBe(2)
    wake()
    await second
  })

  it('lets nobody wait once it is closed', async () => {
    const { attester: a } = await attester()
    const waiting = a.bundle()
    a.close()
    await expect(waiting).rejects.toMatchObject({ code: 'worker.closed' })
    await expect(a.bundle()).rejects.toMatchObject({ code: 'worker.closed' })
  })
})
