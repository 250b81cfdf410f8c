/**
 * What a bundle may make its reader do for devices that nobody has verified yet: work is counted here, never timed. Whoever
 * hands evidence over chooses every certificate under it, every answer about them, and all serial numbers.
 */
import { afterEach, describe, expect, it, vi } from 'vitest'
import { signRevocationList } from '../../scripts/simulated/certificate.js'
import { buildOcspResponse, createOcspService, type OcspAnswer } from '../../scripts/simulated/gpu-ocsp.js'
import { Transcript } from '../../verifier/checks.js'
import { mergePools, sortEndorsements } from '../../verifier/endorsements.js'
import { gpuPlan } from '../../verifier/gpu/checks.js'
import { checkRevocationLists } from '../../verifier/gpu/crl.js'
import type { Subject } from '../../verifier/gpu/ocsp-responder.js'
import { checkOcsp } from '../../verifier/gpu/ocsp-verify.js'
import type { Bytes } from '../../verifier/protocol/bytes.js'
import { parseCertificate } from '../../verifier/x509.js'
import { HOUR, judge, NOON, NVIDIA, nodeInput, policyOf } from './world.js'

afterEach(() => void vi.restoreAllMocks())

const { gh100Identity: identity, gh100Provisioner: provisioner } = NVIDIA.authorities

/** The certificate under another signature: other bytes, and everything they say the same. */
function alike(der: Bytes, i: number): Bytes {
  const out = new Uint8Array(der)
  new DataView(out.buffer).setUint16(out.length - 2, i)
  return out
}

const failing = (reason: string) => ({ status: 'fail', reason })

/** The checks of one area alone, as if all that comes before had passed. */
function transcriptOf(area: string): Transcript {
  const within = (id: string) => id.startsWith(area)
  const plan = gpuPlan(1, 0).filter(({ id }) => within(id))
  return new Transcript(plan.map((check) => ({ ...check, needs: check.needs?.filter(within) ?? [] })))
}

describe('OCSP', () => {
  /** So many certificates of one serial number under one issuer. */
  const subjects = (count: number): Subject[] =>
    Array.from({ length: count }, (_, i) => ({
      certificate: parseCertificate(alike(provisioner.der, i)),
      issuer: parseCertificate(identity.der),
    }))
  const service = createOcspService(NVIDIA)
  const stapled = (count: number) =>
    sortEndorsements(
      Array.from({ length: count }, (_, i) => {
        const thisUpdate = new Date(NOON.getTime() - (i + 1) * 1000)
        return { name: `${i}`, bytes: service.staple(provisioner, { thisUpdate }) }
      }),
    )
  async function present(certificates: number, answers: number) {
    const t = transcriptOf('gpu.ocsp.')
    await checkOcsp(t, {
      subjects: subjects(certificates),
      pool: stapled(answers),
      revocation: 'required',
      policy: policyOf().ocsp,
      now: NOON,
    })
    return t.checks()[0]
  }

  it('an issuer is hashed once for all of its certificates', async () => {
    const digest = vi.spyOn(globalThis.crypto.subtle, 'digest')
    expect(await present(32, 1)).toMatchObject({ status: 'pass' })
    // Its name and its key, with the one hash the answers use.
    expect(digest.mock.calls.length).toBe(2)
  })

  it('an issuer is not hashed for every pair of a certificate and an answer', async () => {
    const digest = vi.spyOn(globalThis.crypto.subtle, 'digest')
    const device = NVIDIA.issueDevice({ family: 'GH100' })
    const [leaf, brom] = device.chain as [Bytes, Bytes]
    let made = 0
    const gpus = Array.from({ length: 4 }, () => ({
      device,
      chain: () => [leaf, ...Array.from({ length: 7 }, () => alike(brom, made++))],
    }))
    const answer: OcspAnswer = {
      serialNumber: device.brom.serialNumber,
      issuer: provisioner,
      status: 'good',
      hash: 'sha384',
      thisUpdate: NVIDIA.notBefore,
      nextUpdate: NVIDIA.notAfter,
    }
    const responder = NVIDIA.issueResponder({ issuer: 'gh100Identity' })
    const files = Array.from({ length: 8 }, (_, i) => ({
      name: `${i}`,
      bytes: buildOcspResponse({ answers: Array(64).fill(answer), producedAt: new Date(i * 1000) }, responder),
    }))
    const { endorsements, ...input } = nodeInput({ gpus })
    digest.mockClear()
    const found = await judge({ input: { ...input, endorsements: mergePools(endorsements, sortEndorsements(files)) } })
    expect(found.failing).toContain('gpu.chain.signatures')
    // Seven a device of which the first six have an issuer at hand, and those of the manifests; two digests a hash for each.
    const issuers = found.findings?.wanted.subjects.map(({ issuer }) => issuer.sha256Hex) ?? []
    expect(issuers.length).toBeGreaterThanOrEqual(4 * 6)
    expect(digest.mock.calls.length).toBeLessThanOrEqual(2 * 2 * new Set(issuers).size)
  })

  it('answers about all certificates together are bounded, and what is beyond is a failure, not a choice', async () => {
    expect(await present(32, 16)).toMatchObject({ status: 'pass' })
    expect(await present(33, 16)).toMatchObject(failing('more than 512 answers about these certificates'))
  })

  it('no more signatures are looked at than there are answers to look at', async () => {
    const verify = vi.spyOn(globalThis.crypto.subtle, 'verify')
    expect(await present(1, 40)).toMatchObject({
      status: 'fail',
      reason: expect.stringMatching(/^more than 16 answers/),
    })
    // One a response looked at, and one of the responder's certificate.
    expect(verify.mock.calls.length).toBeLessThanOrEqual(17)
  })
})

