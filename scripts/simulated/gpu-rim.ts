/**
 * Reference integrity manifests (RIMs) as NVIDIA publishes them: an ISO 19770-2 software identity tag with TCG RIM
 * attributes (TCG Reference Integrity Manifest Information Model 1.01) and golden measurements, under an enveloped XML
 * signature with ECDSA P-384. Whitespace, prefixes and order follow the real files. `gpu-rim-attacks.ts` bends the result.
 */
import { createHash, type KeyObject, sign } from 'node:crypto'
import type { Bytes } from '../../verifier/protocol/bytes.js'
import { alternativesOf, DEVICES, type DeviceFamily, type RimKind, range, simulatedGolden } from './gpu-facts.js'
import { appendXml, canonicalizeXml, writeXml, type XmlElement } from './gpu-rim-xml.js'

export const RIM_NAMESPACE = {
  swid: 'http://standards.iso.org/iso/19770/-2/2015/schema.xsd',
  rim: 'https://trustedcomputinggroup.org/resource/tcg-reference-integrity-manifest-rim-information-model/',
  hash: 'http://www.w3.org/2001/04/xmlenc#sha384',
  dsig: 'http://www.w3.org/2000/09/xmldsig#',
  /** Records that judge opaque data in the versioned layout, by number and not by hash. */
  opaque: 'https://docs.nvidia.com/attestation/specs/latest/opaque-data.html',
} as const

export const RIM_ALGORITHM = {
  canonicalization: 'http://www.w3.org/2006/12/xml-c14n11',
  signature: 'http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha384',
  enveloped: 'http://www.w3.org/2000/09/xmldsig#enveloped-signature',
  digest: 'http://www.w3.org/2001/04/xmldsig-more#sha384',
} as const

export interface RimRecord {
  /** 0-based; the report's block is one more. */
  readonly index: number
  /** Each 48 bytes, unless a test wants otherwise. */
  readonly alternatives: readonly Uint8Array[]
  readonly active: boolean
  /** Attributes to write in place of those that follow from the above; an undefined one is left out. */
  readonly attributes?: Readonly<Record<string, string | undefined>>
}

export interface RimFields {
  readonly family: DeviceFamily
  readonly kind: RimKind
  /** colloquialVersion; default the simulated driver's or VBIOS's. */
  readonly version?: string
  /** Default the family. */
  readonly product?: string
  /** Default GPU, or SWITCH for LS10. */
  readonly edition?: string
  /** Default `simulatedRimRecords`. */
  readonly records?: readonly RimRecord[]
  /**
   * Minimum security version numbers by opaque type (37 is the FSP's). Written as records after the hash records; no real
   * manifest with such records could be had, so the shape is the described one and not a captured one.
   */
  readonly minimums?: Readonly<Record<number, number>>
  /** Attributes of Meta to write in place of the usual; an undefined one is left out. */
  readonly meta?: Readonly<Record<string, string | undefined>>
}

export interface RimSigner {
  readonly privateKey: KeyObject
  /** DER, leaf first, root included. */
  readonly chain: readonly Uint8Array[]
}

/** Ways to make a manifest wrong. Everything named "before signing" leaves a signature that holds. */
export interface RimBreak {
  /** Changes the tag before signing. */
  readonly editRoot?: (root: XmlElement) => XmlElement
  /** Changes SignedInfo before signing; the digest in it is already right. */
  readonly editSignedInfo?: (signedInfo: XmlElement) => XmlElement
  /** Changes the finished Signature element; a change to SignedInfo belongs above. */
  readonly editSignature?: (signature: XmlElement) => XmlElement
  /** Where the Signature goes; default: last child of the root. */
  readonly place?: (root: XmlElement, signature: XmlElement) => XmlElement
  /** Namespaces in scope where the Signature goes, beyond the root's. */
  readonly inherited?: Readonly<Record<string, string>>
  /** Changes the finished text. */
  readonly editText?: (xml: string) => string
  /** What is digested, in place of the root's canonical form. */
  readonly digested?: (root: XmlElement) => string
  readonly digestHash?: 'sha1' | 'sha256' | 'sha384' | 'sha512'
  /** `corrupt` flips one bit. */
  readonly digest?: 'corrupt'
  readonly hash?: 'sha256' | 'sha384' | 'sha512'
  /** `der` writes the ASN.1 form; `corrupt` flips one bit. */
  readonly signature?: 'der' | 'corrupt'
  /** Signs with this key in place of the signer's. */
  readonly signWith?: KeyObject
}

