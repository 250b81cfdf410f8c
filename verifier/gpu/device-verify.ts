/**
 * From carried evidence to devices whose form, chain, signature and firmware were checked: the first half of the recipe,
 * the same for GPUs and NVSwitches. A device is only ever as good as the transcript says; nothing here decides.
 */
import { type Finding, fail, pass, type Transcript, unavailable, waived } from '../checks.js'
import type { EndorsementPool } from '../endorsements.js'
import { type Bytes, equalBytes, toHex } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import { parseGpuEvidence } from '../protocol/gpu-evidence.js'
import type { TrustAnchor } from '../trust-anchors.js'
import {
  type Chain,
  judgeAuthority,
  judgeExtensions,
  judgeRoot,
  judgeShape,
  judgeSignatures,
  judgeValidity,
} from './chain.js'
import { deviceCheckId } from './checks-device.js'
import { findDeviceChain, isReportSignedBy } from './device-chain.js'
import { type DeviceFields, readDeviceFields } from './device-fields.js'
import { judgeEach, type Named } from './each.js'
import { type EvidenceItem, readGpuEvidence } from './evidence.js'
import { type CertifiedDevice, certifiedDevice, type DeviceKind } from './family.js'
import { certifiedFwid } from './fwid.js'
import { KNOWN_OPAQUE_VERSION, type OpaqueData, parseOpaqueData } from './opaque.js'
import { parseSpdmReport, SPDM, type SpdmReport } from './spdm.js'

export interface DeviceInput {
  readonly evidence: readonly Bytes[]
  readonly form: 'container' | 'any'
  readonly expectedNonce: Bytes | undefined
  readonly endorsements: EndorsementPool
  readonly anchors: readonly TrustAnchor[]
  readonly now: Date
}

/** One device as far as its evidence could be read. */
export interface Device {
  /** `GPU 3`, `NVSwitch 0`. */
  readonly name: string
  readonly item: EvidenceItem
  readonly report: SpdmReport
  readonly opaque: OpaqueData | undefined
  readonly fields: DeviceFields | undefined
  /** Leaf first. */
  readonly chain: Chain | undefined
  readonly certified: CertifiedDevice | undefined
}

const DEVICE_CHAIN_LENGTH = 5

/** Carries out the authenticity checks of one kind. Undefined when there is no report to speak of. */
export async function verifyDevices(
  t: Transcript,
  kind: DeviceKind,
  input: DeviceInput,
): Promise<readonly Device[] | undefined> {
  const id = (area: string, thing: string) => deviceCheckId(kind, area, thing)
  const items = t.check(id('evidence', 'parse'), () => readAll(input))
  const named = items?.map((item, i) => ({ name: `${kind === 'gpu' ? 'GPU' : 'NVSwitch'} ${i}`, item }))
  const parsed = named && t.check(id('report', 'parse'), () => pass(named.map(parseOne)))
  if (parsed === undefined) return undefined
  const check = <T>(
    area: string,
    thing: string,
    all: readonly Named<T>[],
    judge: (item: T) => Finding | Promise<Finding>,
  ) => t.checkAsync(id(area, thing), () => judgeEach(all, judge))

  const reports = parsed.map(({ name, report }) => ({ name, item: report }))
  await check('report', 'exact', reports, judgeExact)
  await check('report', 'form', reports, judgeForm)
  await check('report', 'blocks', reports, judgeBlocks)
  const read = t.check(id('opaque', 'parse'), () => pass(parsed.map((device) => readOpaque(device, kind))))
  if (read !== undefined) {
    const all = read.map(({ opaque, fields }, i) => ({ name: parsed[i]?.name ?? '', item: { opaque, fields } }))
    await check('opaque', 'version', all, ({ opaque }) => judgeVersion(opaque))
    if (kind === 'gpu') await check('opaque', 'mode', all, ({ fields }) => judgeMode(fields))
  }
  checkNonces(t, kind, parsed, input.expectedNonce)
  await check('nonce', 'claimed', parsed.map(asNamed), judgeClaimedNonce)

  const chains = await t.checkAsync(id('chain', 'present'), () => findChains(parsed, input.endorsements))
  const devices = parsed.map((device, i): Device => {
    const { opaque, fields } = read?.[i] ?? {}
    return { ...device, opaque, fields, ...describeChain(chains?.[i]) }
  })
  if (chains === undefined) return devices
  const chained = chains.map((item, i) => ({ name: parsed[i]?.name ?? '', item }))
  await check('chain', 'root', chained, (chain) => judgeRoot(chain, 'device', input.anchors))
  await check('chain', 'shape', chained, (chain) => judgeShape(chain, DEVICE_CHAIN_LENGTH))
  await check('chain', 'signatures', chained, judgeSignatures)
  await check('chain', 'authority', chained, judgeAuthority)
  await check('chain', 'extensions', chained, judgeExtensions)
  await check('chain', 'validity', chained, (chain) => judgeValidity(chain, input.now))
  const all = devices.map(asNamed)
  await check('chain', 'family', all, (device) => judgeFamily(device, kind))
  await check('report', 'signature', all, judgeSignature)
  await check('fwid', 'match', all, judgeFwid)
  return devices
}

