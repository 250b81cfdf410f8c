/**
 * Each release check has a case in which it is the only one to fail or to lack its input: delete the check and its line
 * goes red. Over whole bundles of simulated hardware.
 */
import { beforeAll, describe, expect, it } from 'vitest'
import { createSigningKey, type SigningKey } from '../../scripts/release/keys.js'
import { verifyEvidence } from '../../verifier/appraise.js'
import { sortEndorsements } from '../../verifier/endorsements.js'
import { type PolicyDocument, resolvePolicy } from '../../verifier/policy.js'
import { parseBundle } from '../../verifier/protocol/bundle.js'
import { type Bytes, toHex, utf8 } from '../../verifier/protocol/bytes.js'
import { releaseChecks } from '../../verifier/release/checks.js'
import { encodeNoteKey, parseNoteKey } from '../../verifier/release/note.js'
import { addEndorsements } from '../../verifier/save.js'
import { createWorld, makeBundle, NONCE, type World } from '../support/bundle-world.js'
import { STATEMENT } from '../support/samples.js'
import { LOG_KEY, makeRelease, OTHER_KEY, RELEASE_KEY, RELEASES, type ReleaseBend, WITNESSES } from './release-world.js'

let world: World
let bundle: Bytes
beforeAll(async () => {
  world = await createWorld()
  bundle = await makeBundle(world)
})

