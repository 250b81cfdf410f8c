/** `verify-attestation policy init`: from a worker or bundle to a policy that accepts it, and says on whose word. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { POLICY_SCHEMA, resolvePolicy } from '../../verifier/policy.js'
import { toHex } from '../../verifier/protocol/bytes.js'
import { policySchema } from '../../verifier/schemas.js'
import { LOG_KEY, makeRelease, OTHER_KEY, RELEASE_KEY, RELEASES } from '../release/release-world.js'
import { createWorld, makeBundle, type World } from '../support/bundle-world.js'
import { verifyAttestation } from '../support/command.js'
import { violations } from '../support/json-schema.js'
import { STATEMENT } from '../support/samples.js'
import { type RunningWorker, startWorker } from '../support/worker.js'

let folder: string
let world: World
let worker: RunningWorker
const file = (name: string) => join(folder, name)

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'subrosa-init-'))
  world = await createWorld()
  worker = await startWorker()
  await writeFile(file('ok.bundle'), await makeBundle(world))
  await writeFile(file('bare.bundle'), await makeBundle(world, { withoutGpus: true }))
  await writeFile(
    file('off.bundle'),
    await makeBundle(world, { statement: (s) => ({ ...s, serving: { ...s.serving, padding: 'off' } }) }),
  )
  await writeFile(file('anchor.pem'), world.cpu.rootsPem + world.gpus.rootsPem)
  await writeFile(file('worker.pem'), worker.rootsPem ?? '')
  const launches = [{ platform: 'snp', name: '1 x EPYC-Genoa', values: { digest: 'ab'.repeat(48) }, also: {} }]
  await writeFile(file('measured.json'), JSON.stringify({ schema: 'subrosa-launch-measurements/1', launches }))
  await mkdir(file('release'))
  const of = {
    launch: [{ platform: 'snp' as const, digest: toHex(world.cpu.measurement) }],
    models: [
      {
        id: 'subrosa-demo',
        weights: toHex(STATEMENT.model.weightsRoot),
        manifest: toHex(STATEMENT.model.manifestDigest),
      },
    ],
  }
  for (const { name, bytes } of makeRelease(of)) await writeFile(join(file('release'), name), bytes)
})
afterAll(async () => {
  await worker.close()
  await rm(folder, { recursive: true, force: true })
})

const TOFU = '--trust-on-first-use'
const MEASURED = new Map([
  ['MEASURED', () => file('measured.json')],
  ['NOTHING', () => file('anchor.pem')],
])
const at = () => ['--offline', '--at', world.now.toISOString()]
const init = (name: string, ...more: string[]) => verifyAttestation('policy', 'init', file(name), ...at(), ...more)

describe('policy init', () => {
  it('goes from a live worker to a policy under which it is accepted, and every verdict says how (P-9.5)', async () => {
    const made = await verifyAttestation('policy', 'init', worker.url, '--trust-anchor', file('worker.pem'), TOFU)
    expect(made.stderr).toBe('')
    expect(made.status).toBe(0)
    await writeFile(file('made.yaml'), made.stdout)
    const { status, stdout } = await verifyAttestation(worker.url, '--policy', file('made.yaml'))
    expect(stdout).toMatch(/^ACCEPTED {2}a SIMULATED OR PRIVATE/)
    expect(stdout.replace(/\s+/g, ' ')).toContain(
      "your policy's reference values were taken from a worker on first use",
    )
    expect(status).toBe(0)
    const json = await verifyAttestation(worker.url, '--policy', file('made.yaml'), '--format', 'json')
    expect(JSON.parse(json.stdout)).toMatchObject({ policy: { trustOnFirstUse: true } })
    expect(json.stdout).toContain('"id": "reference.first-use"')
  })

  it('names the software, the model and the roots of a bundle, with comments, and nothing that is strict anyway', async () => {
    const { status, stdout } = await init('ok.bundle', '--trust-anchor', file('anchor.pem'), TOFU)
    expect(status).toBe(0)
    expect(stdout).toMatch(/^# Appraisal policy taken from /)
    expect(stdout).toContain('# SIMULATED OR PRIVATE hardware')
    const document = parse(stdout) as Record<string, unknown>
    expect(violations(document, policySchema())).toEqual([])
    expect(Object.keys(document)).toEqual([
      ...['schema', 'trustOnFirstUse', 'measurements', 'model', 'trustAnchors', 'allowNonVendorRoot'],
    ])
    expect(resolvePolicy(document)).toMatchObject({
      trustOnFirstUse: true,
      measurements: [{ digest: toHex(world.cpu.measurement) }],
      model: { digests: [toHex(STATEMENT.model.manifestDigest)] },
    })
  })

  it('writes out what was waived', async () => {
    const flags = ['--trust-anchor', file('anchor.pem'), TOFU, '--gpu', 'none', '--tcb-floor', 'none']
    const { status, stdout } = await init('bare.bundle', ...flags, '--revocation', 'available')
    expect(parse(stdout)).toMatchObject({ gpu: 'none', snp: { tcbFloor: 'none' }, revocation: 'available' })
    expect(stdout).toContain('# As you asked; each of these differs from the strict value.')
    expect(status).toBe(0)
    await writeFile(file('bare.yaml'), stdout)
    const again = await verifyAttestation(file('bare.bundle'), '--policy', file('bare.yaml'), ...at())
    expect(again.status).toBe(0)
  })

  it.each<[string, string, string[], string, number]>([
    ['simulated hardware without its root', 'ok.bundle', [], 'snp.chain.root', 1],
    ['a worker without a GPU', 'bare.bundle', ['--trust-anchor'], 'gpu.present', 1],
    ['a worker that does not pad', 'off.bundle', ['--trust-anchor'], 'serving.padding', 1],
    ['another model than named', 'ok.bundle', ['--model-digest', 'cd'.repeat(32), '--trust-anchor'], 'model.digest', 1],
  ])('refuses %s, with nothing on standard output', async (_, name, flags, check, code) => {
    const anchor = flags.at(-1) === '--trust-anchor' ? [file('anchor.pem')] : []
    const { status, stdout, stderr } = await init(name, TOFU, ...flags, ...anchor)
    expect(stdout).toBe('')
    expect(stderr).toContain(`x ${check}`)
    expect(stderr).toContain('no policy written')
    expect(status).toBe(code)
  })

  it.each<[string, string[], RegExp]>([
    ['without --trust-on-first-use', ['ok.bundle'], /--trust-on-first-use takes what the worker reports/],
    ['with a key that is none', ['ok.bundle', '--release-key', 'x', '--unlogged'], /expected a release key/],
    ['without a word on the log', ['ok.bundle', '--release-key', RELEASE_KEY.text], /--log-key, or say --unlogged/],
    [
      'with two words on it',
      ['ok.bundle', '--release-key', RELEASE_KEY.text, '--unlogged', '--log-key', LOG_KEY.text],
      /one of them/,
    ],
    ['with a log and no release key', ['ok.bundle', TOFU, '--log-key', LOG_KEY.text], /go with --release-key/],
    ['with two sources', ['ok.bundle', TOFU, '--release-key', RELEASE_KEY.text, '--unlogged'], /keep one/],
    ['of measured launches without a model', ['ok.bundle', '--measured', 'MEASURED'], /--model-digest/],
    [
      'of measured launches that are none',
      ['ok.bundle', '--measured', 'NOTHING'],
      /not what measure --format json prints/,
    ],
    ['with --any-measurement', ['ok.bundle', TOFU, '--any-measurement'], /names its software/],
    ['of a file that is not there', ['nothing.bundle', TOFU], /cannot read evidence/],
  ])('%s is misuse', async (_, [name = '', ...flags], message) => {
    const { status, stdout, stderr } = await init(name, ...flags.map((flag) => MEASURED.get(flag)?.() ?? flag))
    expect(stdout).toBe('')
    expect(stderr).toMatch(message)
    expect(status).toBe(2)
  })

  it('cannot be talked into YAML by what a worker says', async () => {
    const id = 'x\nmeasurements: any\u2028gpu: none'
    await writeFile(
      file('odd.bundle'),
      await makeBundle(world, { statement: (s) => ({ ...s, model: { ...s.model, id } }) }),
    )
    const { status, stdout } = await init('odd.bundle', '--trust-anchor', file('anchor.pem'), TOFU)
    if (status === 0) expect(parse(stdout)).toMatchObject({ measurements: [{}] })
    expect(stdout).not.toMatch(/^(gpu|measurements: any)/m)
  })
})

describe('a policy to start from', () => {
  const base = (members: object) => writeFile(file('base.json'), JSON.stringify({ schema: POLICY_SCHEMA, ...members }))
  const from = () => ['--trust-anchor', file('anchor.pem'), '--policy', file('base.json')]

  it('is stricter than the default in what is written too', async () => {
    const asked = {
      image: { digests: ['07'.repeat(32)] },
      serving: { isolation: ['request'] },
      freshness: { evidenceSeconds: 1800 },
      graces: [{ check: 'gpu.ocsp.age', until: '2030-01-01T00:00:00Z', reason: 'known' }],
    }
    await base(asked)
    const { status, stdout } = await init('ok.bundle', ...from(), TOFU)
    expect(status).toBe(0)
    expect(parse(stdout)).toMatchObject(asked)
  })

  it.each([
    ['releases', () => ({ releases: RELEASES })],
    ['measurements', () => ({ measurements: [{ digest: 'ab'.repeat(48) }] })],
  ])('that names software by %s is not silently replaced', async (_name, members) => {
    await base(members())
    const { status, stderr } = await init('ok.bundle', ...from(), TOFU)
    expect([status, stderr]).toEqual([2, expect.stringContaining('says already what software is known')])
  })

  it('whose model is its release’s does not go with --any-measurement', async () => {
    await base({ releases: RELEASES, model: 'release' })
    const look = [file('ok.bundle'), ...from(), ...at(), '--any-measurement']
    expect(await verifyAttestation(...look)).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('--model-digest'),
    })
    expect((await verifyAttestation(...look, '--model-digest', 'any')).status).toBe(0)
    await base({ releases: RELEASES, image: 'release' })
    expect(await verifyAttestation(...look)).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('image: release'),
    })
  })
})

describe('from signed releases', () => {
  const flags = () => ['--trust-anchor', file('anchor.pem'), '--endorsements', file('release'), ...at()]
  const key = ['--release-key', RELEASE_KEY.text, '--log-key', LOG_KEY.text]

  it('writes a policy that names the publisher, and accepts under it', async () => {
    const { status, stdout } = await verifyAttestation('policy', 'init', file('ok.bundle'), ...key, ...flags())
    expect(status).toBe(0)
    expect(violations(parse(stdout), policySchema())).toEqual([])
    expect(parse(stdout)).toMatchObject({
      releases: { keys: RELEASES.keys, log: { key: LOG_KEY.text } },
      model: 'release',
    })
    await writeFile(file('release.yaml'), stdout)
    const offline = ['--endorsements', file('release'), ...at(), '--policy', file('release.yaml')]
    const verdict = await verifyAttestation(file('ok.bundle'), ...offline)
    expect(verdict.status).toBe(0)
    expect(verdict.stdout.replace(/\s+/g, ' ')).toContain('= release 0.3.1 of 2026-05-20, in the log test.example/log')
  })

  it('writes none for a release that is nobody’s, or in no log', async () => {
    const none = ['--trust-anchor', file('anchor.pem'), ...at()]
    const absent = await verifyAttestation('policy', 'init', file('ok.bundle'), ...key, ...none)
    expect(absent).toMatchObject({ status: 4, stdout: '' })
    expect(absent.stderr).toContain('- release.present')
    const other = ['--release-key', OTHER_KEY.text, '--unlogged']
    const foreign = await verifyAttestation('policy', 'init', file('ok.bundle'), ...other, ...flags())
    expect(foreign).toMatchObject({ status: 1, stdout: '' })
    expect(foreign.stderr).toContain('x release.signature')
  })
})
