/**
 * A verified session with one worker: verify, then seal (PROTOCOL.md §4, §5, §7).
 *
 * Nothing is sent before an accepted live result is held, and every request checks again that evidence and key
 * configuration are still current on this machine's clock. There is no plaintext path.
 */
import { verifyEvidence } from '../verifier/appraise.js'
import { type EndorsementPool, sortEndorsements } from '../verifier/endorsements.js'
import { fetchBundle, fetchBytes, parseWorkerUrl, workerPath } from '../verifier/fetch-evidence.js'
import type { AppraisalPolicy, PolicyDocument } from '../verifier/policy.js'
import { type Bytes, equalBytes, toBase64Url } from '../verifier/protocol/bytes.js'
import {
  CLOCK_SKEW_S,
  IDEMPOTENCY_HEADER,
  MAX_REQUEST_CONTENT_BYTES,
  MEDIA_TYPE_SIGNED_KEYS,
  NEW_REUSE_TOKEN,
  PATH_OHTTP,
  PATH_OHTTP_KEYS,
  REUSE_HEADER,
  SESSION_HEADER,
} from '../verifier/protocol/constants.js'
import type { SignedKeyConfiguration } from '../verifier/protocol/key-configuration.js'
import type { SigstoreVerifier } from '../verifier/release/logged.js'
import type { AcceptedResult, VerifiedWorker } from '../verifier/result.js'
import {
  FormatError,
  GatewayRefusedError,
  InvalidResponseError,
  NotTrustedError,
  SessionError,
  TruncatedResponseError,
  UnprovenError,
} from './errors.js'
import { type Line, LineEndedError, type Lines, type Reach } from './lines.js'
import { type Asked, Possession, type ProveWhen } from './possession.js'
import { acceptedKeys, promptPolicy } from './prompt-policy.js'
import { type ReadRequest, readRequest } from './read-request.js'
import { type ReceivedReceipt, withReceipt } from './receipts.js'
import { createSenderStock } from './sender-stock.js'
import { createTransport, type SealedExchange } from './transport.js'
import { UnavailableError } from './transport-errors.js'

export interface ConnectOptions {
  /**
   * What is acceptable: a policy document, or one already resolved. Left out, the strict policy applies; it identifies no
   * software until it is given reference values.
   */
  readonly policy?: PolicyDocument | { readonly resolved: AppraisalPolicy }
  /** Endorsements beyond those the worker staples. Untrusted until verified. */
  readonly endorsements?: EndorsementPool
  /** Judges Sigstore bundles, where the policy wants one: `verifySigstoreBundle` of `subrosa/sigstore`, in Node. */
  readonly sigstore?: SigstoreVerifier
  /** Reaches the worker, over connections of its choice; see `prove`. Default: in Node connections of the session's own, elsewhere the global one. */
  readonly fetch?: typeof globalThis.fetch
  /** The caller's clock. An attacker who controls it can make expired evidence look current. */
  readonly now?: () => Date
  /** Bound on each exchange that is not an answer, in milliseconds. */
  readonly timeoutMs?: number
  /** Ends the wait for `connect` itself; requests have signals of their own. */
  readonly signal?: AbortSignal
  /**
   * Chains the receipts of this session, so that one left out shows: under a random token of 32 bytes, a new one for every
   * attested boot. The worker then knows which requests are of one session. Where it attests isolation `session` it is asked
   * to keep what it computed of their prompts for some minutes, for this session only, so that a conversation goes on faster; a
   * policy of isolation `request` accepts no such worker. Default: false.
   */
  readonly session?: boolean
  /**
   * When whoever is at the worker's address has to show, before a request is sealed, that it holds the attested key: by answering a
   * small sealed request that carries nothing of the caller's, which costs a round trip. `always`: after each request was made. `recent`: unless it
   * has answered something that was asked less than a second ago. In Node answer and request go over one connection, and over no other if that
   * ends: who takes over the address of a verified worker gets no byte of a prompt's ciphertext. Elsewhere, and where a `fetch` is named,
   * they go over whichever connections that takes: who takes over the address can be sent what is sealed within that second, or under `always`
   * between answer and request, and while a connection opened earlier still reaches the worker, what is sealed until it ends. They cannot open
   * it. Default: `recent`.
   */
  readonly prove?: ProveWhen
}

