/**
 * The extensions of Intel's SGX certificates and CRLs, in the order Intel writes them (Intel "SGX PCK Certificate and CRL
 * Profile" 1.5): the X.509 ones, and the SGX extension of the PCK certificate with every way to bend its members.
 */
import { createHash, createPublicKey, type KeyObject } from 'node:crypto'
import type { Bytes } from '../../verifier/protocol/bytes.js'
import { CA_EXTENSION } from './amd-extensions.js'
import type { Extension } from './certificate.js'
import {
  booleanFalse,
  booleanTrue,
  type DerNode,
  embed,
  encodeDer,
  enumerated,
  integer,
  octetString,
  oid,
  sequence,
  tagged,
  taggedPrimitive,
} from './der.js'

export const INTEL_EXTENSION = { ...CA_EXTENSION, sgx: '1.2.840.113741.1.13.1' } as const

/** SGX type: 0 standard, 1 scalable, 2 scalable with integrity. */
export interface SgxExtensionFields {
  /** 16 bytes. */
  readonly ppid: Uint8Array
  /** COMP01 to COMP16 SVN. */
  readonly components: readonly number[]
  readonly pceSvn: number
  /** 16 bytes; in every real certificate the components as bytes. */
  readonly cpuSvn: Uint8Array
  /** 2 bytes. */
  readonly pceId: Uint8Array
  /** 6 bytes. */
  readonly fmspc: Uint8Array
  readonly sgxType: number
  /** 16 bytes; the Platform CA writes it, the Processor CA does not. */
  readonly platformInstanceId?: Uint8Array
  /** As `platformInstanceId`. */
  readonly configuration?: {
    readonly dynamicPlatform: boolean
    readonly cachedKeys: boolean
    readonly smtEnabled: boolean
  }
}

/**
 * One change to the members of the SGX extension, which are named by what follows its OID: `1` PPID, `2` TCB, `2.17`
 * PCESVN, `4` FMSPC, `7.1` dynamic platform. A value is the whole DER encoding of the member's value.
 */
export type SgxMemberEdit =
  | { readonly member: string; readonly omit: true }
  /** Repeats the member directly after itself, with `value` or with the same value. */
  | { readonly member: string; readonly duplicate: true; readonly value?: Uint8Array }
  /** Replaces the value in place; a member that is not there is appended at the end of the extension. */
  | { readonly member: string; readonly value: Uint8Array }

/** The content of the SGX extension: SEQUENCE OF SEQUENCE { OBJECT IDENTIFIER, value }. */
export function encodeSgxExtension(fields: SgxExtensionFields, edits: readonly SgxMemberEdit[] = []): Bytes {
  const { platformInstanceId, configuration } = fields
  const components = fields.components.map((svn, index): SgxMember => [`2.${index + 1}`, integer(svn)])
  const members: SgxMember[] = [
    ['1', octetString(fields.ppid)],
    ['2', [...components, ['2.17', integer(fields.pceSvn)], ['2.18', octetString(fields.cpuSvn)]]],
    ['3', octetString(fields.pceId)],
    ['4', octetString(fields.fmspc)],
    ['5', enumerated(fields.sgxType)],
  ]
  if (platformInstanceId !== undefined) members.push(['6', octetString(platformInstanceId)])
  if (configuration !== undefined) {
    members.push([
      '7',
      [
        ['7.1', boolean(configuration.dynamicPlatform)],
        ['7.2', boolean(configuration.cachedKeys)],
        ['7.3', boolean(configuration.smtEnabled)],
      ],
    ])
  }
  return encodeDer(encodeMembers(edits.reduce<readonly SgxMember[]>(editMembers, members)))
}

type SgxMember = readonly [member: string, value: DerNode | readonly SgxMember[]]

function editMembers(members: readonly SgxMember[], edit: SgxMemberEdit): readonly SgxMember[] {
  const edited = editWhereFound(members, edit)
  if ('value' in edit && edit.value !== undefined && !('duplicate' in edit) && !contains(members, edit.member)) {
    return [...edited, [edit.member, embed(edit.value)]]
  }
  return edited
}

