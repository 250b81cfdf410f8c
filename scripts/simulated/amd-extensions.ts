/**
 * The extensions of AMD's certificates, in the order AMD writes them: the CA extensions of ARK, ASK and ASVK
 * (RFC 5280 §4.2) and the VCEK and VLEK extensions (AMD 57230, "VCEK/VLEK certificate format").
 */
import { createHash, createPublicKey, type KeyObject } from 'node:crypto'
import type { Bytes } from '../../verifier/protocol/bytes.js'
import type { Extension } from './certificate.js'
import {
  booleanTrue,
  type DerNode,
  encodeDer,
  ia5String,
  integer,
  octetString,
  sequence,
  tagged,
  taggedPrimitive,
} from './der.js'
import { PRODUCTS, type SimulatedProduct, type SimulatedTcb } from './product.js'

export const AMD_EXTENSION = {
  structVersion: '1.3.6.1.4.1.3704.1.1',
  productName: '1.3.6.1.4.1.3704.1.2',
  blSpl: '1.3.6.1.4.1.3704.1.3.1',
  teeSpl: '1.3.6.1.4.1.3704.1.3.2',
  snpSpl: '1.3.6.1.4.1.3704.1.3.3',
  spl4: '1.3.6.1.4.1.3704.1.3.4',
  spl5: '1.3.6.1.4.1.3704.1.3.5',
  spl6: '1.3.6.1.4.1.3704.1.3.6',
  spl7: '1.3.6.1.4.1.3704.1.3.7',
  ucodeSpl: '1.3.6.1.4.1.3704.1.3.8',
  fmcSpl: '1.3.6.1.4.1.3704.1.3.9',
  hwid: '1.3.6.1.4.1.3704.1.4',
  cspId: '1.3.6.1.4.1.3704.1.5',
} as const

export const CA_EXTENSION = {
  subjectKeyIdentifier: '2.5.29.14',
  keyUsage: '2.5.29.15',
  crlNumber: '2.5.29.20',
  basicConstraints: '2.5.29.19',
  crlDistributionPoints: '2.5.29.31',
  authorityKeyIdentifier: '2.5.29.35',
} as const

/**
 * VCEK extensions. The hwID is written as raw bytes with no DER wrapper, as AMD does.
 * @param hwid 64 bytes on Milan and Genoa, 8 on Turin; other lengths are written as they are, for negative tests.
 */
export function vcekExtensions(product: SimulatedProduct, tcb: SimulatedTcb, hwid: Uint8Array): Extension[] {
  const { vcekProductName } = PRODUCTS[product]
  return [...vekExtensions(product, vcekProductName, tcb), plain(AMD_EXTENSION.hwid, hwid)]
}

/** VLEK extensions: no hwID, and a CSP_ID, an IA5String seen as `CN=cc-us-east-2.amazonaws.com`. */
export function vlekExtensions(product: SimulatedProduct, tcb: SimulatedTcb, cspId: string): Extension[] {
  const { vlekProductName } = PRODUCTS[product]
  return [...vekExtensions(product, vlekProductName, tcb), plain(AMD_EXTENSION.cspId, encodeDer(ia5String(cspId)))]
}

/** An SPL value: a canonical INTEGER, so 128 and more take the form `02 02 00 xx`. */
export function encodeSpl(value: number): Bytes {
  return encodeDer(integer(value))
}

function vekExtensions(product: SimulatedProduct, productName: string, tcb: SimulatedTcb): Extension[] {
  const { structVersion } = PRODUCTS[product]
  const spl = (oid: string, value: number): Extension => plain(oid, encodeSpl(value))
  const head = [
    spl(AMD_EXTENSION.structVersion, structVersion),
    plain(AMD_EXTENSION.productName, encodeDer(ia5String(productName))),
  ]
  const reserved = [spl(AMD_EXTENSION.spl5, 0), spl(AMD_EXTENSION.spl6, 0), spl(AMD_EXTENSION.spl7, 0)]
  const bl = spl(AMD_EXTENSION.blSpl, tcb.bl)
  const tee = spl(AMD_EXTENSION.teeSpl, tcb.tee)
  const snp = spl(AMD_EXTENSION.snpSpl, tcb.snp)
  const ucode = spl(AMD_EXTENSION.ucodeSpl, tcb.ucode)
  return structVersion === 0
    ? [...head, bl, tee, spl(AMD_EXTENSION.spl4, 0), ...reserved, snp, ucode]
    : [...head, spl(AMD_EXTENSION.fmcSpl, tcb.fmc ?? 0), bl, tee, snp, ...reserved, ucode]
}

/** ARK: key usage (certificate and CRL signing), subject key id, CA, CRL distribution point. */
export function arkExtensions(publicKey: KeyObject, crlUrl: string): Extension[] {
  return [
    critical(CA_EXTENSION.keyUsage, Buffer.from('03020106', 'hex')),
    subjectKeyIdentifier(publicKey),
    critical(CA_EXTENSION.basicConstraints, encodeDer(sequence(booleanTrue()))),
    crlDistributionPoint(crlUrl),
  ]
}

/** ASK and ASVK: subject and authority key ids, CA with path length 0, certificate signing only, CRL distribution point. */
export function intermediateExtensions(publicKey: KeyObject, issuerKey: KeyObject, crlUrl: string): Extension[] {
  return [
    subjectKeyIdentifier(publicKey),
    authorityKeyIdentifier(issuerKey),
    critical(CA_EXTENSION.basicConstraints, encodeDer(sequence(booleanTrue(), integer(0)))),
    critical(CA_EXTENSION.keyUsage, Buffer.from('03020104', 'hex')),
    crlDistributionPoint(crlUrl),
  ]
}

/** CRL: authority key id and CRL number; null leaves the number out. */
export function crlExtensions(issuerKey: KeyObject, number: bigint | null): Extension[] {
  const issuer = authorityKeyIdentifier(issuerKey)
  return number === null ? [issuer] : [issuer, plain(CA_EXTENSION.crlNumber, encodeDer(integer(number)))]
}

function subjectKeyIdentifier(publicKey: KeyObject): Extension {
  return plain(CA_EXTENSION.subjectKeyIdentifier, encodeDer(octetString(keyIdentifier(publicKey))))
}

function authorityKeyIdentifier(issuerKey: KeyObject): Extension {
  return plain(CA_EXTENSION.authorityKeyIdentifier, encodeDer(sequence(taggedPrimitive(0, keyIdentifier(issuerKey)))))
}

/** SHA-1 of the RSAPublicKey (RFC 5280 §4.2.1.2, method 1), the one AMD uses: a name for the key, not a protection. */
function keyIdentifier(key: KeyObject): Buffer {
  const publicKey = key.type === 'private' ? createPublicKey(key) : key
  return createHash('sha1')
    .update(publicKey.export({ type: 'pkcs1', format: 'der' }))
    .digest()
}

function crlDistributionPoint(url: string): Extension {
  const fullName: DerNode = tagged(0, taggedPrimitive(6, Buffer.from(url, 'latin1')))
  return plain(CA_EXTENSION.crlDistributionPoints, encodeDer(sequence(sequence(tagged(0, fullName)))))
}

function plain(oid: string, value: Uint8Array): Extension {
  return { oid, critical: false, value: new Uint8Array(value) }
}

function critical(oid: string, value: Uint8Array): Extension {
  return { oid, critical: true, value: new Uint8Array(value) }
}
