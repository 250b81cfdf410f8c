/** What does not fit one check: rules with two sides, ways evidence comes, what a verdict says, and how often work is done. */
import { readFileSync } from 'node:fs'
import * as v from 'valibot'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { generateEcKeys } from '../../scripts/simulated/amd.js'
import { simulatedGolden } from '../../scripts/simulated/gpu-facts.js'
import { OPAQUE } from '../../scripts/simulated/gpu-opaque.js'
import { withMeasurements } from '../../scripts/simulated/gpu-report.js'
import { deviceLeafExtensions, NVIDIA_EXTENSION } from '../../scripts/simulated/nvidia-extensions.js'
import { mergePools, sortEndorsements } from '../../verifier/endorsements.js'
import { compareVersions } from '../../verifier/gpu/appraise.js'
import { trustOf } from '../../verifier/gpu/chain.js'
import { gpuPolicySchema, STRICT_GPU_POLICY } from '../../verifier/gpu/policy.js'
import { readPem } from '../../verifier/pem.js'
import { toBase64, toBase64Url, toHex, utf8 } from '../../verifier/protocol/bytes.js'
import { parseCertificate } from '../../verifier/x509.js'
import { vectorPath, withoutVectors } from '../support/vectors.js'
import { anchorsOf, type Bend, board, HOUR, judge, NONCE, NOON, NVIDIA, nodeInput } from './world.js'

const GOLDEN_35 = simulatedGolden('GH100', 35)

describe('the NVDEC0 rule', () => {
  const gpu = (nvdec0: number, block36: Uint8Array): Bend => ({
    gpus: [{ fields: { nvdec0, measurements: withMeasurements('GH100', { 35: block36 }) } }],
  })
  const other = new Uint8Array(48).fill(1)

  it.each([
    ['off, another value', gpu(0x55, other), 'accepted'],
    ['on, the golden value', gpu(0xaa, GOLDEN_35), 'accepted'],
    ['on, another value', gpu(0xaa, other), 'rejected'],
    ['neither, the golden value', gpu(0x00, GOLDEN_35), 'rejected'],
  ] as const)('%s', async (_name, bend, verdict) => expect((await judge(bend)).verdict).toBe(verdict))

  it('is told in the findings', async () => {
    const { findings } = await judge(gpu(0x55, other))
    expect(findings?.devices[0]?.measurements).toMatchObject({ mismatched: [], skipped: [35] })
    expect(findings?.devices[0]?.measurements?.matched).toHaveLength(32)
  })
})

describe('minimum security versions', () => {
  it('a record for a field the report does not carry is not met', async () => {
    const driverRim = {
      fields: {
        records: [
          {
            index: 0x1000 + 37,
            active: true,
            alternatives: [],
            attributes: { alternatives: undefined, size: undefined, 'ns3:minSvn': '0' },
          },
          { index: 7, active: true, alternatives: [simulatedGolden('GH100', 7)] },
        ],
      },
      broken: {
        editRoot: (root: { namespaces?: Readonly<Record<string, string>>; name: string }) => ({
          ...root,
          namespaces: {
            ...root.namespaces,
            ns3: 'https://docs.nvidia.com/attestation/specs/latest/opaque-data.html',
          },
        }),
      },
    }
    expect((await judge({ driverRim })).failing).toEqual(['gpu.measurements.minimum'])
    const versioned = { driverRim, gpus: [{ fields: { layout: 'versioned' as const } }] }
    expect((await judge(versioned)).verdict).toBe('accepted')
  })
})

