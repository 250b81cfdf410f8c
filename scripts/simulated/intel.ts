/**
 * A throw-away certificate hierarchy shaped like Intel's SGX provisioning one (Intel "SGX PCK Certificate and CRL
 * Profile" 1.5): root, Platform CA, Processor CA, TCB Signing, PCK certificates, and the CRLs of root and intermediates.
 * For tests and for the simulated platform; nothing trusts it unless told to.
 *
 * Private keys exist in memory only. Nothing here reads the clock: without dates, a hierarchy holds for the single day
 * that starts at `SIMULATED_EPOCH`.
 */
import type { KeyObject } from 'node:crypto'
import type { Bytes } from '../../verifier/protocol/bytes.js'
import { generateEcKeys, type KeyPair, SIMULATED_EPOCH, SIMULATED_LIFETIME_MS } from './amd.js'
import {
  type CertificateOverrides,
  type DistinguishedName,
  type Extension,
  type ExtensionEdit,
  editExtensions,
  type SignatureOverrides,
  signCertificate,
  signRevocationList,
} from './certificate.js'
import { toPem } from './der.js'
import {
  caExtensions,
  encodeSgxExtension,
  extension,
  INTEL_EXTENSION,
  intelCrlExtensions,
  keyIdentifier,
  leafExtensions,
  type SgxExtensionFields,
  type SgxMemberEdit,
} from './intel-extensions.js'
import { SIMULATED_PCK } from './tdx-facts.js'

export { generateEcKeys, type KeyPair, SIMULATED_EPOCH, SIMULATED_LIFETIME_MS } from './amd.js'
export type { CertificateOverrides, ExtensionEdit, SignatureOverrides } from './certificate.js'
export { INTEL_EXTENSION, type SgxExtensionFields, type SgxMemberEdit } from './intel-extensions.js'

/** The organisation of every simulated subject, where a real certificate says "Intel Corporation". */
export const SIMULATED_INTEL_ORGANIZATION = 'SIMULATED (not Intel Corporation)'

export type IntelAuthority = 'root' | 'platform' | 'processor' | 'tcbSigning'
/** The intermediates that issue PCK certificates. */
export type PckAuthority = 'platform' | 'processor'
export type IntelKeys = Readonly<Record<IntelAuthority, KeyPair>>

export interface IntelHierarchyOptions {
  /** Default `SIMULATED_EPOCH`. */
  readonly notBefore?: Date
  /** Default 24 hours after `notBefore`. */
  readonly notAfter?: Date
  /** Appended to the CNs of the authorities. */
  readonly commonNameSuffix?: string
  /** Existing keys, of any kind; the rest are made, on P-256. */
  readonly keys?: Partial<IntelKeys>
  readonly overrides?: Partial<Readonly<Record<IntelAuthority, CertificateOverrides>>>
}

export interface IssuedCertificate extends KeyPair {
  readonly der: Bytes
  readonly pem: string
  readonly serialNumber: bigint
}

export interface IssuedPck extends IssuedCertificate {
  /** What the SGX extension says, before edits. */
  readonly sgx: SgxExtensionFields
}

/** Members of the SGX extension left out take those of `SIMULATED_PCK`; `cpuSvn` follows the components. */
export interface PckRequest extends Partial<SgxExtensionFields> {
  /** Whose name and key go on the certificate. Default Platform CA. */
  readonly issuer?: IntelAuthority
  /** Curve of a newly made key; default P-256. */
  readonly curve?: 'P-256' | 'P-384'
  /** An existing key, of any kind, to certify. */
  readonly keyPair?: KeyPair
  /** Default: the hierarchy's dates. */
  readonly notBefore?: Date
  readonly notAfter?: Date
  readonly sgxEdits?: readonly SgxMemberEdit[]
  readonly overrides?: CertificateOverrides
}

export interface IntelCrlRequest {
  /** Default: the hierarchy's `notBefore`. */
  readonly thisUpdate?: Date
  /** Default: the hierarchy's `notAfter`; null leaves the field out. */
  readonly nextUpdate?: Date | null
  readonly revokedSerials?: readonly bigint[]
  /** Default: `thisUpdate`. */
  readonly revocationDate?: Date
  /** CRL number, default 1, as in every real one; null leaves the extension out. */
  readonly number?: bigint | null
  /** The authority whose name, key id and key the CRL carries. Default root, or Platform CA for a PCK CRL. */
  readonly issuer?: IntelAuthority
  /** Names the issuer differently without changing the key. */
  readonly issuerName?: Partial<DistinguishedName>
  readonly signWith?: KeyObject
  readonly signature?: SignatureOverrides
  readonly extensions?: readonly ExtensionEdit[]
}

