/**
 * What nobody would look at is refused: options of another command, expectations that the evidence cannot meet or miss,
 * contradictions. A verdict under an option that was ignored would pass for one that took it to heart.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createAmdHierarchy, sharedAmdKeys } from '../../scripts/simulated/amd.js'
import { PRODUCTS } from '../../scripts/simulated/product.js'
import { verifyEvidence } from '../../verifier/appraise.js'
import { verifyGpuEvidence, verifyNrasResponse, verifyRimFile } from '../../verifier/appraise-gpu.js'
import { sortEndorsements } from '../../verifier/endorsements.js'
import { PolicyError, UsageError } from '../../verifier/errors.js'
import { resolvePolicy } from '../../verifier/policy.js'
import { MAX_ENDORSEMENTS, parseBundle } from '../../verifier/protocol/bundle.js'
import { type Bytes, utf8 } from '../../verifier/protocol/bytes.js'
import { addEndorsements } from '../../verifier/save.js'
import { NOON, nodeInput, NONCE as SPDM_NONCE } from '../gpu/world.js'
import { createWorld, makeBundle, NONCE, resolved, type World } from '../support/bundle-world.js'
import { verifyAttestation } from '../support/command.js'

const schema = 'subrosa-policy/1' as const

let folder: string
let world: World
let bundle: Bytes
const file = (name: string): string => join(folder, name)
const at = () => ['--at', world.now.toISOString(), '--offline']

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'subrosa-unlooked-'))
  world = await createWorld()
  bundle = await makeBundle(world)
  await writeFile(file('bundle'), bundle)
  await writeFile(file('report'), parseBundle(bundle).cpu.evidence)
  await writeFile(file('gpu'), parseBundle(bundle).gpus[0] ?? '')
  await writeFile(file('policy.json'), JSON.stringify(world.policy))
  for (const name of ['rim.xml', 'response.json']) await writeFile(file(name), '<x/>')
})

afterAll(() => rm(folder, { recursive: true, force: true }))

describe('the command line', () => {
  it.each<[string, string[], RegExp]>([
    ['an option before a subcommand', ['--policy', 'x', 'gpu', 'gpu'], /too many arguments/],
    ['one between gpu and nras', ['gpu', '--nonce', 'ab', 'nras', 'response.json'], /put --nonce after nras/],
    ['one between gpu and rim', ['gpu', '--policy', '/nowhere', 'rim', 'rim.xml'], /put --policy after rim/],
    ['a model for a raw report', ['report', '--model-digest', 'ab'.repeat(32)], /raw evidence names no model/],
    ['a model for a GPU', ['gpu', 'gpu', '--model-digest', 'ab'.repeat(32)], /GPU evidence names no model/],
    ['REPORT_DATA for a GPU', ['gpu', '--report-data', 'ab'], /--report-data is for/],
    ['REPORT_DATA for a bundle', ['bundle', '--report-data', 'ab'], /a bundle’s REPORT_DATA is its claims/],
    ['a nonce for a manifest', ['gpu', 'rim', 'rim.xml', '--nonce', 'ab'.repeat(32)], /a manifest answers none/],
    ['no GPU for a GPU', ['gpu', 'gpu', '--gpu', 'none'], /nothing here but GPU evidence/],
  ])('refuses %s', async (_, argv, message) => {
    // The first word may be the command `gpu`; every later one of these names is a file.
    const words = argv.map((word, i) =>
      ['bundle', 'report', 'rim.xml', 'response.json'].includes(word) || (word === 'gpu' && i > 0) ? file(word) : word,
    )
    const target = argv[0] === 'gpu' && argv[1] === '--report-data' ? [file('gpu'), ...argv.slice(1)] : words
    const early = argv[0] === '--policy' ? ['--policy', 'x', 'gpu', file('gpu')] : target
    const { status, stdout, stderr } = await verifyAttestation(...early, ...at())
    expect(stderr).toMatch(message)
    expect([status, stdout]).toEqual([2, ''])
  })

  it.each(['/dev/zero', '/dev/urandom'])('reads no more of %s than of any file', async (device) => {
    expect((await verifyAttestation('gpu', device, ...at())).status).not.toBe(0)
    expect((await verifyAttestation(device, ...at())).status).toBe(3)
    expect(await verifyAttestation(file('bundle'), '--policy', device, ...at())).toMatchObject({
      status: 2,
      stdout: '',
    })
  })
})

describe('--save', () => {
  it('keeps what a refusal rested on, so that it is refused again', async () => {
    const amd = createAmdHierarchy({
      product: 'Genoa',
      keys: await sharedAmdKeys('Genoa'),
      notBefore: new Date(world.now.getTime() - 3_600_000),
      notAfter: new Date(world.now.getTime() + 3_600_000),
    })
    const revoking = amd.crl({
      number: 99n,
      thisUpdate: new Date(world.now.getTime() - 1000),
      nextUpdate: new Date(world.now.getTime() + 3_600_000),
      revokedSerials: [PRODUCTS.Genoa.askSerial],
    })
    await writeFile(file('revoking.crl'), revoking)
    const policy = ['--policy', file('policy.json'), '--format', 'json']
    const first = await verifyAttestation(
      file('bundle'),
      ...policy,
      ...at(),
      '--endorsements',
      file('revoking.crl'),
      '--save',
      file('saved'),
    )
    const again = await verifyAttestation(file('saved'), ...policy, ...at())
    expect([first.status, again.status]).toEqual([1, 1])
    expect(JSON.parse(again.stdout).checks).toEqual(JSON.parse(first.stdout).checks)
    expect(first.stdout).toContain('a certificate of the chain is revoked')
  })

  it('never keeps some and drops others', () => {
    const { endorsements } = parseBundle(bundle)
    const one = endorsements[0]?.bytes ?? new Uint8Array()
    const many = Array.from({ length: MAX_ENDORSEMENTS + 1 }, (_, i) => Uint8Array.of(...one, i, i >> 8))
    expect(() => addEndorsements(bundle, many)).toThrow(UsageError)
  })
})

describe('the library', () => {
  const policyOf = (gpu: object) => resolvePolicy({ schema, gpu })

  it.each<[string, (options: { policy: ReturnType<typeof resolved>; now: Date }) => Promise<unknown>]>([
    ['REPORT_DATA of a bundle', (o) => verifyEvidence(bundle, { ...o, reportData: new Uint8Array(64) })],
    [
      'two nonces',
      (o) => verifyEvidence(bundle, { ...o, live: { nonce: NONCE, sentAt: o.now }, nonce: new Uint8Array(32) }),
    ],
    ['a time that is none', (o) => verifyEvidence(bundle, { ...o, now: new Date(Number.NaN) })],
    [
      'an instant of sending that is none',
      (o) => verifyEvidence(bundle, { ...o, live: { nonce: NONCE, sentAt: new Date(Number.NaN) } }),
    ],
  ])('refuses %s', async (_, verify) => {
    await expect(verify({ policy: resolved(world), now: world.now })).rejects.toThrow(UsageError)
  })

  it('refuses a grace for what none can bear, however it came into the policy', async () => {
    const graces = [{ check: 'snp.report.signature', until: '2030-01-01T00:00:00Z', reason: 'r' }]
    const policy = { ...resolved(world), graces }
    await expect(verifyEvidence(bundle, { policy, now: world.now })).rejects.toThrow(PolicyError)
  })

  it.each<[string, object]>([
    ['a count', { count: 8 }],
    ['named devices', { devices: ['1'] }],
  ])('refuses %s of GPUs where only switches are shown', async (_, gpu) => {
    const { switches = [] } = nodeInput({ switches: [{}] })
    const options = { policy: policyOf(gpu), now: NOON }
    await expect(verifyGpuEvidence([], switches, options)).rejects.toThrow(UsageError)
  })

  const expectations: [string, object][] = [
    ['products', { products: ['GB100'] }],
    ['minDriver', { minDriver: '999.99' }],
    ['deniedDrivers', { deniedDrivers: ['595.71.05'] }],
    ['minVbios', { minVbios: { GH100: 'FF.FF.FF.FF.FF' } }],
  ]
  it.each(expectations)('refuses %s of a manifest on its own', async (_, gpu) => {
    await expect(verifyRimFile(utf8('<x/>'), { policy: policyOf(gpu), now: NOON })).rejects.toThrow(UsageError)
  })

  it.each<[string, object]>([...expectations, ['devices', { devices: ['1'] }], ['modes', { modes: ['ppcie'] }]])(
    'refuses %s of a remote verdict',
    async (_, gpu) => {
      const policy = policyOf({ nras: {}, ...gpu })
      await expect(verifyNrasResponse(utf8('{}'), { policy, now: NOON })).rejects.toThrow(UsageError)
    },
  )

  it('limits the age of endorsements of GPUs on their own, too', async () => {
    const { devices, endorsements, anchors } = nodeInput({})
    const verdict = async (endorsementSeconds: number) => {
      const policy = { ...resolvePolicy({ schema, freshness: { endorsementSeconds } }), trustAnchors: anchors }
      const result = await verifyGpuEvidence(devices, [], { policy, endorsements, now: NOON, nonce: SPDM_NONCE })
      return [result.verdict, result.checks.find(({ id }) => id === 'freshness.endorsements')?.status]
    }
    expect(await verdict(86_400)).toEqual(['accepted', 'pass'])
    expect(await verdict(1)).toEqual(['rejected', 'fail'])
  })

  it('refuses evidence JSON with two lists', async () => {
    const evidence = utf8(JSON.stringify({ evidences: [{ evidence: 'AA' }], evidence_list: [{ evidence: 'AA' }] }))
    const result = await verifyGpuEvidence([evidence], [], {
      policy: resolved(world),
      now: NOON,
      endorsements: sortEndorsements([]),
    })
    expect(result.verdict).toBe('malformed')
    expect(JSON.stringify(result.checks)).toContain('evidences or evidence_list, not both')
  })
})

describe('a policy that cannot be meant', () => {
  it.each<[string, object, RegExp]>([
    ['first use of nothing', { trustOnFirstUse: true }, /trustOnFirstUse/],
    ['first use of anything', { trustOnFirstUse: true, measurements: 'any' }, /trustOnFirstUse/],
    ['no VBIOS', { gpu: { minVbios: {} } }, /minVbios/],
    ['a VBIOS of a chip not accepted', { gpu: { minVbios: { GB200: '96.00.00.00.00' } } }, /gpu\.minVbios: GB200/],
    ['no denied driver', { gpu: { deniedDrivers: [] } }, /deniedDrivers/],
    ['a device twice', { gpu: { devices: ['1', '1'] } }, /gpu\.devices/],
    ['more devices than it names', { gpu: { devices: ['1'], count: 2 } }, /gpu\.count/],
    ['a nonce to nobody', { revocation: 'off', gpu: { ocsp: { nonce: 'required' } } }, /gpu\.ocsp\.nonce/],
  ])('%s', (_, change, message) => {
    expect(() => resolvePolicy({ schema, ...change })).toThrow(PolicyError)
    expect(() => resolvePolicy({ schema, ...change })).toThrow(message)
  })

  it.each(['snp', 'tdx', 'gpu', 'channel', 'freshness', 'model', 'operator', 'releases', 'image', 'serving'])(
    'a list where the section %s should be',
    (section) => {
      expect(() => resolvePolicy({ schema, [section]: [] })).toThrow(`${section}: expected a map, got a list`)
    },
  )

  it('but these can', () => {
    for (const gpu of [{ devices: ['1', '2'], count: 2 }, { minVbios: { GH100: '96.00.00.00.00', GB100: 'any' } }]) {
      expect(resolvePolicy({ schema, gpu })).toMatchObject({ gpu })
    }
  })
})
