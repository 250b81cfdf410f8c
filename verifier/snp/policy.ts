/**
 * The SNP part of an appraisal policy: what is acceptable of an authentic report.
 *
 * Strict values are the defaults of the schema, member by member, nested ones too. Every weakening is a word somebody
 * wrote. Unknown members, empty lists and empty values are errors: an expectation of nothing would accept anything.
 */
import * as v from 'valibot'
import { UsageError } from '../errors.js'
import type { Pin } from '../pin.js'
import { parseTcbText, type Tcb } from './tcb.js'

/** Whether a freedom of the guest policy may be there. */
export type Permission = 'allowed' | 'forbidden'
/** Whether a restriction of the guest policy must be there. */
export type Restriction = 'optional' | 'required'

/** The SNP part of a policy with every member in place. JSON-ready. */
export interface SnpPolicy {
  readonly products: readonly ('Milan' | 'Genoa' | 'Turin' | 'Venice')[]
  readonly signers: readonly ('VCEK' | 'VLEK')[]
  readonly cspIds: Pin
  readonly chipIds: Pin
  readonly maskedChipId: Permission
  readonly vmpl: readonly number[]
  readonly guestPolicy: {
    readonly debug: Permission
    readonly migrateMa: Permission
    readonly smt: Permission
    readonly cxl: Permission
    readonly singleSocket: Restriction
    readonly memAes256Xts: Restriction
    readonly raplDis: Restriction
    readonly ciphertextHiding: Restriction
    readonly pageSwapDisable: Restriction
  }
  readonly minAbi: { readonly major: number; readonly minor: number }
  readonly platform: {
    readonly smt: Permission
    readonly tio: Permission
    readonly tsme: Restriction
    readonly ecc: Restriction
    readonly raplDis: Restriction
    readonly ciphertextHiding: Restriction
    readonly aliasCheck: Restriction
  }
  readonly mitigations: { readonly launch: string; readonly current: string }
  readonly tcbFloor: 'shipped' | 'none' | Tcb
  readonly tcbFloorOnLaunch: boolean
  readonly provisionalFirmware: Permission
  readonly minGuestSvn: number
  readonly hostData: Pin
  readonly familyIds: Pin
  readonly imageIds: Pin
  readonly reportIds: Pin
  readonly idKeyDigests: Pin
  readonly authorKeyDigests: Pin
}

const byte = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(255))
const hexBytes = (size: number) =>
  v.pipe(v.string(), v.toLowerCase(), v.regex(new RegExp(`^[0-9a-f]{${2 * size}}$`), `expected ${2 * size} hex digits`))
const some = <const S extends v.GenericSchema>(item: S) =>
  v.pipe(v.array(item), v.minLength(1, 'an empty list expects nothing; leave the member out or name what is accepted'))
/** `any` is the default: the value is chosen by whoever launches the guest and means nothing until you say what it should be. */
const pin = (size: number) => v.optional(v.union([v.literal('any'), some(hexBytes(size))]), 'any')
const mask = v.optional(
  v.pipe(v.string(), v.toLowerCase(), v.regex(/^0x[0-9a-f]{1,16}$/, 'expected a mask such as 0x0b')),
  '0x0',
)
/** For bits that let somebody do more. */
const permission = <const D extends 'allowed' | 'forbidden'>(strict: D) =>
  v.optional(v.picklist(['allowed', 'forbidden']), strict)
/** For bits that take something away from the host. */
const restriction = v.optional(v.picklist(['optional', 'required']), 'optional')

const tcb = v.strictObject({
  fmc: v.exactOptional(byte),
  bootLoader: byte,
  tee: byte,
  snp: byte,
  microcode: byte,
})

