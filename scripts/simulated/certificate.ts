/**
 * X.509 v3 certificates and v2 CRLs in the exact shape AMD's and Intel's servers write (RFC 5280, RFC 4055, AMD 57230,
 * Intel "SGX PCK Certificate and CRL Profile"), and every way a negative test needs them bent. Names, attribute order,
 * string types and RSASSA-PSS parameters follow the real certificates; the organisation says SIMULATED so that no one
 * mistakes them for real ones.
 */
import { constants, type KeyObject, sign } from 'node:crypto'
import { type Bytes, toBytes } from '../../verifier/protocol/bytes.js'
import {
  bitString,
  booleanTrue,
  type DerNode,
  embed,
  encodeDer,
  enumerated,
  integer,
  nullValue,
  octetString,
  oid,
  printableString,
  sequence,
  set,
  tagged,
  time,
  utf8String,
} from './der.js'

/** The organisation of every simulated subject, where a real certificate says "Advanced Micro Devices". */
export const SIMULATED_ORGANIZATION = 'SIMULATED (not Advanced Micro Devices)'

export type SignatureHash = 'sha256' | 'sha384' | 'sha512'

export interface DistinguishedName {
  readonly commonName: string
  readonly organization: string
  /** Whose order of attributes: AMD's OU, C, L, ST, O, CN unless `intel`: CN, O, L, ST, C; or a list of its own. */
  readonly order?: 'amd' | 'intel' | readonly NameAttribute[]
  /** The serialNumber attribute, where the order names it. */
  readonly serial?: string
}

export type NameAttribute = 'C' | 'ST' | 'L' | 'O' | 'CN' | 'serialNumber'

export interface Extension {
  readonly oid: string
  readonly critical: boolean
  /** The content of extnValue's OCTET STRING, which AMD's hwID leaves without a DER wrapper. */
  readonly value: Bytes
}

/** One change to the extension list. Edits apply in order. */
export type ExtensionEdit =
  | { readonly oid: string; readonly omit: true }
  /** Repeats the extension directly after itself, with `value` or with the same value. */
  | { readonly oid: string; readonly duplicate: true; readonly value?: Uint8Array }
  /** Replaces the value (and `critical`, when given) in place; an extension that is not there is appended. */
  | { readonly oid: string; readonly value: Uint8Array; readonly critical?: boolean }

/** RSASSA-PSS parameters as written into an AlgorithmIdentifier. MGF1 uses the same hash. */
export interface PssParameters {
  readonly hash: SignatureHash
  readonly saltLength: number
}

/** How to sign, where that differs from SHA-384 with a salt of 48 bytes. */
export interface SignatureOverrides {
  readonly hash?: SignatureHash
  readonly saltLength?: number
  /** `pkcs1` signs RSASSA-PKCS1-v1_5 and says so. An EC key always signs ECDSA. */
  readonly scheme?: 'pss' | 'pkcs1'
  /** PSS parameters to write instead of the ones used, in both places. */
  readonly stated?: PssParameters
  /** PSS parameters to write in the outer AlgorithmIdentifier only, so that it differs from the signed one. */
  readonly statedOutside?: PssParameters
  /** Whether the PSS parameters spell out the default trailer field; older VCEKs do, newer ones do not. */
  readonly statesTrailerField?: boolean
  /** Flips one bit of the finished signature. */
  readonly corrupt?: true
}

/** Ways to make a certificate wrong. Everything left out stays as AMD would have it. */
export interface CertificateOverrides {
  readonly subject?: Partial<DistinguishedName>
  readonly issuer?: Partial<DistinguishedName>
  readonly serialNumber?: bigint
  readonly notBefore?: Date
  readonly notAfter?: Date
  readonly extensions?: readonly ExtensionEdit[]
  /** Signs with this private key in place of the issuer's. */
  readonly signWith?: KeyObject
  readonly signature?: SignatureOverrides
}

export interface CertificateTemplate {
  readonly serialNumber: bigint
  readonly issuer: DistinguishedName
  readonly subject: DistinguishedName
  readonly notBefore: Date
  readonly notAfter: Date
  readonly publicKey: KeyObject
  readonly extensions: readonly Extension[]
  /** AMD's ARK, ASK and ASVK spell out the default trailer field; current leaves and CRLs do not. */
  readonly statesTrailerField: boolean
}

