/** Readers of hostile bytes: any input is read or refused with a FormatError, and verification never throws. */
import { readFileSync } from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createOcspService } from '../../scripts/simulated/gpu-ocsp.js'
import { Transcript } from '../../verifier/checks.js'
import { sortEndorsements } from '../../verifier/endorsements.js'
import { NRAS_CHECKS, RIM_PLAN } from '../../verifier/gpu/checks.js'
import { readDeviceFields } from '../../verifier/gpu/device-fields.js'
import { isGpuEvidence, readGpuEvidence } from '../../verifier/gpu/evidence.js'
import { verifyNras } from '../../verifier/gpu/nras.js'
import { parseKeySet, parseNrasResponse } from '../../verifier/gpu/nras-token.js'
import { parseOcspResponse } from '../../verifier/gpu/ocsp.js'
import { parseOpaqueData } from '../../verifier/gpu/opaque.js'
import { parseRimXml, readRim } from '../../verifier/gpu/rim.js'
import { verifyRim } from '../../verifier/gpu/rim-verify.js'
import { parseSpdmReport } from '../../verifier/gpu/spdm.js'
import { planFor, verifyGpus } from '../../verifier/gpu/verify.js'
import {
  type Bytes,
  fromBase64,
  fromUtf8,
  toBase64,
  toBase64Url,
  toBytes,
  utf8,
} from '../../verifier/protocol/bytes.js'
import { FormatError } from '../../verifier/protocol/errors.js'
import { encodeGpuEvidence, looksLikeGpuEvidence, parseGpuEvidence } from '../../verifier/protocol/gpu-evidence.js'
import { vectorPath, withoutVectors } from '../support/vectors.js'
import { makeRim, NOON, NVIDIA, nodeInput, policyOf } from './world.js'

const RUNS = { numRuns: 500 }
const bytes = fc.uint8Array({ maxLength: 300 }).map((view) => new Uint8Array(view))

/** `genuine` with a few bytes changed, and perhaps cut. */
function damaged(genuine: Bytes): fc.Arbitrary<Bytes> {
  const change = fc.tuple(fc.nat(genuine.length - 1), fc.nat(255))
  return fc
    .tuple(fc.array(change, { maxLength: 4 }), fc.oneof(fc.constant(genuine.length), fc.nat(genuine.length)))
    .map(([changes, length]) => {
      const out = genuine.slice()
      for (const [at, value] of changes) out[at] = value
      return out.slice(0, length)
    })
}

function readOrRefuse(read: () => unknown): void {
  try {
    read()
  } catch (error) {
    expect(error).toBeInstanceOf(FormatError)
  }
}

const input = nodeInput({})
const { report, chain } = parseGpuEvidence(input.devices[0]!)
const rim = makeRim('GH100', 'driver', {}).xml
const ocsp = toBytes(createOcspService(NVIDIA).staple(NVIDIA.authorities.gh100Identity, { nonce: new Uint8Array(16) }))

const READERS: Readonly<Record<string, { read: (input: Bytes) => unknown; genuine: Bytes }>> = {
  'SPDM reports': { read: parseSpdmReport, genuine: report },
  'opaque data': {
    read: (raw) => readDeviceFields(parseOpaqueData(raw), 'gpu'),
    genuine: parseSpdmReport(report).response.opaque,
  },
  'switch opaque data': {
    read: (raw) => readDeviceFields(parseOpaqueData(raw), 'switch'),
    genuine: parseSpdmReport(parseGpuEvidence(nodeInput({ switches: [{}] }).switches![0]!).report).response.opaque,
  },
  manifests: { read: (raw) => readRim(parseRimXml(raw)), genuine: rim },
  'OCSP responses': { read: parseOcspResponse, genuine: ocsp },
  containers: { read: parseGpuEvidence, genuine: input.devices[0]! },
  'evidence of any form': { read: readGpuEvidence, genuine: utf8(JSON.stringify([{ evidence: toBase64(report) }])) },
  'remote verdicts': { read: parseNrasResponse, genuine: utf8('[["JWT","e30.e30.AA"],{"GPU-0":"e30.e30.AA"}]') },
  'key sets': { read: parseKeySet, genuine: utf8('{"keys":[{"kty":"EC","crv":"P-384","kid":"k","x":"","y":""}]}') },
}

