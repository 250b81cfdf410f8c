/** Remote verdicts: tokens nobody should believe, and claims of both versions. */
import { createHmac } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { Transcript } from '../../verifier/checks.js'
import { sortEndorsements } from '../../verifier/endorsements.js'
import { NRAS_CHECKS } from '../../verifier/gpu/checks.js'
import { verifyNras } from '../../verifier/gpu/nras.js'
import { judgeClaims } from '../../verifier/gpu/nras-claims.js'
import { parseKeySet, parseNrasResponse } from '../../verifier/gpu/nras-token.js'
import { fromBase64Url, fromHex, fromUtf8, toBase64Url, utf8 } from '../../verifier/protocol/bytes.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { vectorPath, withoutVectors } from '../support/vectors.js'
import { intermediateSpki, judgeNras, type NrasBend, policyOf } from './world.js'

describe('switches', () => {
  it('are judged by their own claims', async () => {
    expect(await judgeNras({ kind: 'switch', devices: 4 })).toMatchObject({ verdict: 'accepted', failing: [] })
    for (const name of [
      'arch-check',
      'attestation-report-nonce-match',
      'bios-rim-fetched',
      'bios-rim-cert-validated',
    ]) {
      const { verdict, failing } = await judgeNras({
        kind: 'switch',
        device: { [`x-nvidia-switch-${name}`]: undefined },
      })
      expect([verdict, failing]).toEqual(['rejected', ['gpu.nras.devices']])
    }
  })

  it('never pass for GPUs, nor GPUs for switches', async () => {
    for (const bend of [{ names: ['SWITCH-0', 'SWITCH-1'] }, { kind: 'switch', names: ['GPU-0', 'GPU-1'] }] as const) {
      expect(await judgeNras(bend)).toMatchObject({ verdict: 'rejected', failing: ['gpu.nras.devices'] })
    }
    expect((await judgeNras({ names: ['GPU-0', 'SWITCH-1'] })).verdict).toBe('malformed')
    const counted = {
      kind: 'switch',
      devices: 4,
      policy: { count: 4, nras: { intermediates: [intermediateSpki()] } },
    } as const
    expect(await judgeNras(counted)).toMatchObject({ verdict: 'rejected', failing: ['gpu.nras.count'] })
  })
})

describe('tokens', () => {
  it.each<[string, NrasBend, string]>([
    ['no algorithm', { header: { alg: 'none' } }, 'gpu.nras.algorithm'],
    ['a symmetric one', { header: { alg: 'HS256' } }, 'gpu.nras.algorithm'],
    ['another curve', { header: { alg: 'ES256' } }, 'gpu.nras.algorithm'],
    ['no key identifier', { header: { kid: undefined } }, 'gpu.nras.key'],
    ['a key without certificates', { x5c: 'none' }, 'gpu.nras.key-chain'],
    ['a key whose certificate signs no data', { x5c: 'no-signer' }, 'gpu.nras.key-chain'],
    ['not yet in force', { overall: { nbf: 4_000_000_000 } }, 'gpu.nras.window'],
    ['without expiry', { overall: { exp: undefined } }, 'gpu.nras.window'],
    ['an expiry that is no number', { overall: { exp: '4000000000' } }, 'gpu.nras.window'],
    ['a prefix of the nonce', { overall: { eat_nonce: '5a5a' } }, 'gpu.nras.nonce'],
    [
      'another nonce beside no error',
      { device: { eat_nonce: '00', 'x-nvidia-error-details': null } },
      'gpu.nras.nonce',
    ],
    ['a result that is no boolean', { overall: { 'x-nvidia-overall-att-result': 'true' } }, 'gpu.nras.overall'],
    ['no devices named', { overall: { submods: undefined } }, 'gpu.nras.submodules'],
    ['one device too few named', { overall: { submods: {} } }, 'gpu.nras.submodules'],
    ['an unknown version of claims', { overall: { 'x-nvidia-ver': '9.0' } }, 'gpu.nras.devices'],
    ['a measurement that failed', { device: { measres: 'fail' } }, 'gpu.nras.devices'],
    ['debugging', { device: { dbgstat: 'enabled' } }, 'gpu.nras.devices'],
    ['a step nobody mentions', { device: { 'x-nvidia-gpu-arch-check': undefined } }, 'gpu.nras.devices'],
    ['a claim nobody knows that is false', { device: { 'x-nvidia-gpu-new-check': false } }, 'gpu.nras.devices'],
    ['a warning', { device: { 'x-nvidia-attestation-warning': 'on hold' } }, 'gpu.nras.devices'],
    ['a device without identity', { device: { ueid: undefined } }, 'gpu.nras.distinct'],
  ])('%s', async (_name, bend, id) => {
    const { verdict, failing } = await judgeNras(bend)
    expect(verdict).toBe('rejected')
    expect(failing).toEqual([id])
  })

  it('a token made with the public key as a secret', async () => {
    const secret = createHmac('sha384', 'public key').update('x').digest()
    const jwt = ['{"alg":"HS384","kid":"simulated-key"}', '{}'].map((text) => toBase64Url(utf8(text))).join('.')
    const token = `${jwt}.${toBase64Url(new Uint8Array(secret))}`
    const { verdict, failing } = await judgeNras({ file: utf8(JSON.stringify([['JWT', token], { 'GPU-0': token }])) })
    expect([verdict, failing]).toEqual(['rejected', ['gpu.nras.algorithm']])
  })

  it.each([
    '{}',
    '[]',
    '[["JWT","a.b.c"]]',
    '[["JWT","a.b.c"],{}]',
    '[["JWT","a.b"],{"GPU-0":"a.b.c"}]',
    '[["JWT","e30.e30.AA"],{"FPGA-0":"e30.e30.AA"}]',
    '[["JWT","e30.W10.AA"],{"GPU-0":"e30.e30.AA"}]',
    '[["CWT","e30.e30.AA"],{"GPU-0":"e30.e30.AA"}]',
  ])('%s is no answer', (text) => expect(() => parseNrasResponse(utf8(text))).toThrow(FormatError))

  it.each([
    '[]',
    '{"keys":{}}',
    '{"keys":[{"kty":"EC","crv":"P-384"}]}',
    '{"keys":[{"kty":"EC","crv":"P-384","kid":"a","x":"AA","y":"AA"}]}',
  ])('%s is no key set', (text) => expect(() => parseKeySet(utf8(text))).toThrow(FormatError))

  it('keys of other kinds are left out of a set', () => {
    expect(parseKeySet(utf8('{"keys":[{"kty":"RSA","kid":"a"},{"kty":"EC","crv":"P-256","kid":"b"}]}'))).toEqual([])
  })
})

