/** Which listed worker is used, and why each other one is not: for people, and for `--format json`. */
import type { LeftOut } from '../../verifier/directory/collect.js'
import type { ListedModel, ListedPrice } from '../../verifier/directory/descriptor.js'
import { NotTrustedError, type SubrosaError } from '../errors.js'
import type { Candidate, Trial } from './candidates.js'
import { ListingError, TooSlowError } from './errors.js'

/**
 * `chosen`, or `verified` and next in line; `unfit`: not asked, by what its provider says; `rejected`: it answered, and is not
 * acceptable or not as listed; `unreachable`; `slow`: verified, and slower than wanted; `untried`.
 */
export type CandidateStatus = 'chosen' | 'verified' | 'unfit' | 'rejected' | 'unreachable' | 'slow' | 'untried'

/** What a provider says, and what came of asking the worker. Only `chosen` and `verified` say that anything was proven. */
export interface CandidateReport {
  readonly url: string
  readonly provider: string
  readonly name: string | null
  readonly region: string
  readonly model: ListedModel
  readonly price: ListedPrice | null
  readonly status: CandidateStatus
  /** Of the answer to a request for evidence, in milliseconds. */
  readonly latencyMs: number | null
  readonly reason: string | null
  /** Ids of the checks that stand in the way. */
  readonly checks: readonly string[]
}

export interface RouteReport {
  readonly candidates: readonly CandidateReport[]
  /** Directories that could not be read, and descriptors that do not hold. */
  readonly leftOut: readonly LeftOut[]
}

const ORDER: readonly CandidateStatus[] = ['chosen', 'verified', 'rejected', 'slow', 'unreachable', 'untried', 'unfit']

export function reportOf(
  candidates: readonly Candidate[],
  leftOut: readonly LeftOut[],
  trials: ReadonlyMap<string, Trial>,
  chosen: string | undefined,
): RouteReport {
  const reports = candidates.map((candidate): CandidateReport => {
    const { provider, name = null, endpoint } = candidate.listing
    const { url, region, model, price } = endpoint
    const trial = trials.get(candidate.key)
    const found = candidate.misfit === undefined ? outcomeOf(trial, candidate.key === chosen) : unfit(candidate.misfit)
    const latencyMs = trial?.latencyMs === undefined ? null : Math.round(trial.latencyMs)
    return { url, provider, name, region, model, price, ...found, latencyMs }
  })
  const rank = ({ status, latencyMs }: CandidateReport) => ORDER.indexOf(status) * 1e9 + (latencyMs ?? 0)
  return {
    candidates: reports.sort((a, b) => rank(a) - rank(b)),
    leftOut: leftOut.map(({ source, provider, check, reason, malformed }) => ({
      source,
      ...(provider === undefined ? {} : { provider }),
      ...(check === undefined ? {} : { check }),
      reason,
      malformed,
    })),
  }
}

type Outcome = Pick<CandidateReport, 'status' | 'reason' | 'checks'>

const unfit = (reason: string): Outcome => ({ status: 'unfit', reason, checks: [] })

function outcomeOf(trial: Trial | undefined, isChosen: boolean): Outcome {
  if (trial?.session !== undefined) return { status: isChosen ? 'chosen' : 'verified', reason: null, checks: [] }
  if (trial?.error === undefined) return { status: 'untried', reason: null, checks: [] }
  return { status: statusOf(trial.error), reason: trial.error.message, checks: checksOf(trial.error) }
}

function statusOf(error: SubrosaError): CandidateStatus {
  if (error instanceof TooSlowError) return 'slow'
  return error instanceof NotTrustedError || error instanceof ListingError ? 'rejected' : 'unreachable'
}

function checksOf(error: SubrosaError): readonly string[] {
  return error instanceof NotTrustedError || error instanceof ListingError ? error.checks : []
}