describe('revocation lists', () => {
  const list = (i: number, keyId?: Bytes) =>
    signRevocationList(
      {
        issuer: identity.name,
        thisUpdate: new Date(NOON.getTime() - HOUR - i * 1000),
        nextUpdate: new Date(NOON.getTime() + HOUR),
        revoked: [],
        extensions:
          keyId === undefined
            ? []
            : [
                {
                  oid: '2.5.29.35',
                  critical: false,
                  value: new Uint8Array([0x30, 2 + keyId.length, 0x80, keyId.length, ...keyId]),
                },
              ],
      },
      identity.privateKey,
      { hash: 'sha256' },
    )
  async function judged(lists: readonly Uint8Array[], certificates = 1) {
    const t = transcriptOf('gpu.crl.')
    const pool = sortEndorsements(lists.map((bytes, i) => ({ name: `${i}`, bytes })))
    const subjects = Array.from({ length: certificates }, (_, i) => ({
      certificate: parseCertificate(alike(provisioner.der, i)),
      issuer: parseCertificate(identity.der),
    }))
    await checkRevocationLists(t, subjects, pool, 'required', NOON)
    return t.checks()[0]
  }
  const lists = (count: number) => Array.from({ length: count }, (_, i) => list(i))

  it('sixteen of one issuer are looked at, and one more is a failure, not a choice', async () => {
    expect(await judged(lists(16))).toMatchObject({ status: 'pass' })
    const crowd = await judged(lists(17))
    expect(crowd).toMatchObject({ status: 'fail', reason: expect.stringMatching(/^more than 16 lists of .*Identity/) })
  })

  it('of a namesake with another key are not counted', async () => {
    const others = Array.from({ length: 17 }, (_, i) => list(i, new Uint8Array(20).fill(7)))
    expect(await judged(others)).toMatchObject({ status: 'pass' })
  })

  it('about all certificates together are bounded', async () => {
    expect(await judged(lists(16), 16)).toMatchObject({ status: 'pass' })
    expect(await judged(lists(16), 17)).toMatchObject(failing('more than 256 lists of these issuers'))
  })

  it.each([
    ['issuingDistributionPoint', '2.5.29.28'],
    ['deltaCRLIndicator', '2.5.29.27'],
  ])('with %s are partial even where that is not critical', async (_name, oid) => {
    const template = {
      issuer: identity.name,
      thisUpdate: new Date(NOON.getTime() - HOUR),
      nextUpdate: new Date(NOON.getTime() + HOUR),
      revoked: [],
      extensions: [{ oid, critical: false, value: new Uint8Array([0x30, 0]) }],
    }
    const partial = signRevocationList(template, identity.privateKey, { hash: 'sha256' })
    expect(await judged([partial])).toMatchObject(failing('the list is partial or indirect'))
  })
})