/** A signed certificate in DER. */
export function signCertificate(
  template: CertificateTemplate,
  issuerKey: KeyObject,
  overrides: CertificateOverrides = {},
): Bytes {
  const key = overrides.signWith ?? issuerKey
  const algorithm = signatureAlgorithm(key, overrides.signature, template.statesTrailerField)
  const body = sequence(
    tagged(0, integer(2)),
    integer(overrides.serialNumber ?? template.serialNumber),
    algorithm.signed,
    encodeName({ ...template.issuer, ...overrides.issuer }),
    sequence(time(overrides.notBefore ?? template.notBefore), time(overrides.notAfter ?? template.notAfter)),
    encodeName({ ...template.subject, ...overrides.subject }),
    embed(template.publicKey.export({ type: 'spki', format: 'der' })),
    tagged(3, encodeExtensions(editExtensions(template.extensions, overrides.extensions ?? []))),
  )
  return sealBody(body, key, algorithm.outside, overrides.signature)
}

export interface RevocationListTemplate {
  readonly issuer: DistinguishedName
  readonly thisUpdate: Date
  /** null leaves the field out. */
  readonly nextUpdate: Date | null
  readonly revoked: readonly RevokedCertificate[]
  readonly extensions: readonly Extension[]
}

export interface RevokedCertificate {
  readonly serialNumber: bigint
  readonly revocationDate: Date
  /** CRLReason (RFC 5280 §5.3.1) as an entry extension, which Intel writes and AMD does not. */
  readonly reasonCode?: number
}

/** A signed v2 CRL in DER. Without revoked certificates the list is absent, not empty (RFC 5280 §5.1.2.6). */
export function signRevocationList(
  template: RevocationListTemplate,
  issuerKey: KeyObject,
  signature: SignatureOverrides = {},
): Bytes {
  const algorithm = signatureAlgorithm(issuerKey, signature, false)
  const revoked = template.revoked.map(({ serialNumber, revocationDate, reasonCode }) =>
    sequence(
      integer(serialNumber),
      time(revocationDate),
      ...(reasonCode === undefined ? [] : [encodeExtensions([crlReason(reasonCode)])]),
    ),
  )
  const body = sequence(
    integer(1),
    algorithm.signed,
    encodeName(template.issuer),
    time(template.thisUpdate),
    ...(template.nextUpdate === null ? [] : [time(template.nextUpdate)]),
    ...(revoked.length === 0 ? [] : [sequence(...revoked)]),
    ...(template.extensions.length === 0 ? [] : [tagged(0, encodeExtensions(template.extensions))]),
  )
  return sealBody(body, issuerKey, algorithm.outside, signature)
}

/** The extension list after the edits. */
export function editExtensions(extensions: readonly Extension[], edits: readonly ExtensionEdit[]): Extension[] {
  let list = [...extensions]
  for (const edit of edits) {
    if ('omit' in edit) {
      list = list.filter((extension) => extension.oid !== edit.oid)
    } else if ('duplicate' in edit) {
      list = list.flatMap((extension) =>
        extension.oid === edit.oid
          ? [extension, { ...extension, value: toBytes(edit.value ?? extension.value) }]
          : [extension],
      )
    } else if (list.some((extension) => extension.oid === edit.oid)) {
      list = list.map((extension) =>
        extension.oid === edit.oid
          ? { oid: edit.oid, critical: edit.critical ?? extension.critical, value: toBytes(edit.value) }
          : extension,
      )
    } else {
      list.push({ oid: edit.oid, critical: edit.critical ?? false, value: toBytes(edit.value) })
    }
  }
  return list
}

export function encodeExtensions(extensions: readonly Extension[]): DerNode {
  return sequence(
    ...extensions.map((extension) =>
      sequence(oid(extension.oid), ...(extension.critical ? [booleanTrue()] : []), octetString(extension.value)),
    ),
  )
}

function crlReason(code: number): Extension {
  return { oid: '2.5.29.21', critical: false, value: encodeDer(enumerated(code)) }
}

