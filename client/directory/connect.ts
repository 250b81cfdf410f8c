/**
 * `connect` for those who know a directory rather than a worker: the same sealed `fetch`, over whichever verified worker is the
 * best for what they want, and over the next one when that fails and nothing can have been processed.
 */
import type { DirectoryDocument } from '../../verifier/directory/document.js'
import { fetchDescriptors } from '../../verifier/directory/fetch.js'
import { type Listing, priceHeld } from '../../verifier/directory/listing.js'
import { SessionError, UsageError } from '../errors.js'
import { type Reach, reachOver } from '../lines.js'
import type { ReceivedReceipt } from '../receipts.js'
import type { ConnectOptions, WorkerSession } from '../session.js'
import { type HeldWorker, WorkerPool } from '../worker-pool.js'
import type { Intent } from './intent.js'
import type { RouteReport } from './report.js'
import { Router } from './router.js'
import { readSources } from './sources.js'

export interface DirectoryOptions extends Omit<ConnectOptions, 'signal'> {
  readonly intent: Intent
  /**
   * Also uses listed endpoints that are not `https:` or not on public addresses. Whoever writes the list can then make this
   * machine ask anything on its own network for evidence. For workers of your own, and for tests. Default: false.
   */
  readonly allowPrivateEndpoints?: boolean
  /** How long better workers are waited for once one has verified, in milliseconds. Default: 2,000. */
  readonly patienceMs?: number
}

/** A receipt, and whether it asks for no more than was listed. */
export interface RoutedReceipt extends ReceivedReceipt {
  /** `above`: for more, or in another currency. `unstated` where receipt or listing names no price. */
  readonly price: 'unstated' | 'held' | 'above'
}

export interface DirectorySession {
  /** For `new OpenAI({ baseURL })`. An address of this session only; nothing answers there. */
  readonly baseURL: string
  /** A `fetch` that reaches verified workers only, through the seal only. */
  readonly fetch: typeof globalThis.fetch
  /** What was proven of the worker held now, and what was not. */
  readonly attestation: WorkerSession['attestation']
  readonly worker: WorkerSession['worker']
  /** How its provider lists that worker: price and region are the provider's word. */
  readonly listing: Listing
  /** The receipt of a response that `fetch` returned; settles when its body has been read to the end. */
  receipt(response: Response): Promise<RoutedReceipt>
  /** Which listed worker is used, and why each other one is not. */
  route(): RouteReport
  /** Renews whatever is due; then a verified worker is held. @throws NoWorkerError; nothing was sent but requests for evidence. */
  ready(): Promise<void>
  close(): void
}

/** URL of a directory or descriptor, or a directory at hand; several are taken together. */
export type Directories = string | URL | DirectoryDocument | readonly (string | URL)[]

const BASE_URL = 'https://directory.subrosa.invalid/v1'

/** How workers are reached where the caller names no `fetch`: at public addresses only, or at any. */
export interface Reaches {
  readonly listed: () => Promise<Reach> | Reach
  readonly any: () => Promise<Reach> | Reach
}

export async function connectThrough(
  directories: Directories,
  options: DirectoryOptions,
  { listed, any }: Reaches,
): Promise<DirectorySession> {
  const { intent, allowPrivateEndpoints = false, patienceMs, ...connect } = options
  const { fetch = globalThis.fetch.bind(globalThis) } = connect
  if (intent === undefined) throw new UsageError('intent.invalid', 'expected an intent: { model: … }')
  const reach = options.fetch === undefined ? await (allowPrivateEndpoints ? any() : listed()) : reachOver(fetch)
  const router = new Router({
    read: readerOf(directories, fetch),
    intent,
    connect,
    reach,
    allowPrivateEndpoints,
    ...(patienceMs === undefined ? {} : { patienceMs }),
  })
  const session = new Routed(router, connect.now)
  await session.ready()
  return session
}

function readerOf(directories: Directories, fetch: typeof globalThis.fetch) {
  if (typeof directories === 'object' && 'descriptors' in directories) {
    const { descriptors } = directories
    return async () => ({ lists: [{ source: 'the directory given', descriptors }], failures: [] })
  }
  const sources = [directories].flat().map(String)
  return () => readSources(sources, (source) => fetchDescriptors(source, { fetch }))
}

class Routed implements DirectorySession {
  readonly baseURL: string = BASE_URL
  readonly fetch: typeof globalThis.fetch
  readonly #router: Router
  readonly #pool: WorkerPool
  readonly #answered = new WeakMap<Response, HeldWorker>()

  constructor(router: Router, now: ConnectOptions['now']) {
    this.#router = router
    this.#pool = new WorkerPool(router, now)
    this.fetch = (input, init) => this.#send(new Request(input, init))
  }

  get attestation(): WorkerSession['attestation'] {
    return this.#held().session.attestation
  }

  get worker(): WorkerSession['worker'] {
    return this.#held().session.worker
  }

  get listing(): Listing {
    const { listing } = this.#held()
    if (listing === undefined) throw new SessionError('client.closed', 'no listed worker is held')
    return listing
  }

  async receipt(response: Response): Promise<RoutedReceipt> {
    const worker = this.#answered.get(response)
    if (worker === undefined) {
      throw new SessionError('client.foreign-response', 'that response is not from this session')
    }
    const receipt = await worker.session.receipt(response)
    const listed = worker.listing?.endpoint.price ?? null
    return { ...receipt, price: receipt.payload === undefined ? 'unstated' : priceHeld(receipt.payload, listed) }
  }

  route(): RouteReport {
    return this.#router.report()
  }

  async ready(): Promise<void> {
    await this.#pool.acquire()
  }

  close(): void {
    this.#pool.close()
  }

  #held(): HeldWorker {
    const { held } = this.#pool
    if (held === undefined) throw new SessionError('client.closed', 'no verified worker is held')
    return held
  }

  async #send(request: Request): Promise<Response> {
    if (!request.url.startsWith(`${BASE_URL}/`)) {
      throw new SessionError(
        'client.foreign-url',
        `this session only reaches ${BASE_URL}; it was asked for another address`,
      )
    }
    const { method, headers, signal } = request
    const body = new Uint8Array(await request.arrayBuffer())
    const path = request.url.slice(BASE_URL.length)
    const init = { method, headers, signal, ...(body.length === 0 ? {} : { body }) }
    const { worker, answer } = await this.#pool.send(path, init)
    this.#answered.set(answer, worker)
    return answer
  }
}
