/**
 * A throw-away certificate hierarchy shaped like NVIDIA's: the device identity root with the Hopper, Blackwell and
 * NVSwitch families under it, the manifest signing root with a family of signers for each product, and the delegated OCSP
 * responders of both. For tests and for the simulated platform; nothing trusts it unless told to.
 *
 * Private keys exist in memory only. Nothing here reads the clock: without dates, a hierarchy holds for the single day
 * that starts at `SIMULATED_EPOCH`.
 */
import { randomBytes } from 'node:crypto'
import type { Bytes } from '../../verifier/protocol/bytes.js'
import { generateEcKeys, type KeyPair, SIMULATED_EPOCH, SIMULATED_LIFETIME_MS } from './amd.js'
import {
  type CertificateOverrides,
  type DistinguishedName,
  type Extension,
  type NameAttribute,
  signCertificate,
} from './certificate.js'
import { toPem } from './der.js'
import { DEVICES, type DeviceFamily } from './gpu-facts.js'
import { keyIdentifier } from './intel-extensions.js'
import {
  AUTHORITIES,
  certifyAuthorities,
  type IssuedCertificate,
  type NvidiaAuthority,
  type NvidiaHierarchyOptions,
  nameOf,
} from './nvidia-authorities.js'
import {
  bromExtensions,
  type DeviceExtensionFields,
  deviceLeafExtensions,
  responderExtensions,
  rimSignerExtensions,
} from './nvidia-extensions.js'

export { generateEcKeys, SIMULATED_EPOCH, SIMULATED_LIFETIME_MS } from './amd.js'
export type { DeviceFamily } from './gpu-facts.js'
export type { IssuedCertificate, NvidiaAuthority, NvidiaHierarchyOptions } from './nvidia-authorities.js'
export { NVIDIA_EXTENSION } from './nvidia-extensions.js'

interface LeafRequest {
  /** Curve of newly made keys; default P-384. */
  readonly curve?: 'P-256' | 'P-384'
  /** An existing key, of any kind, to certify. */
  readonly keyPair?: KeyPair
  /** Default: the hierarchy's dates. */
  readonly notBefore?: Date
  readonly notAfter?: Date
  readonly overrides?: CertificateOverrides
}

export interface DeviceRequest extends LeafRequest {
  readonly family: DeviceFamily
  /** Default: GSP on GPUs, FSP on switches. A GPU's FSP has a leaf of its own, which must not pass for the GPU's. */
  readonly attester?: 'GSP' | 'FSP'
  /** Port or device identity, 8 bytes, the low bytes of the boot ROM certificate's serial; default random. */
  readonly pdi?: Uint8Array
  /** 8 bytes after the family in the SAN; default random. */
  readonly deviceId?: Uint8Array
  /** 48 bytes; default random. Leave the extension out, or change it alone, with `overrides`. */
  readonly fwid?: Uint8Array
  /** Default: composite device id on Hopper and LS10, DiceTcbInfo on Blackwell. */
  readonly fwidForm?: DeviceExtensionFields['form']
  /** Whose name and key the boot ROM certificate carries; default: the family's provisioner. */
  readonly issuer?: NvidiaAuthority
  readonly bromOverrides?: CertificateOverrides
}

export interface IssuedDevice extends IssuedCertificate {
  readonly family: DeviceFamily
  readonly brom: IssuedCertificate
  readonly pdi: Bytes
  readonly deviceId: Bytes
  readonly fwid: Bytes
  /** Leaf, boot ROM, provisioner, identity, root in DER. */
  readonly chain: readonly Bytes[]
  /** The same in PEM, as the driver returns it. */
  readonly chainPem: string
}

export interface RimSignerRequest extends LeafRequest {
  readonly family: DeviceFamily
  /** Whose name and key go on the certificate; default: the family's L3. */
  readonly issuer?: NvidiaAuthority
}

export interface IssuedRimSigner extends IssuedCertificate {
  /** Signer, L3, family CA, root in DER, as a manifest embeds them. */
  readonly chain: readonly Bytes[]
}

export interface ResponderRequest extends LeafRequest {
  /** The authority that delegates: the issuer of the certificates it answers for. */
  readonly issuer: NvidiaAuthority
}

export interface NvidiaHierarchy {
  readonly notBefore: Date
  readonly notAfter: Date
  readonly authorities: Readonly<Record<NvidiaAuthority, IssuedCertificate>>
  /** `authorities.deviceRoot` and `authorities.rimRoot`, the two to trust. */
  readonly deviceRoot: IssuedCertificate
  readonly rimRoot: IssuedCertificate
  /** A device's boot ROM and attestation certificates; its chain has five. */
  issueDevice(request: DeviceRequest): IssuedDevice
  issueRimSigner(request: RimSignerRequest): IssuedRimSigner
  /** A delegated OCSP responder with id-kp-OCSPSigning; bend it with `overrides`. */
  issueResponder(request: ResponderRequest): IssuedCertificate
  /** This authority and those above it, up to the root, in DER. */
  pathFrom(authority: NvidiaAuthority): readonly Bytes[]
}

const LEAF_ORDER: readonly NameAttribute[] = ['serialNumber', 'C', 'O', 'CN']
const SIGNER_ORDER: readonly NameAttribute[] = ['C', 'ST', 'L', 'O', 'CN']
const CA_ORDER: readonly NameAttribute[] = ['CN', 'O', 'C']