export interface PckChainOptions {
  /** Default: Platform CA. */
  readonly authority?: PckAuthority
  /** Default leaf, intermediate, root. Leave out, repeat or reorder to taste. */
  readonly order?: readonly ('leaf' | 'intermediate' | 'root')[]
  /** Ends the chain with the zero byte that Intel's quoting library writes. Default true. */
  readonly nulTerminated?: boolean
}

export interface IntelHierarchy {
  readonly notBefore: Date
  readonly notAfter: Date
  readonly keys: IntelKeys
  readonly root: IssuedCertificate
  readonly platform: IssuedCertificate
  readonly processor: IssuedCertificate
  readonly tcbSigning: IssuedCertificate
  issuePck(request?: PckRequest): IssuedPck
  /** A DER v2 CRL of the root. */
  rootCrl(request?: IntelCrlRequest): Bytes
  /** A DER v2 CRL of the Platform CA, or of the Processor CA with `issuer: 'processor'`. */
  pckCrl(request?: IntelCrlRequest): Bytes
  /** Concatenated PEM as it stands in a quote (certification data type 5). */
  pckChain(pck: { readonly pem: string }, options?: PckChainOptions): Bytes
  /** TCB Signing and root in PEM, as a collateral response carries them in its header. */
  tcbSigningChainPem(): string
}

const COMMON_NAME: Readonly<Record<IntelAuthority, string>> = {
  root: 'Intel SGX Root CA',
  platform: 'Intel SGX PCK Platform CA',
  processor: 'Intel SGX PCK Processor CA',
  tcbSigning: 'Intel SGX TCB Signing',
}

/** Intel's paths, on a host that cannot resolve (RFC 2606), so that a fetched CRL is never Intel's. */
const ROOT_CRL_URL = 'https://pcs.simulated.invalid/IntelSGXRootCA.der'
const PCK_CRL_URL = 'https://pcs.simulated.invalid/sgx/certification/v4/pckcrl?encoding=der&ca='

const KEY_COMPROMISE = 1

/** @throws RangeError when the dates are not in order. */
export function createIntelHierarchy(options: IntelHierarchyOptions = {}): IntelHierarchy {
  const { overrides = {} } = options
  const notBefore = options.notBefore ?? SIMULATED_EPOCH
  const notAfter = options.notAfter ?? new Date(notBefore.getTime() + SIMULATED_LIFETIME_MS)
  if (!(notBefore < notAfter)) throw new RangeError('expected notBefore to precede notAfter')

  const key = (authority: IntelAuthority): KeyPair => options.keys?.[authority] ?? generateEcKeys('P-256')
  const keys: IntelKeys = {
    root: key('root'),
    platform: key('platform'),
    processor: key('processor'),
    tcbSigning: key('tcbSigning'),
  }
  const nameOf = (authority: IntelAuthority): DistinguishedName => ({
    ...intelName(`${COMMON_NAME[authority]}${options.commonNameSuffix ?? ''}`),
    ...overrides[authority]?.subject,
  })

  const certifyAuthority = (authority: IntelAuthority, extensions: readonly Extension[]): IssuedCertificate =>
    certify(
      {
        issuer: nameOf('root'),
        subject: nameOf(authority),
        notBefore,
        notAfter,
        keyPair: keys[authority],
        extensions,
      },
      keys.root.privateKey,
      overrides[authority],
    )
  const ca = (authority: IntelAuthority, pathLength: number): IssuedCertificate =>
    certifyAuthority(authority, caExtensions(keys[authority].publicKey, keys.root.publicKey, ROOT_CRL_URL, pathLength))

  const issuePck = (request: PckRequest = {}): IssuedPck => {
    const issuer = request.issuer ?? 'platform'
    const keyPair = request.keyPair ?? generateEcKeys(request.curve ?? 'P-256')
    const sgx = sgxFields(request, issuer)
    const extensions = [
      ...leafExtensions(keyPair.publicKey, keys[issuer].publicKey, `${PCK_CRL_URL}${issuer}`),
      extension(INTEL_EXTENSION.sgx, encodeSgxExtension(sgx, request.sgxEdits)),
    ]
    const template = {
      issuer: nameOf(issuer),
      subject: intelName('Intel SGX PCK Certificate'),
      notBefore: request.notBefore ?? notBefore,
      notAfter: request.notAfter ?? notAfter,
      keyPair,
      extensions,
    }
    return { ...certify(template, keys[issuer].privateKey, request.overrides), sgx }
  }

  const issueCrl = (issuer: IntelAuthority, request: IntelCrlRequest): Bytes => {
    const thisUpdate = request.thisUpdate ?? notBefore
    const revocationDate = request.revocationDate ?? thisUpdate
    const extensions = intelCrlExtensions(keys[issuer].publicKey, request.number === undefined ? 1n : request.number)
    const template = {
      issuer: { ...nameOf(issuer), ...request.issuerName },
      thisUpdate,
      nextUpdate: request.nextUpdate === undefined ? notAfter : request.nextUpdate,
      revoked: (request.revokedSerials ?? []).map((serialNumber) => ({
        serialNumber,
        revocationDate,
        reasonCode: KEY_COMPROMISE,
      })),
      extensions: editExtensions(extensions, request.extensions ?? []),
    }
    return signRevocationList(template, request.signWith ?? keys[issuer].privateKey, {
      hash: 'sha256',
      ...request.signature,
    })
  }

  const root = ca('root', 1)
  const platform = ca('platform', 0)
  const processor = ca('processor', 0)
  const tcbSigning = certifyAuthority(
    'tcbSigning',
    leafExtensions(keys.tcbSigning.publicKey, keys.root.publicKey, ROOT_CRL_URL),
  )
  return {
    notBefore,
    notAfter,
    keys,
    root,
    platform,
    processor,
    tcbSigning,
    issuePck,
    rootCrl: (request = {}) => issueCrl(request.issuer ?? 'root', request),
    pckCrl: (request = {}) => issueCrl(request.issuer ?? 'platform', request),
    pckChain: (pck, chain = {}) => {
      const intermediate = chain.authority === 'processor' ? processor : platform
      const pems = { leaf: pck.pem, intermediate: intermediate.pem, root: root.pem }
      const order = chain.order ?? (['leaf', 'intermediate', 'root'] as const)
      const text = order.map((member) => pems[member]).join('')
      return new Uint8Array(Buffer.from(chain.nulTerminated === false ? text : `${text}\0`, 'latin1'))
    },
    tcbSigningChainPem: () => `${tcbSigning.pem}${root.pem}`,
  }
}