export function asNamed<T extends { readonly name: string }>(item: T): Named<T> {
  return { name: item.name, item }
}

function readAll({ evidence, form }: DeviceInput): Finding<readonly EvidenceItem[]> {
  if (evidence.length === 0) return fail('there is no evidence')
  if (form === 'any') return pass(evidence.flatMap(readGpuEvidence))
  return pass(evidence.map((item) => ({ ...parseGpuEvidence(item), claimed: {} })))
}

type Parsed = Pick<Device, 'name' | 'item' | 'report'>

function parseOne({ name, item }: Named<EvidenceItem>): Parsed {
  try {
    return { name, item, report: parseSpdmReport(item.report) }
  } catch (error) {
    if (error instanceof FormatError) throw new FormatError(error.code, `${name}: ${error.message}`, { cause: error })
    throw error
  }
}

function judgeExact({ trailingBytes }: SpdmReport): Finding {
  return trailingBytes === 0 ? pass() : fail(`${trailingBytes} bytes follow the signature`)
}

function judgeForm({ request, response }: SpdmReport): Finding {
  const asked =
    request.version === SPDM.version &&
    request.code === SPDM.getMeasurements &&
    request.param1 === SPDM.signatureRequested &&
    request.param2 === SPDM.allBlocks &&
    request.slot === 0
  if (!asked) return fail('the request is not for all measurements, signed, from slot 0, over SPDM 1.1')
  const answered =
    response.version === SPDM.version &&
    response.code === SPDM.measurements &&
    response.param1 === 0 &&
    response.param2 === 0
  return answered ? pass() : fail('the response is not the measurements that were asked for')
}

const SHA384_BYTES = 48
const DMTF = 1
const RAW_VALUE = 0x80

function judgeBlocks({ blocks }: SpdmReport): Finding {
  if (blocks.length === 0) return fail('there are no measurements')
  for (const [i, block] of blocks.entries()) {
    if (block.index !== i + 1) return fail(`block ${i + 1} calls itself ${block.index}`)
    const digest = block.specification === DMTF && (block.valueType & RAW_VALUE) === 0
    if (!digest || block.value.length !== SHA384_BYTES) return fail(`block ${i + 1} is not a SHA-384 digest`)
  }
  return pass(undefined, { actual: `${blocks.length} blocks` })
}

function readOpaque({ name, report }: Parsed, kind: DeviceKind): { opaque: OpaqueData; fields: DeviceFields } {
  try {
    const opaque = parseOpaqueData(report.response.opaque)
    return { opaque, fields: readDeviceFields(opaque, kind) }
  } catch (error) {
    if (error instanceof FormatError) throw new FormatError(error.code, `${name}: ${error.message}`, { cause: error })
    throw error
  }
}

function judgeVersion({ layout, version }: OpaqueData): Finding {
  const detail = { expected: `${layout}, at most ${KNOWN_OPAQUE_VERSION[layout]}`, actual: `${version}` }
  return version <= KNOWN_OPAQUE_VERSION[layout] ? pass(undefined, detail) : fail('an unknown version', detail)
}

function judgeMode(fields: DeviceFields): Finding {
  if (fields.kind !== 'gpu' || fields.mode !== undefined) return pass()
  const { featureFlag, protectedPcie } = fields
  return fail('feature flag and protected-PCIe status contradict each other', {
    actual: `flag ${featureFlag ?? 'absent'}, status 0x${protectedPcie?.toString(16) ?? '?'}`,
  })
}

