/**
 * What an auditor sees: command, exit status and standard output for an acceptance and for every way to be rejected. What
 * differs from run to run (digests, keys, instants, paths) is named by what it is.
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { stringify } from 'yaml'
import { sharedAmdKeys } from '../../scripts/simulated/amd.js'
import { createSimulatedSnpPlatform } from '../../scripts/simulated/snp-platform.js'
import type { PolicyDocument } from '../../verifier/policy.js'
import { parseBundle } from '../../verifier/protocol/bundle.js'
import { type Bytes, toHex } from '../../verifier/protocol/bytes.js'
import { makeRelease, RELEASES, type ReleaseBend } from '../release/release-world.js'
import { type Bend, createWorld, makeBundle, type World } from '../support/bundle-world.js'
import { verifyAttestation } from '../support/command.js'
import { filled, STATEMENT } from '../support/samples.js'

let folder: string
let world: World
const file = (name: string) => join(folder, name)

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'subrosa-transcripts-'))
  world = await createWorld()
})
afterAll(() => rm(folder, { recursive: true, force: true }))

interface Case {
  readonly name: string
  readonly bend?: () => Bend | Promise<Bend>
  /** Made otherwise than by bending the world's own bundle. */
  readonly make?: () => Promise<Bytes>
  readonly policy?: Partial<PolicyDocument> | 'releases' | 'no anchor'
  readonly release?: ReleaseBend
  readonly flags?: () => readonly string[]
  readonly status: 0 | 1 | 4
  /** Lines of what stands in the way, in order; the first is the reason a person reads first. */
  readonly says: readonly string[]
}

const seconds = () => Math.floor(world.now.getTime() / 1000)

/** A bundle whose CPU is another simulated machine. */
async function onPlatform(options: Partial<Parameters<typeof createSimulatedSnpPlatform>[0]>): Promise<Bytes> {
  const keys = await sharedAmdKeys('Genoa')
  const cpu = await createSimulatedSnpPlatform({ hostData: STATEMENT.configDigest, now: world.now, keys, ...options })
  return makeBundle({ ...world, cpu })
}

const CASES: readonly Case[] = [
  { name: 'accepted', status: 0, says: [] },
  {
    name: 'wrong measurement',
    policy: { measurements: [{ digest: 'ef'.repeat(48) }] },
    status: 1,
    says: ['x reference.measurement', 'software not identified: the launch digest is none you listed'],
  },
  {
    name: 'wrong operator',
    policy: { operator: { keys: ['cd'.repeat(32)] } },
    status: 1,
    says: ['x operator.match', 'the operator is none your policy names'],
  },
  {
    name: 'an operator value that was copied, without the operator’s signature',
    bend: () => ({ operator: (statement) => ({ ...statement, signature: filled(7, 64) }) }),
    status: 1,
    says: ['x operator.match', 'the operator’s signature does not verify'],
  },
  {
    name: 'stale evidence',
    bend: () => ({ fresh: (fresh) => ({ ...fresh, issuedAt: seconds() - 3500, expiresAt: seconds() - 10 }) }),
    status: 1,
    says: ['x freshness.window', 'the evidence has expired'],
  },
  {
    name: 'a replayed nonce',
    flags: () => ['--nonce', 'ab'.repeat(32)],
    status: 1,
    says: ['x binding.nonce', 'the evidence answers another nonce'],
  },
  {
    name: 'a key that is not bound',
    bend: async () => ({ carriedKeys: parseBundle(await makeBundle(world)).keys }),
    status: 1,
    says: ['x keys.bound', 'a key configuration is not among those the report covers'],
  },
  {
    name: 'no GPU',
    bend: () => ({ withoutGpus: true }),
    status: 1,
    says: ['x gpu.present', 'no GPU evidence; your policy requires it'],
  },
  {
    name: 'a GPU relayed from another machine',
    bend: () => ({ gpuNonce: filled(8) }),
    status: 1,
    says: ['x gpu.nonce.match'],
  },
  {
    name: 'GPU evidence of another bundle',
    bend: () => ({ gpuDigests: () => [filled(1)] }),
    status: 1,
    says: ['x binding.gpu-evidence', 'the GPU evidence carried is not the evidence the claims commit to'],
  },
  {
    name: 'an expired endorsement',
    flags: () => ['--at', new Date(world.now.getTime() + 25 * 3600_000).toISOString()],
    status: 1,
    says: ['x snp.chain.validity', 'x snp.crl.window'],
  },
  {
    name: 'a revoked certificate',
    make: () => onPlatform({ revokeSigner: true }),
    status: 1,
    says: ['x snp.chain.revocation'],
  },
  { name: 'a debug guest', make: () => onPlatform({ debug: true }), status: 1, says: ['x snp.policy.debug'] },
  {
    name: 'firmware under the floor',
    flags: () => ['--tcb-floor', 'bl=10,tee=0,snp=29,ucode=96'],
    status: 1,
    says: ['x snp.tcb.floor'],
  },
  {
    name: 'a signed, logged release',
    policy: 'releases',
    release: {},
    status: 0,
    says: ['= release 0.3.1 of 2026-05-20, in the log test.example/log'],
  },
  {
    name: 'a release that is in no log',
    policy: 'releases',
    release: { leaveOut: ['proof'] },
    status: 4,
    says: ['- release.logged', 'no proof of the log test.example/log is at hand'],
  },
  {
    name: 'a release whose place in the log is another’s',
    policy: 'releases',
    release: { entry: filled(1) },
    status: 1,
    says: ['x release.logged', 'the manifest is not in the log at the place the proof names'],
  },
  {
    name: 'a release that too few witnesses saw',
    policy: 'releases',
    release: { witnesses: [] },
    status: 1,
    says: ['x release.witnessed', 'too few witnesses saw this checkpoint'],
  },
  {
    name: 'a denied release',
    policy: 'releases',
    release: { index: { denied: [{ version: '0.3.1', reason: 'leaks its scratch disk' }] } },
    status: 1,
    says: ['x release.denied', 'the publisher denies it: leaks its scratch disk'],
  },
  {
    name: 'a release below the floor',
    policy: 'releases',
    release: { index: { floor: '0.4.0' } },
    status: 1,
    says: ['x release.floor', 'the release is older than the floor'],
  },
  {
    name: 'simulated hardware whose root nobody named',
    policy: 'no anchor',
    status: 1,
    says: ['x snp.chain.root'],
  },
]

