/**
 * VCEK and VLEK certificates (AMD 57230 §3.1 "VCEK and VLEK certificate format"): what their extensions say, strictly.
 *
 * Refused: a leaf of neither name, a missing, repeated or non-canonical extension, an SPL above 255, an FMC level where
 * the product has none (or none where it has one), a hwID of another length, a hwID on a VLEK or a CSP_ID on a VCEK, an
 * unknown critical extension. Serial numbers are 0 on real leaves and identify nothing.
 */
import { expectTag, readDer, smallInteger, TAG } from '../der.js'
import type { Bytes } from '../protocol/bytes.js'
import { FormatError } from '../protocol/errors.js'
import type { Certificate } from '../x509.js'
import { unknownCritical } from '../x509-extensions.js'
import { findProduct, type Product } from './product.js'
import type { Tcb } from './tcb.js'

export type VekRole = 'VCEK' | 'VLEK'

export interface VekClaims {
  readonly role: VekRole
  /** productName without its stepping: `Milan-B0` is Milan. */
  readonly productName: string
  readonly tcb: Tcb
  /** VCEK only: 64 bytes, or 8 on Turin and later. */
  readonly hwid?: Bytes
  /** VLEK only. */
  readonly cspId?: string
}

const AMD = '1.3.6.1.4.1.3704.1'
const OID = {
  structVersion: `${AMD}.1`,
  productName: `${AMD}.2`,
  blSpl: `${AMD}.3.1`,
  teeSpl: `${AMD}.3.2`,
  snpSpl: `${AMD}.3.3`,
  spl4: `${AMD}.3.4`,
  spl5: `${AMD}.3.5`,
  spl6: `${AMD}.3.6`,
  spl7: `${AMD}.3.7`,
  ucodeSpl: `${AMD}.3.8`,
  fmcSpl: `${AMD}.3.9`,
  hwid: `${AMD}.4`,
  cspId: `${AMD}.5`,
} as const

/** The whole name is compared: a test for part of it would take `SEV-VCEK` for something it is not. */
export function roleOfLeaf(certificate: Certificate): VekRole | undefined {
  if (certificate.subjectCommonName === 'SEV-VCEK') return 'VCEK'
  return certificate.subjectCommonName === 'SEV-VLEK' ? 'VLEK' : undefined
}

export interface IssuerName {
  readonly role: VekRole
  readonly product: Product
}

/** What an intermediate's name says it issues: `SEV-Milan` issues VCEKs, `SEV-VLEK-Milan` VLEKs. */
export function parseIssuerName(commonName: string | undefined): IssuerName | undefined {
  if (commonName === undefined || !commonName.startsWith('SEV-')) return undefined
  const vlek = commonName.startsWith('SEV-VLEK-')
  const product = findProduct(commonName.slice(vlek ? 'SEV-VLEK-'.length : 'SEV-'.length))
  return product === undefined ? undefined : { role: vlek ? 'VLEK' : 'VCEK', product }
}

/** The product a root's name claims: `ARK-Milan`. */
export function productOfRootName(commonName: string | undefined): Product | undefined {
  return commonName?.startsWith('ARK-') === true ? findProduct(commonName.slice('ARK-'.length)) : undefined
}

/** @throws FormatError as the top of this file says. The product is the chain's: it decides which layout is right. */
export function readVekClaims(certificate: Certificate, product: Product): VekClaims {
  const role = roleOfLeaf(certificate)
  if (role === undefined) throw new FormatError('snp.vek.name', 'leaf is neither SEV-VCEK nor SEV-VLEK')
  const critical = unknownCritical(certificate)
  if (critical.length > 0)
    throw new FormatError('snp.vek.critical', `unknown critical extension ${critical.join(', ')}`)
  const structVersion = level(certificate, OID.structVersion, 'structVersion')
  if (structVersion !== product.structVersion) {
    throw new FormatError('snp.vek.struct-version', `structVersion ${structVersion}, expected ${product.structVersion}`)
  }
  // Reserved levels carry nothing, but a certificate without them is not one AMD made.
  level(certificate, OID.spl5, 'spl5')
  level(certificate, OID.spl6, 'spl6')
  level(certificate, OID.spl7, 'spl7')
  const turin = structVersion === 1
  if (turin) absent(certificate, OID.spl4, 'spl4')
  else {
    level(certificate, OID.spl4, 'spl4')
    absent(certificate, OID.fmcSpl, 'fmcSPL')
  }
  const tcb: Tcb = {
    ...(turin ? { fmc: level(certificate, OID.fmcSpl, 'fmcSPL') } : {}),
    bootLoader: level(certificate, OID.blSpl, 'blSPL'),
    tee: level(certificate, OID.teeSpl, 'teeSPL'),
    snp: level(certificate, OID.snpSpl, 'snpSPL'),
    microcode: level(certificate, OID.ucodeSpl, 'ucodeSPL'),
  }
  const [productName = ''] = ia5Text(certificate, OID.productName, 'productName').split('-')
  if (role === 'VCEK') {
    absent(certificate, OID.cspId, 'CSP_ID')
    return { role, productName, tcb, hwid: readHwid(certificate, product.hwidBytes) }
  }
  absent(certificate, OID.hwid, 'hwID')
  return { role, productName, tcb, cspId: ia5Text(certificate, OID.cspId, 'CSP_ID') }
}

/**
 * The hwID as it would have to match CHIP_ID, or undefined when there is none of this length. For choosing among
 * candidates only; the check reads it again, strictly.
 */
export function peekHwid(certificate: Certificate): Bytes | undefined {
  const value = certificate.extensions.get(OID.hwid)?.value
  if (value === undefined) return undefined
  return value.length === 66 || value.length === 10 ? value.subarray(2) : value
}

/**
 * Raw bytes without a DER wrapper. A raw value may begin like a wrapper would, so length decides: exactly the raw length, or exactly
 * two more with the header of an OCTET STRING of that length.
 */
function readHwid(certificate: Certificate, length: number): Bytes {
  const value = extensionValue(certificate, OID.hwid, 'hwID')
  if (value.length === length) return value
  if (value.length === length + 2 && value[0] === TAG.octetString && value[1] === length) return value.subarray(2)
  throw new FormatError('snp.vek.hwid', `hwID of ${value.length} bytes, expected ${length}`)
}

function level(certificate: Certificate, oid: string, name: string): number {
  const value = smallInteger(readDer(extensionValue(certificate, oid, name), name), name)
  if (value > 255) throw new FormatError('snp.vek.level', `${name} ${value}, at most 255`)
  return value
}

/** Printable ASCII only: these strings are printed. */
function ia5Text(certificate: Certificate, oid: string, name: string): string {
  const { content } = expectTag(readDer(extensionValue(certificate, oid, name), name), TAG.ia5String, name)
  const text = String.fromCharCode(...content.subarray(0, 256))
  if (content.length > 255 || !/^[\x20-\x7e]+$/.test(text)) {
    throw new FormatError('snp.vek.text', `${name}: expected 1 to 255 printable ASCII characters`)
  }
  return text
}

function extensionValue(certificate: Certificate, oid: string, name: string): Bytes {
  const extension = certificate.extensions.get(oid)
  if (extension === undefined) throw new FormatError('snp.vek.missing', `extension ${name} (${oid}) is missing`)
  return extension.value
}

function absent(certificate: Certificate, oid: string, name: string): void {
  if (certificate.extensions.has(oid)) {
    throw new FormatError('snp.vek.unexpected', `extension ${name} (${oid}) does not belong here`)
  }
}