/** A signed manifest, UTF-8. */
export function buildRim(fields: RimFields, signer: RimSigner, broken: RimBreak = {}): Bytes {
  const root = broken.editRoot?.(buildSoftwareIdentity(fields)) ?? buildSoftwareIdentity(fields)
  const signature = signRim(root, signer, broken)
  const placed = broken.place?.(root, signature) ?? appendXml(root, signature)
  const text = `${writeXml(placed)}\n`
  return new TextEncoder().encode(broken.editText?.(text) ?? text)
}

/** Every index from 0 to 63: active ones with their golden values, the others with zeros. */
export function simulatedRimRecords(family: DeviceFamily, kind: RimKind): RimRecord[] {
  const { driverIndices, vbiosIndices } = DEVICES[family]
  const active = new Set(kind === 'driver' ? driverIndices : vbiosIndices)
  return range(0, RECORDS).map((index) => ({
    index,
    active: active.has(index),
    alternatives: active.has(index)
      ? range(0, alternativesOf(family, index)).map((alternative) => simulatedGolden(family, index, alternative))
      : [new Uint8Array(48)],
  }))
}

/** The records with some replaced, by index. */
export function withRecords(
  records: readonly RimRecord[],
  replaced: Readonly<Record<number, Partial<RimRecord>>>,
): RimRecord[] {
  return records.map((record) => ({ ...record, ...replaced[record.index] }))
}

/** The tag, unsigned. */
export function buildSoftwareIdentity(fields: RimFields): XmlElement {
  const { family, kind } = fields
  const facts = DEVICES[family]
  const product = fields.product ?? family
  const version = fields.version ?? (kind === 'driver' ? facts.driverVersion : facts.vbiosVersion)
  const tagId = createHash('sha384').update(`SIMULATED ${product} ${kind} ${version}`).digest('hex')
  const meta = {
    colloquialVersion: version,
    edition: fields.edition ?? (family === 'LS10' ? 'SWITCH' : 'GPU'),
    product,
    revision: 'r1',
    PayloadType: 'direct',
    'ns1:BindingSpec': 'RIMIM',
    'ns1:BindingSpecVersion': '1.01',
    'ns1:PlatformManufacturerId': '5703',
    'ns1:PlatformManufacturerStr': MANUFACTURER,
    'ns1:PlatformModel': product,
    'ns1:FirmwareManufacturer': MANUFACTURER,
    'ns1:FirmwareManufacturerId': '5703',
    ...fields.meta,
  }
  const records = (fields.records ?? simulatedRimRecords(family, kind)).map(resource)
  const minimums = Object.entries(fields.minimums ?? {}).map(([type, minSvn]) => minimum(Number(type), minSvn))
  return {
    name: 'SoftwareIdentity',
    namespaces: { '': RIM_NAMESPACE.swid, ns0: RIM_NAMESPACE.swid, ns2: RIM_NAMESPACE.hash },
    attributes: attributes({
      corpus: 'false',
      name: product,
      patch: 'false',
      supplemental: 'false',
      tagId,
      version: '1.0',
      tagVersion: '0',
    }),
    children: [
      '\n    ',
      { name: 'ns0:Entity', attributes: attributes({ name: MANUFACTURER, role: 'softwareCreator tagCreator' }) },
      '\n    ',
      { name: 'ns0:Meta', namespaces: { ns1: RIM_NAMESPACE.rim }, attributes: attributes(meta) },
      '\n    ',
      {
        name: 'ns0:Payload',
        // Declared and never used in the real files, too.
        namespaces: { SHA384: RIM_NAMESPACE.hash, ...(minimums.length > 0 ? { ns3: RIM_NAMESPACE.opaque } : {}) },
        children: [...[...records, ...minimums].flatMap((record) => ['\n        ', record]), '\n    '],
      },
      '\n',
    ],
  }
}

