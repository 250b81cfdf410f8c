/**
 * The extensions of NVIDIA's device, reference-manifest and OCSP responder certificates, in the order NVIDIA writes them:
 * the RFC 5280 ones, the SPDM device name (DSP0274 §10.6), and the firmware id in its two forms, TCG DICE composite
 * device id (Hopper) and DiceTcbInfo (Blackwell).
 */
import type { KeyObject } from 'node:crypto'
import type { Bytes } from '../../verifier/protocol/bytes.js'
import { CA_EXTENSION } from './amd-extensions.js'
import type { Extension } from './certificate.js'
import {
  booleanTrue,
  type DerNode,
  embed,
  encodeDer,
  integer,
  nullValue,
  octetString,
  oid,
  sequence,
  tagged,
  taggedPrimitive,
  utf8String,
} from './der.js'
import { extension, keyIdentifier } from './intel-extensions.js'

export const NVIDIA_EXTENSION = {
  ...CA_EXTENSION,
  subjectAltName: '2.5.29.17',
  extendedKeyUsage: '2.5.29.37',
  authorityInfoAccess: '1.3.6.1.5.5.7.1.1',
  ocspNoCheck: '1.3.6.1.5.5.7.48.1.5',
  /** TCG DICE composite device id, on Hopper and LS10 leaves. */
  compositeDeviceId: '2.23.133.5.4.1',
  /** TCG DiceTcbInfo, on Blackwell leaves. */
  tcbInfo: '2.23.133.5.4.1.1',
} as const

const SHA384_OID = '2.16.840.1.101.3.4.2.2'
/** SPDM device name: `NVIDIA:GH100:<16 hexadecimal digits>`. */
const SPDM_DEVICE_NAME_OID = '1.3.6.1.4.1.412.274.1'
/** NVIDIA's paths, on hosts that cannot resolve (RFC 2606), so that nothing is ever fetched from NVIDIA. */
const OCSP_URL = 'http://ocsp.simulated.invalid'
const CRL_URL = 'http://crl.simulated.invalid'

export interface DeviceExtensionFields {
  readonly family: string
  /** 8 bytes. */
  readonly deviceId: Uint8Array
  /** 48 bytes. */
  readonly fwid: Uint8Array
  readonly form: 'compositeDeviceId' | 'tcbInfo'
}

/** Roots: both NVIDIA roots differ only in the order. */
export function rootExtensions(key: KeyObject, kind: 'device' | 'rim'): Extension[] {
  const identifiers = [subjectKey(key), authorityKey(key)]
  const usage = [basicConstraints(), keyUsage('03020106')]
  return kind === 'device' ? [...usage, ...identifiers] : [...identifiers, ...usage]
}

/** Intermediates: with a CRL distribution point when `crlPath` is given, and OCSP. */
export function authorityExtensions(
  key: KeyObject,
  issuer: KeyObject,
  crlPath?: string,
  pathLength?: number,
): Extension[] {
  return [
    basicConstraints(pathLength),
    keyUsage('03020106'),
    ...(crlPath === undefined ? [] : [crlDistribution(`${CRL_URL}/${crlPath}`)]),
    ocspAccess(),
    subjectKey(key),
    authorityKey(issuer),
  ]
}

/** The certificate of a chip's boot ROM, a CA that may sign nothing but certificates. Blackwell's names its OCSP server. */
export function bromExtensions(key: KeyObject, issuer: KeyObject, namesOcsp: boolean): Extension[] {
  return [
    basicConstraints(),
    keyUsage('03020204'),
    ...(namesOcsp ? [ocspAccess()] : []),
    subjectKey(key),
    authorityKey(issuer),
  ]
}

/** The certificate of the key that signs reports. */
export function deviceLeafExtensions(key: KeyObject, issuer: KeyObject, fields: DeviceExtensionFields): Extension[] {
  const value =
    fields.form === 'tcbInfo' ? encodeTcbInfo([fields.fwid], fields.family) : encodeCompositeDeviceId(key, fields.fwid)
  return [
    keyUsage('03020780'),
    subjectKey(key),
    authorityKey(issuer),
    extension(NVIDIA_EXTENSION.subjectAltName, encodeDeviceName(fields.family, fields.deviceId)),
    extension(NVIDIA_EXTENSION[fields.form], value),
  ]
}

/** The certificate that signs reference manifests. */
export function rimSignerExtensions(key: KeyObject, issuer: KeyObject): Extension[] {
  const notAuthority = extension(NVIDIA_EXTENSION.basicConstraints, encodeDer(sequence()), true)
  return [subjectKey(key), authorityKey(issuer), notAuthority, keyUsage('03020780'), ocspAccess()]
}

