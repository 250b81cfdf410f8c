/**
 * From a directory and an intent to a verified worker (PROTOCOL.md §15). Listed workers that fit are asked for evidence, a few
 * at a time and in an order that no liar can make endless; the best of those that verify is taken. Prompts never come here.
 */
import { type Collection, collectDescriptors, type DescriptorSourceList } from '../../verifier/directory/collect.js'
import { verifyListing } from '../../verifier/directory/listing.js'
import { SubrosaError } from '../errors.js'
import type { Reach } from '../lines.js'
import { promptPolicy } from '../prompt-policy.js'
import { type ConnectOptions, connectOver, type WorkerSession } from '../session.js'
import {
  type FoundWorker,
  type HeldWorker,
  NoWorkerError,
  refusalOf,
  type WorkerFailure,
  type WorkerFinder,
} from '../worker-pool.js'
import { type Candidate, candidatesOf, inOrderOf, type Trial } from './candidates.js'
import { ListingError, TooSlowError } from './errors.js'
import { checkIntent, comparePrices, type Intent, policyFor } from './intent.js'
import { type RouteReport, reportOf } from './report.js'
import type { FailedSource, ReadSources } from './sources.js'

export interface RouterOptions {
  /** Reads every directory anew. */
  readonly read: () => Promise<ReadSources>
  readonly intent: Intent
  /** How candidates are verified. */
  readonly connect: ConnectOptions
  /** Reaches listed endpoints, and must refuse what is not public, unless that is allowed. */
  readonly reach: Reach
  /**
   * Also tries endpoints that are not `https:` or not on public addresses. A list then makes this machine ask whatever its
   * author likes, on this machine and its network, for evidence.
   */
  readonly allowPrivateEndpoints?: boolean
  /** How long better ones are waited for once one has verified, in milliseconds. Default 2,000. */
  readonly patienceMs?: number
  /** Milliseconds that only ever grow. Default: the platform's. */
  readonly elapsedMs?: () => number
  /** From 0 to 1. Default: `Math.random`. */
  readonly random?: () => number
}

/** Candidates asked at once, and at most for one worker. */
const PARALLEL = 4
const MOST_TRIED = 24
/** So many verified workers are chosen from, where the nearest is wanted. */
const ENOUGH = 3
const PATIENCE_MS = 2_000
const TIMEOUT_MS = 10_000
/** Verified workers kept at hand for the day the chosen one fails. */
const MOST_KEPT = 8
/** Workers one request is offered to. */
const MOST_OFFERED = 8
const OVERDUE = new TooSlowError('it gave no evidence while others that did were at hand')
/** A directory is read again when it is this old, and sooner when it could not be. */
const READ_AGAIN_MS = 600_000
const READ_RETRY_MS = 30_000

interface Verified {
  readonly candidate: Candidate
  readonly session: WorkerSession
  readonly latencyMs: number
}

export class Router implements WorkerFinder {
  readonly #options: RouterOptions
  readonly #now: () => Date
  readonly #elapsedMs: () => number
  /** The last that could be read of each source. */
  readonly #lists = new Map<string, DescriptorSourceList>()
  readonly #trials = new Map<string, Trial>()
  #sourceFailures: readonly FailedSource[] = []
  #collection: Collection = { kept: [], leftOut: [], newest: new Map() }
  #candidates: readonly Candidate[] = []
  #chosen: string | undefined
  #reading: Promise<void> | undefined
  #readAgainAt = Number.NEGATIVE_INFINITY
  #failureCount = 0
  #closed = false

  /** @throws UsageError on an intent or a policy that cannot be meant, before any network. */
  constructor(options: RouterOptions) {
    checkIntent(options.intent)
    const policy = policyFor(options.intent, promptPolicy(options.connect.policy))
    this.#options = { ...options, connect: { timeoutMs: TIMEOUT_MS, ...options.connect, policy: { resolved: policy } } }
    this.#now = options.connect.now ?? (() => new Date())
    this.#elapsedMs = options.elapsedMs ?? (() => performance.now())
  }