async function run({ name, bend, make, policy = {}, release, flags }: Case) {
  const slug = name.replaceAll(/[^a-z]+/g, '-')
  const bundle = make === undefined ? await makeBundle(world, await bend?.()) : await make()
  await writeFile(file(`${slug}.bundle`), bundle)
  const { measurements: _, model: _model, trustAnchors, allowNonVendorRoot, ...rest } = world.policy
  const document =
    policy === 'releases'
      ? { ...rest, trustAnchors, allowNonVendorRoot, releases: RELEASES, model: 'release' }
      : policy === 'no anchor'
        ? { ...rest, measurements: world.policy.measurements, model: world.policy.model }
        : { ...world.policy, ...policy }
  await writeFile(file(`${slug}.yaml`), stringify(document))
  const more: string[] = []
  if (release !== undefined) {
    await mkdir(file(slug))
    const launch = [{ platform: 'snp' as const, digest: toHex(world.cpu.measurement) }]
    const models = [
      {
        id: 'subrosa-demo',
        weights: toHex(STATEMENT.model.weightsRoot),
        manifest: toHex(STATEMENT.model.manifestDigest),
      },
    ]
    for (const { name: part, bytes } of makeRelease({ launch, models }, release))
      await writeFile(join(file(slug), part), bytes)
    more.push('--endorsements', file(slug))
  }
  const own = flags?.() ?? []
  const at = own.includes('--at') ? [] : ['--at', world.now.toISOString()]
  return verifyAttestation(
    file(`${slug}.bundle`),
    '--policy',
    file(`${slug}.yaml`),
    '--offline',
    ...at,
    ...more,
    ...own,
  )
}

/** Whatever the wrapping, one space between words. */
const flat = (text: string) => text.replace(/\s+/g, ' ')
const ascii = (text: string) => text.replaceAll('’', "'")

describe('transcripts', () => {
  it.each(CASES)('$name', async (one) => {
    const { status, stdout, stderr } = await run(one)
    expect({ status, stderr }).toEqual({ status: one.status, stderr: '' })
    const verdict = { 0: 'ACCEPTED', 1: 'REJECTED', 4: 'UNAVAILABLE' }[one.status]
    expect(stdout.startsWith(`${verdict}  `)).toBe(true)
    const text = flat(stdout)
    for (const line of one.says) expect(text).toContain(ascii(line))
    // The first thing named is what this case is about; nothing unrelated stands before it.
    const [first] = one.says
    if (one.status !== 0 && first !== undefined) expect(/^ {2}[x-] (\S+)/m.exec(stdout)?.[0].trim()).toBe(first)
    expect(Math.max(...stdout.split('\n').map((line) => line.length))).toBeLessThanOrEqual(80)
    if (one.status === 0) expect(text).toContain('Not proven: SIMULATED OR PRIVATE hardware')
    if (one.status !== 0) expect(text).toContain('Next: ')
  })

  it('the whole of a rejection', async () => {
    const { stdout } = await run({ ...CASES.find(({ name }) => name === 'a debug guest')!, name: 'whole' })
    expect(stdout).toMatchInlineSnapshot(`
      "REJECTED  a SIMULATED OR PRIVATE AMD SEV-SNP (Genoa) VM, running subrosa 0.1.0;
                but not acceptable to your policy

        x snp.policy.debug
            DEBUG is set
            expected 0
            found    1
            The host can read and write all of the guest's memory through the
            firmware.
        152 other checks: 151 passed, 1 waived, 0 need one of the above.

      Next: ask the provider to launch without DEBUG in the guest policy;
      verify-attestation --explain snp.policy.debug
      "
    `)
  })
})
