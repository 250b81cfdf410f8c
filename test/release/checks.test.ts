/**
 * Each release check has a case in which it is the only one to fail or to lack its input: delete the check and its line
 * goes red. Over whole bundles of simulated hardware.
 */
import { beforeAll, describe, expect, it } from 'vitest'
import { verifyEvidence } from '../../verifier/appraise.js'
import { sortEndorsements } from '../../verifier/endorsements.js'
import { type PolicyDocument, resolvePolicy } from '../../verifier/policy.js'
import { parseBundle } from '../../verifier/protocol/bundle.js'
import { type Bytes, toHex, utf8 } from '../../verifier/protocol/bytes.js'
import { releaseChecks } from '../../verifier/release/checks.js'
import { addEndorsements } from '../../verifier/save.js'
import { createWorld, makeBundle, NONCE, type World } from '../support/bundle-world.js'
import { STATEMENT } from '../support/samples.js'
import { LOG_KEY, makeRelease, OTHER_KEY, RELEASES, type ReleaseBend, WITNESSES } from './release-world.js'

let world: World
let bundle: Bytes
beforeAll(async () => {
  world = await createWorld()
  bundle = await makeBundle(world)
})

const facts = () => ({
  launch: [{ platform: 'snp' as const, vcpus: 4, digest: toHex(world.cpu.measurement) }],
  models: [{ id: 'subrosa-demo', weights: toHex(STATEMENT.model.weightsRoot) }],
})

function policy(change: Partial<PolicyDocument> = {}): PolicyDocument {
  const { measurements: _, model: _model, ...rest } = world.policy
  return { ...rest, releases: RELEASES, model: 'release', ...change }
}

async function appraise(bend: ReleaseBend = {}, change: Partial<PolicyDocument> = {}, of = facts()) {
  const result = await verifyEvidence(bundle, {
    policy: resolvePolicy(policy(change)),
    now: world.now,
    live: { nonce: NONCE, sentAt: world.now },
    endorsements: sortEndorsements(makeRelease(of, bend)),
  })
  const open = result.checks.filter(
    ({ status, reason, id }) =>
      status === 'fail' || (status === 'skip' && !result.waived.includes(id) && !/^needs /.test(reason ?? '')),
  )
  return { result, verdict: result.verdict, open: open.map(({ id }) => id) }
}

interface Negative {
  readonly check: string
  readonly name: string
  readonly bend?: ReleaseBend
  readonly policy?: Partial<PolicyDocument>
  readonly verdict?: 'unavailable'
  /** The launch the manifest names. */
  readonly digest?: string
  readonly also?: readonly string[]
}

const NEGATIVES: readonly Negative[] = [
  { check: 'release.present', name: 'no manifest', bend: { leaveOut: ['manifest'] }, verdict: 'unavailable' },
  { check: 'release.present', name: 'a manifest of another launch', digest: 'ef'.repeat(48), verdict: 'unavailable' },
  { check: 'release.signature', name: 'a manifest of somebody else', bend: { signManifest: OTHER_KEY } },
  { check: 'release.logged', name: 'no proof', bend: { leaveOut: ['proof'] }, verdict: 'unavailable' },
  { check: 'release.logged', name: 'another entry in its place', bend: { entry: utf8('another') } },
  {
    check: 'release.logged',
    name: 'a checkpoint of somebody else',
    bend: { signCheckpoint: { ...OTHER_KEY, public: LOG_KEY.public } },
  },
  { check: 'release.witnessed', name: 'one witness of two', bend: { witnesses: WITNESSES.slice(0, 1) } },
  { check: 'release.witnessed', name: 'no witness', bend: { witnesses: [] } },
  { check: 'release.index', name: 'no index', bend: { leaveOut: ['index'] }, verdict: 'unavailable' },
  { check: 'release.index', name: 'an index of somebody else', bend: { signIndex: OTHER_KEY } },
  { check: 'release.floor', name: 'older than the index allows', bend: { index: { floor: '0.3.2' } } },
  {
    check: 'release.floor',
    name: 'older than the policy allows',
    policy: { releases: { ...RELEASES, minVersion: '0.10.0' } },
  },
  {
    check: 'release.denied',
    name: 'a denied version',
    bend: { index: { denied: [{ version: '0.3.1', reason: 'a hole' }] } },
  },
]

describe('deciding negatives', () => {
  it('the release is accepted', async () => {
    const { result, open } = await appraise()
    expect({ verdict: result.verdict, open }).toEqual({ verdict: 'accepted', open: [] })
    expect(result.verdict === 'accepted' && result.worker !== undefined).toBe(true)
    expect(result.evidence['release']).toMatchObject({ version: '0.3.1', log: 'test.example/log', logSize: 3 })
    expect(result.notProven.find(({ id }) => id === 'release.since')?.text).toContain('2026-05-25')
  })

  it.each(NEGATIVES)('$check: $name', async ({ check, bend, policy: change, digest, verdict = 'rejected' }) => {
    const of = digest === undefined ? facts() : { ...facts(), launch: [{ platform: 'snp' as const, vcpus: 4, digest }] }
    const found = await appraise(bend, change, of)
    const models = found.open.filter((id) => id !== 'model.digest')
    expect({ verdict: found.verdict, open: models }).toEqual({ verdict, open: [check] })
  })

  it('a denied launch', async () => {
    const denied = [{ digest: toHex(world.cpu.measurement), reason: 'built wrongly' }]
    const { verdict, open, result } = await appraise({ index: { denied } }, { model: 'any' })
    expect({ verdict, open }).toEqual({ verdict: 'rejected', open: ['release.denied'] })
    expect(result.checks.find(({ id }) => id === 'release.denied')?.reason).toContain('built wrongly')
  })

  it('leaves none out', () => {
    expect(releaseChecks('x').map(({ id }) => id)).toEqual([...new Set(NEGATIVES.map(({ check }) => check))])
  })

  it('a model the release does not name', async () => {
    const { verdict, open } = await appraise({}, {}, { ...facts(), models: [] })
    expect({ verdict, open }).toEqual({ verdict: 'rejected', open: ['model.digest'] })
  })
})

