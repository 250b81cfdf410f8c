/**
 * A throw-away certificate hierarchy shaped like AMD's (AMD 57230): ARK, ASK and ASVK with RSA keys, VCEK and VLEK with
 * P-384 keys, and the ARK's CRL. For tests and for the simulated platform; nothing trusts it unless told to.
 *
 * Private keys exist in memory only. Nothing here reads the clock: without dates, a hierarchy holds for the single day
 * that starts at `SIMULATED_EPOCH`, so forgetting them yields expired certificates, never long-lived ones.
 */
import { createPrivateKey, createPublicKey, generateKeyPair, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { promisify } from 'node:util'
import type { Bytes } from '../../verifier/protocol/bytes.js'
import {
  arkExtensions,
  crlExtensions,
  intermediateExtensions,
  vcekExtensions,
  vlekExtensions,
} from './amd-extensions.js'
import {
  type CertificateOverrides,
  type DistinguishedName,
  type Extension,
  type ExtensionEdit,
  editExtensions,
  SIMULATED_ORGANIZATION,
  type SignatureOverrides,
  signCertificate,
  signRevocationList,
} from './certificate.js'
import { toPem } from './der.js'
import { PRODUCTS, type SimulatedProduct, type SimulatedTcb } from './product.js'

export type { CertificateOverrides, ExtensionEdit, SignatureOverrides } from './certificate.js'
export type { SimulatedProduct } from './product.js'

export const SIMULATED_EPOCH: Date = new Date('2026-01-01T00:00:00Z')
/** The longest a simulated serving platform may hold: 24 hours. Test hierarchies may name any dates. */
export const SIMULATED_LIFETIME_MS: number = 24 * 60 * 60 * 1000

export interface KeyPair {
  readonly privateKey: KeyObject
  readonly publicKey: KeyObject
}

export interface AmdKeys {
  readonly ark: KeyPair
  readonly ask: KeyPair
  readonly asvk: KeyPair
}

/** Which certificate authority issues: ARK, ASK (VCEKs) or ASVK (VLEKs). */
export type AmdAuthority = keyof AmdKeys

export interface AmdHierarchyOptions {
  readonly product: SimulatedProduct
  /** Default `SIMULATED_EPOCH`. */
  readonly notBefore?: Date
  /** Default 24 hours after `notBefore`. */
  readonly notAfter?: Date
  /** Appended to the CNs of ARK, ASK and ASVK: `ARK-Milan` + suffix. */
  readonly commonNameSuffix?: string
  /** Existing keys, so that many hierarchies share one generation. */
  readonly keys?: AmdKeys
  /** Size of newly made RSA keys in bits; default 4096, the size AMD uses and a verifier may insist on. */
  readonly rsaBits?: 2048 | 3072 | 4096
  readonly overrides?: Partial<Readonly<Record<AmdAuthority, CertificateOverrides>>>
}

export interface IssuedLeaf extends KeyPair {
  readonly der: Bytes
  readonly pem: string
}

interface LeafRequest {
  readonly tcb: SimulatedTcb
  /** The authority whose name and key go on the certificate; default ASK for a VCEK, ASVK for a VLEK. */
  readonly issuer?: AmdAuthority
  /** Curve of a newly made key; default P-384. */
  readonly curve?: 'P-256' | 'P-384'
  /** An existing key, of any kind, to certify. */
  readonly keyPair?: KeyPair
  /** Default: the hierarchy's dates. */
  readonly notBefore?: Date
  readonly notAfter?: Date
  readonly overrides?: CertificateOverrides
}

export interface VcekRequest extends LeafRequest {
  /** 64 bytes on Milan and Genoa, 8 on Turin; other lengths are written as they are. */
  readonly hwid: Uint8Array
}

export interface VlekRequest extends LeafRequest {
  /** Real ones look like `CN=cc-us-east-2.amazonaws.com`. */
  readonly cspId: string
}

export interface CrlRequest {
  /** Default: the hierarchy's `notBefore`. */
  readonly thisUpdate?: Date
  /** Default: the hierarchy's `notAfter`; null leaves the field out. */
  readonly nextUpdate?: Date | null
  readonly revokedSerials?: readonly bigint[]
  /** Default: `thisUpdate`. */
  readonly revocationDate?: Date
  /** CRL number, default 1; null leaves the extension out. */
  readonly number?: bigint | null
  /** The authority whose name, key id and key the CRL carries; default ARK, as on AMD's server. */
  readonly issuer?: AmdAuthority
  /** Names the issuer differently without changing the key. */
  readonly issuerName?: Partial<DistinguishedName>
  readonly signWith?: KeyObject
  readonly signature?: SignatureOverrides
  readonly extensions?: readonly ExtensionEdit[]
}

export interface AmdHierarchy {
  readonly product: SimulatedProduct
  readonly notBefore: Date
  readonly notAfter: Date
  readonly keys: AmdKeys
  readonly arkDer: Bytes
  readonly askDer: Bytes
  readonly asvkDer: Bytes
  readonly arkPem: string
  readonly askPem: string
  readonly asvkPem: string
  /** A certificate for a chip's key: CN SEV-VCEK, issued by the ASK, serial 0. */
  issueVcek(request: VcekRequest): IssuedLeaf
  /** A certificate for a cloud provider's key: CN SEV-VLEK, issued by the ASVK, serial 0. */
  issueVlek(request: VlekRequest): IssuedLeaf
  /** A DER v2 CRL signed by the ARK. */
  crl(request?: CrlRequest): Bytes
}

/**
 * A hierarchy for one product line. Without `keys`, three RSA keys are generated first, which blocks for seconds;
 * `createAmdHierarchyAsync` makes them in parallel, and `sharedAmdKeys` once in a process.
 * @throws RangeError when the dates are not in order.
 */
export function createAmdHierarchy(options: AmdHierarchyOptions): AmdHierarchy {
  const { product, overrides = {} } = options
  const facts = PRODUCTS[product]
  const notBefore = options.notBefore ?? SIMULATED_EPOCH
  const notAfter = options.notAfter ?? new Date(notBefore.getTime() + SIMULATED_LIFETIME_MS)
  if (!(notBefore < notAfter)) throw new RangeError('expected notBefore to precede notAfter')

  const keys = options.keys ?? generateAmdKeysSync(options.rsaBits)
  const named = (authority: AmdAuthority, commonName: string): DistinguishedName => ({
    organization: SIMULATED_ORGANIZATION,
    commonName: `${commonName}${options.commonNameSuffix ?? ''}`,
    ...overrides[authority]?.subject,
  })
  const names: Readonly<Record<AmdAuthority, DistinguishedName>> = {
    ark: named('ark', `ARK-${product}`),
    ask: named('ask', `SEV-${product}`),
    asvk: named('asvk', `SEV-VLEK-${product}`),
  }

  const certifyAuthority = (authority: AmdAuthority, serialNumber: bigint, extensions: readonly Extension[]): Bytes => {
    const template = {
      serialNumber,
      // A root whose subject is overridden stays self-issued, unless the issuer is overridden too.
      issuer: names.ark,
      subject: names[authority],
      notBefore,
      notAfter,
      publicKey: keys[authority].publicKey,
      extensions,
      statesTrailerField: true,
    }
    return signCertificate(template, keys.ark.privateKey, overrides[authority])
  }

  const certifyLeaf = (
    request: LeafRequest,
    commonName: string,
    issuer: AmdAuthority,
    extensions: readonly Extension[],
  ): IssuedLeaf => {
    const leaf = request.keyPair ?? generateEcKeys(request.curve)
    const template = {
      serialNumber: 0n,
      issuer: names[issuer],
      subject: { organization: SIMULATED_ORGANIZATION, commonName },
      notBefore: request.notBefore ?? notBefore,
      notAfter: request.notAfter ?? notAfter,
      publicKey: leaf.publicKey,
      extensions,
      statesTrailerField: false,
    }
    const der = signCertificate(template, keys[issuer].privateKey, request.overrides)
    return { der, pem: toPem('CERTIFICATE', der), privateKey: leaf.privateKey, publicKey: leaf.publicKey }
  }

  const issueCrl = (request: CrlRequest = {}): Bytes => {
    const issuer = request.issuer ?? 'ark'
    const thisUpdate = request.thisUpdate ?? notBefore
    const revocationDate = request.revocationDate ?? thisUpdate
    const extensions = crlExtensions(keys[issuer].publicKey, request.number === undefined ? 1n : request.number)
    const template = {
      issuer: { ...names[issuer], ...request.issuerName },
      thisUpdate,
      nextUpdate: request.nextUpdate === undefined ? notAfter : request.nextUpdate,
      revoked: (request.revokedSerials ?? []).map((serialNumber) => ({ serialNumber, revocationDate })),
      extensions: editExtensions(extensions, request.extensions ?? []),
    }
    return signRevocationList(template, request.signWith ?? keys[issuer].privateKey, request.signature)
  }

  const vcekCrl = simulatedCrlUrl('vcek', product)
  const vlekCrl = simulatedCrlUrl('vlek', product)
  const { ark, ask, asvk } = keys
  const arkDer = certifyAuthority('ark', facts.arkSerial, arkExtensions(ark.publicKey, vcekCrl))
  const askDer = certifyAuthority('ask', facts.askSerial, intermediateExtensions(ask.publicKey, ark.publicKey, vcekCrl))
  const asvkDer = certifyAuthority(
    'asvk',
    facts.asvkSerial,
    intermediateExtensions(asvk.publicKey, ark.publicKey, vlekCrl),
  )
  return {
    product,
    notBefore,
    notAfter,
    keys,
    arkDer,
    askDer,
    asvkDer,
    arkPem: toPem('CERTIFICATE', arkDer),
    askPem: toPem('CERTIFICATE', askDer),
    asvkPem: toPem('CERTIFICATE', asvkDer),
    issueVcek: (request) =>
      certifyLeaf(request, 'SEV-VCEK', request.issuer ?? 'ask', vcekExtensions(product, request.tcb, request.hwid)),
    issueVlek: (request) =>
      certifyLeaf(request, 'SEV-VLEK', request.issuer ?? 'asvk', vlekExtensions(product, request.tcb, request.cspId)),
    crl: issueCrl,
  }
}

/** `createAmdHierarchy` without blocking: missing keys are generated in parallel, off the main thread. */
export async function createAmdHierarchyAsync(options: AmdHierarchyOptions): Promise<AmdHierarchy> {
  return createAmdHierarchy({ ...options, keys: options.keys ?? (await generateAmdKeys(options.rsaBits)) })
}

const generateKeyPairAsync = promisify(generateKeyPair)

/** Three fresh RSA keys, made in parallel. `rsaBits` defaults to 4096. */
export async function generateAmdKeys(rsaBits = 4096): Promise<AmdKeys> {
  const make = (): Promise<KeyPair> => generateKeyPairAsync('rsa', { modulusLength: rsaBits, publicExponent: 0x10001 })
  const [ark, ask, asvk] = await Promise.all([make(), make(), make()])
  return { ark, ask, asvk }
}

const shared = new Map<string, Promise<AmdKeys>>()

/**
 * Keys made once in this process for each label. Tests whose hierarchies may share keys
 * use one label; a stranger's hierarchy takes another.
 */
export function sharedAmdKeys(label: string, rsaBits = 4096): Promise<AmdKeys> {
  const slot = `${label}/${rsaBits}`
  const made = shared.get(slot) ?? generateAmdKeys(rsaBits)
  shared.set(slot, made)
  return made
}

/** A fresh key for a VCEK or VLEK; P-384 unless a test wants the wrong curve. */
export function generateEcKeys(curve: 'P-256' | 'P-384' = 'P-384'): KeyPair {
  // Through DER: a key object straight from its generator shares a lock with it, and Node 20 hangs when the generator is
  // collected while such a key is exported as a JWK.
  const { privateKey, publicKey } = generateKeyPairSync('ec', {
    namedCurve: curve,
    privateKeyEncoding: { type: 'pkcs8', format: 'der' },
    publicKeyEncoding: { type: 'spki', format: 'der' },
  })
  return {
    privateKey: createPrivateKey({ key: privateKey, type: 'pkcs8', format: 'der' }),
    publicKey: createPublicKey({ key: publicKey, type: 'spki', format: 'der' }),
  }
}

function generateAmdKeysSync(rsaBits = 4096): AmdKeys {
  const make = (): KeyPair => generateKeyPairSync('rsa', { modulusLength: rsaBits, publicExponent: 0x10001 })
  return { ark: make(), ask: make(), asvk: make() }
}

/** The path AMD's server uses, on a host that cannot resolve (RFC 2606), so that a fetched CRL is never AMD's. */
function simulatedCrlUrl(kind: 'vcek' | 'vlek', product: SimulatedProduct): string {
  return `https://kds.simulated.invalid/${kind}/v1/${product}/crl`
}
