/**
 * Several workers, one held at a time: one that verifies, by whatever order its finder has. When the held one stops verifying
 * or answering, or refuses inside the encryption, another is found, and nothing but requests for evidence is sent meanwhile.
 */
import type { Listing } from '../verifier/directory/listing.js'
import { NotTrustedError, PolicyError, SessionError, SubrosaError, UnprovenError, UsageError } from './errors.js'
import type { WorkerSession } from './session.js'
import { UnavailableError } from './transport-errors.js'

export interface HeldWorker {
  readonly url: string
  readonly session: WorkerSession
  /** How a provider lists it, where it was found through a directory. */
  readonly listing?: Listing
}

/** Where a pool gets its workers. */
export interface WorkerFinder {
  /** How many there are to choose from: a request is offered to no more. */
  readonly size: number
  /** One that is verified now and not among `without`. @throws NoWorkerError; whatever else makes it useless to try again. */
  find(without: ReadonlySet<string>): Promise<FoundWorker>
  /** Whether a worker it found may still be used, apart from what its session says. */
  keeps?(worker: HeldWorker): boolean
  /** Hears that a worker it found failed. */
  failed?(worker: HeldWorker, error: unknown): void
  close(): void
}

export interface FoundWorker {
  readonly worker: HeldWorker
  /** Why others were not taken. */
  readonly failures: readonly WorkerFailure[]
}

/** Why one worker is not held. */
export interface WorkerFailure {
  readonly url: string
  readonly error: Error
}

const MOST_TOLD = 6

/**
 * None of the workers verifies now: `pool.no-worker`. Nothing was sent.
 * What to do: read `failures`; start a worker, name another, or change your policy if you mean to.
 */
export class NoWorkerError extends SubrosaError {
  readonly failures: readonly WorkerFailure[]

  /** `besides`: why others were not even tried. */
  constructor(failures: readonly WorkerFailure[], besides?: string) {
    const told = failures.slice(0, MOST_TOLD).map(({ url, error }) => `${new URL(url).host}: ${error.message}`)
    if (failures.length > MOST_TOLD) told.push(`${failures.length - MOST_TOLD} more`)
    super('pool.no-worker', [...told, ...(besides === undefined ? [] : [besides])].join('; '))
    this.failures = failures
  }

  /** Ids of the checks that stand in the way, over all workers. */
  get checks(): readonly string[] {
    const checksOf = (error: Error & { readonly checks?: readonly string[] }) => error.checks ?? []
    return [...new Set(this.failures.flatMap(({ error }) => checksOf(error)))]
  }
}

const NOBODY: ReadonlySet<string> = new Set()

export class WorkerPool {
  readonly #finder: WorkerFinder
  readonly #now: () => Date
  #held: HeldWorker | undefined
  #finding: Promise<HeldWorker> | undefined
  #failures: readonly WorkerFailure[] = []
  #refusal: NoWorkerError | undefined
  #closed = false

  constructor(finder: WorkerFinder, now: () => Date = () => new Date()) {
    this.#finder = finder
    this.#now = now
  }

  /** The held worker, if what was proven of it still holds on this machine's clock and nothing since has put it in doubt. */
  get held(): HeldWorker | undefined {
    try {
      const { worker, doubted } = this.#held?.session ?? {}
      return worker !== undefined && doubted === false && this.#now() < worker.validUntil ? this.#held : undefined
    } catch {
      return undefined // the session dropped a worker that no longer verifies
    }
  }

  /** Why other workers are not held. */
  get failures(): readonly WorkerFailure[] {
    return this.#failures
  }

  /** Why none is held; undefined before the first look is over. */
  get refusal(): NoWorkerError | undefined {
    return this.#refusal
  }