export interface WorkerSession {
  /** For `new OpenAI({ baseURL })`. */
  readonly baseURL: string
  /** A `fetch` that reaches this worker only, through the seal only. */
  readonly fetch: typeof globalThis.fetch
  /** What was proven, and what was not; renewed whenever the evidence is. */
  readonly attestation: AcceptedResult
  /** What is known of the verified worker: its statement, and until when it holds. */
  readonly worker: VerifiedWorker
  /**
   * Whether the last exchange ended without an answer from inside the seal. Before anything more is sealed the worker has to
   * prove itself anew: someone else may have taken its address.
   */
  readonly doubted: boolean
  /** The receipt of a response that `fetch` returned; settles when its body has been read to the end. */
  receipt(response: Response): Promise<ReceivedReceipt>
  /**
   * Whether the request of a response that `fetch` returned was sealed and sent once only. Of one that was sealed a second time
   * a refusal inside the encryption says nothing: the first may have been processed.
   */
  sealedOnce(response: Response): boolean
  /**
   * Renews whatever is due; then a verified worker with a current key is held.
   * @throws NotTrustedError or UnavailableError; nothing was sent but a request for evidence.
   */
  ready(): Promise<void>
  /** Fetches and verifies new evidence now. @throws NotTrustedError, and the session then sends nothing more. */
  refresh(): Promise<void>
  /** Every later request is refused; connections are closed when the answers that come over them have ended. */
  close(): void
}

/** A key or a proof that has less than this left is renewed before use. */
const RENEW_MARGIN_MS = 5_000
/** Asked for a proof of possession; every worker answers it, and at once. */
const PATH_PROOF = '/v1/models'
const PROOF_TIMEOUT_MS = 30_000
const MOST_PROOF_BYTES = 64 * 1024
/** A proof, one more under the evidence that its failure calls for, and one where the worker was replaced meanwhile. */
const PROOF_ATTEMPTS = 3
const CONNECTIONS_END =
  'not sent: each connection over which the worker had shown that it holds the attested key ended before the request; if something before the worker closes them after every answer, have it keep them open'
/** Lines tried for one request: each proven, and then ended before the request went over it. */
const MOST_LINES = 3
/** Evidence this near its end, or in its last fifth, is renewed beside the request that notices, so that none waits for it. */
const RENEW_AHEAD_MS = 60_000

/**
 * Fetches evidence with a fresh nonce, appraises it, and returns a session only if it was accepted live.
 * @throws UsageError or PolicyError before any network; UnavailableError when the worker does not answer;
 * NotTrustedError, with the whole result, when it answers and is not acceptable.
 */
export async function connectOver(url: string | URL, options: ConnectOptions, reach: Reach): Promise<WorkerSession> {
  const session = new Session(parseWorkerUrl(String(url)), options, reach)
  try {
    await session.refresh(options.signal)
  } catch (error) {
    session.close()
    throw error
  }
  return session
}

/** The session as one boot of the worker knows it. */
interface Chain {
  readonly statementDigest: Bytes
  readonly token: string
  /** What to ask for prompts to be kept under: a value the worker issued, or a new one. */
  reuse: string | undefined
}

interface CurrentKey {
  readonly result: AcceptedResult
  readonly worker: VerifiedWorker
  readonly configuration: Bytes
}

/** What a request may be sealed to, and sent over. */
interface Proven {
  readonly key: CurrentKey
  readonly line: Line
}

/** A question that was answered under a key. */
interface Proof {
  readonly key: CurrentKey
  readonly asked: Asked
}

