/** One negative for every GPU check: a world bent in one way, in which that check is the only one in the way. */
import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { signRevocationList } from '../../scripts/simulated/certificate.js'
import { simulatedGolden } from '../../scripts/simulated/gpu-facts.js'
import { OPAQUE } from '../../scripts/simulated/gpu-opaque.js'
import { withMeasurements } from '../../scripts/simulated/gpu-report.js'
import { simulatedRimRecords, withRecords } from '../../scripts/simulated/gpu-rim.js'
import { mergePools, sortEndorsements } from '../../verifier/endorsements.js'
import { ALL_GPU_CHECKS } from '../../verifier/gpu/checks.js'
import { toBase64, toHex, utf8 } from '../../verifier/protocol/bytes.js'
import {
  type Bend,
  board,
  type DeviceBend,
  HOUR,
  intermediateSpki,
  type Judgement,
  judge,
  judgeNras,
  judgeRim,
  NOON,
  type NrasBend,
  NVIDIA,
  nodeInput,
  type RimBend,
  STRANGER,
} from './world.js'

const OTHER_NONCE = new Uint8Array(32).fill(0xee)
const PAST = new Date(NOON.getTime() - HOUR / 2)
const KEY_USAGE = '2.5.29.15'
const UNKNOWN_CRITICAL = { oid: '1.3.6.1.4.1.99999.1', value: new Uint8Array([0x05, 0x00]), critical: true }
const again = <T>(chain: readonly T[]): readonly T[] => [...chain, chain.at(-1)!]
const garbage = utf8('neither one thing nor another')

/** What can be wrong with a device of either kind. `bend` puts it into a node. */
function deviceNegatives(id: (area: string, thing: string) => string, bend: (device: DeviceBend) => Bend) {
  return {
    [id('evidence', 'parse')]: bend({ carried: () => garbage }),
    [id('report', 'parse')]: bend({ broken: { truncate: 500 } }),
    [id('report', 'exact')]: bend({ broken: { tail: new Uint8Array(1) } }),
    [id('report', 'form')]: bend({ broken: { request: { param2: 1 } } }),
    [id('report', 'blocks')]: bend({ broken: { blocks: { 31: { specification: 2 } } } }),
    [id('opaque', 'parse')]: bend({ broken: { opaque: [{ type: OPAQUE.vbiosVersion, duplicate: true }] } }),
    [id('opaque', 'version')]: bend({
      broken: { opaque: [{ type: OPAQUE.version, value: new Uint8Array([2, 0]) }] },
    }),
    [id('nonce', 'match')]: bend({ fields: { nonce: OTHER_NONCE } }),
    [id('nonce', 'claimed')]: bend({
      carried: (report, { chainPem }) =>
        utf8(
          JSON.stringify([
            { evidence: toBase64(report), certificate: toBase64(utf8(chainPem)), nonce: toHex(OTHER_NONCE) },
          ]),
        ),
    }),
    [id('chain', 'present')]: bend({ chain: ([leaf, ...rest]) => [leaf!.slice(0, 100), ...rest] }),
    [id('chain', 'root')]: { ...bend({}), roots: ['rim'] },
    [id('chain', 'shape')]: bend({ chain: again }),
    [id('chain', 'signatures')]: bend({ request: { bromOverrides: { signature: { corrupt: true } } } }),
    [id('chain', 'authority')]: bend({ request: { overrides: { extensions: [{ oid: KEY_USAGE, omit: true }] } } }),
    [id('chain', 'extensions')]: bend({ request: { overrides: { extensions: [UNKNOWN_CRITICAL] } } }),
    [id('chain', 'validity')]: bend({ request: { bromOverrides: { notAfter: PAST } } }),
    [id('report', 'signature')]: bend({ broken: { signature: 'corrupt' } }),
    [id('fwid', 'match')]: bend({ broken: { opaque: [{ type: OPAQUE.fwid, value: randomBytes(48) }] } }),
  } satisfies Record<string, Bend>
}

/** What can be wrong with a manifest, wherever it is used. */
function rimNegatives(family: 'GH100' | 'LS10', kind: 'driver' | 'vbios'): Record<string, RimBend> {
  const inactive = simulatedRimRecords(family, kind).map((record) => ({ ...record, active: false }))
  return {
    digest: { broken: { digest: 'corrupt' } },
    signature: { broken: { signature: 'corrupt' } },
    'chain-root': { hierarchy: STRANGER },
    'chain-shape': { chain: again },
    'chain-signatures': { signer: { overrides: { signature: { corrupt: true } } } },
    'chain-authority': { signer: { overrides: { extensions: [{ oid: KEY_USAGE, omit: true }] } } },
    'chain-extensions': { signer: { overrides: { extensions: [UNKNOWN_CRITICAL] } } },
    window: { signer: { notAfter: PAST } },
    family: { signer: { issuer: family === 'LS10' ? 'gh100RimL3' : 'ls10RimL3' } },
    golden: { fields: { records: inactive } },
  }
}