  /** A worker that is verified now and none of `without`. @throws NoWorkerError; UsageError when the policy cannot protect a prompt. */
  async acquire(without: ReadonlySet<string> = NOBODY): Promise<HeldWorker> {
    const held = this.#held
    if (held !== undefined && !without.has(held.url)) {
      try {
        if (this.#finder.keeps?.(held) !== false) {
          await held.session.ready()
          return held
        }
        this.#held = undefined
      } catch (error) {
        this.release(held, error)
      }
    }
    if (without.size > 0) return this.#find(without)
    this.#finding ??= this.#find(NOBODY).finally(() => {
      this.#finding = undefined
    })
    return this.#finding
  }

  /**
   * Seals a request to the held worker. To the next one only when the first cannot have processed it: it reached nobody, or was
   * refused inside the encryption by a status that says so (P-15.11). One that did not prove itself is not asked again. `path` is what follows `/v1`.
   * @throws what a session's `fetch` throws, also where nobody is left after a worker that did not prove itself; NoWorkerError.
   */
  async send(path: string, init: RequestInit): Promise<{ readonly worker: HeldWorker; readonly answer: Response }> {
    const refused = new Set<string>()
    let worker = await this.acquire()
    for (let attempt = 1; ; attempt++) {
      init.signal?.throwIfAborted()
      const { session } = worker
      let answer: Response
      try {
        answer = await session.fetch(`${session.baseURL}${path}`, init)
      } catch (error) {
        const again = reachedNobody(error) && attempt <= this.#finder.size
        const gone =
          error instanceof UnavailableError || error instanceof NotTrustedError || error instanceof UnprovenError
        if (again || gone) this.release(worker, error)
        if (!again) throw error
        const unproven = error instanceof UnprovenError
        // Its evidence is in order, so it would be found again before any other.
        if (unproven) refused.add(worker.url)
        worker = await this.acquire(refused).catch((none: unknown) => {
          throw unproven && none instanceof NoWorkerError ? error : none
        })
        continue
      }
      const unprocessed = UNPROCESSED.has(answer.status) && session.sealedOnce(answer)
      if (!unprocessed || attempt >= this.#finder.size) return { worker, answer }
      refused.add(worker.url)
      const next = await this.acquire(refused).catch(() => undefined)
      if (next === undefined) return { worker, answer }
      await answer.body?.cancel().catch(() => undefined)
      worker = next
    }
  }

  /** Lets go of a worker that failed, if it is still the held one. */
  release(worker: HeldWorker, error: unknown): void {
    this.#finder.failed?.(worker, error)
    if (this.#held !== worker) return
    this.#held = undefined
    this.#refusal = new NoWorkerError([{ url: worker.url, error: asError(error) }])
    this.#failures = this.#refusal.failures
  }

  close(): void {
    this.#closed = true
    this.#held?.session.close()
    this.#held = undefined
    this.#finder.close()
  }

  async #find(without: ReadonlySet<string>): Promise<HeldWorker> {
    try {
      const { worker, failures } = await this.#finder.find(without)
      if (this.#closed) {
        worker.session.close()
        throw new SessionError('client.closed', 'the pool is closed')
      }
      this.#failures = failures
      this.#held = worker
      return worker
    } catch (error) {
      if (error instanceof NoWorkerError && without.size === 0) {
        this.#refusal = error
        this.#failures = error.failures
      }
      throw error
    }
  }
}

/** Statuses that say, inside the encryption, that a request was not processed (P-7.8) and that another worker may take it. */
const UNPROCESSED: ReadonlySet<number> = new Set([429, 503])

/** Workers by their addresses: the first, in the order given, that verifies. `connect` verifies one. */
export function inOrder(urls: readonly string[], connect: (url: string) => Promise<WorkerSession>): WorkerFinder {
  return {
    size: urls.length,
    async find(without) {
      const failures: WorkerFailure[] = []
      for (const url of urls) {
        if (without.has(url)) continue
        try {
          return { worker: { url, session: await connect(url) }, failures }
        } catch (error) {
          failures.push({ url, error: refusalOf(error) })
        }
      }
      throw new NoWorkerError(failures)
    },
    close: () => undefined,
  }
}

/** An error of one worker, as such. @throws it when it is the caller's mistake, which no other worker mends, or a defect of ours. */
export function refusalOf(error: unknown): SubrosaError {
  if (error instanceof SubrosaError && !(error instanceof UsageError) && !(error instanceof PolicyError)) return error
  throw error
}

/**
 * Whether an error of a session's `fetch` says that the request reached nobody who could have opened it, so that it may go to another
 * worker without being processed twice: evidence was refused or could not be had, possession was not proven, or no connection came about.
 */
export function reachedNobody(error: unknown): boolean {
  if (error instanceof NotTrustedError) return !error.possiblyProcessed
  if (error instanceof UnprovenError) return true
  if (!(error instanceof SubrosaError)) return false
  if (error.code.startsWith('worker.') || error.code === 'client.no-current-key') return true
  return error.code === 'transport.unavailable' && neverConnected(error.cause)
}

function neverConnected(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined
  const code = cause instanceof Error && 'code' in cause ? cause.code : undefined
  return (
    code === 'ECONNREFUSED' || code === 'ENOTFOUND' || code === 'EHOSTUNREACH' || code === 'UND_ERR_CONNECT_TIMEOUT'
  )
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error))
}
