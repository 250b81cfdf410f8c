/** What a directory lists, sorted into what may be tried and what may not, and in which order. Nothing here asks anybody. */
import type { KeptDescriptor } from '../../verifier/directory/collect.js'
import type { Listing } from '../../verifier/directory/listing.js'
import type { SubrosaError } from '../errors.js'
import type { WorkerSession } from '../session.js'
import { privateEndpoint } from './addresses.js'
import { comparePrices, type Intent, misfitOf } from './intent.js'

export interface Candidate {
  /** Provider and URL: what one provider says of a worker says nothing of what another does. */
  readonly key: string
  readonly listing: Listing
  /** When its descriptor ends, in seconds since the epoch. */
  readonly exp: number
  /** Why it is not to be tried. */
  readonly misfit?: string
}

export function candidatesOf(
  kept: readonly KeptDescriptor[],
  intent: Intent,
  allowPrivateEndpoints: boolean,
): readonly Candidate[] {
  return kept.flatMap(({ payload: { provider, name, exp, endpoints } }) =>
    endpoints.map((endpoint) => {
      const barred = allowPrivateEndpoints ? undefined : privateEndpoint(new URL(endpoint.url))
      const misfit = misfitOf(endpoint, intent) ?? barred
      return {
        key: `${provider} ${endpoint.url}`,
        listing: { provider, ...(name === undefined ? {} : { name }), endpoint },
        exp,
        ...(misfit === undefined ? {} : { misfit }),
      }
    }),
  )
}

/** What came of asking a candidate. */
export interface Trial {
  /** Held while the worker is. */
  readonly session?: WorkerSession
  /** How long its evidence took, where it was verified. */
  readonly latencyMs?: number
  readonly error?: SubrosaError
  /** Counts up; of two failures the later one has the higher. */
  readonly failedAt?: number
}

/**
 * Best first: those that did not fail before those that did, which come back the longest ago first, so that a list full of liars
 * only delays. `random` (0 to 1) spreads clients over what they know nothing of.
 */
export function inOrderOf(
  candidates: readonly Candidate[],
  { prefer = 'latency' }: Intent,
  trials: ReadonlyMap<string, Trial>,
  random: () => number,
): readonly Candidate[] {
  const known = candidates.map((candidate) => ({ candidate, lot: random(), ...trials.get(candidate.key) }))
  const price = (a: Candidate, b: Candidate) => comparePrices(a.listing.endpoint.price, b.listing.endpoint.price)
  return known
    .sort((a, b) => {
      const failed = (a.failedAt ?? 0) - (b.failedAt ?? 0)
      if (failed !== 0) return failed
      const cheaper = prefer === 'price' ? price(a.candidate, b.candidate) : 0
      if (cheaper !== 0) return cheaper
      const [slow, slower] = [a.latencyMs ?? Number.MAX_VALUE, b.latencyMs ?? Number.MAX_VALUE]
      return slow - slower || a.lot - b.lot
    })
    .map(({ candidate }) => candidate)
}
