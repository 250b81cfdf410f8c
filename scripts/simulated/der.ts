/**
 * DER encoding for the simulated vendors: thin names over node-forge's ASN.1 writer (ITU-T X.690 §10).
 *
 * Writing only. The verifier reads certificates with a different library, so a mistake made here is not made twice.
 */
import forge from 'node-forge'
import { type Bytes, toBytes } from '../../verifier/protocol/bytes.js'

export type DerNode = forge.asn1.Asn1

const { Class, Type } = forge.asn1

/** The complete encoding of a node: tag, length and content. */
export function encodeDer(node: DerNode): Bytes {
  return fromBinary(forge.asn1.toDer(node).getBytes())
}

/** A node whose encoding is `der`, for structures another library wrote (a SubjectPublicKeyInfo). */
export function embed(der: Uint8Array): DerNode {
  return forge.asn1.fromDer(toBinary(der))
}

export function sequence(...members: readonly DerNode[]): DerNode {
  return forge.asn1.create(Class.UNIVERSAL, Type.SEQUENCE, true, [...members])
}

export function set(...members: readonly DerNode[]): DerNode {
  return forge.asn1.create(Class.UNIVERSAL, Type.SET, true, [...members])
}

/** `[tag] EXPLICIT`, or a constructed implicit tag when the members are the tagged type's own. */
export function tagged(tag: number, ...members: readonly DerNode[]): DerNode {
  return forge.asn1.create(Class.CONTEXT_SPECIFIC, tag, true, [...members])
}

/** `[tag] IMPLICIT` over a primitive type with this content. */
export function taggedPrimitive(tag: number, content: Uint8Array): DerNode {
  return forge.asn1.create(Class.CONTEXT_SPECIFIC, tag, false, toBinary(content))
}

export function oid(dotted: string): DerNode {
  return forge.asn1.create(Class.UNIVERSAL, Type.OID, false, forge.asn1.oidToDer(dotted).getBytes())
}

/** A canonical non-negative INTEGER: a leading zero byte exactly when the top bit is set. */
export function integer(value: bigint | number): DerNode {
  const digits = BigInt(value).toString(16)
  const hex = digits.length % 2 === 0 ? digits : `0${digits}`
  const content = Buffer.from(hex, 'hex')
  const signed = (content[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.of(0), content]) : content
  return primitive(Type.INTEGER, signed)
}

export function booleanTrue(): DerNode {
  return primitive(Type.BOOLEAN, Buffer.of(0xff))
}

export function booleanFalse(): DerNode {
  return primitive(Type.BOOLEAN, Buffer.of(0))
}

/** An ENUMERATED from 0 to 127. */
export function enumerated(value: number): DerNode {
  return primitive(Type.ENUMERATED, Buffer.of(value))
}

export function nullValue(): DerNode {
  return primitive(Type.NULL, Buffer.alloc(0))
}

/** A BIT STRING of whole bytes. */
export function bitString(content: Uint8Array): DerNode {
  return primitive(Type.BITSTRING, Buffer.concat([Buffer.of(0), content]))
}

export function octetString(content: Uint8Array): DerNode {
  return primitive(Type.OCTETSTRING, content)
}

export function utf8String(text: string): DerNode {
  return primitive(Type.UTF8, Buffer.from(text, 'utf8'))
}

export function printableString(text: string): DerNode {
  return primitive(Type.PRINTABLESTRING, Buffer.from(text, 'latin1'))
}

export function ia5String(text: string): DerNode {
  return primitive(Type.IA5STRING, Buffer.from(text, 'latin1'))
}

/** UTCTime through 2049, GeneralizedTime after (RFC 5280 §4.1.2.5); fractions of a second are dropped. */
export function time(date: Date): DerNode {
  const year = date.getUTCFullYear()
  return year >= 1950 && year < 2050
    ? primitive(Type.UTCTIME, Buffer.from(timeText(date).slice(2), 'latin1'))
    : generalizedTime(date)
}

/** GeneralizedTime whatever the year, as OCSP has it (RFC 6960 §4.2.1). */
export function generalizedTime(date: Date): DerNode {
  return primitive(Type.GENERALIZEDTIME, Buffer.from(timeText(date), 'latin1'))
}

/** RFC 7468 text encoding with 64-character lines. */
export function toPem(label: string, der: Uint8Array): string {
  const lines = Buffer.from(der)
    .toString('base64')
    .replaceAll(/(.{64})(?=.)/g, '$1\n')
  return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`
}

function timeText(date: Date): string {
  return `${date.toISOString().slice(0, 19).replaceAll(/[-:T]/g, '')}Z`
}

function primitive(type: forge.asn1.Type, content: Uint8Array): DerNode {
  return forge.asn1.create(Class.UNIVERSAL, type, false, toBinary(content))
}

/** node-forge keeps byte strings as text with one character a byte. */
function toBinary(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1')
}

function fromBinary(text: string): Bytes {
  return toBytes(new Uint8Array(Buffer.from(text, 'latin1')))
}
