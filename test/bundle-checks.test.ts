/**
 * Every check about a bundle as a whole has a bundle in which it is the only failure: delete the check and its line here
 * goes red. Whatever else does not pass was skipped because it needs the failed one, or was waived.
 */
import { beforeAll, describe, expect, it } from 'vitest'
import { type VerifyOptions, verifyEvidence } from '../verifier/appraise.js'
import { BUNDLE_CHECKS, claimChecks, softwareCheck } from '../verifier/bundle-checks.js'
import { matchEndorsementAge, matchSoftware } from '../verifier/claims-appraisal.js'
import type { CpuFindings } from '../verifier/cpu.js'
import type { PolicyDocument } from '../verifier/policy.js'
import { encodeBundle, parseBundle } from '../verifier/protocol/bundle.js'
import { type Bytes, toHex } from '../verifier/protocol/bytes.js'
import { encodeCbor } from '../verifier/protocol/cbor.js'
import { KEM_X25519_HKDF_SHA256 } from '../verifier/protocol/hpke-suites.js'
import type { AttestationResult } from '../verifier/result.js'
import { type Bend, createWorld, makeBundle, NONCE, resolved, type World } from './support/bundle-world.js'
import { filled, STATEMENT } from './support/samples.js'

let world: World
beforeAll(async () => {
  world = await createWorld()
})

async function appraise(
  bundle: Uint8Array<ArrayBuffer>,
  change: Partial<PolicyDocument> = {},
  more: Partial<VerifyOptions> = {},
): Promise<AttestationResult> {
  const live = { nonce: NONCE, sentAt: world.now }
  return verifyEvidence(bundle, { policy: resolved(world, change), now: world.now, live, ...more })
}

const failing = (result: AttestationResult) => result.checks.filter((check) => check.status === 'fail').map((c) => c.id)
const inSeconds = () => Math.floor(world.now.getTime() / 1000)

