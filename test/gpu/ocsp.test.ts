/**
 * Revocation by OCSP: what each mode and each policy entry tolerates, and who may answer. No real response of NVIDIA's
 * could be had; these are made to RFC 6960 by the simulated responders.
 */
import { describe, expect, it } from 'vitest'
import {
  buildOcspError,
  buildOcspResponse,
  createOcspService,
  type StapleRequest,
} from '../../scripts/simulated/gpu-ocsp.js'
import { mergePools, sortEndorsements } from '../../verifier/endorsements.js'
import { parseOcspResponse } from '../../verifier/gpu/ocsp.js'
import { ocspUse } from '../../verifier/gpu/ocsp-verify.js'
import { planFor, verifyGpus } from '../../verifier/gpu/verify.js'
import { transcriptOf } from '../../verifier/graces.js'
import { fromHex } from '../../verifier/protocol/bytes.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { type Bend, HOUR, judge, NOON, NVIDIA, nodeInput, STRANGER } from './world.js'

const PAST = new Date(NOON.getTime() - HOUR / 2)
type Staple = NonNullable<Bend['staple']>
const all =
  (request: StapleRequest | null): Staple =>
  () =>
    request
const identity = NVIDIA.authorities.gh100Identity

/** Status and reason of the OCSP checks that did not pass. */
async function outcome(bend: Bend): Promise<{ verdict: string; open: readonly string[]; waived: readonly string[] }> {
  const { verdict, checks } = await judge(bend)
  const skipped = checks.filter((check) => check.status === 'skip' && check.reason?.startsWith('waived') === true)
  const open = checks.filter((check) => check.status !== 'pass' && !skipped.includes(check))
  return { verdict, open: open.map(({ id }) => id), waived: skipped.map(({ id }) => id) }
}

const revocation = (mode: 'required' | 'available' | 'off'): Bend => ({ input: { revocation: mode } })

describe('modes', () => {
  it('required: a missing response is unavailable', async () => {
    expect(await outcome({ staple: all(null) })).toMatchObject({ verdict: 'unavailable', open: ['gpu.ocsp.present'] })
  })

  it('required: one out of window is a rejection of its own', async () => {
    const bend = { staple: all({ nextUpdate: PAST }) }
    expect(await outcome(bend)).toMatchObject({ verdict: 'rejected', open: ['gpu.ocsp.window'] })
  })

  it('available: a missing response is named and tolerated', async () => {
    const found = await outcome({ ...revocation('available'), staple: all(null) })
    expect(found).toMatchObject({ verdict: 'accepted', open: [] })
    expect(found.waived).toContain('gpu.ocsp.present')
    expect(found.waived).toContain('gpu.ocsp.revoked')
  })

  it('available: one out of window is named and tolerated', async () => {
    const { checks, verdict } = await judge({ ...revocation('available'), staple: all({ nextUpdate: PAST }) })
    expect(verdict).toBe('accepted')
    expect(checks.find(({ id }) => id === 'gpu.ocsp.window')?.reason).toContain('out of window')
  })

  it.each<[string, StapleRequest, string]>([
    ['badly signed', { broken: { signature: 'corrupt' } }, 'gpu.ocsp.signature'],
    ['by a stranger', { responder: NVIDIA.authorities.rimRoot }, 'gpu.ocsp.responder'],
    ['revoking', { status: 'revoked' }, 'gpu.ocsp.revoked'],
    ['on hold', { status: 'hold' }, 'gpu.ocsp.hold'],
  ])('available: a response in window that is %s still rejects', async (_name, request, id) => {
    const staple: Staple = ({ issuer }) => (issuer === 'gh100Identity' ? request : null)
    const found = await outcome({ ...revocation('available'), staple })
    expect(found).toMatchObject({ verdict: 'rejected', open: [id] })
  })

  it.each<[string, StapleRequest, readonly string[]]>([
    ['without an end', { nextUpdate: null }, ['gpu.ocsp.window']],
    ['from the future', { thisUpdate: new Date(NOON.getTime() + 121_000) }, ['gpu.ocsp.window']],
    ['of a responder a little ahead', { thisUpdate: new Date(NOON.getTime() + 119_000) }, []],
  ])('required: one %s', async (_name, request, open) => {
    expect((await outcome({ staple: all(request) })).open).toEqual(open)
  })

  it('names what is missing, the first two and how many more', async () => {
    const { checks } = await judge({ staple: all(null) })
    const { reason } = checks.find(({ id }) => id === 'gpu.ocsp.present') ?? {}
    expect(reason).toMatch(
      /^no OCSP response about [^,]+ \(serial [0-9a-f]+\), [^,]+ \(serial [0-9a-f]+\), [0-9]+ more$/,
    )
    const gaps = { ...revocation('available'), staple: all(null) }
    const waived = (await judge(gaps)).checks.find(({ id }) => id === 'gpu.ocsp.window')?.reason
    expect(waived).toMatch(/no OCSP response about .+ more$/)
  })

  it('off: nothing is asked, and every check says so', async () => {
    const found = await outcome({ ...revocation('off'), staple: all({ status: 'revoked' }) })
    expect(found.verdict).toBe('accepted')
    expect(found.waived.filter((id) => id.startsWith('gpu.ocsp.'))).toHaveLength(9)
  })
})

