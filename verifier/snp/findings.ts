/** What verification found besides verdicts: which product, which key, what it rests on, until when, and what stays open. */
import { type Bytes, isZero } from '../protocol/bytes.js'
import type { TrustAnchor } from '../trust-anchors.js'
import type { RevocationList } from '../x509.js'
import { isProvisional } from './appraise.js'
import type { Chain } from './authenticity.js'
import { roleOfReport, trustOf } from './chain.js'
import type { SnpEvidence } from './evidence.js'
import { type Product, productOfCpuid, type TcbLayout } from './product.js'
import { reservedInUse, type SnpReport } from './report.js'
import type { VekRole } from './vek.js'

export interface SnpFindings {
  readonly report: SnpReport
  /** The chain's product line, or what the CPUID fields name while there is no chain. */
  readonly product: string
  /** How TCBs of this product read; undefined while the product is unknown. */
  readonly tcbLayout: TcbLayout | undefined
  /** The root is one the policy added, not AMD's. */
  readonly privateAnchor: boolean
  readonly signer: VekRole | undefined
  /** MEASUREMENT names a cloud's paravisor, never software of the guest's owner. */
  readonly paravisorMeasurement: boolean
  /** Certificates and CRLs the verdict depended on; instants are RFC 3339. */
  readonly endorsementsUsed: readonly {
    readonly kind: string
    readonly issuedAt: string | null
    readonly nextUpdate: string | null
  }[]
  /** DER of the same, for keeping beside the evidence. */
  readonly endorsementBytes: readonly Bytes[]
  /** When the first of those expires. The epoch while there is no chain. */
  readonly validUntil: Date
  readonly notProven: readonly { readonly id: string; readonly text: string }[]
  /** Worth knowing, neither good nor bad. */
  readonly notes: readonly string[]
}

export function describeFindings(
  report: SnpReport,
  { hcl }: SnpEvidence,
  product: Product | undefined,
  chain: Chain | undefined,
  lists: readonly RevocationList[],
  anchors: readonly TrustAnchor[],
): SnpFindings {
  const path = chain === undefined ? [] : [chain.vek, chain.issuer, chain.root]
  const expiries = [...path.map((item) => item.notAfter), ...lists.map((list) => list.nextUpdate)]
  const known = product ?? (report.cpuid === undefined ? undefined : productOfCpuid(report.cpuid))
  const trust = chain === undefined ? undefined : trustOf(chain.root, anchors)
  return {
    report,
    product: known?.name ?? 'unknown',
    tcbLayout: known?.tcbLayout,
    privateAnchor: trust?.pinned === false,
    signer: roleOfReport(report),
    paravisorMeasurement: hcl !== undefined,
    endorsementsUsed: [
      ...path.map((item) => used(item.subjectCommonName ?? 'certificate', item.notBefore, item.notAfter)),
      ...lists.map((list) => used(`CRL of ${list.issuerCommonName ?? '?'}`, list.thisUpdate, list.nextUpdate)),
    ],
    // Copies: what was parsed is remembered, and callers own what they are given.
    endorsementBytes: [...path, ...lists].map((item) => new Uint8Array(item.der)),
    validUntil: new Date(chain === undefined ? 0 : Math.min(...expiries.map((date) => date.getTime()))),
    notProven: limitsOf(report, known, hcl !== undefined),
    notes: notesOf(report, known),
  }
}

function used(kind: string, from: Date, to: Date): SnpFindings['endorsementsUsed'][number] {
  return { kind, issuedAt: from.toISOString(), nextUpdate: to.toISOString() }
}

/** What this evidence cannot show, however genuine. */
function limitsOf(report: SnpReport, product: Product | undefined, paravisor: boolean): SnpFindings['notProven'] {
  const out: { id: string; text: string }[] = []
  if (roleOfReport(report) === 'VLEK') {
    out.push({
      id: 'snp.vlek-shared',
      text: 'which machine this is: the signing key is held by a cloud provider and shared by many of its hosts',
    })
  }
  if (product?.name === 'Milan') {
    out.push({
      id: 'snp.milan-chip-secrets',
      text: 'that this chip’s secrets are still secret: attacks that extract them from Milan parts have been published',
    })
  }
  if (isZero(report.chipId)) out.push({ id: 'snp.chip-id-masked', text: 'which chip this is: CHIP_ID is not reported' })
  if (report.version < 3) {
    out.push({
      id: 'snp.alias-check',
      text: 'that memory modules were checked for aliases: version 2 reports do not say',
    })
  }
  if (paravisor) {
    out.push({
      id: 'snp.paravisor',
      text: 'which software runs inside: MEASUREMENT names the cloud’s paravisor, which the cloud provider controls',
    })
  }
  return out
}

function notesOf(report: SnpReport, product: Product | undefined): readonly string[] {
  const reserved = reservedInUse(report)
  const out: string[] = []
  if (product !== undefined && isProvisional(report, product)) {
    out.push('provisional firmware: CURRENT is above COMMITTED, and the host can still roll it back')
  }
  if (product?.announced === true) out.push(`${product.name} is announced, unseen: its layout follows documents only`)
  if (reserved.length > 0) out.push(`reserved bytes in use: ${reserved.join(', ')}`)
  return out
}