describe('ways evidence comes', () => {
  it('a report alone, its certificates among the endorsements', async () => {
    const device = NVIDIA.issueDevice({ family: 'GH100' })
    const input = nodeInput({ gpus: [{ device, carried: (report) => report }] })
    const chain = sortEndorsements([{ name: 'chain', bytes: utf8(device.chainPem) }])
    const endorsements = mergePools(input.endorsements, chain)
    expect((await judge({ input })).verdict).toBe('unavailable')
    const { verdict, findings } = await judge({ input: { ...input, endorsements } })
    expect(verdict).toBe('accepted')
    // Or given as a file among the reports.
    const beside = { ...input, devices: [utf8(device.chainPem), ...input.devices] }
    expect((await judge({ input: beside })).verdict).toBe('accepted')
    // Without them a saved verdict could not be repeated.
    expect(findings?.endorsementBytes.map(toHex)).toContain(toHex(device.chain[0]!))
  })

  it.each([
    ['base64', toBase64],
    ['base64url', toBase64Url],
  ] as const)('NVIDIA’s JSON, in %s', async (_name, encode) => {
    const carried: NonNullable<NonNullable<Bend['gpus']>[0]['carried']> = (report, { chainPem }) =>
      utf8(
        JSON.stringify({
          evidences: [
            { arch: 'HOPPER', nonce: toHex(NONCE), evidence: encode(report), certificate: encode(utf8(chainPem)) },
          ],
          result_code: 0,
        }),
      )
    expect((await judge({ gpus: [{ carried }] })).verdict).toBe('accepted')
  })

  it('only the container, where a bundle says that it is one', async () => {
    const input = { ...nodeInput({}), form: 'container' } as const
    expect((await judge({ input })).verdict).toBe('accepted')
    const raw = nodeInput({ gpus: [{ carried: (report) => report }] })
    expect((await judge({ input: { ...raw, form: 'container' } })).failing).toEqual(['gpu.evidence.parse'])
  })

  it('an architecture claimed beside the evidence is held against the certified one', async () => {
    const carried: NonNullable<NonNullable<Bend['gpus']>[0]['carried']> = (report, { chainPem }) =>
      utf8(JSON.stringify([{ arch: 'BLACKWELL', evidence: toBase64(report), certificate: toBase64(utf8(chainPem)) }]))
    expect((await judge({ gpus: [{ carried }] })).failing).toEqual(['gpu.chain.family'])
  })

  it('an NVSwitch shown as a GPU, and a GPU as an NVSwitch', async () => {
    const { devices } = nodeInput({})
    const { switches } = nodeInput({ switches: [{}] })
    expect((await judge({ input: { devices: switches! } })).verdict).toBe('rejected')
    expect((await judge({ switches: [{}], input: { switches: devices } })).verdict).toBe('rejected')
  })

  it('an NVSwitch’s certificates under a report that says it is a GPU', async () => {
    const { failing } = await judge({ gpus: [{ device: NVIDIA.issueDevice({ family: 'LS10' }) }] })
    expect(failing).toEqual(['gpu.chain.family'])
  })
})

describe('one thing wrong with a device, and one check that says so', () => {
  const of = (request: object) => [{ device: NVIDIA.issueDevice({ family: 'GH100', ...request }) }]
  const edited = (oid: string, family: 'GH100' | 'GB100') => {
    const { publicKey } = NVIDIA.authorities.gh100Identity
    const fields = { family, deviceId: new Uint8Array(8), fwid: new Uint8Array(48), form: 'tcbInfo' } as const
    const value = deviceLeafExtensions(publicKey, publicKey, fields).find((extension) => extension.oid === oid)?.value
    return { overrides: { extensions: [{ oid, value: value ?? new Uint8Array() }] } }
  }
  const key = generateEcKeys('P-384')
  const deviceId = new Uint8Array(8).fill(9)

  it.each<[string, Bend, string]>([
    ['a request to another slot', { gpus: [{ broken: { request: { slot: 1 } } }] }, 'gpu.report.form'],
    [
      'an unknown profile of opaque data',
      { gpus: [{ fields: { layout: 'versioned' }, broken: { opaqueHeader: { profile: 1 } } }] },
      'gpu.opaque.parse',
    ],
    [
      'another chip than the certified one',
      { family: 'GB100', gpus: [{ fields: { chipInfo: 'GB102' } }] },
      'gpu.chain.family',
    ],
    [
      'a device name of another chip',
      { gpus: of(edited(NVIDIA_EXTENSION.subjectAltName, 'GB100')) },
      'gpu.chain.family',
    ],
    ['firmware certified in two ways', { gpus: of(edited(NVIDIA_EXTENSION.tcbInfo, 'GH100')) }, 'gpu.fwid.match'],
    [
      'one key under two serial numbers',
      {
        gpus: [
          ...of({ keyPair: key, overrides: { serialNumber: 5n } }),
          ...of({ keyPair: key, overrides: { serialNumber: 6n } }),
        ],
      },
      'gpu.devices.distinct',
    ],
    ['one device id under two keys', { gpus: [...of({ deviceId }), ...of({ deviceId })] }, 'gpu.devices.distinct'],
  ])('%s', async (_, bend, id) => {
    expect((await judge(bend)).failing).toEqual([id])
  })
})