describe('what the policy tolerates', () => {
  const held = { staple: all({ status: 'hold', revocationTime: PAST }) } satisfies Bend

  it('a hold, for as long as it says and no longer', async () => {
    const found = await outcome({ ...held, policy: { ocsp: { hold: { forSeconds: 3600 } } } })
    expect(found).toMatchObject({ verdict: 'accepted', waived: ['gpu.ocsp.hold'] })
    const later = await outcome({ ...held, policy: { ocsp: { hold: { forSeconds: 60 } } } })
    expect(later).toMatchObject({ verdict: 'rejected', open: ['gpu.ocsp.hold'] })
  })

  it('a hold, but never a revocation', async () => {
    const policy = { ocsp: { hold: { forSeconds: 3600 }, unknown: 'tolerated' } } as const
    const found = await outcome({ staple: all({ status: 'revoked', revocationTime: PAST }), policy })
    expect(found).toMatchObject({ verdict: 'rejected', open: ['gpu.ocsp.revoked'] })
  })

  it.each([1, null, 3, 8])('a revocation with reason %s is none of hold', async (reason) => {
    const found = await outcome({
      staple: all({ status: 'revoked', reason }),
      policy: { ocsp: { hold: { forSeconds: 3600 } } },
    })
    expect(found.open).toEqual(['gpu.ocsp.revoked'])
  })

  it('a certificate nobody knows', async () => {
    const found = await outcome({ staple: all({ status: 'unknown' }), policy: { ocsp: { unknown: 'tolerated' } } })
    expect(found).toMatchObject({ verdict: 'accepted', waived: ['gpu.ocsp.known'] })
  })

  it('no stapled response when a nonce of one’s own is required', async () => {
    const policy = { ocsp: { nonce: 'required' } } as const
    expect(await outcome({ policy })).toMatchObject({ verdict: 'unavailable', open: ['gpu.ocsp.nonce'] })
    const nonce = new Uint8Array(32).fill(9)
    const own = { policy, staple: all({ nonce }), input: { ocspNonce: nonce } }
    expect((await outcome(own)).verdict).toBe('accepted')
  })
})

const responderWith = (oid: string, hex: string) =>
  NVIDIA.issueResponder({
    issuer: 'gh100Identity',
    overrides: { extensions: [{ oid, value: fromHex(hex) }] },
  })