  get size(): number {
    return Math.min(MOST_OFFERED, Math.max(1, this.#fitting().length))
  }

  async find(without: ReadonlySet<string>): Promise<FoundWorker> {
    await this.#read()
    const allowed = this.#fitting().filter(({ listing }) => !without.has(listing.endpoint.url))
    const queue = this.#ordered(allowed).slice(0, MOST_TRIED)
    const { patienceMs = PATIENCE_MS } = this.#options
    const verified = await this.#verify(queue, { enough: ENOUGH, patienceMs })
    const failures = this.#failuresOf(queue)
    const best = this.#best(verified)
    if (best === undefined) throw new NoWorkerError(failures, this.#besides())
    this.#forgetMost()
    return { worker: heldOf(best), failures }
  }

  /** Whether the worker is still listed and what its provider says of it still fits; reads the directory again when it is time. */
  keeps({ url, listing }: HeldWorker): boolean {
    if (this.#elapsedMs() >= this.#readAgainAt) this.#read().catch(() => undefined)
    return this.#fitting().some((one) => one.listing.endpoint.url === url && one.listing.provider === listing?.provider)
  }

  failed({ url, listing }: HeldWorker, error: unknown): void {
    const known = error instanceof SubrosaError ? { error } : {}
    this.#trials.set(`${listing?.provider} ${url}`, { ...known, failedAt: ++this.#failureCount })
  }

  /** Asks every candidate that fits, `limit` at most, and waits for each. @throws what made every directory unreadable. */
  async survey(limit: number): Promise<RouteReport> {
    await this.#read()
    const [unread] = this.#sourceFailures
    if (unread !== undefined && this.#lists.size === 0) throw unread.error
    const queue = this.#ordered(this.#fitting()).slice(0, limit)
    this.#best(await this.#verify(queue, { enough: Number.POSITIVE_INFINITY, patienceMs: undefined }))
    return this.report()
  }

  /** What is known of every listed worker. */
  report(): RouteReport {
    const leftOut = [...this.#sourceFailures, ...this.#collection.leftOut]
    return reportOf(this.#candidates, leftOut, this.#trials, this.#chosen)
  }

  close(): void {
    this.#closed = true
    for (const { session } of this.#trials.values()) session?.close()
    this.#trials.clear()
  }

  #fitting(): readonly Candidate[] {
    const now = this.#now().getTime() / 1000
    return this.#candidates.filter(({ misfit, exp }) => misfit === undefined && now < exp)
  }

  #ordered(candidates: readonly Candidate[]): readonly Candidate[] {
    const { intent, random = Math.random } = this.#options
    return inOrderOf(candidates, intent, this.#trials, random)
  }

  async #read(): Promise<void> {
    if (this.#elapsedMs() < this.#readAgainAt) return
    this.#reading ??= this.#readNow().finally(() => {
      this.#reading = undefined
    })
    await this.#reading
  }

  async #readNow(): Promise<void> {
    const { read, intent, allowPrivateEndpoints = false } = this.#options
    const { lists, failures } = await read().catch((error: unknown): ReadSources => {
      // What was read before stays, also where a file is not there any more.
      if (this.#lists.size === 0 || !(error instanceof SubrosaError)) throw error
      return { lists: [], failures: [{ source: 'a directory', reason: error.message, malformed: false, error }] }
    })
    for (const list of lists) this.#lists.set(list.source, list)
    this.#sourceFailures = failures
    this.#collection = await collectDescriptors([...this.#lists.values()], this.#now(), this.#collection.newest)
    this.#candidates = candidatesOf(this.#collection.kept, intent, allowPrivateEndpoints)
    const listed = new Set(this.#candidates.map(({ key }) => key))
    for (const key of this.#trials.keys()) if (!listed.has(key)) this.#trials.delete(key)
    this.#readAgainAt = this.#elapsedMs() + (failures.length === 0 ? READ_AGAIN_MS : READ_RETRY_MS)
  }

  /** Asks candidates in this order until enough have verified, or patience ends after the first that has. */
  async #verify(
    order: readonly Candidate[],
    { enough, patienceMs }: { readonly enough: number; readonly patienceMs: number | undefined },
  ): Promise<readonly Verified[]> {
    const verified: Verified[] = []
    const stop = new AbortController()
    let patience: ReturnType<typeof setTimeout> | undefined
    const unsettled = new Set(order)
    const left = [...order]
    // Where the cheapest is wanted, one that verified is the best as soon as nobody cheaper can come any more.
    const isBest = (): boolean => {
      if (patienceMs === undefined || this.#options.intent.prefer !== 'price') return false
      const first = order.find((one) => unsettled.has(one) || verified.some(({ candidate }) => candidate === one))
      return first !== undefined && !unsettled.has(first)
    }
    const work = async (): Promise<void> => {
      for (let next = left.shift(); next !== undefined; next = left.shift()) {
        const one = await this.#ask(next, stop.signal)
        unsettled.delete(next)
        if (one !== undefined) verified.push(one)
        if (verified.length === 0) continue
        if (verified.length >= enough || isBest()) stop.abort()
        if (patienceMs !== undefined) patience ??= setTimeout(() => stop.abort(OVERDUE), patienceMs)
        if (stop.signal.aborted) return
      }
    }
    try {
      await Promise.all(Array.from({ length: PARALLEL }, work))
    } finally {
      clearTimeout(patience)
    }
    return verified
  }

  /** One candidate's evidence, verified, and held against its listing. Undefined when it does not hold, or nobody waits for it any more. */
  async #ask(candidate: Candidate, signal: AbortSignal): Promise<Verified | undefined> {
    const { connect: options, intent } = this.#options
    const { listing, key } = candidate
    const before = this.#trials.get(key)
    let asked = false
    try {
      signal.throwIfAborted()
      asked = true
      const timed = this.#timed()
      let session = before?.session
      if (session === undefined) session = await connectOver(listing.endpoint.url, { ...options, signal }, timed.reach)
      else await unlessAborted(session.ready(), signal)
      if (this.#closed) session.close()
      const latencyMs = before?.session === undefined ? timed.latencyMs() : (before.latencyMs ?? 0)
      const { verdict, checks } = verifyListing(listing, session.worker.statement)
      if (verdict !== 'accepted') throw new ListingError(checks)
      if (latencyMs > (intent.maxLatencyMs ?? Number.POSITIVE_INFINITY)) {
        throw new TooSlowError(`its evidence took ${Math.round(latencyMs)} ms, more than ${intent.maxLatencyMs} ms`)
      }
      this.#trials.set(key, { session, latencyMs })
      return { candidate, session, latencyMs }
    } catch (error) {
      if (signal.aborted) {
        // Whoever lets others wait is not among the first to be asked next time.
        const overdue = signal.reason === OVERDUE && asked
        if (overdue) this.#trials.set(key, { failedAt: ++this.#failureCount, error: OVERDUE })
        return undefined
      }
      this.#trials.set(key, { failedAt: ++this.#failureCount, error: refusalOf(error) })
      return undefined
    }
  }

  /** Measures the first exchange, which is the request for evidence, up to the head of its answer. */
  #timed(): { readonly reach: Reach; latencyMs(): number } {
    let latencyMs: number | undefined
    return {
      reach: (worker) => {
        const lines = this.#options.reach(worker)
        return {
          fetch: async (input, init) => {
            const from = this.#elapsedMs()
            const response = await lines.fetch(input, init)
            latencyMs ??= this.#elapsedMs() - from
            return response
          },
          take: (fresh) => lines.take(fresh),
          drop: () => lines.drop(),
          close: () => lines.close(),
        }
      },
      latencyMs: () => latencyMs ?? 0,
    }
  }

  #best(verified: readonly Verified[]): Verified | undefined {
    const byPrice = this.#options.intent.prefer === 'price'
    const [best] = [...verified].sort((a, b) => {
      const [one, other] = [a, b].map(({ candidate }) => candidate.listing.endpoint.price ?? null)
      return (byPrice ? comparePrices(one ?? null, other ?? null) : 0) || a.latencyMs - b.latencyMs
    })
    this.#chosen = best?.candidate.key
    return best
  }

  #failuresOf(tried: readonly Candidate[]): readonly WorkerFailure[] {
    return tried.flatMap(({ key, listing }) => {
      const error = this.#trials.get(key)?.error
      return error === undefined ? [] : [{ url: listing.endpoint.url, error }]
    })
  }

  /** Why there are no more candidates than there are. */
  #besides(): string | undefined {
    const unfit = this.#candidates.filter(({ misfit }) => misfit !== undefined)
    const { leftOut } = this.#collection
    const words = [
      ...this.#sourceFailures.map(({ source, reason }) => `no directory from ${source}: ${reason}`),
      ...(unfit.length === 0 ? [] : [`${unfit.length} listed do not fit, the first because ${unfit[0]?.misfit}`]),
      ...(leftOut.length === 0
        ? []
        : [`${leftOut.length} descriptors left out, the first because ${leftOut[0]?.reason}`]),
    ]
    if (words.length === 0 && this.#candidates.length === 0) return 'no worker is listed'
    return words.length === 0 ? undefined : words.join('; ')
  }

  /** Verified workers beyond the best few are forgotten; what was learnt of their latency is kept. */
  #forgetMost(): void {
    const kept = [...this.#trials].filter(([key, { session }]) => session !== undefined && key !== this.#chosen)
    kept.sort(([, a], [, b]) => (a.latencyMs ?? 0) - (b.latencyMs ?? 0))
    for (const [key, { latencyMs = 0 }] of kept.slice(MOST_KEPT)) this.#trials.set(key, { latencyMs })
  }
}

function heldOf({ candidate: { listing }, session }: Verified): HeldWorker {
  return { url: listing.endpoint.url, session, listing }
}

/** What it waits for is shared, and goes on. */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const leave = (): void => reject(signal.reason)
    signal.addEventListener('abort', leave, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', leave))
  })
}