describe('manifests', () => {
  it('none at hand is unavailable, never accepted', async () => {
    const { verdict, firstFailing } = await judge({ driverRim: null, vbiosRim: null })
    expect([verdict, firstFailing]).toEqual(['unavailable', 'gpu.driver-rim.present'])
  })

  it('a mismatch against the one at hand is a rejection, although the other is missing', async () => {
    const gpus = [{ fields: { measurements: withMeasurements('GH100', { 7: new Uint8Array(48) }) } }]
    const { verdict, failing } = await judge({ gpus, vbiosRim: null })
    expect([verdict, failing]).toEqual(['rejected', ['gpu.measurements.match']])
  })

  it('several for other versions are none for this one', async () => {
    const rims = ['1.2', '3.4'].map((version) => ({ fields: { kind: 'driver' as const, version } }))
    const { verdict, firstFailing } = await judge({ driverRim: null, rims })
    expect([verdict, firstFailing]).toEqual(['unavailable', 'gpu.driver-rim.present'])
  })

  it('of several for this version one under a trusted root, sound and current is taken', async () => {
    const forged = { fields: { kind: 'driver' as const }, broken: { digest: 'corrupt' as const } }
    const expired = { fields: { kind: 'driver' as const }, signer: { notAfter: new Date(NOON.getTime() - HOUR / 2) } }
    expect((await judge({ rims: [forged, expired] })).verdict).toBe('accepted')
  })
})

describe('what a verdict says', () => {
  it('a private root is named as one', async () => {
    expect((await judge({})).findings).toMatchObject({ privateAnchor: true })
  })

  it('how long it holds: the shortest of certificates, responses and the policy’s patience', async () => {
    const { findings } = await judge({ policy: { ocsp: { maxAgeSeconds: 7200 } } })
    expect(findings?.validUntil).toEqual(new Date(NOON.getTime() + HOUR))
    expect(findings?.notProven.map(({ id }) => id)).toEqual([
      'gpu.relay',
      'gpu.settings',
      'gpu.driver-software',
      'gpu.ocsp-age',
    ])
  })

  it('one failing device of several is named', async () => {
    const { checks } = await judge({ gpus: [{}, { broken: { signature: 'corrupt' } }, {}] })
    const found = checks.find(({ id }) => id === 'gpu.report.signature')
    expect(found?.reason).toBe('GPU 1: the signature does not verify over the received bytes')
  })
})

