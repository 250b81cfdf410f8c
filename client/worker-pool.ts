/**
 * Several workers, one held at a time: the first, in the order given, that verifies. When the held one stops verifying or
 * answering, the next is tried, and nothing but requests for evidence is sent meanwhile.
 */
import { NotTrustedError, PolicyError, SessionError, SubrosaError, UsageError } from './errors.js'
import { type ConnectOptions, connect, type WorkerSession } from './session.js'

export interface HeldWorker {
  readonly url: string
  readonly session: WorkerSession
}

/** Why one worker is not held. */
export interface WorkerFailure {
  readonly url: string
  readonly error: Error
}

/**
 * None of the workers verifies now: `pool.no-worker`. Nothing was sent.
 * What to do: read `failures`; start a worker, name another, or change your policy if you mean to.
 */
export class NoWorkerError extends SubrosaError {
  readonly failures: readonly WorkerFailure[]

  constructor(failures: readonly WorkerFailure[]) {
    super('pool.no-worker', failures.map(({ url, error }) => `${new URL(url).host}: ${error.message}`).join('; '))
    this.failures = failures
  }

  /** Ids of the checks that stand in the way, over all workers. */
  get checks(): readonly string[] {
    return [...new Set(this.failures.flatMap(({ error }) => (error instanceof NotTrustedError ? error.checks : [])))]
  }
}

export class WorkerPool {
  readonly #urls: readonly string[]
  readonly #options: ConnectOptions
  readonly #now: () => Date
  #held: HeldWorker | undefined
  #finding: Promise<HeldWorker> | undefined
  #failures: readonly WorkerFailure[] = []
  #closed = false

  constructor(urls: readonly string[], options: ConnectOptions) {
    this.#urls = urls
    this.#options = options
    this.#now = options.now ?? (() => new Date())
  }

  get size(): number {
    return this.#urls.length
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

  /** Why no worker, or not the first, is held. */
  get failures(): readonly WorkerFailure[] {
    return this.#failures
  }

  /** A worker that is verified now. @throws NoWorkerError; UsageError when the policy cannot protect a prompt. */
  async acquire(): Promise<HeldWorker> {
    const held = this.#held
    if (held !== undefined) {
      try {
        await held.session.ready()
        return held
      } catch (error) {
        this.release(held, error)
      }
    }
    this.#finding ??= this.#find().finally(() => {
      this.#finding = undefined
    })
    return this.#finding
  }

  /** Lets go of a worker that failed, if it is still the held one. */
  release(worker: HeldWorker, error: unknown): void {
    if (this.#held !== worker) return
    this.#held = undefined
    this.#failures = [{ url: worker.url, error: asError(error) }]
  }

  close(): void {
    this.#closed = true
    this.#held?.session.close()
    this.#held = undefined
  }

  async #find(): Promise<HeldWorker> {
    const failures: WorkerFailure[] = []
    for (const url of this.#urls) {
      try {
        const held = { url, session: await connect(url, this.#options) }
        if (this.#closed) throw new SessionError('client.closed', 'the pool is closed')
        this.#failures = failures
        this.#held = held
        return held
      } catch (error) {
        if (!(error instanceof SubrosaError) || this.#closed) throw error
        if (error instanceof UsageError || error instanceof PolicyError) throw error
        failures.push({ url, error })
      }
    }
    this.#failures = failures
    throw new NoWorkerError(failures)
  }
}

/**
 * Whether an error of a session's `fetch` says that the request reached nobody who could have opened it, so that it may go to another
 * worker without being processed twice: evidence was refused or could not be had, or no connection came about.
 */
export function reachedNobody(error: unknown): boolean {
  if (error instanceof NotTrustedError) return !error.possiblyProcessed
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
