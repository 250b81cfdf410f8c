/** What verification found besides verdicts: what the quote says, what it rests on, until when, and what stays open. */
import { type Bytes, isZero, toHex } from '../protocol/bytes.js'
import type { RevocationList } from '../x509.js'
import type { Certified, CrlOutcomes } from './authenticity.js'
import type { Collateral } from './collateral-checks.js'
import { describeEventLog, type EventLog } from './event-log.js'
import { describePckClaims, type PckClaims } from './pck.js'
import type { TdxPolicy } from './policy.js'
import { describeTdxQuote, type TdxQuote } from './quote.js'
import type { CrlOutcome } from './revocation.js'
import type { TdxTcb } from './tcb.js'
import { describeTcb, graceUntil } from './tcb-checks.js'
import { rtmrsOf } from './td-report.js'

export interface TdxFindings {
  readonly quote: TdxQuote
  readonly mrTd: Bytes
  /** RTMR0 to RTMR3. */
  readonly rtmrs: readonly [Bytes, Bytes, Bytes, Bytes]
  /** The platform by its PCK certificate; undefined when that could not be read. */
  readonly pck: PckClaims | undefined
  /** The chain ends in a root the policy added, not in Intel's. */
  readonly privateAnchor: boolean
  /** Undefined without collateral for this platform. */
  readonly tcb: TdxTcb | undefined
  readonly eventLog: EventLog | undefined
  /** MRTD names a cloud's paravisor, never software of the guest's owner. */
  readonly paravisorMeasurement: boolean
  /** Certificates, CRLs and collateral the verdict depended on; instants are RFC 3339. */
  readonly endorsementsUsed: readonly {
    readonly kind: string
    readonly issuedAt: string | null
    readonly nextUpdate: string | null
  }[]
  /** The exact bytes of the same, but for the certificates the quote carries itself. */
  readonly endorsementBytes: readonly Bytes[]
  /** When the first of all these expires. The epoch while there is no chain. */
  readonly validUntil: Date
  readonly notProven: readonly { readonly id: string; readonly text: string }[]
}

interface Found {
  readonly quote: TdxQuote
  readonly certified: Certified | undefined
  readonly crls: CrlOutcomes | undefined
  readonly collateral: Collateral
  readonly tcb: TdxTcb | undefined
  readonly log: EventLog | undefined
  readonly paravisor: boolean
  readonly policy: TdxPolicy
  readonly now: Date
}

interface Item {
  readonly kind: string
  readonly from: Date
  readonly to: Date
  /** Absent for what the quote carries. */
  readonly bytes?: Bytes
}

export function describeFindings(found: Found): TdxFindings {
  const { quote, certified, tcb, log } = found
  const items = itemsOf(found)
  const expiries = items.map(({ to }) => to.getTime())
  return {
    quote,
    mrTd: quote.report.mrTd,
    rtmrs: rtmrsOf(quote.report),
    pck: certified?.pck,
    privateAnchor: certified?.trusted === true && !certified.pinned,
    tcb,
    eventLog: log,
    paravisorMeasurement: found.paravisor,
    endorsementsUsed: items.map(({ kind, from, to }) => ({
      kind,
      issuedAt: from.toISOString(),
      nextUpdate: to.toISOString(),
    })),
    // Copies: what is remembered must not be the caller's to write to.
    endorsementBytes: items.flatMap(({ bytes }) => (bytes === undefined ? [] : [new Uint8Array(bytes)])),
    validUntil: new Date(certified === undefined ? 0 : Math.min(...expiries)),
    notProven: limitsOf(found),
  }
}

