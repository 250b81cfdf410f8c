/**
 * The certification authorities of NVIDIA's two hierarchies, as data and as certificates: names and their order of attributes, who issues
 * whom, extensions, and what their delegated OCSP responders are called. One device root holds every chip family, and one
 * manifest root every product, which is why a verifier has to look at the family too.
 */
import type { KeyObject } from 'node:crypto'
import type { Bytes } from '../../verifier/protocol/bytes.js'
import { generateEcKeys, type KeyPair } from './amd.js'
import {
  type CertificateOverrides,
  type DistinguishedName,
  type Extension,
  type NameAttribute,
  signCertificate,
} from './certificate.js'
import { toPem } from './der.js'
import { authorityExtensions, rootExtensions } from './nvidia-extensions.js'

export type NvidiaAuthority =
  | 'deviceRoot'
  | 'gh100Identity'
  | 'gh100Provisioner'
  | 'ls10Provisioner'
  | 'gb100Identity'
  | 'gb100Provisioner'
  | 'rimRoot'
  | 'gh100RimCa'
  | 'gh100RimL3'
  | 'ls10RimCa'
  | 'ls10RimL3'
  | 'gb100RimCa'
  | 'gb100RimL3'

export type NvidiaKeys = Readonly<Record<NvidiaAuthority, KeyPair>>

/** The organisation of every simulated subject, where a real certificate says "NVIDIA" or "NVIDIA Corporation". */
export const SIMULATED_NVIDIA_ORGANIZATION = 'SIMULATED (not NVIDIA Corporation)'

export interface NvidiaHierarchyOptions {
  /** Default `SIMULATED_EPOCH`. */
  readonly notBefore?: Date
  /** Default 24 hours after `notBefore`. Real device certificates never expire. */
  readonly notAfter?: Date
  /** Appended to the CNs of the authorities. */
  readonly commonNameSuffix?: string
  /** Existing keys, of any kind; the rest are made, on P-384. */
  readonly keys?: Partial<NvidiaKeys>
  readonly overrides?: Partial<Readonly<Record<NvidiaAuthority, CertificateOverrides>>>
}

/** A certificate with its key, and who issued it, as an OCSP request needs to know. */
export interface IssuedCertificate extends KeyPair {
  readonly der: Bytes
  readonly pem: string
  readonly serialNumber: bigint
  readonly name: DistinguishedName
  /** What the certificate is issued by; a root names itself. */
  readonly issuer: NvidiaAuthority | undefined
}

export interface AuthorityFacts {
  readonly commonName: string
  readonly order: readonly NameAttribute[]
  /** None for a root. An authority comes after its issuer in the table. */
  readonly issuer: NvidiaAuthority | undefined
  readonly serialNumber: bigint
  /** What follows "NVIDIA OCSP Responder" in the name of the responder it delegates to. */
  readonly responder: string
  readonly extensions: (key: KeyObject, issuer: KeyObject) => Extension[]
}

const IDENTITY: readonly NameAttribute[] = ['CN', 'O']
const PROVISIONER: readonly NameAttribute[] = ['CN', 'O', 'C']
const RIM_ROOT: readonly NameAttribute[] = ['C', 'O', 'CN']

export const AUTHORITIES: Readonly<Record<NvidiaAuthority, AuthorityFacts>> = {
  deviceRoot: {
    commonName: 'NVIDIA Device Identity CA',
    order: IDENTITY,
    issuer: undefined,
    serialNumber: 0x2d3670b1_00000001n,
    responder: 'L1-A 02',
    extensions: (key) => rootExtensions(key, 'device'),
  },
  gh100Identity: identity('GH100', 0x4c255ede_00000001n),
  gh100Provisioner: provisioner('GH100', '1', 'gh100Identity', 0x7227485c_00000001n, 'l2-gh100.crl'),
  // The switch family hangs under the Hopper one, as in the field.
  ls10Provisioner: provisioner('LS_10', '1', 'gh100Identity', 0x7227485c_00000002n, 'l2-gh100.crl'),
  gb100Identity: identity('GB100', 0x4c255ede_00000002n),
  gb100Provisioner: provisioner('GB100', '00000', 'gb100Identity', 0x7227485c_00000003n, 'l2-gb100.crl'),
  rimRoot: {
    commonName: 'NVIDIA CoRIM signing Root CA',
    order: RIM_ROOT,
    issuer: undefined,
    serialNumber: 0x45dae3a0_00000001n,
    responder: 'CoRIM L1',
    extensions: (key) => rootExtensions(key, 'rim'),
  },
  gh100RimCa: rimCa('GH100 CA', 0x46dbf075_00000001n),
  gh100RimL3: rimL3('GH100 002', 'gh100RimCa', 0x34ebf654_00000001n),
  ls10RimCa: rimCa('LS10 CA', 0x46dbf075_00000002n),
  ls10RimL3: rimL3('LS10 001', 'ls10RimCa', 0x34ebf654_00000002n),
  gb100RimCa: rimCa('GB1XX CA 001', 0x46dbf075_00000003n),
  gb100RimL3: rimL3('GB100-CC 001', 'gb100RimCa', 0x34ebf654_00000003n),
}

