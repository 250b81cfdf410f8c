/**
 * A simulated TDX machine: one platform with a fresh identity under a fresh Intel-shaped hierarchy, a quoting enclave of
 * its own, collateral that calls it up to date, and a TD with a measured-boot log. For development and tests; it protects
 * nothing and the verifier rejects it unless its root is trusted on purpose.
 *
 * Private keys never leave this process and never touch disk, and everything signed expires within 24 hours.
 */
import { randomBytes } from 'node:crypto'
import type { StapledEndorsement } from '../../verifier/protocol/bundle.js'
import type { Bytes } from '../../verifier/protocol/bytes.js'
import { createIntelHierarchy, generateEcKeys, type IntelHierarchy, SIMULATED_LIFETIME_MS } from './intel.js'
import {
  buildQeIdentity,
  buildTcbInfo,
  type CollateralVerdict,
  moduleIdentities,
  qeLevels,
  tcbLevels,
} from './tdx-collateral.js'
import { buildEventLog, simulatedBootEvents } from './tdx-event-log.js'
import { SIMULATED_MR_TD, SIMULATED_TDX_TCB, type SimulatedTdxTcb } from './tdx-facts.js'
import { buildTdxQuote } from './tdx-quote.js'

/** How far before `now` everything starts, so that a verifier whose clock is a little behind accepts it. */
const CLOCK_SKEW_MS = 5 * 60 * 1000

export interface SimulatedTdxPlatformOptions {
  /** MRCONFIGID, 48 bytes. */
  readonly configDigest: Uint8Array
  /** MRTD, 48 bytes; default `SIMULATED_MR_TD`. */
  readonly launchDigest?: Uint8Array
  /** The time to start from. Everything ends 24 hours after five minutes before it. */
  readonly now: Date
  /** Quote format. Default 5, with a TD report body 1.5; 4 has a body 1.0. */
  readonly version?: 4 | 5
  /** What the collateral says of the platform, of its TDX module and of its quoting enclave. Default UpToDate. */
  readonly verdict?: {
    readonly platform?: CollateralVerdict
    readonly module?: CollateralVerdict
    readonly qe?: CollateralVerdict
  }
}

export interface SimulatedTdxPlatform {
  readonly tcb: SimulatedTdxTcb
  /** The hierarchy behind it, for tests that need more certificates, other CRLs or other collateral. */
  readonly intel: IntelHierarchy
  /** MRTD, 48 bytes. */
  readonly mrTd: Bytes
  /** MRCONFIGID, 48 bytes. */
  readonly mrConfigId: Bytes
  /** RTMR0 to RTMR3, 48 bytes each, as the event log replays to. */
  readonly rtmrs: readonly Bytes[]
  /** The measured-boot log (CCEL). */
  readonly eventLog: Bytes
  /** PPID and platform instance id of the PCK certificate, 16 bytes each. */
  readonly ppid: Bytes
  readonly platformInstanceId: Bytes
  /** When the last endorsement expires; make a new platform before that. */
  readonly validUntil: Date
  /** PCK, Platform CA, TCB Signing and root in DER, root CRL and PCK CRL in DER, TCB info and QE identity as JSON. */
  readonly endorsements: readonly StapledEndorsement[]
  /** The root in PEM, after lines that say what it is. */
  readonly rootsPem: string
  /**
   * A fresh signed quote.
   * @param reportData REPORTDATA, exactly 64 bytes
   * @throws RangeError on any other length
   */
  attest(reportData: Uint8Array): Promise<Bytes>
}

/** @throws RangeError when `configDigest` or `launchDigest` is not 48 bytes. */
export async function createSimulatedTdxPlatform(options: SimulatedTdxPlatformOptions): Promise<SimulatedTdxPlatform> {
  const tcb = SIMULATED_TDX_TCB
  const mrConfigId = copyExactly(options.configDigest, 48, 'configDigest')
  const mrTd = copyExactly(options.launchDigest ?? SIMULATED_MR_TD, 48, 'launchDigest')

  // Whole seconds, because that is all a certificate can say.
  const notBefore = new Date(Math.floor((options.now.getTime() - CLOCK_SKEW_MS) / 1000) * 1000)
  const notAfter = new Date(notBefore.getTime() + SIMULATED_LIFETIME_MS)
  const intel = createIntelHierarchy({ notBefore, notAfter })
  const ppid = new Uint8Array(randomBytes(16))
  const platformInstanceId = new Uint8Array(randomBytes(16))
  const pck = intel.issuePck({ ppid, platformInstanceId })
  // A quoting enclave keeps one attestation key, and the first 16 bytes of user data name it.
  const attestationKey = generateEcKeys('P-256')
  const userData = new Uint8Array(20)
  userData.set(randomBytes(16))

  const { verdict = {} } = options
  const signer = intel.keys.tcbSigning.privateKey
  const dates = { issueDate: notBefore, nextUpdate: notAfter }
  const tcbInfo = buildTcbInfo(
    {
      ...dates,
      tcbLevels: tcbLevels(verdict.platform, tcb),
      tdxModuleIdentities: moduleIdentities(verdict.module, tcb),
    },
    signer,
  )
  const qeIdentity = buildQeIdentity({ ...dates, tcbLevels: qeLevels(verdict.qe, tcb) }, signer)
  const { bytes: eventLog, rtmrs } = buildEventLog(simulatedBootEvents())
  const [rtmr0, rtmr1, rtmr2, rtmr3] = rtmrs
  // A later machine's CRLs have the higher number, for a verifier that remembers the highest it saw.
  const number = BigInt(notBefore.getTime() / 1000)

  return {
    tcb,
    intel,
    mrTd,
    mrConfigId,
    rtmrs,
    eventLog,
    ppid,
    platformInstanceId,
    validUntil: notAfter,
    endorsements: [
      ...[pck, intel.platform, intel.tcbSigning, intel.root].map(
        ({ der }) => ({ type: 'application/pkix-cert', bytes: der }) as const,
      ),
      { type: 'application/pkix-crl', bytes: intel.rootCrl({ number }) },
      { type: 'application/pkix-crl', bytes: intel.pckCrl({ number }) },
      { type: 'application/json', bytes: tcbInfo },
      { type: 'application/json', bytes: qeIdentity },
    ],
    rootsPem: describeRoot(intel.root.pem, notAfter),
    attest: async (reportData) =>
      buildTdxQuote({
        version: options.version ?? 5,
        header: { userData },
        body: { mrTd, mrConfigId, rtmr0, rtmr1, rtmr2, rtmr3, reportData: copyExactly(reportData, 64, 'reportData') },
        attestationKey,
        pckPrivateKey: pck.privateKey,
        pckChain: intel.pckChain(pck),
      }),
  }
}

/** PEM with explanatory text before it (RFC 7468 §5.2), which says the vendor kind the root may stand for. */
function describeRoot(pem: string, validUntil: Date): string {
  const until = `${validUntil.toISOString().slice(0, 19)}Z`
  return `Kind: tdx\nSIMULATED root, valid until ${until}; trust it for development only\n${pem}`
}

function copyExactly(bytes: Uint8Array, length: number, name: string): Bytes {
  if (bytes.length !== length) throw new RangeError(`${name}: expected ${length} bytes, got ${bytes.length}`)
  return new Uint8Array(bytes)
}