describe.skipIf(withoutVectors)('captured tokens', () => {
  const read = (path: string) => new Uint8Array(readFileSync(vectorPath('nvidia', 'nras', path)))

  it('claims 3.0 of the published sample are all there', () => {
    const { devices } = parseNrasResponse(read('v4-claims3-gpu-no-jwks/response.json'))
    const [{ claims }] = devices as [(typeof devices)[number]]
    expect(judgeClaims(claims, '3.0', 'gpu')).toMatchObject({ status: 'pass' })
    const chain = 'x-nvidia-gpu-driver-rim-cert-chain'
    for (const change of [
      { 'x-nvidia-cert-status': 'expired', 'x-nvidia-cert-ocsp-status': 'good' },
      { 'x-nvidia-cert-status': 'valid', 'x-nvidia-cert-ocsp-status': 'revoked' },
      true,
      undefined,
    ]) {
      expect(judgeClaims({ ...claims, [chain]: change }, '3.0', 'gpu')).toMatchObject({ status: 'fail' })
    }
    expect(judgeClaims(claims, '2.0', 'gpu')).toMatchObject({ status: 'fail' })
  })

  it('no character of a genuine answer can be changed', { timeout: 300_000 }, async () => {
    const folder = 'v3-single-570-172-08-pass'
    const genuine = fromUtf8(read(`${folder}/response.json`))
    const endorsements = sortEndorsements([{ name: 'jwks', bytes: read(`${folder}/jwks-trimmed.json`) }])
    const nonce = fromHex('9a796732359e9324a45576a730e5a9c47bff518b8ee8bcb882d00b5b1ff6f39a')
    const verdictOf = async (text: string): Promise<string> => {
      const t = new Transcript(NRAS_CHECKS)
      const input = { response: utf8(text), endorsements, anchors: [], expectedNonce: nonce }
      await verifyNras(t, { ...input, now: new Date('2026-06-10T01:50:00Z'), policy: policyOf({ nras: {} }) })
      return t.verdict()
    }
    expect(await verdictOf(genuine)).toBe('accepted')
    let tried = 0
    for (let at = 0; at < genuine.length; at += 13) {
      const character = genuine[at] === 'A' ? 'B' : 'A'
      expect(await verdictOf(genuine.slice(0, at) + character + genuine.slice(at + 1)), `${at}`).not.toBe('accepted')
      tried++
    }
    console.log(JSON.stringify({ suite: 'nras-edits', edits: tried }))
    const [, payload] = (parseNrasResponse(utf8(genuine)).overall.jwt as string).split('.')
    expect(fromUtf8(fromBase64Url(payload!))).toContain('NVIDIA-PLATFORM-ATTESTATION')
  })
})