function deviceRimNegatives(
  area: string,
  family: 'GH100' | 'LS10',
  kind: 'driver' | 'vbios',
  bend: (rim: RimBend) => Bend,
): Record<string, Bend> {
  const common = {
    ...rimNegatives(family, kind),
    present: { mangle: (xml: Uint8Array) => utf8(new TextDecoder().decode(xml).replace('<ns0:Meta', '<!-- -->$&')) },
    product: { fields: { product: family === 'LS10' ? 'LS20' : 'GH200' } },
    version: { fields: { version: kind === 'driver' ? '1.2.3' : '01.02.03.04.05' } },
  }
  return Object.fromEntries(Object.entries(common).map(([thing, rim]) => [`gpu.${area}.${thing}`, bend(rim)]))
}

const gpu = (device: DeviceBend): Bend => ({ gpus: [device] })
const nvSwitch = (device: DeviceBend): Bend => ({ switches: [device] })
const driver = simulatedRimRecords('GH100', 'driver')
const TWIN = NVIDIA.issueDevice({ family: 'GH100' })
const SWITCH_TWIN = NVIDIA.issueDevice({ family: 'LS10' })
const ELSEWHERE = NVIDIA.issueResponder({
  issuer: 'gh100Identity',
  overrides: { extensions: [{ oid: '2.5.29.37', omit: true }] },
})

/** A record of the versioned opaque data's field 37. */
function minimum(minSvn: string, family: 'GH100' | 'LS10', kind: 'driver' | 'vbios'): RimBend {
  const record = {
    index: 0x1000 + 37,
    active: true,
    alternatives: [],
    attributes: { alternatives: undefined, size: undefined, 'ns3:minSvn': minSvn },
  }
  return {
    fields: { records: [...simulatedRimRecords(family, kind), record] },
    broken: {
      editRoot: (root) => ({
        ...root,
        namespaces: {
          ...root.namespaces,
          ns3: 'https://docs.nvidia.com/attestation/specs/latest/opaque-data.html',
        },
      }),
    },
  }
}