describe('what is tolerated is said', () => {
  it('an unlogged release, and a log of one operator', async () => {
    const unlogged = await appraise({ leaveOut: ['proof'] }, { releases: { ...RELEASES, log: 'unlogged' } })
    expect(unlogged.verdict).toBe('accepted')
    expect(unlogged.result.waived).toEqual(expect.arrayContaining(['release.logged', 'release.witnessed']))
    const alone = await appraise({ witnesses: [] }, { releases: { ...RELEASES, log: { key: LOG_KEY.text } } })
    expect(alone.verdict).toBe('accepted')
    expect(alone.result.notProven.find(({ id }) => id === 'release.witnessed')?.text).toContain('one operator')
  })

  it('a witness named twice counts once', async () => {
    const keys = [WITNESSES[0]!.text, WITNESSES[0]!.text]
    const twice = { ...RELEASES, log: { key: LOG_KEY.text, witnesses: { keys, threshold: 2 } } }
    expect(() => resolvePolicy(policy({ releases: twice }))).toThrow(/threshold/)
  })
})

describe('among several', () => {
  it('the newest index decides, so that an old one cannot hide a denial', async () => {
    const old = makeRelease(facts())
    const denial = makeRelease(facts(), {
      index: { date: '2026-05-30T00:00:00Z', denied: [{ version: '0.3.1', reason: 'a hole' }] },
    })
    const forged = makeRelease(facts(), { index: { date: '2026-05-31T00:00:00Z' }, signIndex: OTHER_KEY })
    const result = await verifyEvidence(bundle, {
      policy: resolvePolicy(policy()),
      now: world.now,
      live: { nonce: NONCE, sentAt: world.now },
      endorsements: sortEndorsements([...old, ...denial, ...forged]),
    })
    expect(result.checks.filter(({ status }) => status === 'fail').map(({ id }) => id)).toEqual(['release.denied'])
  })

  it('a stapled release is as good, and a saved bundle keeps what the verdict rests on', async () => {
    const { result } = await appraise()
    const saved = addEndorsements(bundle, result.verdict === 'accepted' ? result.endorsementBytes : [])
    const types = parseBundle(saved).endorsements.map(({ type }) => type)
    expect(types.filter((type) => type.startsWith('application/vnd.subrosa.'))).toEqual([
      'application/vnd.subrosa.release',
      'application/vnd.subrosa.release-index',
      'application/vnd.subrosa.tlog-proof',
    ])
    const again = await verifyEvidence(saved, { policy: resolvePolicy(policy()), now: world.now, nonce: NONCE })
    const list = (checks: typeof result.checks) => checks.map(({ id, status, reason }) => [id, status, reason])
    expect(list(again.checks)).toEqual(list(result.checks))
  })
})

describe('policies that cannot be meant', () => {
  it.each<[string, Partial<PolicyDocument>, RegExp]>([
    ['measurements beside releases', { measurements: 'any' }, /keep one/],
    ['no keys', { releases: { ...RELEASES, keys: [] } }, /expects nothing/],
    ['a witness for a release key', { releases: { ...RELEASES, keys: [WITNESSES[0]!.text] } }, /release key/],
    [
      'a log key for a witness',
      { releases: { ...RELEASES, log: { key: LOG_KEY.text, witnesses: { keys: [LOG_KEY.text], threshold: 1 } } } },
      /witness key/,
    ],
    [
      'more witnesses than there are',
      {
        releases: { ...RELEASES, log: { key: LOG_KEY.text, witnesses: { keys: [WITNESSES[0]!.text], threshold: 2 } } },
      },
      /threshold/,
    ],
    ...['null', '{}', '{"tlogs":[],"ctlogs":[],"certificateAuthorities":[]}', 'x'].map(
      (trustedRoot): [string, Partial<PolicyDocument>, RegExp] => [
        `a Sigstore root that is ${trustedRoot}`,
        { releases: { ...RELEASES, log: { sigstore: { trustedRoot, identity: 'a', issuer: 'b' } } } },
        /TrustedRoot|Sigstore identity/,
      ],
    ),
    ['no word on the log', { releases: { keys: RELEASES.keys } as never }, /log/],
    ['models of no release', { releases: undefined as never, model: 'release' }, /needs releases/],
  ])('%s', (_name, change, message) => {
    expect(() => resolvePolicy(policy(change))).toThrow(message)
  })
})