class Session implements WorkerSession {
  readonly baseURL: string
  readonly fetch: typeof globalThis.fetch
  readonly #url: URL
  readonly #policy: AppraisalPolicy
  readonly #endorsements: EndorsementPool
  readonly #lines: Lines
  readonly #now: () => Date
  readonly #options: ConnectOptions
  readonly #receipts = new WeakMap<Response, Promise<ReceivedReceipt>>()
  readonly #sealedTwice = new WeakSet<Response>()
  #state: { readonly result: AcceptedResult; readonly worker: VerifiedWorker } | undefined
  #refreshing: Promise<void> | undefined
  #refreshingKeys: Promise<void> | undefined
  readonly #senders = createSenderStock()
  readonly #possession: Possession<Proof>
  #closed = false
  #doubted = false
  #chain: Chain | undefined

  constructor(url: URL, options: ConnectOptions, reach: Reach) {
    const { prove = 'recent' } = options
    this.#url = url
    this.#options = options
    this.#policy = promptPolicy(options.policy)
    this.#endorsements = options.endorsements ?? sortEndorsements([])
    this.#lines = reach(url)
    this.#now = options.now ?? (() => new Date())
    this.#possession = new Possession(prove, this.#now)
    this.baseURL = workerPath(url, '/v1').href
    this.fetch = async (input, init) => this.#sealedFetch(await readRequest(input, init))
  }

  get attestation(): AcceptedResult {
    return this.#held().result
  }

  get worker(): VerifiedWorker {
    return this.#held().worker
  }

  get doubted(): boolean {
    return this.#doubted
  }

  receipt(response: Response): Promise<ReceivedReceipt> {
    const receipt = this.#receipts.get(response)
    if (receipt === undefined)
      throw new SessionError('client.foreign-response', 'that response is not from this session')
    return receipt
  }

  sealedOnce(response: Response): boolean {
    return this.#receipts.has(response) && !this.#sealedTwice.has(response)
  }

  async ready(): Promise<void> {
    await this.#currentKey()
  }

