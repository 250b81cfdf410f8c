/**
 * The SGX extension of a PCK certificate, OID 1.2.840.113741.1.13.1 (Intel "SGX PCK Certificate and CRL Profile" 1.5 §4):
 * which platform the key belongs to and at which TCB it was provisioned.
 *
 * A SEQUENCE of {OID, value} pairs. Refused: an unknown, repeated or missing member, another type or length, an SVN above
 * 65535, anything that is not strict DER. Matching uses the sixteen component integers; CPUSVN repeats them as bytes.
 */
import { childrenOf, type DerElement, expectTag, oidText, readDer, smallInteger, TAG } from '../der.js'
import { type Bytes, toHex } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import type { Certificate } from '../x509.js'

export const SGX_EXTENSION_OID = '1.2.840.113741.1.13.1'

/** ENUMERATED values of the SGX type. */
const SGX_TYPES = ['Standard', 'Scalable', 'ScalableWithIntegrity'] as const
export type SgxType = (typeof SGX_TYPES)[number]

export interface PckClaims {
  /** 16 bytes: identifies the processor package to Intel. */
  readonly ppid: Bytes
  /** COMP01 to COMP16 SVN. */
  readonly components: readonly number[]
  readonly pceSvn: number
  readonly cpuSvn: Bytes
  /** 2 bytes. */
  readonly pceId: Bytes
  /** 6 bytes: family, model, stepping, platform type and SKU. */
  readonly fmspc: Bytes
  /** Decides nothing; some issuers leave it out (seen in test hierarchies). */
  readonly sgxType?: SgxType
  /** 16 bytes; multi-package platforms only. */
  readonly platformInstanceId?: Bytes
  readonly configuration?: {
    readonly dynamicPlatform?: boolean
    readonly cachedKeys?: boolean
    readonly smtEnabled?: boolean
  }
}

const COMPONENTS = 16
const MAX_SVN = 0xffff

/** @throws FormatError as the top of this file says. The certificate's own signature is not looked at. */
export function readPckClaims(certificate: Certificate): PckClaims {
  const extension = certificate.extensions.get(SGX_EXTENSION_OID)
  if (extension === undefined) throw new FormatError('tdx.pck.extension', 'the SGX extension is missing')
  const members = readMembers(
    readDer(extension.value, 'SGX extension'),
    SGX_EXTENSION_OID,
    ['1', '2', '3', '4'],
    ['5', '6', '7'],
  )
  const tcb = readMembers(members.get('2'), `${SGX_EXTENSION_OID}.2`, TCB_MEMBERS, [])
  const type = members.get('5')
  const instance = members.get('6')
  const configuration = members.get('7')
  return {
    ppid: octets(members.get('1'), 16, 'PPID'),
    components: TCB_MEMBERS.slice(0, COMPONENTS).map((name) => svn(tcb.get(name), `TCB component ${name}`)),
    pceSvn: svn(tcb.get('17'), 'PCESVN'),
    cpuSvn: octets(tcb.get('18'), 16, 'CPUSVN'),
    pceId: octets(members.get('3'), 2, 'PCEID'),
    fmspc: octets(members.get('4'), 6, 'FMSPC'),
    ...(type === undefined ? {} : { sgxType: sgxType(type) }),
    ...(instance === undefined ? {} : { platformInstanceId: octets(instance, 16, 'platform instance id') }),
    ...(configuration === undefined ? {} : { configuration: readConfiguration(configuration) }),
  }
}

/** JSON-ready; bytes become lower-case hex. */
export function describePckClaims(claims: PckClaims): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(claims).map(([name, value]) => [name, value instanceof Uint8Array ? toHex(value) : value]),
  )
}

/** `1` to `18`: sixteen components, PCESVN, CPUSVN. */
const TCB_MEMBERS: readonly string[] = Array.from({ length: COMPONENTS + 2 }, (_, index) => String(index + 1))

function readMembers(
  list: DerElement | undefined,
  oid: string,
  required: readonly string[],
  optional: readonly string[],
): ReadonlyMap<string, DerElement> {
  const out = new Map<string, DerElement>()
  for (const item of childrenOf(expectTag(list, TAG.sequence, 'SGX extension'), 'SGX extension')) {
    const [name, value, ...extra] = childrenOf(expectTag(item, TAG.sequence, 'SGX extension'), 'SGX extension')
    const dotted = oidText(name, 'SGX extension')
    const member = dotted.startsWith(`${oid}.`) ? dotted.slice(oid.length + 1) : ''
    if (value === undefined || extra.length > 0 || !(required.includes(member) || optional.includes(member))) {
      throw new FormatError('tdx.pck.extension', `SGX extension: unexpected member ${dotted}`)
    }
    if (out.has(member)) throw new FormatError('tdx.pck.extension', `SGX extension: member ${dotted} appears twice`)
    out.set(member, value)
  }
  const missing = required.find((member) => !out.has(member))
  if (missing !== undefined)
    throw new FormatError('tdx.pck.extension', `SGX extension: member ${oid}.${missing} is missing`)
  return out
}

function readConfiguration(element: DerElement): NonNullable<PckClaims['configuration']> {
  const members = readMembers(element, `${SGX_EXTENSION_OID}.7`, [], ['1', '2', '3'])
  const flag = (name: string, member: string): Record<string, boolean> => {
    const value = members.get(member)
    return value === undefined ? {} : { [name]: expectTag(value, TAG.boolean, name).content[0] === 0xff }
  }
  return { ...flag('dynamicPlatform', '1'), ...flag('cachedKeys', '2'), ...flag('smtEnabled', '3') }
}

function sgxType(element: DerElement): SgxType {
  const { content } = expectTag(element, TAG.enumerated, 'SGX type')
  const type = content.length === 1 ? SGX_TYPES[content[0] ?? SGX_TYPES.length] : undefined
  if (type === undefined) throw new FormatError('tdx.pck.extension', `SGX type: unknown value ${toHex(content)}`)
  return type
}

function octets(element: DerElement | undefined, length: number, what: string): Bytes {
  const { content } = expectTag(element, TAG.octetString, what)
  if (content.length === length) return content
  throw new FormatError('tdx.pck.extension', `${what}: expected ${length} bytes, found ${content.length}`)
}

function svn(element: DerElement | undefined, what: string): number {
  const value = smallInteger(element, what)
  if (value <= MAX_SVN) return value
  throw new FormatError('tdx.pck.extension', `${what}: ${value} is above ${MAX_SVN}`)
}