describe.each(Object.entries(READERS))('%s', (_name, { read, genuine }) => {
  it('any bytes', () =>
    fc.assert(
      fc.property(bytes, (raw) => readOrRefuse(() => read(raw))),
      RUNS,
    ))
  it('damaged ones', () =>
    fc.assert(
      fc.property(damaged(genuine), (raw) => readOrRefuse(() => read(raw))),
      RUNS,
    ))
})

describe('JSON', () => {
  const json = fc.json({ maxDepth: 4 }).map(utf8)
  const entry = fc.record(
    {
      evidence: fc.oneof(fc.constant(toBase64(report)), fc.string(), fc.integer()),
      certificate: fc.oneof(fc.string(), fc.constant(null), fc.object()),
      nonce: fc.oneof(fc.string(), fc.integer()),
      arch: fc.string(),
    },
    { requiredKeys: [] },
  )
  const evidence = fc
    .oneof(fc.array(entry), fc.record({ evidences: fc.array(entry) }), fc.record({ evidence_list: fc.anything() }))
    .map((value) => utf8(JSON.stringify(value) ?? ''))
  const response = fc
    .tuple(fc.constantFrom('JWT', 'x'), fc.string(), fc.dictionary(fc.constantFrom('GPU-0', 'GPU-1'), fc.string()))
    .map(([kind, overall, devices]) => utf8(JSON.stringify([[kind, overall], devices])))

  it('any JSON as evidence', () => {
    fc.assert(
      fc.property(fc.oneof(json, evidence), (raw) => {
        readOrRefuse(() => readGpuEvidence(raw))
        expect(typeof isGpuEvidence(raw)).toBe('boolean')
      }),
      RUNS,
    )
  })

  it('any JSON as a remote verdict or key set', () => {
    fc.assert(
      fc.property(fc.oneof(json, response), (raw) => {
        readOrRefuse(() => parseNrasResponse(raw))
        readOrRefuse(() => parseKeySet(raw))
      }),
      RUNS,
    )
  })
})

describe('evidence forms', () => {
  const read = (value: unknown): unknown => readGpuEvidence(utf8(JSON.stringify(value)))

  it('the container', () => {
    const item = encodeGpuEvidence({ report, chain })
    expect(looksLikeGpuEvidence(item)).toBe(true)
    expect(parseGpuEvidence(item)).toEqual({ report, chain })
    expect(() => parseGpuEvidence(encodeGpuEvidence({ report, chain: [] }))).toThrow(FormatError)
    expect(() => parseGpuEvidence(new Uint8Array([...item, 0]))).toThrow(FormatError)
  })

  it('a raw report', () => expect(readGpuEvidence(report)).toEqual([{ report, chain: undefined, claimed: {} }]))

  it.each([
    ['base64', toBase64(report)],
    ['base64url', toBase64Url(report)],
    ['base64 without padding', toBase64(report).replace(/=+$/, '')],
  ])('%s in a bare array, the object around it, and a request', (_name, evidence) => {
    const expected = [{ report, chain: undefined, claimed: {} }]
    expect(read([{ evidence }])).toEqual(expected)
    expect(read({ evidences: [{ evidence }], result_code: 0 })).toEqual(expected)
    expect(read({ evidence_list: [{ evidence }], nonce: 'of the request' })).toEqual(expected)
  })

  it('certificates as base64 of PEM, and what is claimed beside them', () => {
    const pem = chain
      .map((der) => `-----BEGIN CERTIFICATE-----\n${toBase64(der)}\n-----END CERTIFICATE-----\n`)
      .join('')
    const item = { evidence: toBase64(report), certificate: toBase64(utf8(pem)), nonce: 'AB', arch: 'HOPPER' }
    const expected = [{ report, chain, claimed: { nonce: 'ab', architecture: 'HOPPER' } }]
    expect(read([item])).toEqual(expected)
    expect(read([{ ...item, certificate: pem }])).toEqual(expected)
  })

  it.each([
    ['nothing', []],
    ['no evidence', [{ certificate: 'x' }]],
    ['two alphabets at once', [{ evidence: '+_==' }]],
    ['no PEM', [{ evidence: '', certificate: 'AAAA' }]],
    ['another kind of PEM', [{ evidence: '', certificate: '-----BEGIN KEY-----\nAAAA\n-----END KEY-----' }]],
    ['no object', [7]],
    ['something else', { a: 1 }],
  ])('%s is refused', (_name, value) => expect(() => read(value)).toThrow(FormatError))
})