/** Fills in strict values for whatever a document leaves out, nested members too. */
export const snpPolicySchema: v.GenericSchema<unknown, SnpPolicy> = v.strictObject({
  /** Product lines accepted. `Venice` is announced and unseen: it takes naming here, and a root of your own. */
  products: v.optional(some(v.picklist(['Milan', 'Genoa', 'Turin', 'Venice'])), () => ['Milan', 'Genoa', 'Turin']),
  /** A VLEK is held by a cloud provider and shared by many of its hosts; leave it out to insist on one chip's own key. */
  signers: v.optional(some(v.picklist(['VCEK', 'VLEK'])), () => ['VCEK', 'VLEK']),
  /** CSP_ID of the VLEK, exactly. */
  cspIds: v.optional(v.union([v.literal('any'), some(v.pipe(v.string(), v.minLength(1), v.maxLength(255)))]), 'any'),
  /** CHIP_IDs accepted, 64 bytes each (on Turin 8 and 56 zeros). */
  chipIds: pin(64),
  /** Zero CHIP_ID on a VCEK-signed report: the key can then not be tied to the chip the report speaks of. */
  maskedChipId: permission('forbidden'),
  /** VMPLs accepted. Less trusted code in the same guest runs at 1 to 3 and can obtain reports with the same MEASUREMENT. */
  vmpl: v.optional(some(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(3))), () => [0]),
  /** Guest policy bits. Allowing `debug` or `migrateMa` lets the host read, or re-home, the guest. */
  guestPolicy: v.optional(
    v.strictObject({
      debug: permission('forbidden'),
      migrateMa: permission('forbidden'),
      smt: permission('allowed'),
      cxl: permission('forbidden'),
      singleSocket: restriction,
      memAes256Xts: restriction,
      raplDis: restriction,
      ciphertextHiding: restriction,
      pageSwapDisable: restriction,
    }),
    {},
  ),
  /** The lowest firmware ABI the guest may have agreed to run on. */
  minAbi: v.optional(v.strictObject({ major: byte, minor: byte }), () => ({ major: 0, minor: 0 })),
  /** PLATFORM_INFO bits. */
  platform: v.optional(
    v.strictObject({
      smt: permission('allowed'),
      tio: permission('allowed'),
      tsme: restriction,
      ecc: restriction,
      raplDis: restriction,
      ciphertextHiding: restriction,
      aliasCheck: restriction,
    }),
    {},
  ),
  /** Bits that must be set in the mitigation vectors of version 5 reports. */
  mitigations: v.optional(v.strictObject({ launch: mask, current: mask }), {}),
  /** `shipped`: the release's dated floor. `none` accepts keys extracted from firmware however old. */
  tcbFloor: v.optional(v.union([v.picklist(['shipped', 'none']), tcb]), 'shipped'),
  /** Holds LAUNCH_TCB to the floor too; guests migrated or launched earlier may be below it. */
  tcbFloorOnLaunch: v.optional(v.boolean(), false),
  /** CURRENT above COMMITTED: firmware the host may still roll back. Common in clouds. */
  provisionalFirmware: permission('allowed'),
  minGuestSvn: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(0xffffffff)), 0),
  hostData: pin(32),
  familyIds: pin(16),
  imageIds: pin(16),
  reportIds: pin(32),
  idKeyDigests: pin(48),
  authorKeyDigests: pin(48),
})

/** The built-in SNP policy. */
export const STRICT_SNP_POLICY: SnpPolicy = v.parse(snpPolicySchema, {})

/**
 * The `--tcb-floor` option: `none`, `shipped`, or levels such as `bl=4,tee=0,snp=24,ucode=219`.
 * @throws UsageError on anything else.
 */
export function parseTcbFloor(text: string): 'none' | 'shipped' | Tcb {
  if (text === 'none' || text === 'shipped') return text
  try {
    return parseTcbText(text)
  } catch (cause) {
    const reason = cause instanceof RangeError ? cause.message : 'malformed'
    throw new UsageError('snp.tcb-floor', `TCB floor: ${reason}`, { cause })
  }
}