describe('who answers, and about what', () => {
  it.each(['sha1', 'sha256', 'sha384'] as const)('names certificates with %s', async (hash) => {
    expect((await outcome({ staple: all({ hash }) })).verdict).toBe('accepted')
  })

  it.each<[string, StapleRequest]>([
    ['the issuer itself', { responder: identity }],
    ['a responder named by its key', { broken: { responderId: 'key' } }],
    ['a response with its version written out', { broken: { version: 0 } }],
  ])('%s', async (_name, request) => {
    const staple: Staple = ({ issuer }) => (issuer === 'gh100Identity' ? request : {})
    expect((await outcome({ staple })).verdict).toBe('accepted')
  })

  it.each<[string, StapleRequest]>([
    ['a responder of another issuer', { responder: NVIDIA.issueResponder({ issuer: 'gh100RimCa' }) }],
    [
      'a responder out of its validity',
      { responder: NVIDIA.issueResponder({ issuer: 'gh100Identity', notAfter: PAST }) },
    ],
    ['a responder whose certificate is not there', { broken: { certificates: [] } }],
    ['the device itself', { responder: NVIDIA.issueDevice({ family: 'GH100', issuer: 'gh100Identity' }) }],
    ['a responder that is a certificate authority', { responder: responderWith('2.5.29.19', '30030101ff') }],
    [
      'a responder certified under another name of the issuer',
      {
        responder: NVIDIA.issueResponder({
          issuer: 'gh100Identity',
          overrides: { issuer: { commonName: 'NVIDIA Somebody' } },
        }),
      },
    ],
    ['a responder that may sign certificates alone', { responder: responderWith('2.5.29.15', '03020204') }],
  ])('%s may not', async (_name, request) => {
    const staple: Staple = ({ issuer }) => (issuer === 'gh100Identity' ? request : {})
    const found = await outcome({ staple })
    expect(found.verdict).toBe('rejected')
    expect(found.open).toContain('gpu.ocsp.responder')
  })

  it.each<[string, (issuer: typeof identity) => { name: typeof identity.name; publicKey: typeof identity.publicKey }]>([
    ['name', ({ publicKey }) => ({ name: NVIDIA.authorities.gh100RimCa.name, publicKey })],
    ['key', ({ name }) => ({ name, publicKey: NVIDIA.authorities.gh100RimCa.publicKey })],
  ])('says nothing about a certificate of an issuer of another %s', async (_what, change) => {
    const responder = NVIDIA.issueResponder({ issuer: 'gh100Identity' })
    const { serialNumber } = NVIDIA.authorities.gh100Provisioner
    const [thisUpdate, nextUpdate] = [new Date(NOON.getTime() - HOUR), new Date(NOON.getTime() + HOUR)]
    const answer = { serialNumber, issuer: change(identity), status: 'good', thisUpdate, nextUpdate } as const
    const astray = buildOcspResponse({ answers: [answer], producedAt: NOON }, responder)
    const input = nodeInput({ staple: ({ issuer }) => (issuer === 'gh100Identity' ? null : {}) })
    const endorsements = mergePools(input.endorsements, sortEndorsements([{ name: 'astray', bytes: astray }]))
    expect(await outcome({ input: { ...input, endorsements } })).toMatchObject({
      verdict: 'unavailable',
      open: ['gpu.ocsp.present'],
    })
  })

  it('a revocation that is over still revokes, whatever newer answer stands beside it', async () => {
    const input = nodeInput({})
    const [late, over] = [new Date(NOON.getTime() - HOUR), new Date(NOON.getTime() - 60_000)]
    const old = createOcspService(NVIDIA).staple(identity, { status: 'revoked', thisUpdate: late, nextUpdate: over })
    const endorsements = mergePools(input.endorsements, sortEndorsements([{ name: 'old', bytes: old }]))
    expect(await outcome({ input: { ...input, endorsements } })).toMatchObject({ open: ['gpu.ocsp.revoked'] })
  })

  it('a grace for the window bears an old answer, and never a revocation', async () => {
    const [late, over] = [new Date(NOON.getTime() - HOUR), new Date(NOON.getTime() - 60_000)]
    const grace = [{ check: 'gpu.ocsp.window', until: '2027-01-01T00:00:00Z', reason: 'r' }]
    for (const [status, open] of [
      ['good', []],
      ['revoked', ['gpu.ocsp.revoked']],
    ] as const) {
      const input = nodeInput({
        staple: ({ serialNumber }) =>
          serialNumber === identity.serialNumber ? { status, thisUpdate: late, nextUpdate: over } : {},
      })
      const t = transcriptOf(planFor(input), grace, NOON)
      await verifyGpus(t, input)
      expect(
        t
          .checks()
          .filter((check) => check.status === 'fail')
          .map(({ id }) => id),
      ).toEqual(open)
      expect(t.satisfied('gpu.ocsp.window')).toBe(true)
    }
  })

  it('more answers about one certificate than are looked at is a failure, not a choice', async () => {
    const input = nodeInput({})
    const service = createOcspService(NVIDIA)
    const crowd = Array.from({ length: 16 }, (_, i) => ({
      name: `${i}`,
      bytes: service.staple(identity, { thisUpdate: new Date(NOON.getTime() - (i + 1) * 60_000) }),
    }))
    const endorsements = mergePools(sortEndorsements(crowd), input.endorsements)
    expect(await outcome({ input: { ...input, endorsements } })).toMatchObject({
      verdict: 'rejected',
      open: expect.arrayContaining(['gpu.ocsp.present']),
    })
    const flood = Array.from({ length: 257 }, () => crowd[0]!)
    const flooded = mergePools(input.endorsements, sortEndorsements(flood))
    expect(await outcome({ input: { ...input, endorsements: flooded } })).toMatchObject({ verdict: 'rejected' })
  })

  it('a newer good answer does not outrank a revocation in force', async () => {
    const input = nodeInput({})
    const responder = NVIDIA.issueResponder({ issuer: 'gh100Identity' })
    const answer = {
      serialNumber: NVIDIA.authorities.gh100Provisioner.serialNumber,
      issuer: identity,
      status: 'revoked',
      thisUpdate: new Date(NOON.getTime() - HOUR),
      nextUpdate: new Date(NOON.getTime() + HOUR),
    } as const
    const revoking = buildOcspResponse({ answers: [answer], producedAt: NOON }, responder)
    const endorsements = mergePools(input.endorsements, sortEndorsements([{ name: 'revoking', bytes: revoking }]))
    // The stapled good answers of the world are as old as the hierarchy; an older revocation counts all the same.
    expect(await outcome({ input: { ...input, endorsements } })).toMatchObject({
      verdict: 'rejected',
      open: ['gpu.ocsp.revoked'],
    })
  })

  /** The world's pool with more responses about the provisioner. */
  function beside(...more: readonly (readonly [StapleRequest['status'], StapleRequest])[]): Bend {
    const input = nodeInput({})
    const provisioner = NVIDIA.authorities.gh100Provisioner
    const service = createOcspService(NVIDIA)
    const files = more.map(([status, request], i) => {
      const bytes = service.staple(provisioner, status === undefined ? request : { ...request, status })
      return { name: `more ${i}`, bytes }
    })
    return { input: { ...input, endorsements: mergePools(input.endorsements, sortEndorsements(files)) } }
  }

  it.each<[string, StapleRequest]>([
    ['a stranger', { responder: NVIDIA.issueResponder({ issuer: 'gh100RimCa' }) }],
    ['a namesake of the issuer', { responder: STRANGER.issueResponder({ issuer: 'gh100Identity' }) }],
    ['nobody, by its signature', { broken: { signature: 'corrupt' } }],
  ])('a revocation by %s revokes nothing beside an honest answer', async (_name, request) => {
    expect(await outcome(beside(['revoked', request]))).toMatchObject({ verdict: 'accepted', open: [] })
  })

  it('a namesake of the issuer may not answer alone', async () => {
    const responder = STRANGER.issueResponder({ issuer: 'gh100Identity' })
    const staple: Staple = ({ issuer }) => (issuer === 'gh100Identity' ? { responder } : {})
    expect((await outcome({ staple })).open).toEqual(['gpu.ocsp.responder'])
  })

  it('one authority’s not knowing does not outweigh an answer that does', async () => {
    const later = new Date(NOON.getTime() - 60_000)
    expect(await outcome(beside(['unknown', { thisUpdate: later }]))).toMatchObject({ verdict: 'accepted', open: [] })
  })

  it('what only looks like a response is passed over', async () => {
    const input = nodeInput({})
    const junk = sortEndorsements([{ name: 'junk', bytes: new Uint8Array(Buffer.from('30050a0100a000', 'hex')) }])
    expect(junk.documents.map(({ kind }) => kind)).toEqual(['ocsp'])
    const bend = { input: { ...input, endorsements: mergePools(junk, input.endorsements) } }
    expect(await outcome(bend)).toMatchObject({ verdict: 'accepted', open: [] })
  })

  it('a responder whose purposes cannot be read may not answer, and one with another purpose besides may', async () => {
    const issue = (hex: string) =>
      NVIDIA.issueResponder({
        issuer: 'gh100Identity',
        overrides: { extensions: [{ oid: '2.5.29.37', value: new Uint8Array(Buffer.from(hex, 'hex')) }] },
      })
    const staple = (responder: ReturnType<typeof issue>): Staple => {
      return ({ issuer }) => (issuer === 'gh100Identity' ? { responder } : {})
    }
    expect((await outcome({ staple: staple(issue('3003060100ff')) })).open).toContain('gpu.ocsp.responder')
    // id-kp-serverAuth, then id-kp-OCSPSigning.
    const both = issue('301406082b0601050507030106082b06010505070309')
    expect(await outcome({ staple: staple(both) })).toMatchObject({ verdict: 'accepted', open: [] })
  })

  it('a response is as old as the oldest of its answers, and over with the first of them', () => {
    const answer = (thisUpdate: Date, nextUpdate: Date | null) =>
      ({ serialNumber: 1n, issuer: identity, status: 'good', thisUpdate, nextUpdate }) as const
    const later = new Date(NOON.getTime() + HOUR)
    const responder = NVIDIA.issueResponder({ issuer: 'gh100Identity' })
    const use = (...answers: ReturnType<typeof answer>[]) =>
      ocspUse(parseOcspResponse(buildOcspResponse({ answers, producedAt: NOON }, responder)))
    expect(use(answer(NOON, later), answer(PAST, NOON))).toMatchObject({
      issuedAt: PAST.toISOString(),
      nextUpdate: NOON.toISOString(),
    })
    expect(use(answer(NOON, later), answer(NOON, null)).nextUpdate).toBeNull()
  })

  it.each([1, 2, 3, 5, 6] as const)('error status %i says nothing', (status) => {
    expect(() => parseOcspResponse(new Uint8Array(buildOcspError(status)))).toThrow(FormatError)
  })
})