function intelName(commonName: string): DistinguishedName {
  return { organization: SIMULATED_INTEL_ORGANIZATION, commonName, order: 'intel' }
}

/** The Processor CA issues for single-package machines and leaves out platform instance and configuration. */
function sgxFields(request: PckRequest, issuer: IntelAuthority): SgxExtensionFields {
  const { ppid, pceSvn, pceId, fmspc, platformInstanceId, configuration } = SIMULATED_PCK
  const components = request.components ?? SIMULATED_PCK.components
  const forProcessor = issuer === 'processor'
  return {
    ppid: request.ppid ?? ppid,
    components,
    pceSvn: request.pceSvn ?? pceSvn,
    cpuSvn: request.cpuSvn ?? Uint8Array.from(components),
    pceId: request.pceId ?? pceId,
    fmspc: request.fmspc ?? fmspc,
    sgxType: request.sgxType ?? (forProcessor ? 0 : SIMULATED_PCK.sgxType),
    ...(forProcessor ? {} : { platformInstanceId, configuration }),
    ...(request.platformInstanceId === undefined ? {} : { platformInstanceId: request.platformInstanceId }),
    ...(request.configuration === undefined ? {} : { configuration: request.configuration }),
  }
}

interface Template {
  readonly issuer: DistinguishedName
  readonly subject: DistinguishedName
  readonly notBefore: Date
  readonly notAfter: Date
  readonly keyPair: KeyPair
  readonly extensions: readonly Extension[]
}

function certify(template: Template, issuerKey: KeyObject, overrides: CertificateOverrides = {}): IssuedCertificate {
  const { keyPair, ...named } = template
  // Intel's CAs and TCB Signing are numbered by their key id; here the PCK certificates are, too.
  const serialNumber = BigInt(`0x${keyIdentifier(keyPair.publicKey).toString('hex')}`)
  const der = signCertificate(
    { ...named, serialNumber, publicKey: keyPair.publicKey, statesTrailerField: false },
    issuerKey,
    { ...overrides, signature: { hash: 'sha256', ...overrides.signature } },
  )
  return { ...keyPair, der, pem: toPem('CERTIFICATE', der), serialNumber: overrides.serialNumber ?? serialNumber }
}