function identity(chip: string, serialNumber: bigint): AuthorityFacts {
  return {
    commonName: `NVIDIA ${chip} Identity`,
    order: IDENTITY,
    issuer: 'deviceRoot',
    serialNumber,
    responder: `L2 ${chip} Identity`,
    extensions: (key, issuer) => authorityExtensions(key, issuer, 'crl/l1-root.crl'),
  }
}

function provisioner(
  chip: string,
  number: string,
  issuer: NvidiaAuthority,
  serialNumber: bigint,
  crl: string,
): AuthorityFacts {
  return {
    commonName: `NVIDIA ${chip} Provisioner ICA ${number}`,
    order: PROVISIONER,
    issuer,
    serialNumber,
    responder: `L3 ${chip} ICA${number} Identity`,
    extensions: (key, issuerKey) => authorityExtensions(key, issuerKey, `crl/${crl}`),
  }
}

function rimCa(name: string, serialNumber: bigint): AuthorityFacts {
  return {
    commonName: `NVIDIA Reference Value ${name}`,
    order: PROVISIONER,
    issuer: 'rimRoot',
    serialNumber,
    responder: `CoRIM L2 ${name}`,
    extensions: (key, issuer) => authorityExtensions(key, issuer, 'crl-corim/l1-corim'),
  }
}

function rimL3(name: string, issuer: NvidiaAuthority, serialNumber: bigint): AuthorityFacts {
  return {
    commonName: `NVIDIA Reference Value L3 ${name}`,
    order: PROVISIONER,
    issuer,
    serialNumber,
    responder: `CoRIM L3 ${name}`,
    extensions: (key, issuerKey) => authorityExtensions(key, issuerKey, undefined, 0),
  }
}

/** Every authority of the table, certified. */
export function certifyAuthorities(
  options: NvidiaHierarchyOptions,
  notBefore: Date,
  notAfter: Date,
): Readonly<Record<NvidiaAuthority, IssuedCertificate>> {
  const { keys = {}, overrides = {}, commonNameSuffix = '' } = options
  const made = new Map<NvidiaAuthority, IssuedCertificate>()
  // In the table's order, every issuer precedes what it issues.
  for (const [authority, facts] of Object.entries(AUTHORITIES) as [NvidiaAuthority, AuthorityFacts][]) {
    const keyPair = keys[authority] ?? generateEcKeys('P-384')
    const own = overrides[authority]
    const name = { ...nameOf(`${facts.commonName}${commonNameSuffix}`, facts.order), ...own?.subject }
    const issuer = facts.issuer === undefined ? undefined : made.get(facts.issuer)
    const template = {
      serialNumber: facts.serialNumber,
      // A root whose subject is overridden stays self-issued, unless the issuer is overridden too.
      issuer: issuer?.name ?? name,
      subject: name,
      notBefore,
      notAfter,
      publicKey: keyPair.publicKey,
      extensions: facts.extensions(keyPair.publicKey, (issuer ?? keyPair).publicKey),
      statesTrailerField: false,
    }
    const der = signCertificate(template, (issuer ?? keyPair).privateKey, own)
    const serialNumber = own?.serialNumber ?? facts.serialNumber
    made.set(authority, { ...keyPair, der, pem: toPem('CERTIFICATE', der), serialNumber, name, issuer: facts.issuer })
  }
  return Object.fromEntries(made) as Record<NvidiaAuthority, IssuedCertificate>
}

export function nameOf(commonName: string, order: readonly NameAttribute[], serial?: string): DistinguishedName {
  const name = { organization: SIMULATED_NVIDIA_ORGANIZATION, commonName, order }
  return serial === undefined ? name : { ...name, serial }
}