function editWhereFound(members: readonly SgxMember[], edit: SgxMemberEdit): readonly SgxMember[] {
  return members.flatMap((found): readonly SgxMember[] => {
    const [member, value] = found
    if (member !== edit.member) return [isList(value) ? [member, editWhereFound(value, edit)] : found]
    if ('omit' in edit) return []
    const given = edit.value === undefined ? value : embed(edit.value)
    return 'duplicate' in edit ? [found, [member, given]] : [[member, given]]
  })
}

function contains(members: readonly SgxMember[], member: string): boolean {
  return members.some(([name, value]) => name === member || (isList(value) && contains(value, member)))
}

function encodeMembers(members: readonly SgxMember[]): DerNode {
  return sequence(
    ...members.map(([member, value]) =>
      sequence(oid(`${INTEL_EXTENSION.sgx}.${member}`), isList(value) ? encodeMembers(value) : value),
    ),
  )
}

function isList(value: DerNode | readonly SgxMember[]): value is readonly SgxMember[] {
  return Array.isArray(value)
}

function boolean(value: boolean): DerNode {
  return value ? booleanTrue() : booleanFalse()
}

/** Root and intermediates: certificate and CRL signing, with a path length. */
export function caExtensions(key: KeyObject, issuer: KeyObject, crlUrl: string, pathLength: number): Extension[] {
  return [
    ...identifiers(key, issuer, crlUrl),
    extension(INTEL_EXTENSION.keyUsage, Buffer.from('03020106', 'hex'), true),
    extension(INTEL_EXTENSION.basicConstraints, encodeDer(sequence(booleanTrue(), integer(pathLength))), true),
  ]
}

/** TCB Signing and PCK: digital signature and non-repudiation, not a CA. */
export function leafExtensions(key: KeyObject, issuer: KeyObject, crlUrl: string): Extension[] {
  return [
    ...identifiers(key, issuer, crlUrl),
    extension(INTEL_EXTENSION.keyUsage, Buffer.from('030206c0', 'hex'), true),
    extension(INTEL_EXTENSION.basicConstraints, encodeDer(sequence()), true),
  ]
}

/** CRL number, where there is one, then authority key id: Intel's order, not AMD's. */
export function intelCrlExtensions(issuer: KeyObject, number: bigint | null): Extension[] {
  const authority = authorityKeyIdentifier(issuer)
  return number === null ? [authority] : [extension(INTEL_EXTENSION.crlNumber, encodeDer(integer(number))), authority]
}

/** SHA-1 of the public point (RFC 5280 §4.2.1.2, method 1): a name for the key, not a protection. */
export function keyIdentifier(key: KeyObject): Buffer {
  const publicKey = key.type === 'private' ? createPublicKey(key) : key
  const { x = '', y = '' } = publicKey.export({ format: 'jwk' })
  return createHash('sha1').update(Buffer.of(4)).update(x, 'base64url').update(y, 'base64url').digest()
}

function identifiers(key: KeyObject, issuer: KeyObject, crlUrl: string): Extension[] {
  const fullName = tagged(0, taggedPrimitive(6, Buffer.from(crlUrl, 'latin1')))
  return [
    authorityKeyIdentifier(issuer),
    extension(INTEL_EXTENSION.crlDistributionPoints, encodeDer(sequence(sequence(tagged(0, fullName))))),
    extension(INTEL_EXTENSION.subjectKeyIdentifier, encodeDer(octetString(keyIdentifier(key)))),
  ]
}

function authorityKeyIdentifier(issuer: KeyObject): Extension {
  return extension(
    INTEL_EXTENSION.authorityKeyIdentifier,
    encodeDer(sequence(taggedPrimitive(0, keyIdentifier(issuer)))),
  )
}

export function extension(oid: string, value: Uint8Array, critical = false): Extension {
  return { oid, critical, value: new Uint8Array(value) }
}
