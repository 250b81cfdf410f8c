/**
 * Flipped bits of bundles, raw and with the bundle's own digest made right again. Raw, every one is malformed. With the digest
 * mended, every one is refused, or lies where nothing is read from and then changes neither verdict nor keys, claims or checks:
 * those places are named here. Sampled unless SUBROSA_ALL_BITS=1.
 */
import { beforeAll, describe, expect, it } from 'vitest'
import { verifyEvidence } from '../verifier/appraise.js'
import { type PolicyDocument, resolvePolicy } from '../verifier/policy.js'
import { encodeBundle, parseBundle } from '../verifier/protocol/bundle.js'
import type { Bytes } from '../verifier/protocol/bytes.js'
import { type CborKey, type CborValue, decodeCbor, encodeCbor } from '../verifier/protocol/cbor.js'
import { MAX_BUNDLE_BYTES } from '../verifier/protocol/constants.js'
import { FormatError } from '../verifier/protocol/errors.js'
import { sha256 } from '../verifier/protocol/hash.js'
import { createWorld, makeBundle, NONCE, type World } from './support/bundle-world.js'

const exhaustive = process.env['SUBROSA_ALL_BITS'] === '1'

let world: World
beforeAll(async () => {
  world = await createWorld()
})

async function appraise(bytes: Bytes, policy: PolicyDocument) {
  return verifyEvidence(bytes, {
    policy: resolvePolicy(policy),
    now: world.now,
    live: { nonce: NONCE, sentAt: world.now },
  })
}

/** The verdict, the keys it carries, the claims it read, and every check. */
function summary(result: Awaited<ReturnType<typeof appraise>>): string {
  const keys =
    result.verdict === 'accepted' ? result.worker?.keyConfigurations.map(({ configuration }) => [...configuration]) : []
  const { statement, fresh } = result.evidence as { statement?: unknown; fresh?: unknown }
  return JSON.stringify([result.verdict, keys, statement, fresh, result.checks])
}

/** The same bundle with one bit flipped and its digest computed again; undefined when it is no map any more. */
function mended(bytes: Bytes, bit: number): Bytes | undefined {
  try {
    const members = new Map(decodeCbor(flipped(bytes, bit), MAX_BUNDLE_BYTES) as ReadonlyMap<CborKey, CborValue>)
    members.delete('digest')
    return encodeCbor(new Map([...members, ['digest', sha256(encodeCbor(members))]]))
  } catch (error) {
    if (error instanceof FormatError || error instanceof TypeError) return undefined
    throw error
  }
}

function flipped(bytes: Bytes, bit: number): Bytes {
  const out = new Uint8Array(bytes)
  out[bit >> 3] = (out[bit >> 3] ?? 0) ^ (1 << (bit & 7))
  return out
}

/** Which endorsement a byte of the encoded bundle belongs to, if any. */
function placeOf(bytes: Bytes, offset: number): string {
  for (const [i, { bytes: item }] of parseBundle(bytes).endorsements.entries()) {
    // The last, since a root may also stand inside a device's chain, which comes earlier.
    const at = Buffer.from(bytes).lastIndexOf(Buffer.from(item))
    if (offset >= at && offset < at + item.length) return `endorsement.${i}`
  }
  return `offset ${offset}`
}

async function flipAll(
  name: string,
  bytes: Bytes,
  policy: PolicyDocument,
  bits: readonly number[],
  spare: readonly string[],
) {
  const whole = summary(await appraise(bytes, policy))
  expect(whole.startsWith('["accepted"')).toBe(true)
  const counts = { raw: 0, refused: 0, identical: 0 }
  const places = new Set<string>()
  for (const bit of bits) {
    const raw = await appraise(flipped(bytes, bit), policy)
    if (raw.verdict === 'accepted') expect.fail(`bit ${bit} flipped raw is accepted`)
    counts.raw++
    const again = mended(bytes, bit)
    const result = again === undefined ? undefined : await appraise(again, policy)
    if (result?.verdict !== 'accepted') counts.refused++
    else {
      if (summary(result) !== whole) expect.fail(`bit ${bit} changes what is accepted: ${placeOf(bytes, bit >> 3)}`)
      counts.identical++
      // The digest itself is computed again, so flipping it changes nothing.
      places.add(bit >> 3 >= digestAt(bytes) && bit >> 3 < digestAt(bytes) + 32 ? 'digest' : placeOf(bytes, bit >> 3))
    }
  }
  console.log(
    JSON.stringify({
      suite: 'bundle-flips',
      name,
      bytes: bytes.length,
      bits: bits.length,
      ...counts,
      places: [...places],
    }),
  )
  expect([...places].filter((place) => !spare.includes(place))).toEqual([])
}

function digestAt(bytes: Bytes): number {
  const { digest } = Object.fromEntries(decodeCbor(bytes, MAX_BUNDLE_BYTES) as ReadonlyMap<string, Uint8Array>)
  return Buffer.from(bytes).indexOf(Buffer.from(digest ?? []))
}

/** Endorsements nothing rests on: without any one of them the verdict is the same. */
async function spareOf(bytes: Bytes, policy: PolicyDocument): Promise<string[]> {
  const bundle = parseBundle(bytes)
  const spare: string[] = []
  for (const i of bundle.endorsements.keys()) {
    const endorsements = bundle.endorsements.filter((_, at) => at !== i)
    if ((await appraise(encodeBundle({ ...bundle, endorsements }), policy)).verdict === 'accepted')
      spare.push(`endorsement.${i}`)
  }
  return spare
}

const DRAWN = exhaustive ? 20_000 : 250

describe('bundles', () => {
  it(`small, ${exhaustive ? 'every bit' : 'a sample of bits'}`, async () => {
    const policy: PolicyDocument = { ...world.policy, gpu: 'none' }
    const gpuless = await makeBundle(world, { withoutGpus: true })
    const bundle = parseBundle(gpuless)
    // CPU, its chain and list: what the smallest honest bundle has.
    const bytes = encodeBundle({ ...bundle, endorsements: bundle.endorsements.slice(0, 4) })
    const step = exhaustive ? 1 : 97
    const bits = Array.from({ length: Math.floor((bytes.length * 8) / step) }, (_, i) => i * step)
    await flipAll('small', bytes, policy, bits, ['digest', ...(await spareOf(bytes, policy))])
  }, 7_200_000)

  it(`full, ${DRAWN} random bits`, async () => {
    const bytes = await makeBundle(world)
    const bits = Array.from({ length: DRAWN }, () => Math.floor(Math.random() * bytes.length * 8))
    await flipAll('full', bytes, world.policy, bits, ['digest', ...(await spareOf(bytes, world.policy))])
  }, 7_200_000)
})
