/**
 * Appraisal with a network: appraise with what is at hand; if something was missing, or the revocation list at hand is the
 * worker's own choice, ask the hardware maker and appraise again. Never loosens anything: the second appraisal is the
 * same recipe over more endorsements.
 */
import { type VerifyOptions, verifyEvidence } from './appraise.js'
import { detectEvidence } from './detect.js'
import type { EndorsementFetcher } from './endorsement-fetch.js'
import { type EndorsementFile, mergePools, sortEndorsements } from './endorsements.js'
import { UnavailableError } from './errors.js'
import { parseBundle } from './protocol/bundle.js'
import type { Bytes } from './protocol/bytes.js'
import { MEDIA_TYPE_TDX_QUOTE } from './protocol/constants.js'
import { FormatError } from './protocol/errors.js'
import type { AttestationResult } from './result.js'
import { readSnpEvidence } from './snp/evidence.js'
import { fetchSnpEndorsements } from './snp/kds-fetch.js'
import { parseSnpReport } from './snp/report.js'
import { readTdxEvidence } from './tdx/evidence.js'
import type { PcsOptions } from './tdx/pcs.js'
import { fetchTdxEndorsements } from './tdx/pcs-fetch.js'
import { parseTdxQuote } from './tdx/quote.js'

export interface OnlineOptions extends PcsOptions {
  readonly fetcher: EndorsementFetcher
}

export interface OnlineResult {
  readonly result: AttestationResult
  /** Why something could not be fetched, for people; the result then rests on what was at hand. */
  readonly notice?: string
}

/** As `verifyEvidence`, with a hardware maker to ask. Network trouble never throws: what is missing stays missing. */
export async function verifyOnline(
  evidence: Bytes,
  options: VerifyOptions,
  online: OnlineOptions,
): Promise<OnlineResult> {
  const first = await verifyEvidence(evidence, options)
  // Nobody but its owner vouches for private hardware, and there is nothing to ask about what is no evidence.
  const pointless = first.verdict === 'malformed' || first.notProven.some((item) => item.id === 'hardware.private-root')
  if (pointless) return { result: first }
  try {
    const fetched = sortEndorsements(await fetchEndorsements(evidence, first, options, online))
    const endorsements = options.endorsements === undefined ? fetched : mergePools(options.endorsements, fetched)
    return { result: await verifyEvidence(evidence, { ...options, endorsements }) }
  } catch (error) {
    if (error instanceof FormatError) return { result: first }
    if (!(error instanceof UnavailableError)) throw error
    return { result: first, notice: `could not ask the hardware maker: ${error.message}` }
  }
}

async function fetchEndorsements(
  evidence: Bytes,
  first: AttestationResult,
  { policy }: VerifyOptions,
  online: OnlineOptions,
): Promise<EndorsementFile[]> {
  const { kind, bytes } = cpuEvidenceIn(evidence)
  if (kind === 'gpu') return []
  const missing = (id: string) =>
    first.checks.some((check) => check.id === id && check.status === 'skip' && !first.waived.includes(id))
  // A list that came with the evidence was chosen by whoever sent it; the newest is asked for all the same.
  const lists = policy.revocation !== 'off'
  if (kind === 'tdx') {
    const quote = parseTdxQuote(readTdxEvidence(bytes).quote)
    return fetchTdxEndorsements(quote, { collateral: true, crls: lists }, online.fetcher, online)
  }
  const needs = {
    vek: missing('snp.vek.present'),
    chain: missing('snp.chain.complete') || missing('snp.vek.present'),
    crl: lists,
  }
  return fetchSnpEndorsements(parseSnpReport(readSnpEvidence(bytes).report), needs, online.fetcher)
}

function cpuEvidenceIn(evidence: Bytes): { readonly kind: 'snp' | 'tdx' | 'gpu'; readonly bytes: Bytes } {
  const { kind, bytes } = detectEvidence(evidence)
  if (kind !== 'bundle') return { kind, bytes }
  const { cpu } = parseBundle(bytes)
  return { kind: cpu.type === MEDIA_TYPE_TDX_QUOTE ? 'tdx' : 'snp', bytes: cpu.evidence }
}