const NODES: Readonly<Record<string, Bend>> = {
  ...deviceNegatives((area, thing) => `gpu.${area}.${thing}`, gpu),
  'gpu.opaque.mode': gpu({ broken: { opaque: [{ type: OPAQUE.featureFlag, value: new Uint8Array([2, 0]) }] } }),
  'gpu.nonce.same': { gpus: [{}, { fields: { nonce: OTHER_NONCE } }], input: { expectedNonce: undefined as never } },
  'gpu.chain.family': gpu({ request: { attester: 'FSP' } }),
  ...deviceRimNegatives('driver-rim', 'GH100', 'driver', (driverRim) => ({ driverRim })),
  ...deviceRimNegatives('vbios-rim', 'GH100', 'vbios', (vbiosRim) => ({ vbiosRim })),
  'gpu.measurements.conflict': {
    driverRim: {
      fields: {
        records: withRecords(driver, {
          0: { active: true, alternatives: [simulatedGolden('GH100', 0)] },
        }),
      },
    },
  },
  'gpu.measurements.nvdec0': gpu({
    fields: { nvdec0: 0x00, measurements: withMeasurements('GH100', { 35: simulatedGolden('GH100', 35) }) },
  }),
  'gpu.measurements.match': gpu({ fields: { measurements: withMeasurements('GH100', { 7: randomBytes(48) }) } }),
  'gpu.measurements.minimum': {
    ...gpu({ fields: { layout: 'versioned', fspMinimumSvn: 1 } }),
    driverRim: minimum('2', 'GH100', 'driver'),
  },
  'gpu.devices.distinct': { gpus: [{ device: TWIN }, { device: TWIN }] },
  'gpu.devices.count': { policy: { count: 2 } },
  'gpu.devices.allowed': { policy: { devices: ['1'] } },
  'gpu.fwid.present': gpu({ fields: { fwid: null } }),
  'gpu.product.allowed': { policy: { products: ['GB100'] } },
  'gpu.mode.allowed': { policy: { modes: ['mpt'] } },
  'gpu.mode.same': { gpus: [{ fields: { mode: 'SPT' } }, { fields: { mode: 'MPT' } }] },
  'gpu.mode.switches': gpu({ fields: { mode: 'PPCIe' } }),
  'gpu.driver.same': {
    gpus: [{}, { fields: { driverVersion: '590.12' } }],
    rims: [{ fields: { kind: 'driver', version: '590.12' } }],
  },
  'gpu.driver.minimum': { policy: { minDriver: '9999.1' } },
  'gpu.driver.denied': {
    gpus: [{ fields: { driverVersion: '590.12' } }],
    driverRim: { fields: { version: '590.12' } },
    policy: { deniedDrivers: ['590.12'] },
  },
  'gpu.vbios.minimum': { policy: { minVbios: { GH100: 'FF.00.00.00.00' } } },

  ...deviceNegatives((area, thing) => `gpu.switch-${area}.${thing}`, nvSwitch),
  'gpu.switch-nonce.same': {
    switches: [{}, { fields: { nonce: OTHER_NONCE } }],
    input: { expectedNonce: undefined as never },
  },
  'gpu.switch-chain.family': nvSwitch({ request: { attester: 'GSP' } }),
  ...deviceRimNegatives('switch-rim', 'LS10', 'vbios', (switchRim) => ({ switches: [{}], switchRim })),
  'gpu.switch-measurements.match': nvSwitch({
    fields: { measurements: withMeasurements('LS10', { 7: randomBytes(48) }) },
  }),
  'gpu.switch-measurements.minimum': { switches: [{}], switchRim: minimum('2', 'LS10', 'vbios') },
  'gpu.switch-devices.distinct': { switches: [{ device: SWITCH_TWIN }, { device: SWITCH_TWIN }] },
  'gpu.switch-devices.locked': nvSwitch({ fields: { lockStatus: 0 } }),

  'gpu.topology.nonce': {
    ...board({ switch: () => ({ fields: { nonce: OTHER_NONCE } }) }),
    input: { expectedNonce: undefined as never },
  },
  'gpu.topology.count': board({ gpus: 7 }),
  'gpu.topology.identity': board({ switch: (i) => (i === 2 ? { fields: { pdi: randomBytes(8) } } : {}) }),
  'gpu.topology.gpu-links': board({ gpu: (i) => (i === 5 ? { fields: { linkedSwitches: [randomBytes(8)] } } : {}) }),
  'gpu.topology.switch-links': board({ switch: (i) => (i === 1 ? { fields: { gpuPdis: [randomBytes(8)] } } : {}) }),

  'gpu.ocsp.present': { staple: ({ issuer }) => (issuer === 'gh100Identity' ? null : {}) },
  'gpu.ocsp.responder': { staple: ({ issuer }) => (issuer === 'gh100Identity' ? { responder: ELSEWHERE } : {}) },
  'gpu.ocsp.signature': { staple: () => ({ broken: { signature: 'corrupt' } }) },
  'gpu.ocsp.window': { staple: () => ({ nextUpdate: PAST }) },
  'gpu.ocsp.age': { policy: { ocsp: { maxAgeSeconds: 60 } } },
  'gpu.ocsp.nonce': {
    input: { ocspNonce: new Uint8Array(16) },
    staple: () => ({ nonce: new Uint8Array(16).fill(1) }),
    policy: { ocsp: { nonce: 'required' } },
  },
  'gpu.ocsp.known': { staple: () => ({ status: 'unknown' }) },
  'gpu.ocsp.hold': { staple: ({ issuer }) => ({ status: issuer === 'gh100RimL3' ? 'hold' : 'good' }) },
  'gpu.ocsp.revoked': { staple: ({ issuer }) => ({ status: issuer === 'gh100Provisioner' ? 'revoked' : 'good' }) },
}

/** A list of the identity authority, which issues the provisioners. */
function withList(revoked: readonly bigint[], corrupt: boolean): Bend {
  const { name, privateKey } = NVIDIA.authorities.gh100Identity
  const template = {
    issuer: name,
    thisUpdate: new Date(NOON.getTime() - HOUR),
    nextUpdate: new Date(NOON.getTime() + HOUR),
    revoked: revoked.map((serialNumber) => ({ serialNumber, revocationDate: PAST })),
    extensions: [],
  }
  const bytes = signRevocationList(template, privateKey, { hash: 'sha256', ...(corrupt ? { corrupt: true } : {}) })
  const input = nodeInput({})
  return {
    input: { ...input, endorsements: mergePools(input.endorsements, sortEndorsements([{ name: 'crl', bytes }])) },
  }
}