/** A delegated OCSP responder (RFC 6960 §4.2.2.2): id-kp-OCSPSigning and nothing to check about it in turn. */
export function responderExtensions(key: KeyObject, issuer: KeyObject): Extension[] {
  return [
    extension(NVIDIA_EXTENSION.basicConstraints, encodeDer(sequence()), true),
    keyUsage('03020780'),
    extension(NVIDIA_EXTENSION.extendedKeyUsage, encodeExtendedKeyUsage(['1.3.6.1.5.5.7.3.9'])),
    extension(NVIDIA_EXTENSION.ocspNoCheck, encodeDer(nullValue())),
    subjectKey(key),
    authorityKey(issuer),
  ]
}

/** extKeyUsage with these purposes; 1.3.6.1.5.5.7.3.9 is OCSP signing, 1.3.6.1.5.5.7.3.1 is TLS servers. */
export function encodeExtendedKeyUsage(purposes: readonly string[]): Bytes {
  return encodeDer(sequence(...purposes.map(oid)))
}

/** subjectAltName with the SPDM device name as an otherName. */
export function encodeDeviceName(family: string, deviceId: Uint8Array): Bytes {
  const name = `NVIDIA:${family}:${Buffer.from(deviceId).toString('hex').toUpperCase()}`
  return encodeDer(sequence(tagged(0, oid(SPDM_DEVICE_NAME_OID), tagged(0, utf8String(name)))))
}

/** SEQUENCE { version 1, SPKI, FWID { SHA-384, digest } }; the digest ends it. Any length is written as it is. */
export function encodeCompositeDeviceId(key: KeyObject, fwid: Uint8Array): Bytes {
  return encodeDer(sequence(integer(1), embed(key.export({ type: 'spki', format: 'der' })), encodeFwid(fwid)))
}

/** DiceTcbInfo as a GB100 writes it: `fwids`, then one of zeros; only the first says something. */
export function encodeTcbInfo(fwids: readonly Uint8Array[], family: string): Bytes {
  const text = (tag: number, value: string): DerNode => taggedPrimitive(tag, Buffer.from(value, 'latin1'))
  const hex = (tag: number, value: string): DerNode => taggedPrimitive(tag, Buffer.from(value, 'hex'))
  const list = [...fwids, new Uint8Array(48)].map(encodeFwid)
  return encodeDer(
    sequence(
      text(0, 'NVIDIA'),
      text(1, `${family} A01 GSP`),
      hex(2, '3031'),
      hex(3, '01'),
      hex(4, '01'),
      hex(5, '00'),
      tagged(6, ...list),
      hex(7, '0080000000'),
      hex(8, '01c0'),
      hex(9, '00'),
    ),
  )
}

function encodeFwid(digest: Uint8Array): DerNode {
  return sequence(oid(SHA384_OID), octetString(digest))
}

function basicConstraints(pathLength?: number): Extension {
  const limit = pathLength === undefined ? [] : [integer(pathLength)]
  return extension(NVIDIA_EXTENSION.basicConstraints, encodeDer(sequence(booleanTrue(), ...limit)), true)
}

function keyUsage(hex: '03020106' | '03020204' | '03020780'): Extension {
  return extension(NVIDIA_EXTENSION.keyUsage, Buffer.from(hex, 'hex'), true)
}

function subjectKey(key: KeyObject): Extension {
  return extension(NVIDIA_EXTENSION.subjectKeyIdentifier, encodeDer(octetString(keyIdentifier(key))))
}

function authorityKey(issuer: KeyObject): Extension {
  const value = encodeDer(sequence(taggedPrimitive(0, keyIdentifier(issuer))))
  return extension(NVIDIA_EXTENSION.authorityKeyIdentifier, value)
}

function ocspAccess(): Extension {
  const location = taggedPrimitive(6, Buffer.from(OCSP_URL, 'latin1'))
  const value = encodeDer(sequence(sequence(oid('1.3.6.1.5.5.7.48.1'), location)))
  return extension(NVIDIA_EXTENSION.authorityInfoAccess, value)
}

function crlDistribution(url: string): Extension {
  const fullName = tagged(0, taggedPrimitive(6, Buffer.from(url, 'latin1')))
  return extension(NVIDIA_EXTENSION.crlDistributionPoints, encodeDer(sequence(sequence(tagged(0, fullName)))))
}