describe('roots', () => {
  it.skipIf(withoutVectors)('neither of NVIDIA’s roots answers for the other', () => {
    const root = (name: string) =>
      parseCertificate(readPem(new Uint8Array(readFileSync(vectorPath('nvidia', 'roots', name))))[0]!.der)
    for (const name of ['nvidia-device-identity-ca-2021.pem', 'nvidia-device-identity-ca-l1b-2020.pem']) {
      expect([trustOf(root(name), 'device', []), trustOf(root(name), 'rim', [])]).toEqual(['pinned', undefined])
    }
    const rim = root('nvidia-corim-signing-root-ca.pem')
    expect([trustOf(rim, 'device', []), trustOf(rim, 'rim', [])]).toEqual([undefined, 'pinned'])
  })

  it('an anchor for another vendor vouches for nothing', async () => {
    const anchors = anchorsOf(['device', 'rim']).map((anchor) => ({ ...anchor, kind: 'snp' as const }))
    const { failing } = await judge({ input: { anchors } })
    expect(failing).toEqual(['gpu.chain.root', 'gpu.driver-rim.chain-root', 'gpu.vbios-rim.chain-root'])
  })
})

describe('the policy', () => {
  it('is strict when nothing is said', () => {
    expect(STRICT_GPU_POLICY).toEqual({
      products: ['GH100', 'GB100'],
      count: 'any',
      devices: 'any',
      minDriver: 'any',
      deniedDrivers: [],
      minVbios: 'any',
      modes: ['spt', 'mpt', 'ppcie', 'unreported'],
      missingFwid: 'forbidden',
      ppcieSwitches: 'required',
      ocsp: { maxAgeSeconds: 86_400, nonce: 'optional', hold: 'refused', unknown: 'refused' },
      nras: 'refused',
    })
  })

  it.each([
    { unknown: 1 },
    { products: [] },
    { devices: [] },
    { modes: [] },
    { count: 0 },
    { minDriver: 'new' },
    { ocsp: { hold: 'tolerated' } },
    { nras: { intermediates: [] } },
  ])('%j is an error', (policy) => expect(v.safeParse(gpuPolicySchema, policy).success).toBe(false))

  it('compares versions part by part', () => {
    expect(compareVersions('550.90.07', '550.127.05', 10)).toBeLessThan(0)
    expect(compareVersions('590.12', '590.12.00', 10)).toBe(0)
    expect(compareVersions('96.00.D9.00.02', '96.00.9F.00.01', 16)).toBeGreaterThan(0)
  })

  it('waives missing NVSwitches by name', async () => {
    const gpus = [{ fields: { mode: 'PPCIe' as const } }]
    const { verdict, checks } = await judge({ gpus, policy: { ppcieSwitches: 'optional' } })
    expect(verdict).toBe('accepted')
    expect(checks.find(({ id }) => id === 'gpu.mode.switches')?.reason).toContain('waived: ppcieSwitches: optional')
  })

  it('firmware that says nothing of its mode is its own mode', async () => {
    const old = [OPAQUE.version, OPAQUE.featureFlag, OPAQUE.protectedPcie].map(
      (type) => ({ type, omit: true }) as const,
    )
    const gpus = [{ broken: { opaque: old } }]
    expect((await judge({ gpus })).findings?.devices[0]?.mode).toBe('unreported')
    expect((await judge({ gpus, policy: { modes: ['spt'] } })).failing).toEqual(['gpu.mode.allowed'])
  })
})

describe('work', () => {
  afterEach(() => {
    vi.restoreAllMocks()
  })

  it('a board of eight GPUs and four switches verifies every shared signature once', async () => {
    const bend = board()
    const input = nodeInput(bend)
    const verify = vi.spyOn(globalThis.crypto.subtle, 'verify')
    expect((await judge({ input, switches: bend.switches! })).verdict).toBe('accepted')
    const cold = verify.mock.calls.length
    verify.mockClear()
    expect((await judge({ input, switches: bend.switches! })).verdict).toBe('accepted')
    // Twelve reports; everything else is remembered by its exact bytes.
    expect(verify.mock.calls.length).toBe(12)
    const own = 12 * 3
    const shared = 5 + 3 * 3 + 2
    const responses = 12 + 3 + 3 + 6
    const responders = 16
    expect(cold).toBeLessThanOrEqual(own + shared + responses + responders)
  })
})