function itemsOf({ certified, crls, collateral }: Found): readonly Item[] {
  const { tcbInfo, qeIdentity, signers } = collateral
  const chain =
    certified === undefined ? [] : [certified.chain.leaf, certified.chain.intermediate, certified.chain.root]
  const lists = [listOf(crls?.root), listOf(crls?.pck)].flatMap((list) => list ?? [])
  const documents = [
    { kind: 'TCB info', document: tcbInfo?.document },
    { kind: 'QE identity', document: qeIdentity?.document },
  ]
  return [
    ...chain.map((item) => ({
      kind: item.subjectCommonName ?? 'certificate',
      from: item.notBefore,
      to: item.notAfter,
    })),
    ...signers.map((item) => ({
      kind: item.subjectCommonName ?? 'certificate',
      from: item.notBefore,
      to: item.notAfter,
      bytes: item.der,
    })),
    ...lists.map((list) => ({
      kind: `CRL of ${list.issuerCommonName ?? '?'}`,
      from: list.thisUpdate,
      to: list.nextUpdate,
      bytes: list.der,
    })),
    ...documents.flatMap(({ kind, document }) =>
      document === undefined
        ? []
        : {
            kind: `${kind}, evaluation ${document.content.tcbEvaluationDataNumber}`,
            from: document.content.issueDate,
            to: document.content.nextUpdate,
            bytes: document.bytes,
          },
    ),
  ]
}

function listOf(outcome: CrlOutcome): RevocationList | undefined {
  return outcome !== undefined && 'list' in outcome ? outcome.list : undefined
}

/** What this evidence cannot show, however genuine, and what the policy took into the bargain. */
function limitsOf({ quote, tcb, log, policy, now }: Found): TdxFindings['notProven'] {
  const out: { id: string; text: string }[] = []
  const { report } = quote
  if (rtmrsOf(report).every(isZero)) {
    out.push({
      id: 'tdx.rtmr.unused',
      text: 'what booted after the initial firmware: every RTMR is zero, so nothing was measured into them',
    })
  }
  if (report.mrServiceTd !== undefined && !isZero(report.mrServiceTd)) {
    out.push({ id: 'tdx.service-td', text: `what service TD ${toHex(report.mrServiceTd)} does to the guest` })
  }
  // Modules of version id 1 and later have service TDs, and report in either form: whoever asks for the quote chooses.
  if (report.mrServiceTd === undefined && (report.teeTcbSvn[1] ?? 0) > 0) {
    out.push({
      id: 'tdx.service-td',
      text: 'that no service TD acts on the guest: a report of the 1.0 form has no field for it',
    })
  }
  if (tcb !== undefined && tcb.status !== 'UpToDate') {
    const until = graceUntil(tcb, policy)
    const grace = until === undefined || until < now ? '' : `, in its grace period until ${until.toISOString()}`
    out.push({
      id: 'tdx.tcb.status',
      text: `that the platform is free of published holes: ${describeTcb(tcb)}${grace}`,
    })
  }
  const unverified = log?.events.filter(({ coverage }) => coverage === 'unverified').length ?? 0
  if (unverified > 0) {
    out.push({
      id: 'tdx.event-log.remarks',
      text: `what the log says beside ${unverified} of ${log?.events.length ?? 0} digests: those data are not what was hashed`,
    })
  }
  return out
}

/** JSON-ready: every parsed field of the quote, the platform, the TCB in words and figures, and the event log. */
export function describeTdxFindings({ quote, pck, tcb, eventLog }: TdxFindings): Record<string, unknown> {
  return {
    quote: describeTdxQuote(quote),
    platform: pck === undefined ? null : describePckClaims(pck),
    tcb: tcb === undefined ? null : describeTdxTcb(tcb),
    ...(eventLog === undefined ? {} : { eventLog: describeEventLog(eventLog) }),
  }
}

function describeTdxTcb({ status, platform, module, qe, advisoryIds, tcbDate, relaunchAdvised }: TdxTcb): object {
  return {
    status,
    platform: platform.status,
    module: module === undefined ? null : { identity: module.identityId, status: module.status },
    quotingEnclave: qe.status,
    advisoryIds,
    tcbDate: tcbDate?.toISOString() ?? null,
    relaunchAdvised,
  }
}
