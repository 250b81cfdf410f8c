/**
 * Appraisal with a network: appraise with what is at hand; if something was missing, or the revocation list at hand is the
 * worker's own choice, ask the hardware maker and appraise again. Never loosens anything: the second appraisal is the
 * same recipe over more endorsements.
 */
import { type VerifyOptions, verifyEvidence } from './appraise.js'
import { detectEvidence } from './detect.js'
import type { EndorsementFetcher } from './endorsement-fetch.js'
import { mergePools, sortEndorsements } from './endorsements.js'
import { UnavailableError } from './errors.js'
import { parseBundle } from './protocol/bundle.js'
import type { Bytes } from './protocol/bytes.js'
import { FormatError } from './protocol/errors.js'
import type { AttestationResult } from './result.js'
import { readSnpEvidence } from './snp/evidence.js'
import { fetchSnpEndorsements, type SnpNeeds } from './snp/kds-fetch.js'
import { parseSnpReport, type SnpReport } from './snp/report.js'

export interface OnlineResult {
  readonly result: AttestationResult
  /** Why something could not be fetched, for people; the result then rests on what was at hand. */
  readonly notice?: string
}

/** As `verifyEvidence`, with a hardware maker to ask. Network trouble never throws: what is missing stays missing. */
export async function verifyOnline(
  evidence: Bytes,
  options: VerifyOptions,
  fetcher: EndorsementFetcher,
): Promise<OnlineResult> {
  const first = await verifyEvidence(evidence, options)
  const needs = needsOf(first, options)
  const report = needs === undefined ? undefined : reportIn(evidence)
  if (needs === undefined || report === undefined) return { result: first }
  try {
    const fetched = sortEndorsements(await fetchSnpEndorsements(report, needs, fetcher))
    const endorsements = options.endorsements === undefined ? fetched : mergePools(options.endorsements, fetched)
    return { result: await verifyEvidence(evidence, { ...options, endorsements }) }
  } catch (error) {
    if (!(error instanceof UnavailableError)) throw error
    return { result: first, notice: `could not ask AMD: ${error.message}` }
  }
}

/** What to ask for, or undefined when nothing would help: malformed evidence, or hardware no maker vouches for. */
function needsOf(result: AttestationResult, { policy }: VerifyOptions): SnpNeeds | undefined {
  const status = (id: string) => result.checks.find((check) => check.id === id)
  if (status('snp.report.parse')?.status !== 'pass') return undefined
  if (result.notProven.some((item) => item.id === 'hardware.private-root')) return undefined
  const missing = (id: string) => status(id)?.status === 'skip' && !result.waived.includes(id)
  const vek = missing('snp.vek.present')
  const chain = missing('snp.chain.complete')
  // A list that came with the evidence was chosen by whoever sent it; the newest is asked for all the same.
  const crl = policy.revocation !== 'off'
  return vek || chain || crl ? { vek, chain, crl } : undefined
}

function reportIn(evidence: Bytes): SnpReport | undefined {
  try {
    const { kind, bytes } = detectEvidence(evidence)
    return parseSnpReport(readSnpEvidence(kind === 'bundle' ? parseBundle(bytes).cpu.evidence : bytes).report)
  } catch (error) {
    if (error instanceof FormatError) return undefined
    throw error
  }
}