  refresh(signal?: AbortSignal): Promise<void> {
    this.#refreshing ??= this.#attest(signal).finally(() => {
      this.#refreshing = undefined
    })
    return this.#refreshing
  }

  close(): void {
    this.#closed = true
    this.#state = undefined
    this.#senders.drop()
    this.#lines.close()
  }

  #held(): { readonly result: AcceptedResult; readonly worker: VerifiedWorker } {
    if (this.#state === undefined) throw new SessionError('client.closed', 'the session holds no verified worker')
    return this.#state
  }

  async #attest(signal?: AbortSignal): Promise<void> {
    if (this.#closed) throw new SessionError('client.closed', 'the session is closed')
    const nonce = crypto.getRandomValues(new Uint8Array(32))
    const sentAt = this.#now()
    const evidence = await fetchBundle(this.#url, nonce, this.#limits(signal))
    const result = await verifyEvidence(evidence, {
      policy: this.#policy,
      endorsements: this.#endorsements,
      now: this.#now(),
      live: { nonce, sentAt },
      ...(this.#options.sigstore === undefined ? {} : { sigstore: this.#options.sigstore }),
    })
    if (result.verdict !== 'accepted' || result.worker === undefined) {
      this.#state = undefined
      const why = result.verdict === 'accepted' ? 'the software is not identified (reference.measurement)' : undefined
      throw new NotTrustedError(result, why)
    }
    if (this.#closed) throw new SessionError('client.closed', 'the session is closed')
    if (this.#state === undefined || !isSameBoot(this.#state.worker, result.worker)) this.#possession.forget()
    this.#state = { result, worker: result.worker }
    this.#doubted = false
  }

  /** The key configuration to use now, after whatever renewal is due. */
  async #currentKey(): Promise<CurrentKey> {
    if (this.#closed) throw new SessionError('client.closed', 'the session is closed')
    const leftMs = this.#leftMs()
    if (this.#doubted || leftMs <= RENEW_MARGIN_MS) await this.refresh()
    // A refusal drops what was held, and the next request meets it; no answer at all leaves it until it runs out.
    else if (leftMs <= this.#renewAheadMs()) this.refresh().catch(() => undefined)
    let found = this.#usable()
    if (found === undefined) {
      this.#refreshingKeys ??= this.#refreshKeys().finally(() => {
        this.#refreshingKeys = undefined
      })
      await this.#refreshingKeys
      found = this.#usable()
    }
    if (found === undefined) {
      await this.refresh()
      found = this.#usable()
    }
    if (found === undefined)
      throw new SessionError('client.no-current-key', 'the worker has no key that is current now')
    return { ...this.#held(), configuration: found.configuration }
  }

  /** The key configuration to use now, if nothing is due. */
  #keyAtHand(): CurrentKey | undefined {
    const found = this.#usable()
    if (this.#doubted || found === undefined || this.#leftMs() <= RENEW_MARGIN_MS) return undefined
    return { ...this.#held(), configuration: found.configuration }
  }

  #leftMs(): number {
    return (this.#state?.worker.validUntil.getTime() ?? 0) - this.#now().getTime()
  }

  #renewAheadMs(): number {
    const { result, worker } = this.#held()
    return Math.min(RENEW_AHEAD_MS, (worker.validUntil.getTime() - result.evaluatedAt.getTime()) / 5)
  }

  #usable(): SignedKeyConfiguration | undefined {
    const now = this.#now().getTime()
    return this.#state?.worker.keyConfigurations.find(
      ({ notBefore, notAfter }) => (notBefore - CLOCK_SKEW_S) * 1000 <= now && now < notAfter * 1000 - RENEW_MARGIN_MS,
    )
  }

  /**
   * The next rung of the key ladder: new configurations under the identity key already attested. Ones that do not hold
   * are left out; when none is left, the caller asks for new evidence.
   */
  async #refreshKeys(): Promise<void> {
    const { result, worker } = this.#held()
    const url = workerPath(this.#url, PATH_OHTTP_KEYS)
    const bytes = await fetchBytes(url, MEDIA_TYPE_SIGNED_KEYS, 64 * 1024, this.#limits())
    const keyConfigurations = await acceptedKeys(bytes, worker, this.#policy).catch((error: unknown) => {
      if (error instanceof FormatError) return []
      throw error
    })
    if (this.#state?.worker === worker) this.#state = { result, worker: { ...worker, keyConfigurations } }
  }

  async #sealedFetch({ request, content: body }: ReadRequest): Promise<Response> {
    if (!new URL(request.url).href.startsWith(`${this.baseURL}/`)) {
      throw new SessionError(
        'client.foreign-url',
        `this session only reaches ${this.baseURL}; it was asked for another address`,
      )
    }
    if (body.length > MAX_REQUEST_CONTENT_BYTES) {
      throw new FormatError(
        'client.request-too-large',
        `the request has ${body.length} bytes of content, at most ${MAX_REQUEST_CONTENT_BYTES} go to a worker: make it shorter; nothing was sent`,
      )
    }
    const headers = new Headers(request.headers)
    // Sealed twice, it must not be processed twice.
    if (request.method === 'POST' && !headers.has(IDEMPOTENCY_HEADER)) {
      headers.set(IDEMPOTENCY_HEADER, crypto.randomUUID())
    }
    try {
      return await this.#sendProven(request, headers, body)
    } catch (error) {
      if (!(error instanceof GatewayRefusedError) || error.code !== 'transport.key-refused') throw error
    }
    // An unauthenticated hint that the key is gone: verify anew, seal once more. The first attempt may have been processed.
    try {
      const response = await this.#sendProven(request, headers, body)
      this.#sealedTwice.add(response)
      return response
    } catch (error) {
      if (error instanceof NotTrustedError) throw error.afterAttempt()
      // That nobody was reached now says nothing of the first attempt.
      if (request.signal.aborted || (isAnswerless(error) && !(error instanceof UnavailableError))) throw error
      throw new GatewayRefusedError('transport.key-refused', 421, { cause: error })
    }
  }

  /** Sends over a line that was proven, and over that one only (P-7.12). @throws UnprovenError where each of several ended before that. */
  async #sendProven(request: Request, headers: Headers, body: Bytes): Promise<Response> {
    for (let tried = 1; ; tried++) {
      const to = await this.#proven(request.signal)
      try {
        return await this.#send(request, headers, body, to)
      } catch (error) {
        if (!(error instanceof LineEndedError)) throw error
        if (tried >= MOST_LINES) throw new UnprovenError(error, CONNECTIONS_END)
      } finally {
        to.line.release()
      }
    }
  }

  /**
   * A current key, and a line whose other end has shown to hold it (P-7.11); the caller releases it.
   * @throws UnprovenError, and what renewal throws; nothing of the request was sealed.
   */
  async #proven(signal: AbortSignal): Promise<Proven> {
    let unproven: UnprovenError | undefined
    let fresh = false
    for (let attempt = 1; attempt <= PROOF_ATTEMPTS; attempt++) {
      const current = await unlessAborted(this.#currentKey(), signal)
      const line = this.#lines.take(fresh)
      if (this.#possession.recent(line)) return { key: current, line }
      const proving = this.#possession.prove(line, () => this.#prove(line))
      try {
        const proof = await unlessAborted(proving, signal)
        // Meanwhile other requests may have put the worker in doubt, or evidence may have named other keys. Nothing is waited for
        // here: the proof is of now.
        const key = this.#keyAtHand()
        const holds =
          key !== undefined && isSameBoot(key.worker, proof.key.worker) && this.#possession.counts(proof.asked)
        if (holds) return { key, line }
      } catch (error) {
        // Its caller may have left, and the question is on its way all the same: nobody else's until that is over.
        const release = (): void => line.release()
        proving.then(release, release)
        if (isStale(error) && !fresh) {
          // An idle connection had been closed at the other end, which says nothing of who is there.
          fresh = true
          attempt--
          continue
        }
        // Nothing of the request was sent, so it may go on under new evidence, to the keys that this names.
        if (!(error instanceof UnprovenError) || unproven !== undefined) throw error
        unproven = error
        continue
      }
      line.release()
    }
    throw unproven ?? new UnprovenError(undefined)
  }

  /** Asks for what carries nothing of the caller's, and opens the whole answer. */
  async #prove(line: Line): Promise<Proof> {
    const key = this.#keyAtHand() ?? (await this.#currentKey())
    const asked = this.#possession.asked()
    const deadline = new AbortController()
    const timer = setTimeout(() => deadline.abort(), this.#options.timeoutMs ?? PROOF_TIMEOUT_MS)
    const { signal } = deadline
    const answer = async (): Promise<void> => {
      const url = new URL(PATH_PROOF, this.#url)
      const limits = { maxResponseBytes: MOST_PROOF_BYTES }
      const { response, trailers } = await this.#exchange(url, { signal }, { key, line }, asked, limits)
      await response.arrayBuffer()
      await trailers
    }
    try {
      await unlessAborted(answer(), signal)
      return { key, asked }
    } catch (error) {
      if (!signal.aborted && (isStale(error) || !isAnswerless(error))) throw error
      this.#doubt(key)
      throw new UnprovenError(error)
    } finally {
      clearTimeout(timer)
    }
  }

  /** Seals to a key, and opens the answer up to its head. */
  async #exchange(
    url: URL,
    init: RequestInit & { readonly signal: AbortSignal },
    { key, line }: Proven,
    asked: Asked,
    limits: { readonly maxResponseBytes?: number } = {},
  ): Promise<SealedExchange> {
    const transport = createTransport({
      endpoint: workerPath(this.#url, PATH_OHTTP),
      line,
      keyConfiguration: () => key.configuration,
      now: this.#now,
      senders: this.#senders,
      limits,
    })
    const exchange = await transport(url, init)
    if (this.#state !== undefined && isSameBoot(this.#state.worker, key.worker)) this.#possession.answered(line, asked)
    return exchange
  }

  /** Whoever is at the address gave no answer that opens, so it has to prove itself anew (P-7.10). */
  #doubt({ result, worker }: CurrentKey): void {
    // Of another boot, proven since, it says nothing.
    if (this.#state === undefined || !isSameBoot(this.#state.worker, worker)) return
    this.#possession.forget()
    this.#lines.drop()
    // Evidence that came since is in no need of renewal.
    if (this.#state.result === result) this.#doubted = true
  }

  async #send(request: Request, headers: Headers, body: Bytes, to: Proven): Promise<Response> {
    const { method, signal, url } = request
    const { worker } = to.key
    const chain = this.#options.session === true ? this.#chainOf(worker) : undefined
    const reuse = chain?.reuse
    if (chain !== undefined) headers.set(SESSION_HEADER, chain.token)
    if (reuse !== undefined) headers.set(REUSE_HEADER, reuse)
    const path = new URL(url).pathname.slice(this.#url.pathname.replace(/\/$/, '').length)
    const innerUrl = new URL(path + new URL(url).search, this.#url.origin)
    const inner = { method, headers, signal, ...(body.length === 0 ? {} : { body }) }
    const failed = (error: unknown): void => {
      if (isAnswerless(error) && !signal.aborted) this.#doubt(to.key)
    }
    const exchange = await this.#exchange(innerUrl, inner, to, this.#possession.asked()).catch((error: unknown) => {
      failed(error)
      throw error
    })
    exchange.trailers.catch(failed)
    const { response, receipt } = await withReceipt(exchange, body, worker)
    const issued = response.headers.get(REUSE_HEADER)
    // Of several that are issued to requests at once, the first is used from then on.
    if (chain !== undefined && issued !== null && chain.reuse === reuse) chain.reuse = issued
    this.#receipts.set(response, receipt)
    return response
  }

  #chainOf({ statement, statementDigest }: VerifiedWorker): Chain {
    if (this.#chain === undefined || !equalBytes(this.#chain.statementDigest, statementDigest)) {
      this.#chain = {
        statementDigest,
        token: toBase64Url(crypto.getRandomValues(new Uint8Array(32))),
        reuse: statement.serving.isolation === 'session' ? NEW_REUSE_TOKEN : undefined,
      }
    }
    return this.#chain
  }

  #limits(signal?: AbortSignal): { fetch: typeof globalThis.fetch; timeoutMs?: number; signal?: AbortSignal } {
    const { timeoutMs } = this.#options
    return {
      fetch: this.#lines.fetch,
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
      ...(signal === undefined ? {} : { signal }),
    }
  }
}

function isSameBoot(one: VerifiedWorker, other: VerifiedWorker): boolean {
  return equalBytes(one.statementDigest, other.statementDigest)
}

/** Whether whoever is at the worker's address gave no answer that only the verified worker could have given. */
function isAnswerless(error: unknown): boolean {
  return (
    error instanceof GatewayRefusedError ||
    error instanceof InvalidResponseError ||
    error instanceof TruncatedResponseError ||
    error instanceof UnavailableError
  )
}

/** Whether a question was met by the end of a connection that had been idle. */
function isStale(error: unknown): boolean {
  return error instanceof LineEndedError || (error instanceof UnavailableError && error.cause instanceof LineEndedError)
}

/** Renewals and proofs are shared, so leaving one does not end it. */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  work.catch(() => undefined) // nor is its failure anybody's, once all have left
  signal.throwIfAborted()
  return new Promise((resolve, reject) => {
    const leave = (): void => reject(signal.reason)
    signal.addEventListener('abort', leave, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', leave))
  })
}