/** @throws RangeError when the dates are not in order. */
export function createNvidiaHierarchy(options: NvidiaHierarchyOptions = {}): NvidiaHierarchy {
  const notBefore = options.notBefore ?? SIMULATED_EPOCH
  const notAfter = options.notAfter ?? new Date(notBefore.getTime() + SIMULATED_LIFETIME_MS)
  if (!(notBefore < notAfter)) throw new RangeError('expected notBefore to precede notAfter')

  const authorities = certifyAuthorities(options, notBefore, notAfter)

  const pathFrom = (authority: NvidiaAuthority): Bytes[] => {
    const { der, issuer } = authorities[authority]
    return issuer === undefined ? [der] : [der, ...pathFrom(issuer)]
  }

  const certify = (
    request: LeafRequest,
    issuer: Pick<IssuedCertificate, 'name' | 'privateKey' | 'publicKey'>,
    describe: (keys: KeyPair) => {
      readonly serialNumber: bigint
      readonly subject: DistinguishedName
      readonly extensions: readonly Extension[]
    },
    issuedBy?: NvidiaAuthority,
  ): IssuedCertificate => {
    const keys = request.keyPair ?? generateEcKeys(request.curve ?? 'P-384')
    const described = describe(keys)
    const { overrides } = request
    const template = {
      ...described,
      issuer: issuer.name,
      notBefore: request.notBefore ?? notBefore,
      notAfter: request.notAfter ?? notAfter,
      publicKey: keys.publicKey,
      statesTrailerField: false,
    }
    const der = signCertificate(template, issuer.privateKey, overrides)
    return {
      ...keys,
      der,
      pem: toPem('CERTIFICATE', der),
      serialNumber: overrides?.serialNumber ?? described.serialNumber,
      name: { ...described.subject, ...overrides?.subject },
      issuer: issuedBy,
    }
  }

  const issueDevice = (request: DeviceRequest): IssuedDevice => {
    const { family } = request
    const facts = DEVICES[family]
    const provisioner = request.issuer ?? PROVISIONER[family]
    const pdi = copyOf(request.pdi ?? randomBytes(8))
    const deviceId = copyOf(request.deviceId ?? randomBytes(8))
    const fwid = copyOf(request.fwid ?? randomBytes(48))
    const chip = `${facts.certificateName} A01 ${request.attester ?? facts.attester}`

    const bromSerial = BigInt(`0x${Buffer.concat([Buffer.of(facts.bromSerialPrefix), pdi]).toString('hex')}`)
    const brom = certify(
      { ...request, keyPair: generateEcKeys('P-384'), overrides: request.bromOverrides ?? {} },
      authorities[provisioner],
      ({ publicKey }) => ({
        serialNumber: bromSerial,
        subject: nameOf(`${chip} BROM`, LEAF_ORDER, serialText(bromSerial)),
        extensions: bromExtensions(publicKey, authorities[provisioner].publicKey, family === 'GB100'),
      }),
      provisioner,
    )
    const leaf = certify(request, brom, ({ publicKey }) => {
      const serialNumber = keySerial(keyIdentifier(publicKey))
      const form = request.fwidForm ?? facts.fwidForm
      const fields = { family: facts.certificateName, deviceId, fwid, form }
      return {
        serialNumber,
        subject: nameOf(`${chip} FMC LF`, LEAF_ORDER, serialText(serialNumber)),
        extensions: deviceLeafExtensions(publicKey, brom.publicKey, fields),
      }
    })
    const chain = [leaf.der, brom.der, ...pathFrom(provisioner)]
    const chainPem = chain.map((der) => toPem('CERTIFICATE', der)).join('')
    return { ...leaf, family, brom, pdi, deviceId, fwid, chain, chainPem }
  }

  const issueRimSigner = (request: RimSignerRequest): IssuedRimSigner => {
    const issuer = request.issuer ?? RIM_ISSUER[request.family]
    const commonName = request.family === 'LS10' ? 'NVIDIA Reference Value L4 LS10' : 'HCC RIM L4 Signer'
    const signer = certify(
      request,
      authorities[issuer],
      ({ publicKey }) => ({
        serialNumber: randomSerial(),
        subject: nameOf(commonName, SIGNER_ORDER),
        extensions: rimSignerExtensions(publicKey, authorities[issuer].publicKey),
      }),
      issuer,
    )
    return { ...signer, chain: [signer.der, ...pathFrom(issuer)] }
  }

  const issueResponder = (request: ResponderRequest): IssuedCertificate =>
    certify(
      request,
      authorities[request.issuer],
      ({ publicKey }) => ({
        serialNumber: randomSerial(),
        subject: nameOf(`NVIDIA OCSP Responder ${AUTHORITIES[request.issuer].responder}`, CA_ORDER),
        extensions: responderExtensions(publicKey, authorities[request.issuer].publicKey),
      }),
      request.issuer,
    )

  const { deviceRoot, rimRoot } = authorities
  return {
    notBefore,
    notAfter,
    authorities,
    deviceRoot,
    rimRoot,
    issueDevice,
    issueRimSigner,
    issueResponder,
    pathFrom,
  }
}

const PROVISIONER: Readonly<Record<DeviceFamily, NvidiaAuthority>> = {
  GH100: 'gh100Provisioner',
  GB100: 'gb100Provisioner',
  LS10: 'ls10Provisioner',
}

const RIM_ISSUER: Readonly<Record<DeviceFamily, NvidiaAuthority>> = {
  GH100: 'gh100RimL3',
  GB100: 'gb100RimL3',
  LS10: 'ls10RimL3',
}

/** A leaf's serial number is its key id with the two top bits set to 01. */
function keySerial(keyId: Buffer): bigint {
  return (BigInt(`0x${keyId.toString('hex')}`) % (1n << 158n)) | (1n << 158n)
}

function randomSerial(): bigint {
  return BigInt(`0x40${randomBytes(15).toString('hex')}`)
}

function serialText(serial: bigint): string {
  return serial.toString(16).toUpperCase()
}

function copyOf(bytes: Uint8Array): Bytes {
  return new Uint8Array(bytes)
}