function checkNonces(t: Transcript, kind: DeviceKind, devices: readonly Parsed[], expected: Bytes | undefined): void {
  const nonces = devices.map(({ report }) => report.request.nonce)
  t.check(deviceCheckId(kind, 'nonce', 'match'), () => {
    if (expected === undefined) return waived('no nonce of yours was given: a recorded report would pass')
    const stray = nonces.findIndex((nonce) => !equalBytes(nonce, expected))
    if (stray < 0) return pass()
    return fail(`${devices.length > 1 ? `${devices[stray]?.name}: ` : ''}another challenge was answered`, {
      expected: toHex(expected),
      actual: toHex(nonces[stray] ?? new Uint8Array()),
    })
  })
  t.check(deviceCheckId(kind, 'nonce', 'same'), () => {
    const stray = nonces.findIndex((nonce) => !equalBytes(nonce, nonces[0] ?? nonce))
    return stray < 0 ? pass() : fail(`${devices[stray]?.name} answers another challenge than ${devices[0]?.name}`)
  })
}

function judgeClaimedNonce({ item, report }: Parsed): Finding {
  const { nonce } = item.claimed
  const actual = toHex(report.request.nonce)
  if (nonce === undefined || nonce === actual) return pass()
  return fail('the nonce beside the evidence is not the signed one', { expected: actual, actual: nonce.slice(0, 128) })
}

async function findChains(devices: readonly Parsed[], pool: EndorsementPool): Promise<Finding<readonly Chain[]>> {
  const chains: Chain[] = []
  for (const { name, item, report } of devices) {
    const chain = await findDeviceChain(report, item.chain, pool)
    if (chain === undefined) return unavailable(`${name}: its certificates are not at hand`)
    chains.push(chain)
  }
  return pass(chains)
}

function describeChain(chain: Chain | undefined): Pick<Device, 'chain' | 'certified'> {
  if (chain === undefined) return { chain, certified: undefined }
  try {
    const certified = certifiedDevice(chain)
    return { chain, certified: 'reason' in certified ? undefined : certified }
  } catch (error) {
    if (error instanceof FormatError) return { chain, certified: undefined }
    throw error
  }
}

function judgeFamily({ chain, fields, item }: Device, kind: DeviceKind): Finding {
  const certified = certifiedDevice(chain ?? [])
  if ('reason' in certified) return fail(certified.reason)
  const { family, product } = certified
  const detail = { expected: fields?.architecture ?? kind, actual: family.architecture }
  if (family.kind !== kind) return fail(`the certificates are of a ${family.architecture} ${family.kind}`, detail)
  if (family.architecture !== fields?.architecture) return fail('the report names another architecture', detail)
  const claimed = item.claimed.architecture?.toUpperCase()
  if (claimed !== undefined && claimed !== family.architecture) {
    return fail('the architecture beside the evidence is not the certified one', { ...detail, expected: claimed })
  }
  const chip = fields.kind === 'gpu' ? fields.chip : undefined
  if (chip !== undefined && chip !== product) {
    return fail('the report names another chip than the certificates', { expected: chip, actual: product })
  }
  return pass(undefined, { actual: `${product}, device ${certified.deviceId}` })
}

async function judgeSignature({ chain, report }: Device): Promise<Finding> {
  const [leaf] = chain ?? []
  if (leaf !== undefined && (await isReportSignedBy(report, leaf))) return pass()
  return fail('the signature does not verify over the received bytes')
}

function judgeFwid({ fields, chain }: Device): Finding {
  const [leaf] = chain ?? []
  const certified = leaf === undefined ? undefined : certifiedFwid(leaf)
  if (certified === undefined) return fail('the leaf certifies no firmware')
  // NVSwitch firmware never reports it; for GPUs its presence is a check of its own.
  if (fields?.fwid === undefined) return pass(undefined, { actual: 'not reported' })
  if (equalBytes(fields.fwid, certified)) return pass()
  return fail('the firmware that signed is not the certified one', {
    expected: toHex(certified),
    actual: toHex(fields.fwid),
  })
}