const LISTS: Readonly<Record<string, Bend>> = {
  'gpu.crl.signature': withList([], true),
  'gpu.crl.revoked': withList([NVIDIA.authorities.gh100Provisioner.serialNumber], false),
}

const RIMS: Readonly<Record<string, RimBend & { readonly file?: Uint8Array<ArrayBuffer> }>> = {
  'gpu.rim.parse': { file: garbage },
  'gpu.rim.profile': { broken: { place: (root) => root } },
  ...Object.fromEntries(Object.entries(rimNegatives('GH100', 'driver')).map(([id, bend]) => [`gpu.rim.${id}`, bend])),
}

const TOKENS: Readonly<Record<string, NrasBend>> = {
  'gpu.nras.parse': { file: garbage },
  'gpu.nras.trusted': { policy: {} },
  'gpu.nras.algorithm': { header: { crit: ['exp'], exp: 1 } },
  'gpu.nras.key': { kid: 'another' },
  'gpu.nras.key-chain': { x5c: 'stranger' },
  'gpu.nras.key-window': {
    now: new Date(NOON.getTime() + 2 * HOUR),
    overall: { exp: NOON.getTime() / 1000 + 8 * 3600 },
    device: { exp: NOON.getTime() / 1000 + 8 * 3600 },
  },
  'gpu.nras.signature': { corrupt: true },
  'gpu.nras.issuer': { overall: { iss: 'https://other.example' } },
  'gpu.nras.window': { overall: { exp: NOON.getTime() / 1000 - 600 } },
  'gpu.nras.nonce': { device: { eat_nonce: toHex(OTHER_NONCE) } },
  'gpu.nras.overall': { overall: { 'x-nvidia-overall-att-result': false } },
  'gpu.nras.submodules': { swap: true },
  'gpu.nras.errors': { device: { 'x-nvidia-error-details': { code: 4010, message: 'NONCE_NOT_MATCHING' } } },
  'gpu.nras.devices': { device: { 'x-nvidia-gpu-vbios-index-no-conflict': false } },
  'gpu.nras.distinct': { sameUeid: true },
  'gpu.nras.count': { policy: { count: 3, nras: { intermediates: [intermediateSpki()] } } },
}

function only(
  { verdict, failing, firstFailing }: Pick<Judgement, 'verdict' | 'failing' | 'firstFailing'>,
  id: string,
): void {
  expect(verdict).not.toBe('accepted')
  expect(failing.filter((other) => other !== id)).toEqual([])
  expect(firstFailing).toBe(id)
}

describe('GPU checks', () => {
  it('has a negative for every registered check', () => {
    const covered = new Set([
      ...Object.keys(NODES),
      ...Object.keys(LISTS),
      ...Object.keys(RIMS),
      ...Object.keys(TOKENS),
    ])
    expect(ALL_GPU_CHECKS.map(({ id }) => id).filter((id) => !covered.has(id))).toEqual([])
    expect([...covered].filter((id) => !ALL_GPU_CHECKS.some((check) => check.id === id))).toEqual([])
  })

  it.each(Object.entries(NODES))('%s', async (id, bend) => only(await judge(bend), id))
  it.each(Object.entries(LISTS))('%s', async (id, bend) => only(await judge(bend), id))
  it.each(Object.entries(RIMS))('%s', async (id, bend) => only(await judgeRim(bend), id))
  it.each(Object.entries(TOKENS))('%s', async (id, bend) => only(await judgeNras(bend), id))
})

describe('what is right is accepted', () => {
  it.each<[string, Bend]>([
    ['one Hopper GPU', {}],
    ['one Blackwell GPU', { family: 'GB100' }],
    ['the versioned layout', gpu({ fields: { layout: 'versioned' } })],
    ['two GPUs', { gpus: [{}, {}], policy: { count: 2 } }],
    ['an empty revocation list', withList([], false)],
    ['one switch', nvSwitch({})],
    ['a whole board', { ...board(), policy: { count: 8, modes: ['ppcie'] } }],
  ])('%s', async (_name, bend) => {
    const { failing, verdict } = await judge(bend)
    expect(failing).toEqual([])
    expect(verdict).toBe('accepted')
  })

  it('a manifest on its own', async () => expect((await judgeRim({})).verdict).toBe('accepted'))
  it('a remote verdict', async () => expect((await judgeNras({})).verdict).toBe('accepted'))
})