/** Country and serial number are PrintableStrings, the rest UTF8String; all three vendors are in Santa Clara. */
export function encodeName(name: DistinguishedName): DerNode {
  const attribute = (type: string, value: DerNode): DerNode => set(sequence(oid(type), value))
  const attributes: Readonly<Record<NameAttribute, DerNode>> = {
    C: attribute('2.5.4.6', printableString('US')),
    ST: attribute('2.5.4.8', utf8String('CA')),
    L: attribute('2.5.4.7', utf8String('Santa Clara')),
    O: attribute('2.5.4.10', utf8String(name.organization)),
    CN: attribute('2.5.4.3', utf8String(name.commonName)),
    serialNumber: attribute('2.5.4.5', printableString(name.serial ?? '')),
  }
  const { C, ST, L, O, CN } = attributes
  if (name.order === 'intel') return sequence(CN, O, L, ST, C)
  if (Array.isArray(name.order)) return sequence(...name.order.map((type: NameAttribute) => attributes[type]))
  return sequence(attribute('2.5.4.11', utf8String('Engineering')), C, L, ST, O, CN)
}

const HASH_OID: Readonly<Record<SignatureHash, string>> = {
  sha256: '2.16.840.1.101.3.4.2.1',
  sha384: '2.16.840.1.101.3.4.2.2',
  sha512: '2.16.840.1.101.3.4.2.3',
}

const PKCS1_OID: Readonly<Record<SignatureHash, string>> = {
  sha256: '1.2.840.113549.1.1.11',
  sha384: '1.2.840.113549.1.1.12',
  sha512: '1.2.840.113549.1.1.13',
}

const ECDSA_OID: Readonly<Record<SignatureHash, string>> = {
  sha256: '1.2.840.10045.4.3.2',
  sha384: '1.2.840.10045.4.3.3',
  sha512: '1.2.840.10045.4.3.4',
}

/** The AlgorithmIdentifier inside the signed body and the one outside it; the same unless a test wants otherwise. */
function signatureAlgorithm(
  key: KeyObject,
  signature: SignatureOverrides | undefined,
  trailerByDefault: boolean,
): { readonly signed: DerNode; readonly outside: DerNode } {
  const hash = signature?.hash ?? 'sha384'
  if (key.asymmetricKeyType === 'ec') {
    const stated = signature?.stated?.hash ?? hash
    const outside = signature?.statedOutside?.hash ?? stated
    return { signed: sequence(oid(ECDSA_OID[stated])), outside: sequence(oid(ECDSA_OID[outside])) }
  }
  if (signature?.scheme === 'pkcs1') {
    return { signed: sequence(oid(PKCS1_OID[hash]), nullValue()), outside: sequence(oid(PKCS1_OID[hash]), nullValue()) }
  }
  const statesTrailerField = signature?.statesTrailerField ?? trailerByDefault
  const stated = signature?.stated ?? { hash, saltLength: signature?.saltLength ?? 48 }
  return {
    signed: pssAlgorithm(stated, statesTrailerField),
    outside: pssAlgorithm(signature?.statedOutside ?? stated, statesTrailerField),
  }
}

/** id-RSASSA-PSS with RSASSA-PSS-params (RFC 4055 §3.1). */
function pssAlgorithm(parameters: PssParameters, statesTrailerField: boolean): DerNode {
  const hash = sequence(oid(HASH_OID[parameters.hash]), nullValue())
  return sequence(
    oid('1.2.840.113549.1.1.10'),
    sequence(
      tagged(0, hash),
      tagged(1, sequence(oid('1.2.840.113549.1.1.8'), hash)),
      tagged(2, integer(parameters.saltLength)),
      ...(statesTrailerField ? [tagged(3, integer(1))] : []),
    ),
  )
}

function sealBody(body: DerNode, key: KeyObject, algorithm: DerNode, overrides: SignatureOverrides | undefined): Bytes {
  const signature = signBytes(encodeDer(body), key, overrides)
  if (overrides?.corrupt === true) {
    const middle = signature.length >> 1
    signature[middle] = (signature[middle] ?? 0) ^ 0x01
  }
  return encodeDer(sequence(body, algorithm, bitString(signature)))
}

function signBytes(message: Bytes, key: KeyObject, overrides: SignatureOverrides | undefined): Buffer {
  const hash = overrides?.hash ?? 'sha384'
  if (key.asymmetricKeyType === 'ec') return sign(hash, message, key)
  if (overrides?.scheme === 'pkcs1') return sign(hash, message, { key, padding: constants.RSA_PKCS1_PADDING })
  return sign(hash, message, {
    key,
    padding: constants.RSA_PKCS1_PSS_PADDING,
    saltLength: overrides?.saltLength ?? 48,
  })
}
