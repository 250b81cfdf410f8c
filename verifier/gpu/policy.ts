/**
 * The GPU part of an appraisal policy: what is acceptable of authentic NVIDIA evidence.
 *
 * Strict values are the defaults of the schema. Unknown members and empty lists are errors: an expectation of nothing
 * would accept anything.
 */
import * as v from 'valibot'
import { NRAS_INTERMEDIATES } from './nras-keys.js'

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

export const gpuPolicySchema = v.strictObject({
  /** Chips accepted. */
  products: v.optional(some(product), () => ['GH100', 'GB100']),
  /** How many GPUs the evidence must be of. `any` lets a host leave some out. */
  count: v.optional(v.union([v.literal('any'), v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(64))]), 'any'),
  /** Devices accepted, by UEID: the leaf certificate's serial number in decimal. */
  devices: v.optional(v.union([v.literal('any'), some(v.pipe(v.string(), v.regex(/^[1-9][0-9]{0,60}$/)))]), 'any'),
  /** The oldest driver accepted. Withdrawn drivers are caught by revocation: their manifests' signers are put on hold. */
  minDriver: v.optional(v.union([v.literal('any'), driverVersion]), 'any'),
  /** Drivers refused whatever their age. */
  deniedDrivers: v.optional(v.array(driverVersion), () => []),
  /** The oldest VBIOS accepted, product by product; one that is not named here may have any. */
  minVbios: v.optional(v.union([v.literal('any'), v.record(product, vbiosVersion)]), 'any'),
  /** `spt` one GPU, `mpt` several without a trusted NVLink, `ppcie` an HGX board; `unreported` older firmware. */
  modes: v.optional(some(v.picklist(['spt', 'mpt', 'ppcie', 'unreported'])), () => [
    'spt',
    'mpt',
    'ppcie',
    'unreported',
  ]),
  /** Firmware before driver 550 does not report its FWID, so its firmware cannot be tied to the certified one. */
  missingFwid: v.optional(v.picklist(['allowed', 'forbidden']), 'forbidden'),
  /** In protected PCIe mode NVLink is in the clear: switches nobody attested can read and change what passes. */
  ppcieSwitches: v.optional(v.picklist(['required', 'optional']), 'required'),
  ocsp: v.optional(
    v.strictObject({
      /** A response older than this says too little, however long its signer meant it for. */
      maxAgeSeconds: v.optional(seconds(30 * DAY_S), DAY_S),
      /** `required`: the response must echo the caller's nonce, which no stapled response can. */
      nonce: v.optional(v.picklist(['required', 'optional']), 'optional'),
      /** A certificate on hold signs a version that was withdrawn or is not released. */
      hold: v.optional(
        v.union([v.literal('refused'), v.strictObject({ forSeconds: seconds(400 * DAY_S) })]),
        'refused',
      ),
      /** The authority says it does not know the certificate. */
      unknown: v.optional(v.picklist(['refused', 'tolerated']), 'refused'),
    }),
    {},
  ),
  /** NVIDIA's remote verifier answers about evidence instead of this verifier looking at it. Never by default. */
  nras: v.optional(
    v.union([
      v.literal('refused'),
      v.strictObject({
        /** SHA-256 of the SubjectPublicKeyInfo of certificates that may vouch for token keys. */
        intermediates: v.optional(some(v.pipe(v.string(), v.toLowerCase(), v.regex(/^[0-9a-f]{64}$/))), () => [
          ...NRAS_INTERMEDIATES,
        ]),
        skewSeconds: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(600)), 60),
      }),
    ]),
    'refused',
  ),
})

/** Complete: every member has its value. JSON-ready. */
export type GpuPolicy = v.InferOutput<typeof gpuPolicySchema>

/** The built-in GPU policy. */
export const STRICT_GPU_POLICY: GpuPolicy = v.parse(gpuPolicySchema, {})

/** The section of a policy that accepts NVIDIA's remote verifier, with its defaults. */
export const ACCEPTED_NRAS: Exclude<GpuPolicy['nras'], 'refused'> = (() => {
  const { nras } = v.parse(gpuPolicySchema, { nras: {} })
  if (nras === 'refused') throw new TypeError('an empty section accepts')
  return nras
})()