interface Negative {
  readonly check: string
  readonly name: string
  readonly bend?: () => Bend | Promise<Bend>
  readonly bytes?: (bundle: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer>
  readonly policy?: Partial<PolicyDocument>
  readonly options?: () => Partial<VerifyOptions>
}

/** Among them the windows of P-4.6 and the commitments of P-4.3. */
const NEGATIVES: readonly Negative[] = [
  {
    check: 'bundle.parse',
    name: 'a bit of the file is flipped',
    bytes: (bundle) => bundle.map((byte, i) => (i === bundle.length >> 1 ? byte ^ 1 : byte)),
  },
  { check: 'claims.parse', name: 'the claims are of another shape', bend: () => ({ claims: () => encodeCbor([1]) }) },
  {
    check: 'binding.report-data',
    name: 'the report covers something else',
    bend: () => ({ reportData: filled(9, 64) }),
  },
  {
    check: 'binding.configuration',
    name: 'the configuration is not the one fixed at launch',
    bend: () => ({ statement: (statement) => ({ ...statement, configDigest: filled(99) }) }),
  },
  { check: 'gpu.present', name: 'there is no GPU', bend: () => ({ withoutGpus: true }) },
  {
    check: 'binding.gpu-evidence',
    name: 'the claims list other evidence',
    bend: () => ({ gpuDigests: () => [filled(1)] }),
  },
  {
    check: 'binding.gpu-evidence',
    name: 'the claims list a device more',
    bend: () => ({ gpuDigests: (digests) => [...digests, filled(1)] }),
  },
  { check: 'binding.gpu-evidence', name: 'the claims list no evidence', bend: () => ({ gpuDigests: () => [] }) },
  {
    check: 'binding.nonce',
    name: 'it answers another nonce',
    options: () => ({ live: { nonce: filled(5), sentAt: world.now } }),
  },
  {
    check: 'binding.nonce',
    name: 'the nonce is not in the batch',
    bend: () => ({ fresh: (fresh) => ({ ...fresh, nonceRoot: filled(6) }) }),
  },
  {
    check: 'binding.nonce',
    name: 'there is no proof of inclusion',
    bend: () => ({
      bundle: (bundle) => {
        const { nonceProof: _, ...rest } = bundle
        return rest
      },
    }),
  },
  {
    check: 'freshness.window',
    name: 'it has expired',
    bend: () => ({ fresh: (fresh) => ({ ...fresh, issuedAt: inSeconds() - 3000, expiresAt: inSeconds() - 1 }) }),
  },
  {
    check: 'freshness.window',
    name: 'it is from the future',
    bend: () => ({ fresh: (fresh) => ({ ...fresh, issuedAt: inSeconds() + 200, expiresAt: inSeconds() + 900 }) }),
  },
  {
    check: 'freshness.window',
    name: 'it claims to live too long',
    bend: () => ({ fresh: (fresh) => ({ ...fresh, expiresAt: inSeconds() + 86_400 }) }),
  },
  {
    check: 'freshness.window',
    name: 'it is older than the policy allows',
    bend: () => ({ fresh: (fresh) => ({ ...fresh, issuedAt: inSeconds() - 100 }) }),
    policy: { freshness: { evidenceSeconds: 60 } },
  },
  { check: 'keys.parse', name: 'the list cannot be read', bend: () => ({ carriedKeys: encodeCbor([]) }) },
  {
    check: 'keys.bound',
    name: 'a key the report does not name is carried',
    bend: async () => ({ carriedKeys: parseBundle(await makeBundle(world)).keys }),
  },
  {
    check: 'keys.signature',
    name: 'somebody else signed the key',
    bend: async () => ({ signKeysWith: ((await createOther()) as CryptoKeyPair).privateKey }),
  },
  {
    check: 'keys.signature',
    name: 'the window was stretched after signing',
    bend: () => ({ keys: (keys) => keys.map((item) => ({ ...item, notAfter: item.notAfter + 30 })) }),
  },
  {
    check: 'keys.window',
    name: 'the key has expired',
    bend: () => ({ keyWindow: [inSeconds() - 500, inSeconds() - 1] }),
  },
  {
    check: 'keys.window',
    name: 'the key lives longer than ten minutes',
    bend: () => ({ keyWindow: [inSeconds() - 60, inSeconds() + 600] }),
  },
  {
    check: 'keys.window',
    name: 'the key lives longer than the statement says any does',
    bend: () => ({
      statement: (s) => ({ ...s, serving: { ...s.serving, keyLifetimeS: 60 } }),
      keyWindow: [inSeconds() - 10, inSeconds() + 51],
    }),
  },
  { check: 'keys.suite', name: 'the key is classical', bend: () => ({ kemId: KEM_X25519_HKDF_SHA256 }) },
  {
    check: 'serving.padding',
    name: 'it does not pad',
    bend: () => ({ statement: (s) => ({ ...s, serving: { ...s.serving, padding: 'off' } }) }),
  },
  {
    check: 'serving.isolation',
    name: 'it keeps state across a session',
    bend: () => ({ statement: (s) => ({ ...s, serving: { ...s.serving, isolation: 'session' } }) }),
    policy: { serving: { isolation: ['request'] } },
  },
  { check: 'image.digest', name: 'it runs another image', policy: { image: { digests: ['ab'.repeat(32)] } } },
  {
    check: 'image.digest',
    name: 'it names no image',
    bend: () => ({
      statement: ({ runtime: { imageDigest: _, ...runtime }, ...s }) => ({ ...s, runtime }),
    }),
    policy: { image: { digests: ['07'.repeat(32)] } },
  },
  { check: 'model.digest', name: 'it serves another model', policy: { model: { digests: ['ab'.repeat(32)] } } },
  { check: 'operator.match', name: 'nobody vouches', bend: () => ({ operator: 'none' }) },
  { check: 'operator.match', name: 'a stranger vouches', policy: { operator: { keys: ['cd'.repeat(32)] } } },
  {
    check: 'operator.match',
    name: 'the word is for another boot',
    bend: () => ({ operator: (s) => ({ ...s, identity: filled(4) }) }),
  },
  {
    check: 'operator.match',
    name: 'the word is for another machine',
    bend: () => ({ operator: (s) => ({ ...s, platform: filled(4, 64) }) }),
  },
  {
    check: 'operator.match',
    name: 'the word is old',
    bend: () => ({ operatorAge: 86_401 }),
  },
  { check: 'operator.match', name: 'the word is from the future', bend: () => ({ operatorAge: -121 }) },
  {
    check: 'operator.match',
    name: 'the word was altered',
    bend: () => ({ operator: (s) => ({ ...s, issuedAt: s.issuedAt + 1 }) }),
  },
  { check: 'reference.measurement', name: 'other software', policy: { measurements: [{ digest: 'ef'.repeat(48) }] } },
  {
    check: 'reference.measurement',
    name: 'a reference for other hardware',
    policy: {
      measurements: [{ mrTd: 'ef'.repeat(48), rtmr1: '0'.repeat(96), rtmr2: '0'.repeat(96), rtmr3: '0'.repeat(96) }],
    },
  },
]

const createOther = () => crypto.subtle.generateKey('Ed25519', false, ['sign', 'verify'])

describe('a whole bundle', () => {
  it('names a model by its manifest, or by its weights and then says what that leaves open (P-9.8)', async () => {
    const { weightsRoot, manifestDigest } = STATEMENT.model
    const openUnder = async (...digests: readonly Bytes[]) => {
      const result = await appraise(await makeBundle(world), { model: { digests: digests.map(toHex) } })
      expect(result.verdict).toBe('accepted')
      return result.notProven.some(({ id }) => id === 'model.package')
    }
    expect(await openUnder(weightsRoot)).toBe(true)
    expect(await openUnder(manifestDigest)).toBe(false)
    expect(await openUnder(weightsRoot, manifestDigest)).toBe(false)
  })

  it('is accepted with nothing waived, and only then carries keys (P-9.2, P-9.3, P-9.4)', async () => {
    const result = await appraise(await makeBundle(world))
    expect(result.checks.filter((check) => check.status !== 'pass')).toEqual([])
    expect(result.verdict === 'accepted' && result.worker?.keyConfigurations.length).toBe(1)
    expect(result.notProven[0]?.text).toContain('SIMULATED OR PRIVATE')
  })

  it.each(NEGATIVES)('$check alone fails when $name', async ({ check, bend, bytes, policy, options }) => {
    const bundle = await makeBundle(world, await bend?.())
    const result = await appraise(bytes?.(bundle) ?? bundle, policy, options?.())
    expect(failing(result)).toEqual([check])
    for (const { status, reason } of result.checks) {
      if (status === 'skip') expect(reason).toMatch(/^(needs |waived: |not reached)/)
    }
    expect(result.verdict).not.toBe('accepted')
    expect('worker' in result).toBe(false)
  })

  it('has a negative for each of its checks', () => {
    const registered = [...BUNDLE_CHECKS, ...claimChecks('x'), softwareCheck('x')].map((check) => check.id)
    expect([...new Set(NEGATIVES.map(({ check }) => check))].sort()).toEqual([...registered].sort())
  })

  it('limits the age of endorsements where the policy does, and of those that speak of the present only', async () => {
    const bundle = await makeBundle(world)
    const young = await appraise(bundle, { freshness: { endorsementSeconds: 86_400 } })
    expect([young.verdict, young.checks.find(({ id }) => id === 'freshness.endorsements')?.status]).toEqual([
      'accepted',
      'pass',
    ])
    const old = await appraise(bundle, { freshness: { endorsementSeconds: 60 } })
    expect(failing(old)).toEqual(['freshness.endorsements'])
    expect((await appraise(bundle)).checks.some(({ id }) => id === 'freshness.endorsements')).toBe(false)
    const undated = [{ kind: 'ocsp', issuedAt: null, nextUpdate: null }]
    const policy = resolved(world, { freshness: { endorsementSeconds: 86_400 } })
    expect(matchEndorsementAge(undated, { policy, now: world.now }).status).toBe('fail')
  })

  it('fails by the GPU’s nonce when the GPU answered for other claims (P-4.3)', async () => {
    const result = await appraise(await makeBundle(world, { gpuNonce: filled(8) }))
    expect(failing(result)).toEqual(['gpu.nonce.match'])
  })

  it('takes nothing but a bundle for a worker’s answer, however genuine', async () => {
    const { cpu, gpus } = parseBundle(await makeBundle(world))
    const policy = resolved(world, { measurements: 'any' })
    for (const evidence of [cpu.evidence, gpus[0]!]) {
      const raw = await verifyEvidence(evidence, { policy, now: world.now })
      expect(raw.evidence.kind).not.toBe('bundle')
      for (const asked of [{ live: { nonce: NONCE, sentAt: world.now } }, { fromWorker: true, nonce: NONCE }]) {
        const result = await verifyEvidence(evidence, { policy, now: world.now, ...asked })
        expect(result.verdict).toBe('malformed')
        expect(failing(result)).toEqual(['bundle.parse'])
      }
    }
  })

  it('never takes a cloud’s paravisor for software of ours, listed or not', () => {
    const measurement = 'ab'.repeat(48)
    const cpu = { paravisorMeasurement: true, measurements: { measurement } } as unknown as CpuFindings
    const policy = resolved(world, { measurements: [{ digest: measurement }] })
    expect(matchSoftware(cpu, policy, undefined)).toMatchObject({
      status: 'fail',
      reason: expect.stringContaining('paravisor'),
    })
    expect(matchSoftware({ ...cpu, paravisorMeasurement: false }, policy, undefined).status).toBe('pass')
  })

  it('carries no keys when it is an archive, however acceptable (P-9.2)', async () => {
    const bundle = await makeBundle(world)
    const archive = await verifyEvidence(bundle, { policy: resolved(world), now: world.now, nonce: NONCE })
    expect(archive.verdict).toBe('accepted')
    expect('worker' in archive).toBe(false)
    const without = await verifyEvidence(bundle, { policy: resolved(world), now: world.now })
    expect(without.checks.find((check) => check.id === 'binding.nonce')?.reason).toContain('asserted, not proven')
  })

  it('never accepts with any one endorsement taken away, unless another says the same', async () => {
    const bundle = parseBundle(await makeBundle(world))
    const verdicts = new Map<string, number>()
    for (let i = 0; i < bundle.endorsements.length; i++) {
      const endorsements = bundle.endorsements.filter((_, at) => at !== i)
      const result = await appraise(encodeBundle({ ...bundle, endorsements }))
      verdicts.set(result.verdict, (verdicts.get(result.verdict) ?? 0) + 1)
      // Roots of the simulated GPU are carried beside the chains that end in them, and so are not needed.
      if (bundle.endorsements[i]?.type !== 'application/pkix-cert') expect(result.verdict).toBe('unavailable')
    }
    expect(verdicts.get('unavailable')).toBeGreaterThan(5)
  })
})
