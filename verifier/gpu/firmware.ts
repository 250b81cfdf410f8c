/**
 * What runs on a device against what its maker says should: the manifests its signed data names, held to their rules, and
 * its measurements against their golden values.
 */
import { type Finding, fail, pass, type Transcript, unavailable } from '../checks.js'
import type { TrustAnchor } from '../trust-anchors.js'
import { deviceCheckId } from './checks-device.js'
import type { RimArea } from './checks-rim.js'
import { NVDEC0 } from './device-fields.js'
import type { Device } from './device-verify.js'
import { judgeEach } from './each.js'
import type { DeviceKind } from './family.js'
import { type Comparison, compareMeasurements, conflicts, unmetMinimums } from './measurements.js'
import type { RimRole } from './rim.js'
import { chooseRim, fits, type InspectedRim, type RimChoice, type RimNeed, type RimShelf } from './rim-inspect.js'
import { rimId } from './rim-service.js'
import { checkRims, checkRimUse } from './rim-verify.js'

/** A device, and the manifests chosen for it. */
export interface Held {
  readonly device: Device
  readonly rims: readonly InspectedRim[]
  /** Undefined while no manifest is at hand. */
  readonly comparison: Comparison | undefined
}

export interface FirmwareInput {
  readonly shelf: RimShelf
  readonly anchors: readonly TrustAnchor[]
  readonly now: Date
}

/** Carries out the manifest and measurement checks of one kind of device. */
export async function checkFirmware(
  t: Transcript,
  kind: DeviceKind,
  devices: readonly Device[],
  input: FirmwareInput,
): Promise<readonly Held[]> {
  const chosen = new Map<Device, InspectedRim[]>(devices.map((device) => [device, []]))
  for (const slot of SLOTS[kind]) {
    const choices = chooseFor(slot.role, devices, input)
    await holdToRims(t, slot, choices, input)
    for (const { device, choice } of choices) if ('found' in choice) chosen.get(device)?.push(choice.found)
  }
  const held = devices.map((device) => compare(device, chosen.get(device) ?? []))
  await checkMeasurements(t, kind, held)
  return held
}

/** The manifest service's names of what this device needs and has not: none at hand was made for it. */
export function missingRims({ device, rims }: Held): readonly string[] {
  const { fields, certified } = device
  if (fields === undefined || certified === undefined) return []
  return SLOTS[fields.kind].flatMap(({ role }) => {
    const need = needOf(role, device)
    if (need === undefined || rims.some(({ rim }) => fits(rim, need))) return []
    return rimId(role, fields, certified.product) ?? []
  })
}

interface Slot {
  readonly role: RimRole
  readonly area: RimArea
}

const SLOTS: Readonly<Record<DeviceKind, readonly Slot[]>> = {
  gpu: [
    { role: 'driver', area: 'driver-rim' },
    { role: 'vbios', area: 'vbios-rim' },
  ],
  switch: [{ role: 'switch', area: 'switch-rim' }],
}

interface Choice {
  readonly device: Device
  readonly need: RimNeed
  readonly choice: RimChoice
}

/** A device whose fields or family could not be read needs nothing that could be named. */
function chooseFor(
  role: RimRole,
  devices: readonly Device[],
  { shelf, anchors, now }: FirmwareInput,
): readonly Choice[] {
  const needs = devices.flatMap((device) => {
    const need = needOf(role, device)
    return need === undefined ? [] : [{ device, need }]
  })
  const all = needs.map(({ need }) => need)
  return needs.map(({ device, need }) => ({ device, need, choice: chooseRim(need, all, shelf, anchors, now) }))
}

function needOf(role: RimRole, { fields, certified }: Device): RimNeed | undefined {
  if (fields === undefined || certified === undefined) return undefined
  const version = role === 'driver' ? (fields.kind === 'gpu' ? fields.driver : undefined) : fields.vbios
  return version === undefined ? undefined : { role, product: certified.product, version }
}

async function holdToRims(t: Transcript, slot: Slot, choices: readonly Choice[], input: FirmwareInput): Promise<void> {
  await t.checkAsync(`gpu.${slot.area}.present`, () =>
    judgeEach(
      choices.map((choice) => ({ name: choice.device.name, item: choice })),
      ({ choice }): Finding => {
        if ('found' in choice) return pass(undefined, { actual: choice.found.rim.version })
        return 'damaged' in choice ? fail(`a manifest is damaged: ${choice.damaged}`) : unavailable(choice.missing)
      },
    ),
  )
  const uses = choices.flatMap(({ device, need, choice }) =>
    'found' in choice ? [{ name: device.name, item: { need, inspected: choice.found } }] : [],
  )
  const distinct = [...new Set(uses.map(({ item }) => item.inspected))].map((item) => ({
    name: `${item.rim.role} manifest ${item.rim.version}`,
    item,
  }))
  await checkRims(t, slot.area, distinct, input.anchors, input.now)
  await checkRimUse(t, slot.area, uses)
}

function compare(device: Device, rims: readonly InspectedRim[]): Held {
  if (rims.length === 0) return { device, rims, comparison: undefined }
  const status = device.fields?.kind === 'gpu' ? device.fields.nvdec0Status : undefined
  const comparison = compareMeasurements(
    device.report.blocks,
    rims.map(({ rim }) => rim),
    status,
  )
  return { device, rims, comparison }
}

async function checkMeasurements(t: Transcript, kind: DeviceKind, held: readonly Held[]): Promise<void> {
  const named = held.map((item) => ({ name: item.device.name, item }))
  const check = (thing: string, judge: (item: Held) => Finding) =>
    t.checkAsync(deviceCheckId(kind, 'measurements', thing), () => judgeEach(named, judge))
  if (kind === 'gpu') {
    await check('conflict', ({ rims }) => {
      const twice = conflicts(rims.map(({ rim }) => rim))
      return twice.length === 0 ? pass() : fail('both manifests judge one measurement', { actual: twice.join(', ') })
    })
    await check('nvdec0', ({ device: { fields } }) => {
      const status = fields?.kind === 'gpu' ? fields.nvdec0Status : undefined
      const known = status === NVDEC0.enabled || status === NVDEC0.disabled
      return known ? pass() : fail('an unknown NVDEC0 status', { actual: `0x${status?.toString(16) ?? '?'}` })
    })
  }
  const wanted = SLOTS[kind].length
  await check('match', ({ rims, comparison }) => {
    if (comparison !== undefined && comparison.mismatched.length > 0) {
      return fail('measured values are none of the golden ones', {
        actual: `records ${comparison.mismatched.join(', ')}`,
      })
    }
    if (comparison === undefined || rims.length < wanted) return unavailable('not every manifest is at hand')
    const skipped = comparison.skipped.length === 0 ? '' : `, ${comparison.skipped.join(', ')} not applicable`
    return pass(undefined, { actual: `${comparison.matched.length} matched${skipped}` })
  })
  await check('minimum', ({ device, rims }) => {
    const minimums = rims.flatMap(({ rim }) => rim.minimums)
    if (device.opaque === undefined) return fail('there is no opaque data')
    const unmet = unmetMinimums(device.opaque, minimums)
    return unmet.length === 0 ? pass() : fail('a security version is too low', { actual: unmet.join('; ') })
  })
}
