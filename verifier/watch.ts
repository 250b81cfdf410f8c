/**
 * Checking workers again and again, and saying so only when something changed. Everything it touches is passed in: the
 * clock, the wait, the verdict.
 */
import { UnavailableError } from './errors.js'
import { type AttestationResult, standingInTheWay } from './result.js'

export interface Observation {
  readonly url: string
  readonly at: Date
  /** `unreachable`: there was no evidence to judge. */
  readonly verdict: AttestationResult['verdict'] | 'unreachable'
  readonly previous: AttestationResult['verdict'] | 'unreachable' | null
  /** Ids of the checks in the way, in order. */
  readonly checks: readonly string[]
  readonly reason: string | null
}

export interface WatchOptions {
  readonly urls: readonly string[]
  readonly verify: (url: string) => Promise<AttestationResult>
  readonly report: (observation: Observation) => void
  /** Resolves when it is time for the next round, at once when aborted. */
  readonly wait: () => Promise<void>
  readonly now: () => Date
  readonly signal: AbortSignal
}

/** Runs until aborted. @throws UsageError or PolicyError from `verify`: a mistake of the caller's does not pass. */
export async function watchWorkers(options: WatchOptions): Promise<void> {
  const last = new Map<string, Observation>()
  while (!options.signal.aborted) {
    await Promise.all(
      options.urls.map(async (url) => {
        const before = last.get(url)
        const seen = { ...(await observe(url, options)), previous: before?.verdict ?? null }
        // What was being asked when the user left is not worth a line.
        if (options.signal.aborted) return
        last.set(url, seen)
        if (before === undefined || changed(before, seen)) options.report(seen)
      }),
    )
    if (!options.signal.aborted) await options.wait()
  }
}

async function observe(url: string, { verify, now, signal }: WatchOptions): Promise<Omit<Observation, 'previous'>> {
  try {
    const result = await verify(url)
    const inTheWay = result.verdict === 'accepted' ? [] : standingInTheWay(result)
    const roots = inTheWay.filter((check) => !/^(needs |not reached)/.test(check.reason ?? ''))
    const checks = roots.map((check) => check.id)
    return { url, at: now(), verdict: result.verdict, checks, reason: roots[0]?.reason ?? null }
  } catch (error) {
    if (!(error instanceof UnavailableError) && !signal.aborted) throw error
    const message = error instanceof Error ? error.message : String(error)
    return { url, at: now(), verdict: 'unreachable', checks: [], reason: message }
  }
}

function changed(before: Observation, now: Omit<Observation, 'previous'>): boolean {
  return before.verdict !== now.verdict || before.checks.join(' ') !== now.checks.join(' ')
}
