/** The appraisal of authentic GPUs: are they acceptable under this policy? One function a group of checks, in plan order. */
import { type Finding, fail, pass, type Transcript, unavailable, waived } from '../checks.js'
import type { GpuFields, GpuMode } from './device-fields.js'
import { asNamed, type Device } from './device-verify.js'
import { judgeEach } from './each.js'
import type { GpuPolicy } from './policy.js'

const ANY = 'any: your policy names none'

/** The leaf's serial number in decimal, which is what NVIDIA's tools call a device's UEID. */
export function ueidOf({ chain }: Device): string | undefined {
  const [leaf] = chain ?? []
  return leaf === undefined ? undefined : BigInt(`0x${leaf.serialHex}`).toString()
}

/** `gpu.devices.*`, `gpu.product.*`, `gpu.mode.*`, `gpu.driver.*`, `gpu.vbios.*`. */
export async function appraiseGpus(
  t: Transcript,
  devices: readonly Device[],
  switches: number,
  policy: GpuPolicy,
): Promise<void> {
  const check = (id: string, judge: (fields: GpuFields, device: Device) => Finding) =>
    t.checkAsync(id, () =>
      judgeEach(devices.map(asNamed), (device) =>
        device.fields?.kind === 'gpu' ? judge(device.fields, device) : fail('the report says nothing'),
      ),
    )
  t.check('gpu.devices.distinct', () => judgeDistinct(devices))
  t.check('gpu.devices.count', () => judgeCount(devices.length, policy))
  await t.checkAsync('gpu.devices.allowed', () =>
    judgeEach(devices.map(asNamed), (device) => judgeAllowed(ueidOf(device), policy)),
  )
  await check('gpu.fwid.present', ({ fwid }) => {
    if (fwid !== undefined) return pass()
    if (policy.missingFwid === 'allowed') return waived('missingFwid: allowed; firmware older than the FWID field')
    return fail('the firmware does not report its identity')
  })
  await check('gpu.product.allowed', (_, { certified }) => among(certified?.product ?? 'unknown', policy.products))
  await check('gpu.mode.allowed', ({ mode }) => among(mode ?? 'contradictory', policy.modes))
  t.check('gpu.mode.same', () => judgeSame(devices, ({ mode }) => mode ?? 'contradictory'))
  t.check('gpu.mode.switches', () => judgeSwitches(modesOf(devices), switches, policy))
  t.check('gpu.driver.same', () => judgeSame(devices, ({ driver }) => driver))
  await check('gpu.driver.minimum', ({ driver }) => atLeast(driver, policy.minDriver, 10))
  await check('gpu.driver.denied', ({ driver }) =>
    policy.deniedDrivers.some((denied) => compareVersions(driver, denied, 10) === 0)
      ? fail('your policy refuses this driver', { actual: driver })
      : pass(),
  )
  await check('gpu.vbios.minimum', ({ vbios }, { certified }) => {
    const product = certified?.product ?? 'unknown'
    const minimum = policy.minVbios === 'any' ? 'any' : policy.minVbios[product]
    // Silence about a chip is not consent to whatever runs on it.
    if (minimum === undefined)
      return fail(`your policy names no VBIOS for ${product}; any accepts all`, { actual: vbios })
    return atLeast(vbios, minimum, 16)
  })
}

/** `gpu.switch-devices.*`. */
export async function appraiseSwitches(t: Transcript, devices: readonly Device[]): Promise<void> {
  t.check('gpu.switch-devices.distinct', () => judgeDistinct(devices))
  await t.checkAsync('gpu.switch-devices.locked', () =>
    judgeEach(devices.map(asNamed), ({ fields }) => {
      const status = fields?.kind === 'switch' ? fields.lockStatus : undefined
      return status === 1
        ? pass()
        : fail('the switch is not locked', { expected: '1', actual: `${status ?? 'absent'}` })
    }),
  )
}

/** Different in leaf serial number, in leaf key and in device id: nothing of one may be anything of another. */
function judgeDistinct(devices: readonly Device[]): Finding {
  const identities: readonly ((device: Device) => string | undefined)[] = [
    ueidOf,
    ({ chain }) => chain?.[0]?.spkiSha256Hex,
    ({ certified }) => certified?.deviceId,
  ]
  for (const identity of identities) {
    const seen = new Map<string, string>()
    for (const device of devices) {
      const value = identity(device)
      if (value === undefined) continue
      const other = seen.get(value)
      if (other !== undefined) return fail(`${other} and ${device.name} are one device`, { actual: value })
      seen.set(value, device.name)
    }
  }
  return pass()
}

function judgeCount(actual: number, policy: GpuPolicy): Finding {
  if (policy.count === 'any') return pass(undefined, { expected: ANY, actual: `${actual}` })
  const detail = { expected: `${policy.count}`, actual: `${actual}` }
  return actual === policy.count ? pass(undefined, detail) : fail('not as many GPUs as expected', detail)
}

function judgeAllowed(ueid: string | undefined, policy: GpuPolicy): Finding {
  if (policy.devices === 'any') return pass(undefined, { expected: ANY, actual: ueid ?? 'unknown' })
  if (ueid !== undefined && policy.devices.includes(ueid)) return pass(undefined, { actual: ueid })
  return fail('this GPU is none your policy lists', {
    expected: policy.devices.join(' or '),
    actual: ueid ?? 'unknown',
  })
}

function among(actual: string, accepted: readonly string[]): Finding {
  const detail = { expected: accepted.join(' or '), actual }
  return accepted.includes(actual) ? pass(undefined, { actual }) : fail('not accepted by your policy', detail)
}

function judgeSame(devices: readonly Device[], read: (fields: GpuFields) => string): Finding {
  const values = devices.flatMap(({ fields }) => (fields?.kind === 'gpu' ? [read(fields)] : []))
  const distinct = [...new Set(values)]
  if (distinct.length === 1) return pass(undefined, { actual: distinct[0] ?? '' })
  return fail('the GPUs differ', { actual: values.join(', ') })
}

export function modesOf(devices: readonly Device[]): readonly (GpuMode | undefined)[] {
  return devices.flatMap(({ fields }) => (fields?.kind === 'gpu' ? [fields.mode] : []))
}

function judgeSwitches(modes: readonly (GpuMode | undefined)[], switches: number, policy: GpuPolicy): Finding {
  if (!modes.includes('ppcie')) return pass(undefined, { actual: 'not in protected-PCIe mode' })
  if (switches > 0) return pass(undefined, { actual: `${switches} switches` })
  if (policy.ppcieSwitches === 'optional') return waived('ppcieSwitches: optional; NVLink may be read by its switches')
  return unavailable('no evidence of the NVSwitches between these GPUs is at hand')
}

/** Versions are compared part by part as numbers in base `radix`; missing parts are zero. */
function atLeast(actual: string, minimum: string, radix: 10 | 16): Finding {
  if (minimum === 'any') return pass(undefined, { expected: ANY, actual })
  const detail = { expected: `at least ${minimum}`, actual }
  return compareVersions(actual, minimum, radix) >= 0 ? pass(undefined, detail) : fail('too old', detail)
}

export function compareVersions(a: string, b: string, radix: 10 | 16): number {
  const left = a.split('.').map((part) => Number.parseInt(part, radix))
  const right = b.split('.').map((part) => Number.parseInt(part, radix))
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}