/** The Signature element over a tag it will be put into. */
export function signRim(root: XmlElement, signer: RimSigner, broken: RimBreak = {}): XmlElement {
  const canonical = broken.digested?.(root) ?? canonicalizeXml(root)
  const digest = createHash(broken.digestHash ?? 'sha384')
    .update(canonical)
    .digest()
  if (broken.digest === 'corrupt') digest[0] = (digest[0] ?? 0) ^ 0x01
  const plain = signedInfoOf(digest.toString('base64'))
  const signedInfo = broken.editSignedInfo?.(plain) ?? plain
  const inherited = { ...root.namespaces, ...broken.inherited, ds: RIM_NAMESPACE.dsig }
  const value = sign(broken.hash ?? 'sha384', Buffer.from(canonicalizeXml(signedInfo, inherited)), {
    key: broken.signWith ?? signer.privateKey,
    dsaEncoding: broken.signature === 'der' ? 'der' : 'ieee-p1363',
  })
  if (broken.signature === 'corrupt') value[value.length >> 1] = (value[value.length >> 1] ?? 0) ^ 0x01
  const signature: XmlElement = {
    name: 'ds:Signature',
    namespaces: { ds: RIM_NAMESPACE.dsig },
    children: [
      signedInfo,
      { name: 'ds:SignatureValue', children: [value.toString('base64')] },
      { name: 'ds:KeyInfo', children: [x509Data(signer.chain)] },
    ],
  }
  return broken.editSignature?.(signature) ?? signature
}

/** X509Data with the certificates in this order, in lines of 64 characters. */
export function x509Data(chain: readonly Uint8Array[]): XmlElement {
  const lines = (der: Uint8Array): string =>
    Buffer.from(der)
      .toString('base64')
      .replaceAll(/.{1,64}/g, '$&\n')
  return {
    name: 'ds:X509Data',
    children: chain.map((der) => ({ name: 'ds:X509Certificate', children: [lines(der)] })),
  }
}

/** Golden records in a real manifest, whatever the number of blocks. */
const RECORDS = 64
const MANUFACTURER = 'SIMULATED (not NVIDIA Corporation)'

/** One golden record, as Payload has them. */
function resource({ index, active, alternatives, attributes: own = {} }: RimRecord): XmlElement {
  const hashes = alternatives.map((value, number) => [`ns2:Hash${number}`, Buffer.from(value).toString('hex')])
  return {
    name: 'ns0:Resource',
    attributes: attributes({
      type: 'Measurement',
      index: String(index),
      active: active ? 'True' : 'False',
      alternatives: String(alternatives.length),
      ...Object.fromEntries(hashes),
      name: `Measurement_${index}`,
      size: String(alternatives[0]?.length ?? 0),
      ...own,
    }),
  }
}

/** Records about opaque data number from here. */
const OPAQUE_RECORDS = 0x1000

function minimum(type: number, minSvn: number): XmlElement {
  const named = { index: String(OPAQUE_RECORDS + type), active: 'True', 'ns3:minSvn': String(minSvn) }
  return {
    name: 'ns0:Resource',
    attributes: attributes({ type: 'Measurement', ...named, name: `Opaque_${type}` }),
  }
}

function signedInfoOf(digestValue: string): XmlElement {
  const algorithm = (name: string, uri: string): XmlElement => ({ name, attributes: [['Algorithm', uri]] })
  return {
    name: 'ds:SignedInfo',
    children: [
      algorithm('ds:CanonicalizationMethod', RIM_ALGORITHM.canonicalization),
      algorithm('ds:SignatureMethod', RIM_ALGORITHM.signature),
      {
        name: 'ds:Reference',
        attributes: [['URI', '']],
        children: [
          {
            name: 'ds:Transforms',
            children: [
              algorithm('ds:Transform', RIM_ALGORITHM.enveloped),
              algorithm('ds:Transform', RIM_ALGORITHM.canonicalization),
            ],
          },
          algorithm('ds:DigestMethod', RIM_ALGORITHM.digest),
          { name: 'ds:DigestValue', children: [digestValue] },
        ],
      },
    ],
  }
}

function attributes(named: Readonly<Record<string, string | undefined>>): [string, string][] {
  return Object.entries(named).filter((entry): entry is [string, string] => entry[1] !== undefined)
}