const facts = () => ({
  launch: [{ platform: 'snp' as const, vcpus: 4, digest: toHex(world.cpu.measurement) }],
  models: [
    {
      id: 'subrosa-demo',
      weights: toHex(STATEMENT.model.weightsRoot),
      manifest: toHex(STATEMENT.model.manifestDigest),
    },
  ],
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

/** P-13.1 to P-13.6, in order: P-13.1 present, P-13.2 signature, P-13.3 logged, P-13.4 witnessed, P-13.5 index, P-13.6 floor, denied. */
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
  { check: 'release.logged', name: 'a place outside the log', bend: { proofIndex: 3 } },
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

  it('another image than the release’s, where the policy asks', async () => {
    const own = toHex(STATEMENT.runtime.imageDigest ?? new Uint8Array())
    expect((await appraise({ manifest: { image: { digest: own } } }, { image: 'release' })).verdict).toBe('accepted')
    const { verdict, open } = await appraise({}, { image: 'release' })
    expect({ verdict, open }).toEqual({ verdict: 'rejected', open: ['image.digest'] })
    const unsigned = await appraise(
      { manifest: { image: { digest: own } }, signManifest: OTHER_KEY },
      { image: 'release' },
    )
    expect(unsigned.open).toEqual(['release.signature', 'image.digest', 'model.digest'])
  })

  it('weights of the release in a package that is not the release’s (P-9.8)', async () => {
    const models = [
      { id: 'subrosa-demo', weights: toHex(STATEMENT.model.weightsRoot), manifest: 'ab'.repeat(32) },
      { id: 'other', weights: 'cd'.repeat(32), manifest: toHex(STATEMENT.model.manifestDigest) },
    ]
    const { verdict, open, result } = await appraise({}, {}, { ...facts(), models })
    expect({ verdict, open }).toEqual({ verdict: 'rejected', open: ['model.digest'] })
    expect(result.checks.find(({ id }) => id === 'model.digest')?.reason).toMatch(/rest of the model package is not/)
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

  it('a witness named twice counts once, under whatever names', async () => {
    const [witness] = WITNESSES
    const renamed = encodeNoteKey('witness-z.example', 'cosignature', witness!.public.publicKey)
    const under = (keys: readonly string[], threshold: number) =>
      policy({ releases: { ...RELEASES, log: { key: LOG_KEY.text, witnesses: { keys, threshold } } } })
    for (const keys of [
      [witness!.text, witness!.text],
      [witness!.text, renamed],
    ]) {
      expect(() => resolvePolicy(under(keys, 2))).toThrow(/threshold/)
    }
    // Both cosignatures of one key are one witness; either name is enough for it.
    const twice = under([witness!.text, renamed, WITNESSES[2]!.text], 2)
    const other = { ...witness!, public: parseNoteKey(renamed) }
    const check = async (witnesses: readonly SigningKey[]) =>
      (await appraise({ witnesses }, twice)).result.checks.find(({ id }) => id === 'release.witnessed')
    expect(await check([witness!, other])).toMatchObject({ status: 'fail', expected: '2 of 2' })
    expect(await check([witness!, WITNESSES[2]!])).toMatchObject({ status: 'pass' })
    expect(await check([other, WITNESSES[2]!])).toMatchObject({ status: 'pass' })
  })
})

describe('among several', () => {
  const SECOND = createSigningKey('test.example/second')
  const both = { ...RELEASES, keys: [RELEASE_KEY.text, SECOND.text] }
  const DENIED = [{ version: '0.3.1', reason: 'a hole' }]
  type Files = ReturnType<typeof makeRelease>

  const indexOf = (date: string, bend: ReleaseBend = {}): Files =>
    makeRelease(facts(), {
      ...bend,
      index: { date: `${date}T00:00:00Z`, ...bend.index },
      leaveOut: ['manifest', 'proof'],
    })

  async function among(files: Files, change: Partial<PolicyDocument> = {}) {
    const result = await verifyEvidence(bundle, {
      policy: resolvePolicy(policy(change)),
      now: world.now,
      live: { nonce: NONCE, sentAt: world.now },
      endorsements: sortEndorsements(files),
    })
    const failed = result.checks.filter(({ status }) => status === 'fail').map(({ id }) => id)
    const missing = result.checks.filter(
      ({ id, status, reason }) => id.startsWith('release.') && status === 'skip' && /at hand/.test(reason ?? ''),
    )
    return { result, verdict: result.verdict, failed, missing: missing.map(({ id }) => id) }
  }

  it('the newest index decides, so that an old one cannot hide a denial (P-13.5)', async () => {
    const files = [
      ...makeRelease(facts()),
      ...indexOf('2026-05-30', { index: { denied: DENIED } }),
      ...indexOf('2026-05-31', { signIndex: OTHER_KEY }),
    ]
    expect((await among(files)).failed).toEqual(['release.denied'])
  })

  it('and the older does not where it was lifted', async () => {
    const lifted = [...makeRelease(facts(), { index: { denied: DENIED } }), ...indexOf('2026-05-30')]
    expect((await among(lifted)).verdict).toBe('accepted')
  })

  it('a newer index of another key hides neither denial nor floor', async () => {
    const newer = indexOf('2026-05-31', { signIndex: SECOND })
    for (const [index, check] of [
      [{ denied: DENIED }, 'release.denied'],
      [{ floor: '0.3.2' }, 'release.floor'],
    ] as const) {
      const own = makeRelease(facts(), { index })
      for (const files of [
        [...own, ...newer],
        [...newer, ...own],
      ]) {
        expect((await among(files, { releases: both })).failed).toEqual([check])
      }
    }
  })

  it('another key’s denial counts too, and its index alone is not enough', async () => {
    const denial = indexOf('2026-05-01', { signIndex: SECOND, index: { denied: DENIED } })
    expect((await among([...makeRelease(facts()), ...denial], { releases: both })).failed).toEqual(['release.denied'])
    const alone = makeRelease(facts(), { signIndex: SECOND })
    expect(await among(alone, { releases: both })).toMatchObject({
      verdict: 'unavailable',
      failed: [],
      missing: ['release.index'],
    })
  })

  it('another key’s index does not make the release’s own look old', async () => {
    const old = indexOf('2020-01-01', { signIndex: SECOND })
    const fresh = { ...world.policy.freshness, endorsementSeconds: 400 * 86_400 }
    const { result } = await among([...makeRelease(facts()), ...old], { releases: both, freshness: fresh })
    expect(result.endorsements.map(({ kind }) => kind)).toContain('other release-index')
    expect(result.checks.find(({ id }) => id === 'freshness.endorsements')?.actual).not.toContain('other')
  })

  it('two indexes of one date both count', async () => {
    const plain = makeRelease(facts(), { index: { date: '2026-05-30T00:00:00Z' } })
    const denial = indexOf('2026-05-30', { index: { denied: DENIED } })
    expect((await among([...plain, ...denial])).failed).toEqual(['release.denied'])
    expect((await among([...denial, ...plain])).failed).toEqual(['release.denied'])
  })

  it('no crowd of older ones keeps the newest from being read', async () => {
    const old = Array.from({ length: 100 }, (_, i) => indexOf(`19${String(i).padStart(2, '0')}-01-01`)).flat()
    const denial = indexOf('2026-05-30', { index: { denied: DENIED } })
    expect((await among([...old, ...makeRelease(facts()), ...denial])).failed).toEqual(['release.denied'])
    const crowd = Array.from({ length: 600 }, (_, i) => ({
      name: 'index',
      bytes: utf8(`{\n  "schema": "subrosa-releases/1",\n  "n": ${i}\n}\n`),
    }))
    const lost = await among([...makeRelease(facts()), ...crowd, ...denial])
    expect([lost.verdict, lost.missing]).toEqual(['unavailable', ['release.index']])
  })

  it('the proof that shows most decides, whatever lies beside it', async () => {
    const unseen = makeRelease(facts(), { later: 5, witnesses: [], leaveOut: ['manifest', 'index'] })
    const forged = makeRelease(facts(), {
      later: 9,
      signCheckpoint: { ...OTHER_KEY, public: LOG_KEY.public },
      leaveOut: ['manifest', 'index'],
    })
    const elsewhere = makeRelease(facts(), { entry: utf8('another'), later: 7, leaveOut: ['manifest', 'index'] })
    const { result, verdict } = await among([...unseen, ...forged, ...elsewhere, ...makeRelease(facts())])
    expect(verdict).toBe('accepted')
    expect(result.evidence['release']).toMatchObject({ logSize: 3 })
  })

  it('what a release says of itself is repeated only when it holds', async () => {
    for (const bend of [{ signManifest: OTHER_KEY }, { index: { denied: DENIED } }, { witnesses: [] }]) {
      expect((await among(makeRelease(facts(), bend))).result.evidence).not.toHaveProperty('release')
    }
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
    ...[LOG_KEY, RELEASE_KEY].map(({ public: own }): [string, Partial<PolicyDocument>, RegExp] => {
      const witnesses = { keys: [encodeNoteKey('w.example', 'cosignature', own.publicKey)], threshold: 1 }
      return [
        `${own.name} for its own witness`,
        { releases: { ...RELEASES, log: { key: LOG_KEY.text, witnesses } } },
        /no witness of what/,
      ]
    }),
    ['no word on the log', { releases: { keys: RELEASES.keys } as never }, /log/],
    ['an image of no release', { releases: undefined as never, model: 'any', image: 'release' }, /needs releases/],
    ['models of no release', { releases: undefined as never, model: 'release' }, /needs releases/],
  ])('%s', (_name, change, message) => {
    expect(() => resolvePolicy(policy(change))).toThrow(message)
  })
})
