/**
 * The GPU part of an appraisal policy: what is acceptable of authentic NVIDIA evidence.
 *
 * Strict values are the defaults of the schema. Unknown members and empty lists are errors: an expectation of nothing
 * would accept anything.
 */
import * as v from 'valibot'
import { NRAS_INTERMEDIATES } from './nras-keys.js'

/** The GPU part of a policy with every member in place. JSON-ready. */
export interface GpuPolicy {
  /** Chips accepted. */
  readonly products: readonly string[]
  /** How many GPUs the evidence must be of. `any` lets a host leave some out. */
  readonly count: 'any' | number
  /** Devices accepted, by UEID: the leaf certificate's serial number in decimal. */
  readonly devices: 'any' | readonly string[]
  /** The oldest driver accepted. Withdrawn drivers are caught by revocation: their manifests' signers are put on hold. */
  readonly minDriver: string
  /** Drivers refused whatever their age. */
  readonly deniedDrivers: readonly string[]
  /** The oldest VBIOS accepted, product by product, `any` for one of which all are; a product not named has none. */
  readonly minVbios: 'any' | Readonly<Record<string, string>>
  /** `spt` one GPU, `mpt` several without a trusted NVLink, `ppcie` an HGX board; `unreported` older firmware. */
  readonly modes: readonly ('spt' | 'mpt' | 'ppcie' | 'unreported')[]
  /** Firmware before driver 550 does not report its FWID, so its firmware cannot be tied to the certified one. */
  readonly missingFwid: 'allowed' | 'forbidden'
  /** In protected PCIe mode NVLink is in the clear: switches nobody attested can read and change what passes. */
  readonly ppcieSwitches: 'required' | 'optional'
  readonly ocsp: {
    /** A response older than this says too little, however long its signer meant it for. */
    readonly maxAgeSeconds: number
    /** `required`: the response must echo the caller's nonce, which no stapled response can. */
    readonly nonce: 'required' | 'optional'
    /** A certificate on hold signs a version that was withdrawn or is not released. */
    readonly hold: 'refused' | { readonly forSeconds: number }
    /** The authority says it does not know the certificate. */
    readonly unknown: 'refused' | 'tolerated'
  }
  /** NVIDIA's remote verifier answers about evidence instead of this verifier looking at it. Never by default. */
  readonly nras:
    | 'refused'
    | {
        /** SHA-256 of the SubjectPublicKeyInfo of certificates that may vouch for token keys. */
        readonly intermediates: readonly string[]
        readonly skewSeconds: number
      }
}

const some = <const S extends v.GenericSchema>(item: S) =>
  v.pipe(v.array(item), v.minLength(1, 'an empty list expects nothing; leave the member out or name what is accepted'))
const seconds = (limit: number) => v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(limit))
const product = v.pipe(v.string(), v.regex(/^[A-Z]{2}[0-9]{2,3}$/, 'expected a chip such as GH100'))
const driverVersion = v.pipe(v.string(), v.regex(/^[0-9]+(\.[0-9]+){1,3}$/, 'expected a version such as 550.90.07'))
const vbiosVersion = v.pipe(
  v.string(),
  v.toUpperCase(),
  v.regex(/^[0-9A-F]{2}(\.[0-9A-F]{2}){4}$/, 'expected a version such as 96.00.9F.00.01'),
)
const DAY_S = 86_400

/** Fills in strict values for whatever a document leaves out, nested members too. */
export const gpuPolicySchema: v.GenericSchema<unknown, GpuPolicy> = v.strictObject({
  products: v.optional(some(product), () => ['GH100', 'GB100']),
  count: v.optional(v.union([v.literal('any'), v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(64))]), 'any'),
  devices: v.optional(v.union([v.literal('any'), some(v.pipe(v.string(), v.regex(/^[1-9][0-9]{0,60}$/)))]), 'any'),
  minDriver: v.optional(v.union([v.literal('any'), driverVersion]), 'any'),
  deniedDrivers: v.optional(v.array(driverVersion), () => []),
  minVbios: v.optional(
    v.union([
      v.literal('any'),
      v.pipe(
        v.record(product, v.union([v.literal('any'), vbiosVersion])),
        v.check((map) => Object.keys(map).length > 0, 'an empty map expects nothing; leave the member out'),
      ),
    ]),
    'any',
  ),
  modes: v.optional(some(v.picklist(['spt', 'mpt', 'ppcie', 'unreported'])), () => [
    'spt',
    'mpt',
    'ppcie',
    'unreported',
  ]),
  missingFwid: v.optional(v.picklist(['allowed', 'forbidden']), 'forbidden'),
  ppcieSwitches: v.optional(v.picklist(['required', 'optional']), 'required'),
  ocsp: v.optional(
    v.strictObject({
      maxAgeSeconds: v.optional(seconds(30 * DAY_S), DAY_S),
      nonce: v.optional(v.picklist(['required', 'optional']), 'optional'),
      hold: v.optional(
        v.union([v.literal('refused'), v.strictObject({ forSeconds: seconds(400 * DAY_S) })]),
        'refused',
      ),
      unknown: v.optional(v.picklist(['refused', 'tolerated']), 'refused'),
    }),
    {},
  ),
  nras: v.optional(
    v.union([
      v.literal('refused'),
      v.strictObject({
        intermediates: v.optional(some(v.pipe(v.string(), v.toLowerCase(), v.regex(/^[0-9a-f]{64}$/))), () => [
          ...NRAS_INTERMEDIATES,
        ]),
        skewSeconds: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(600)), 60),
      }),
    ]),
    'refused',
  ),
})

/** Why the members cannot be meant together, with the member to name; undefined when they can. */
export function contradictionIn(
  policy: GpuPolicy,
): { readonly member: keyof GpuPolicy; readonly reason: string } | undefined {
  const { products, count, devices, minVbios } = policy
  const stray = minVbios === 'any' ? undefined : Object.keys(minVbios).find((name) => !products.includes(name))
  if (stray !== undefined) return { member: 'minVbios', reason: `${stray} is none of the products accepted` }
  if (devices === 'any') return undefined
  if (new Set(devices).size < devices.length) return { member: 'devices', reason: 'a device is named twice' }
  if (typeof count === 'number' && devices.length < count) {
    return { member: 'count', reason: `${count} different devices are expected and ${devices.length} are accepted` }
  }
  return undefined
}

/** Which of these members expect something: their values are not the built-in ones. */
export function expecting(policy: GpuPolicy, members: readonly (keyof GpuPolicy)[]): readonly (keyof GpuPolicy)[] {
  return members.filter((member) => JSON.stringify(policy[member]) !== JSON.stringify(STRICT_GPU_POLICY[member]))
}

/** The built-in GPU policy. */
export const STRICT_GPU_POLICY: GpuPolicy = v.parse(gpuPolicySchema, {})

/** The section of a policy that accepts NVIDIA's remote verifier, with its defaults. */
export const ACCEPTED_NRAS: Exclude<GpuPolicy['nras'], 'refused'> = (() => {
  const { nras } = v.parse(gpuPolicySchema, { nras: {} })
  if (nras === 'refused') throw new TypeError('an empty section accepts')
  return nras
})()
