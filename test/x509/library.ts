/** The second reader: what @peculiar/x509, which reads BER and knows nothing of this repository, makes of the same bytes. */
import 'reflect-metadata'
import {
  BasicConstraintsExtension,
  Extension,
  KeyUsageFlags,
  KeyUsagesExtension,
  Name,
  X509Certificate,
  X509Crl,
} from '@peculiar/x509'
import { type Bytes, toHex } from '../../verifier/protocol/bytes.js'
import type { Certificate, RevocationList } from '../../verifier/x509.js'
import type { Extensions } from '../../verifier/x509-extensions.js'

const COMMON_NAME = '2.5.4.3'

const hex = (data: ArrayBuffer | Uint8Array): string => toHex(new Uint8Array(data))
/** The library drops the zero octet that keeps a serial number positive. */
const serial = (value: string): string => value.replace(/^00(?=[89a-f])/, '')

/** Fields by name. What the library cannot decode is left out: it knows keys and extensions that nobody here reads. */
export type Reading = Readonly<Record<string, unknown>>

function readable(fields: Readonly<Record<string, () => unknown>>): Reading {
  const out: Record<string, unknown> = {}
  for (const [name, read] of Object.entries(fields)) {
    try {
      out[name] = read()
    } catch {}
  }
  return out
}

/** @throws whatever the library throws on bytes that are no certificate to it. */
export function libraryCertificate(der: Uint8Array): Reading {
  const certificate = new X509Certificate(der as Bytes)
  return readable({
    serial: () => serial(certificate.serialNumber),
    issuer: () => certificate.issuer,
    subject: () => certificate.subject,
    notBefore: () => certificate.notBefore,
    notAfter: () => certificate.notAfter,
    key: () => hex(certificate.publicKey.rawData),
    tbs: () => hex(certificate['tbs']),
    signature: () => hex(certificate.signature),
    extensions: () => certificate.extensions.map(({ type, critical, value }) => [type, critical, hex(value)]),
  })
}

export function ourCertificate(certificate: Certificate): Reading {
  return {
    serial: serial(certificate.serialHex),
    issuer: nameText(certificate.issuer),
    subject: nameText(certificate.subject),
    notBefore: certificate.notBefore,
    notAfter: certificate.notAfter,
    key: toHex(certificate.spki),
    tbs: toHex(certificate.tbs),
    signature: toHex(certificate.signature),
    extensions: extensionsOf(certificate.extensions),
  }
}

function extensionsOf(extensions: Extensions): readonly (readonly [string, boolean, string])[] {
  return [...extensions].map(([oid, { critical, value }]) => [oid, critical, toHex(value)])
}

/** The slice we take for a Name, as the library writes one: its encoder does not give back every string it reads. */
function nameText(name: Uint8Array): string {
  return new Name(name as Bytes).toString()
}

/** The common names in a Name, as the library decodes them. */
export function libraryCommonNames(name: Uint8Array): readonly string[] {
  return new Name(name as Bytes).getField(COMMON_NAME)
}

/** What the library makes of the two extensions that say what a key may sign. */
export function libraryRoles(extensions: Extensions): Pick<Certificate, 'isCa' | 'pathLength' | 'keyUsage'> {
  const constraints = encoded('2.5.29.19', extensions)
  const usage = encoded('2.5.29.15', extensions)
  const basic = constraints && new BasicConstraintsExtension(constraints)
  const usages = usage && new KeyUsagesExtension(usage).usages
  return {
    isCa: basic?.ca ?? false,
    // From 2^24 on the library gives a decimal string.
    pathLength: basic?.pathLength === undefined ? undefined : Number(basic.pathLength),
    keyUsage:
      usages === undefined
        ? undefined
        : {
            certSign: (usages & KeyUsageFlags.keyCertSign) !== 0,
            crlSign: (usages & KeyUsageFlags.cRLSign) !== 0,
          },
  }
}

function encoded(oid: string, extensions: Extensions): ArrayBuffer | undefined {
  const extension = extensions.get(oid)
  return extension && new Extension(oid, extension.critical, extension.value).rawData
}

/** @throws whatever the library throws on bytes that are no CRL to it. */
export function libraryList(der: Uint8Array): Reading {
  const list = new X509Crl(der as Bytes)
  return readable({
    issuer: () => list.issuer,
    thisUpdate: () => list.thisUpdate,
    nextUpdate: () => list.nextUpdate,
    serials: () => [...new Set(list.entries.map(({ serialNumber }) => serial(serialNumber)))],
    tbs: () => hex(list['tbs']),
    signature: () => hex(list.signature),
    extensions: () => list.extensions.map(({ type, critical, value }) => [type, critical, hex(value)]),
  })
}

export function ourList(list: RevocationList): Reading {
  return {
    issuer: nameText(list.issuer),
    thisUpdate: list.thisUpdate,
    nextUpdate: list.nextUpdate,
    serials: [...list.revokedSerials].map(serial),
    tbs: toHex(list.tbs),
    signature: toHex(list.signature),
    extensions: extensionsOf(list.extensions),
  }
}
