/** A simulated world in which everything is right, to be bent one way at a time. */
import {
  createIntelHierarchy,
  type IntelCrlRequest,
  type IntelHierarchy,
  type IntelHierarchyOptions,
  type IssuedPck,
  type PckChainOptions,
  type PckRequest,
  SIMULATED_EPOCH,
} from '../../scripts/simulated/intel.js'
import {
  buildQeIdentity,
  buildTcbInfo,
  type CollateralHooks,
  type QeIdentityFields,
  type TcbInfoFields,
} from '../../scripts/simulated/tdx-collateral.js'
import { buildEventLog, simulatedBootEvents } from '../../scripts/simulated/tdx-event-log.js'
import { buildTdxQuote, type TdxQuoteFields } from '../../scripts/simulated/tdx-quote.js'
import { sortEndorsements } from '../../verifier/endorsements.js'
import { type Bytes, concat, toBytes, utf8 } from '../../verifier/protocol/bytes.js'
import { completeTdxPolicy, type TdxPolicyInput } from '../../verifier/tdx/policy.js'
import type { TdxInput } from '../../verifier/tdx/verify.js'
import { parseTrustAnchors } from '../../verifier/trust-anchors.js'
import { type Outcome, run } from './cases.js'

/** Noon of the one day simulated certificates hold. */
export const NOON: Date = new Date(SIMULATED_EPOCH.getTime() + 12 * 60 * 60 * 1000)
export const REPORT_DATA: Bytes = new Uint8Array(64).fill(0xd7)

/** Files by what they are; null leaves one out. */
export type Files = Readonly<Record<string, Uint8Array | null>>

/** How one world differs from the right one. */
export interface Bend {
  readonly hierarchy?: IntelHierarchyOptions
  readonly pck?: PckRequest
  readonly chain?: PckChainOptions
  readonly quote?: Partial<TdxQuoteFields>
  /** For what depends on the certified key. */
  readonly quoteWith?: (pck: IssuedPck, intel: IntelHierarchy) => Partial<TdxQuoteFields>
  /** After signing. */
  readonly mangle?: (quote: Bytes) => Bytes
  readonly rootCrl?: IntelCrlRequest
  readonly pckCrl?: IntelCrlRequest
  readonly tcbInfo?: Partial<TcbInfoFields>
  readonly tcbInfoHooks?: CollateralHooks
  readonly qeIdentity?: Partial<QeIdentityFields>
  readonly qeIdentityHooks?: CollateralHooks
  /** Changes to the files handed over, by what they are. */
  readonly files?: (intel: IntelHierarchy, pck: IssuedPck) => Files
  readonly anchored?: false
  readonly policy?: TdxPolicyInput
  readonly input?: Partial<TdxInput>
}

/** The right world, bent. The event log explains the RTMRs; the endorsements are complete. */
export function bentInput(bend: Bend = {}): TdxInput {
  const intel = createIntelHierarchy(bend.hierarchy)
  const pck = intel.issuePck(bend.pck)
  const log = buildEventLog(simulatedBootEvents())
  const [rtmr0, rtmr1, rtmr2, rtmr3] = log.rtmrs
  const quoteFields = { ...bend.quote, ...bend.quoteWith?.(pck, intel) }
  const quote = buildTdxQuote({
    version: 5,
    pckPrivateKey: pck.privateKey,
    pckChain: intel.pckChain(pck, {
      authority: bend.pck?.issuer === 'processor' ? 'processor' : 'platform',
      ...bend.chain,
    }),
    ...quoteFields,
    body: { rtmr0, rtmr1, rtmr2, rtmr3, reportData: REPORT_DATA, ...quoteFields.body },
  })
  const signer = intel.keys.tcbSigning.privateKey
  const issueDate = SIMULATED_EPOCH
  const files: Files = {
    signer: intel.tcbSigning.der,
    rootCrl: intel.rootCrl(bend.rootCrl),
    pckCrl: intel.pckCrl({ issuer: bend.pck?.issuer === 'processor' ? 'processor' : 'platform', ...bend.pckCrl }),
    tcbInfo: buildTcbInfo({ issueDate, ...bend.tcbInfo }, signer, bend.tcbInfoHooks),
    qeIdentity: buildQeIdentity({ issueDate, ...bend.qeIdentity }, signer, bend.qeIdentityHooks),
    ...bend.files?.(intel, pck),
  }
  const present = Object.entries(files).flatMap(([name, bytes]) => (bytes === null ? [] : { name, bytes }))
  return {
    quote: bend.mangle === undefined ? quote : bend.mangle(toBytes(quote)),
    endorsements: sortEndorsements(present),
    anchors: bend.anchored === false ? [] : parseTrustAnchors(utf8(`Kind: tdx\n${intel.root.pem}`)),
    now: NOON,
    revocation: 'required',
    policy: completeTdxPolicy(bend.policy ?? {}),
    expectedReportData: REPORT_DATA,
    eventLog: log.bytes,
    ...bend.input,
  }
}

export async function runBent(bend: Bend = {}): Promise<Outcome> {
  return run(bentInput(bend))
}

/** An HCL envelope with these claims under SHA-256. */
export function hclEnvelope(claims: Uint8Array): Bytes {
  const u32 = (...values: number[]): Uint8Array => new Uint8Array(new Uint32Array(values).buffer)
  const runtime = concat(u32(20 + claims.length, 1, 4, 1, claims.length), claims)
  const head = concat(utf8('HCLA'), u32(2, 32 + 1184 + runtime.length, 2, 0), new Uint8Array(12))
  return concat(head, new Uint8Array(1184), runtime)
}