describe('verification never throws', () => {
  const pool = (raw: Bytes) => ({
    certificates: input.endorsements.certificates,
    crls: [],
    documents: (['rim', 'ocsp', 'jwks'] as const).map((kind) => ({ kind, name: kind, bytes: raw })),
    unrecognised: [],
  })

  it('on any evidence', async () => {
    await fc.assert(
      fc.asyncProperty(fc.oneof(bytes, damaged(input.devices[0]!)), async (raw) => {
        const bent = { ...input, devices: [raw], switches: [raw] }
        const t = new Transcript(planFor(bent))
        await verifyGpus(t, bent)
        expect(t.verdict()).not.toBe('accepted')
      }),
      { numRuns: 100 },
    )
  })

  it('on any endorsements', async () => {
    const any = fc.oneof(bytes, damaged(rim), damaged(ocsp))
    await fc.assert(
      fc.asyncProperty(any, async (raw) => {
        const bent = { ...input, endorsements: pool(raw) }
        const t = new Transcript(planFor(bent))
        await verifyGpus(t, bent)
        expect(t.verdict()).not.toBe('accepted')
      }),
      { numRuns: 100 },
    )
  })

  it('on any manifest, verdict or key set', async () => {
    const policy = policyOf({ nras: {} })
    await fc.assert(
      fc.asyncProperty(fc.oneof(bytes, damaged(rim)), async (raw) => {
        const common = { endorsements: pool(raw), anchors: [], now: NOON, revocation: 'off', policy } as const
        const manifest = new Transcript(RIM_PLAN)
        await verifyRim(manifest, { ...common, rim: raw })
        expect(manifest.verdict()).not.toBe('accepted')
        const verdict = new Transcript(NRAS_CHECKS)
        await verifyNras(verdict, { ...common, response: raw })
        expect(verdict.verdict()).not.toBe('accepted')
      }),
      { numRuns: 100 },
    )
  })

  it.skipIf(withoutVectors)('on damaged certificates of a captured chain', async () => {
    const folder = vectorPath('nvidia', 'hopper-550-90-07')
    const raw = new Uint8Array(readFileSync(`${folder}/report.bin`))
    const pem = fromUtf8(new Uint8Array(readFileSync(`${folder}/device-chain.pem`)))
    const ders = [...pem.matchAll(/CERTIFICATE-----([^-]+)-----END/g)].map(([, text]) =>
      fromBase64(text!.replace(/\s/g, '')),
    )
    await fc.assert(
      fc.asyncProperty(fc.nat(4), damaged(ders[0]!), async (at, der) => {
        const item = encodeGpuEvidence({ report: raw, chain: ders.map((each, i) => (i === at ? der : each)) })
        const bent = { ...input, devices: [item], endorsements: sortEndorsements([]) }
        const t = new Transcript(planFor(bent))
        await verifyGpus(t, bent)
        expect(t.verdict()).not.toBe('accepted')
      }),
      { numRuns: 100 },
    )
  })
})
