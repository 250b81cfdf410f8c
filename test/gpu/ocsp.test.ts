/**
 * Revocation by OCSP: what each mode and each policy entry tolerates, and who may answer. No real response of NVIDIA's
 * could be had; these are made to RFC 6960 by the simulated responders.
 */
import { describe, expect, it } from 'vitest'
import { buildOcspError, buildOcspResponse, type StapleRequest } from '../../scripts/simulated/gpu-ocsp.js'
import { mergePools, sortEndorsements } from '../../verifier/endorsements.js'
import { parseOcspResponse } from '../../verifier/gpu/ocsp.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { type Bend, HOUR, judge, NOON, NVIDIA, nodeInput } from './world.js'

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

  it.each([1, 2, 3, 5, 6] as const)('error status %i says nothing', (status) => {
    expect(() => parseOcspResponse(new Uint8Array(buildOcspError(status)))).toThrow(FormatError)
  })
})
