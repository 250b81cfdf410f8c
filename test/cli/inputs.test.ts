/**
 * Skips never make an accept: take any one input away from a bundle that is accepted, or any two or more, and the verdict is
 * rejected, malformed or unavailable, never accepted (PROTOCOL.md P-9.1).
 */
import * as fc from 'fast-check'
import { beforeAll, describe, expect, it } from 'vitest'
import { verifyEvidence } from '../../verifier/appraise.js'
import { type Bundle, encodeBundle, parseBundle } from '../../verifier/protocol/bundle.js'
import type { Bytes } from '../../verifier/protocol/bytes.js'
import { type CborKey, type CborValue, decodeCbor, encodeCbor } from '../../verifier/protocol/cbor.js'
import { sha256 } from '../../verifier/protocol/hash.js'
import { exitCodeOf } from '../../verifier/result.js'
import { parseTrustAnchors } from '../../verifier/trust-anchors.js'
import { createWorld, makeBundle, NONCE, resolved, type World } from '../support/bundle-world.js'

let world: World
let whole: Bytes
let bundle: Bundle
beforeAll(async () => {
  world = await createWorld()
  whole = await makeBundle(world)
  bundle = parseBundle(whole)
})

async function exitCode(bytes: Bytes): Promise<number> {
  const live = { nonce: NONCE, sentAt: world.now }
  return exitCodeOf(await verifyEvidence(bytes, { policy: resolved(world), now: world.now, live }))
}

/** Roots that the policy names itself: a copy in the bundle is a courtesy, and the only thing that may be missing. */
function isCourtesy({ bytes }: Bundle['endorsements'][number]): boolean {
  const anchors = parseTrustAnchors(new TextEncoder().encode(world.policy.trustAnchors?.join('') ?? ''))
  return anchors.some(({ certificate }) => Buffer.from(certificate.der).equals(bytes))
}

/** The map without some members, under a digest of its own. */
function without(names: readonly string[]): Bytes {
  const members = new Map(decodeCbor(whole) as ReadonlyMap<CborKey, CborValue>)
  members.delete('digest')
  for (const name of names) members.delete(name)
  return encodeCbor(new Map([...members, ['digest', sha256(encodeCbor(members))]]))
}

describe('a bundle that is accepted', () => {
  it('is accepted whole', async () => {
    expect(await exitCode(whole)).toBe(0)
    expect(await exitCode(without([]))).toBe(0)
  })

  it('is not accepted without any one of its members', async () => {
    const names = [...(decodeCbor(whole) as ReadonlyMap<string, CborValue>).keys()].filter((name) => name !== 'digest')
    expect(names.length).toBeGreaterThan(10)
    const courtesies = bundle.endorsements.flatMap((item, i) => (isCourtesy(item) ? [`endorsement.${i}`] : []))
    expect(courtesies).toHaveLength(3)
    for (const name of names.filter((one) => !courtesies.includes(one)))
      expect({ name, code: await exitCode(without([name])) }).not.toEqual({ name, code: 0 })
  })

  it('is not accepted without any one endorsement, renumbered as if it had never been there', async () => {
    const codes: number[] = []
    for (let i = 0; i < bundle.endorsements.length; i++) {
      const endorsements = bundle.endorsements.filter((_, at) => at !== i)
      const code = await exitCode(encodeBundle({ ...bundle, endorsements }))
      codes.push(code)
    }
    // Nothing found wrong, something not at hand: unavailable.
    expect(codes).toEqual(bundle.endorsements.map((item) => (isCourtesy(item) ? 0 : 4)))
  })

  it('is not accepted without any choice of them', async () => {
    const indices = bundle.endorsements.map((_, i) => i)
    await fc.assert(
      fc.asyncProperty(fc.subarray(indices), async (kept) => {
        fc.pre(bundle.endorsements.some((item, i) => !kept.includes(i) && !isCourtesy(item)))
        const endorsements = kept.map((i) => bundle.endorsements[i]!)
        expect([1, 4]).toContain(await exitCode(encodeBundle({ ...bundle, endorsements })))
      }),
      { numRuns: 40 },
    )
  })

  it('is not accepted without a reference value, a root, a model or the nonce', async () => {
    const live = { nonce: NONCE, sentAt: world.now }
    const { measurements: _m, ...noMeasurements } = world.policy
    const { model: _d, ...noModel } = world.policy
    const { trustAnchors: _t, allowNonVendorRoot: _a, ...noRoots } = world.policy
    const { resolvePolicy } = await import('../../verifier/policy.js')
    for (const policy of [noMeasurements, noModel, noRoots].map(resolvePolicy)) {
      expect(exitCodeOf(await verifyEvidence(whole, { policy, now: world.now, live }))).toBe(1)
    }
    const { nonceProof: _n, ...noProof } = bundle
    expect(await exitCode(encodeBundle(noProof))).toBe(1)
    const { operator: _o, ...noOperator } = bundle
    expect(await exitCode(encodeBundle(noOperator))).toBe(1)
    expect(await exitCode(encodeBundle({ ...bundle, gpus: [] }))).toBe(1)
  })
})
