/**
 * A simulated SEV-SNP machine: one chip with a fresh identity, under a fresh AMD-shaped hierarchy, that signs a report
 * for whoever asks. For development and tests; it protects nothing and the verifier rejects it unless its root is
 * trusted on purpose.
 *
 * Private keys never leave this process and never touch disk, and every certificate expires within 24 hours.
 */
import { createHash, randomBytes } from 'node:crypto'
import type { Bytes } from '../../verifier/protocol/bytes.js'
import { type AmdKeys, createAmdHierarchyAsync, SIMULATED_LIFETIME_MS } from './amd.js'
import { buildCertificateTable } from './certificate-table.js'
import { PRODUCTS, type SimulatedProduct, type SimulatedTcb } from './product.js'
import { buildSnpReport, signSnpReport, snpKeyInfo, snpPlatformInfo, snpPolicy } from './snp-report.js'

/** How far before `now` the certificates start, so that a verifier whose clock is a little behind accepts them. */
const CLOCK_SKEW_MS = 5 * 60 * 1000

export interface SimulatedSnpPlatformOptions {
  /** Default Genoa. */
  readonly product?: SimulatedProduct
  /** MEASUREMENT, 48 bytes; default `SIMULATED_LAUNCH_DIGEST`. */
  readonly launchDigest?: Uint8Array
  /** HOST_DATA, 32 bytes. */
  readonly hostData: Uint8Array
  /** The time to start from. Certificates end 24 hours after five minutes before it. */
  readonly now: Date
  /** Existing RSA keys, to save their generation in tests. A serving platform makes its own. */
  readonly keys?: AmdKeys
  /** Launched with a guest policy that lets the host debug it. */
  readonly debug?: boolean
  /** The revocation list names the authority that certified the chip. */
  readonly revokeSigner?: boolean
}

export interface SimulatedSnpPlatform {
  readonly product: SimulatedProduct
  /** CURRENT, REPORTED, COMMITTED and LAUNCH TCB alike. */
  readonly tcb: SimulatedTcb
  /** CHIP_ID, 64 bytes; on Turin all but the first 8 are zero. */
  readonly chipId: Bytes
  /** MEASUREMENT, 48 bytes. */
  readonly measurement: Bytes
  /** HOST_DATA, 32 bytes. */
  readonly hostData: Bytes
  /** When the last endorsement expires; make a new platform before that. */
  readonly validUntil: Date
  /** VCEK, ASK, ARK and the ARK's CRL, each in DER. */
  readonly endorsements: readonly Bytes[]
  /** VCEK, ASK and ARK as the certificate table a host would hand the guest. */
  readonly certificateTable: Bytes
  /** The ARK in PEM, after lines that say what it is. */
  readonly rootsPem: string
  /**
   * A fresh signed report, 1184 bytes, version 5.
   * @param reportData REPORT_DATA, exactly 64 bytes
   * @throws RangeError on any other length
   */
  attest(reportData: Uint8Array): Promise<Bytes>
}

/** SHA-384 of "subrosa simulated platform": a MEASUREMENT that no image has. */
export const SIMULATED_LAUNCH_DIGEST: Bytes = new Uint8Array(
  createHash('sha384').update('subrosa simulated platform').digest(),
)

/**
 * Makes a simulated machine; generating its RSA keys takes about a second.
 * @throws RangeError when `launchDigest` is not 48 bytes or `hostData` not 32.
 */
export async function createSimulatedSnpPlatform(options: SimulatedSnpPlatformOptions): Promise<SimulatedSnpPlatform> {
  const product = options.product ?? 'Genoa'
  const { tcb, hwidBytes, askSerial } = PRODUCTS[product]
  const measurement = copyExactly(options.launchDigest ?? SIMULATED_LAUNCH_DIGEST, 48, 'launchDigest')
  const hostData = copyExactly(options.hostData, 32, 'hostData')

  // Whole seconds, because that is all a certificate can say.
  const notBefore = new Date(Math.floor((options.now.getTime() - CLOCK_SKEW_MS) / 1000) * 1000)
  const notAfter = new Date(notBefore.getTime() + SIMULATED_LIFETIME_MS)
  const amd = await createAmdHierarchyAsync({
    product,
    notBefore,
    notAfter,
    ...(options.keys === undefined ? {} : { keys: options.keys }),
  })

  const hwid = randomBytes(hwidBytes)
  const chipId = new Uint8Array(64)
  chipId.set(hwid)
  // REPORT_ID names one launch of one guest, so it is drawn once and not per report.
  const reportId = randomBytes(32)
  const vcek = amd.issueVcek({ tcb, hwid })
  // A later machine's CRL has the higher number, for a verifier that remembers the highest it saw.
  const revoked = options.revokeSigner === true ? { revokedSerials: [askSerial] } : {}
  const crl = amd.crl({ number: BigInt(notBefore.getTime() / 1000), ...revoked })

  return {
    product,
    tcb,
    chipId,
    measurement,
    hostData,
    validUntil: notAfter,
    endorsements: [vcek.der, amd.askDer, amd.arkDer, crl],
    certificateTable: buildCertificateTable([
      { guid: 'vcek', blob: vcek.der },
      { guid: 'ask', blob: amd.askDer },
      { guid: 'ark', blob: amd.arkDer },
    ]),
    rootsPem: describeRoot(amd.arkPem, notAfter),
    attest: async (reportData) => {
      const report = buildSnpReport({
        product,
        version: 5,
        policy: snpPolicy({ debug: options.debug ?? false }),
        vmpl: 0,
        tcb,
        platformInfo: snpPlatformInfo(),
        keyInfo: snpKeyInfo(),
        reportData: copyExactly(reportData, 64, 'reportData'),
        measurement,
        hostData,
        reportId,
        chipId,
      })
      return signSnpReport(report, vcek.privateKey)
    },
  }
}

/** PEM with explanatory text before it (RFC 7468 §5.2), which says the vendor kind the root may stand for. */
function describeRoot(pem: string, validUntil: Date): string {
  const until = `${validUntil.toISOString().slice(0, 19)}Z`
  return `Kind: snp\nSIMULATED root, valid until ${until}; trust it for development only\n${pem}`
}

function copyExactly(bytes: Uint8Array, length: number, name: string): Bytes {
  if (bytes.length !== length) throw new RangeError(`${name}: expected ${length} bytes, got ${bytes.length}`)
  return new Uint8Array(bytes)
}
