/**
 * The second part of the TDX recipe: Intel's collateral. TCB info and QE identity must be current, of this platform, of
 * one evaluation, and signed over the exact bytes served by a TCB Signing certificate under the same root as the quote.
 */
import { type Finding, fail, pass, type Transcript, unavailable } from '../checks.js'
import type { EndorsementPool } from '../endorsements.js'
import { toHex } from '../protocol/bytes.js'
import type { Certificate } from '../x509.js'
import type { Certified } from './authenticity.js'
import { findSigners } from './chain.js'
import {
  type Choice,
  chooseCollateral,
  isCurrent,
  isForPlatform,
  type Judged,
  type QeIdentityDocument,
  type TcbInfoDocument,
} from './choose.js'
import type { EnclaveReport } from './enclave-report.js'
import { matchQeIdentity } from './qe.js'
import { type CrlOutcome, notRevoked } from './revocation.js'

export interface Collateral {
  readonly tcbInfo: Judged<TcbInfoDocument> | undefined
  readonly qeIdentity: Judged<QeIdentityDocument> | undefined
  /** Signing certificates the two rest on. */
  readonly signers: readonly Certificate[]
}

export interface CollateralInput {
  readonly pool: EndorsementPool
  readonly certified: Certified | undefined
  readonly rootCrl: CrlOutcome
  readonly qe: EnclaveReport | undefined
  /** The lowest evaluation number accepted. */
  readonly minimum: number
  readonly now: Date
}

export async function checkCollateral(t: Transcript, input: CollateralInput): Promise<Collateral> {
  const { pool, certified, rootCrl, qe, minimum, now } = input
  const root = certified?.chain.root
  const fit = await t.checkAsync('tdx.collateral.signer', async () =>
    root === undefined ? fail('no root') : findSigners(pool, root, now),
  )
  // A signer off the list outranks a revoked one with the same key: Intel re-issues certificates for one key.
  const isRevoked = (signer: Certificate): boolean =>
    rootCrl !== undefined && 'list' in rootCrl && rootCrl.list.revokedSerials.has(signer.serialHex)
  const signers = [...(fit ?? [])].sort((a, b) => Number(isRevoked(a)) - Number(isRevoked(b)))
  const choice = await chooseCollateral(pool, certified?.pck, signers, now)
  const used = [choice.tcbInfo, choice.qeIdentity].flatMap((item) =>
    'found' in item && item.found.signer !== undefined ? [item.found.signer] : [],
  )
  const relied = [...new Set(used.length > 0 ? used : signers.slice(0, 1))]
  t.check('tdx.crl.signer-status', () => notRevoked(relied, rootCrl))

  const info = t.check('tdx.collateral.tcb-info', () => read(choice.tcbInfo, 'TDX TCB info for this platform'))
  t.check('tdx.collateral.tcb-info-signature', () => signed(info))
  t.check('tdx.collateral.tcb-info-window', () => withinWindow(info, now))
  t.check('tdx.collateral.platform', () => matchPlatform(info, certified))

  const identity = t.check('tdx.collateral.qe-identity', () => read(choice.qeIdentity, 'TD QE identity'))
  t.check('tdx.collateral.qe-identity-signature', () => signed(identity))
  t.check('tdx.collateral.qe-identity-window', () => withinWindow(identity, now))

  t.check('tdx.collateral.evaluation-number', () => {
    const numbers = [info, identity].map((item) => item?.document.content.tcbEvaluationDataNumber ?? -1)
    const detail = { expected: `one number of at least ${minimum}`, actual: numbers.join(' and ') }
    if (numbers[0] !== numbers[1]) return fail('TCB info and QE identity are of different evaluations', detail)
    return numbers.some((number) => number < minimum)
      ? fail('the collateral is of an older evaluation', detail)
      : pass(undefined, detail)
  })
  t.check('tdx.qe.identity', () => {
    if (identity === undefined || qe === undefined) return fail('no QE identity')
    return matchQeIdentity(qe, identity.document.content)
  })
  return { tcbInfo: info, qeIdentity: identity, signers: relied }
}

function read<D>(choice: Choice<D>, what: string): Finding<Judged<D>> {
  if ('found' in choice) return pass(choice.found)
  return 'unusable' in choice ? fail(choice.unusable) : unavailable(`no ${what} at hand`)
}

function signed(item: Judged<TcbInfoDocument | QeIdentityDocument> | undefined): Finding {
  return item?.signer === undefined ? fail('not signed by the TCB Signing key over the bytes served') : pass()
}

function withinWindow(item: Judged<TcbInfoDocument | QeIdentityDocument> | undefined, now: Date): Finding {
  if (item === undefined) return fail('no document')
  const { issueDate, nextUpdate } = item.document.content
  const detail = { expected: now.toISOString(), actual: `${issueDate.toISOString()} to ${nextUpdate.toISOString()}` }
  if (isCurrent(item.document, now)) return pass(undefined, detail)
  return fail(now < issueDate ? 'the document is not in force yet' : 'the document has expired', detail)
}

function matchPlatform(info: Judged<TcbInfoDocument> | undefined, certified: Certified | undefined): Finding {
  if (info === undefined || certified?.pck === undefined) return fail('no TCB info')
  const { content } = info.document
  const { fmspc, pceId } = certified.pck
  const detail = {
    expected: `FMSPC ${toHex(fmspc)}, PCEID ${toHex(pceId)}`,
    actual: `FMSPC ${toHex(content.fmspc)}, PCEID ${toHex(content.pceId)}`,
  }
  return isForPlatform(info.document, certified.pck)
    ? pass(undefined, detail)
    : fail('the TCB info is another platform’s', detail)
}
