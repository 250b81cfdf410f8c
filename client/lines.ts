/**
 * How sealed requests reach a worker. A line is one connection for as long as it lasts, so that whoever answered over it is whoever
 * gets what is sent next (PROTOCOL.md P-7.12). Where the runtime does not let a program choose the connection of a request, one line
 * stands for all of the address, and says nothing of that.
 */
import type { Bytes } from '../verifier/protocol/bytes.js'
import { fromReadable } from '../verifier/protocol/streams.js'
import { GatewayRefusedError } from './transport-errors.js'

/** What came back, in plaintext: anyone's word. */
export interface Answer {
  readonly status: number
  readonly type: string | null
  /** The body; one shot, and leaving early ends the exchange. `failed` makes the error to throw when it breaks or is aborted. */
  pieces(failed: (error: unknown) => unknown): AsyncIterable<Bytes>
  /** Lets go of a body that nobody will read. Never fails. */
  discard(): Promise<void>
}

export interface Line {
  /**
   * POST, without credentials and without following a redirect. An aborted signal ends it at any time.
   * @throws LineEndedError; else whatever kept an answer from coming, and the request may have been sent.
   */
  post(url: URL, headers: Readonly<Record<string, string>>, body: Bytes, signal: AbortSignal): Promise<Answer>
  /** To be called once by whoever took it, when nothing more will be sent over it; an exchange that is running goes on. */
  release(): void
}

/** The lines to one worker. */
export interface Lines {
  /** For what is not sealed, and carries nothing of the caller's. */
  readonly fetch: typeof globalThis.fetch
  /** One that nobody else uses until it is released: the one used last that is still open, unless it has to be `fresh`; or a new one. */
  take(fresh: boolean): Line
  /** Ends those that are open: at once where nobody uses them, else when they are released and their exchange is over. */
  drop(): void
  /** So for these, and for all that are opened later. */
  close(): void
}

/** Opens lines to the worker at this URL. */
export type Reach = (worker: URL) => Lines

/**
 * The connection had ended before anything of this request was sent, or, if `sent`, ended when it was and no byte of an answer had
 * come: it had been used before, so most likely the other end closed it for having been idle.
 */
export class LineEndedError extends Error {
  readonly sent: boolean
  constructor(sent: boolean, options?: ErrorOptions) {
    super('the connection over which the worker proved itself ended before anything else went over it', options)
    this.sent = sent
  }
}

/** One line for all of an address: `fetch` does not say which connection a request takes, and shares connections as it likes. */
export function reachOver(fetch: typeof globalThis.fetch): Reach {
  const line = fetchLine(fetch)
  const nothing = (): void => undefined
  return () => ({ fetch, take: () => line, drop: nothing, close: nothing })
}

export function fetchLine(fetch: typeof globalThis.fetch): Line {
  return {
    async post(url, headers, body, signal) {
      const init = {
        method: 'POST',
        headers,
        body,
        signal,
        credentials: 'omit',
        redirect: 'error',
        referrerPolicy: 'no-referrer',
        cache: 'no-store',
      } as const
      const response = await fetch(url, init).catch((error: unknown) => {
        throw isSpentRetry(error) ? new GatewayRefusedError('transport.key-refused', 421) : error
      })
      return {
        status: response.status,
        type: response.headers.get('content-type'),
        pieces: (failed) => fromReadable(response.body, signal, failed),
        discard: async () => response.body?.cancel().catch(() => undefined),
      }
    },
    release: () => undefined,
  }
}

/**
 * Fetch sends a request that got 421 once more by itself; Node's does so with a body it has used up, and reports only
 * that. Our bodies have a fixed length, so nothing else can cause this error.
 */
function isSpentRetry(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined
  return cause instanceof Error && 'code' in cause && cause.code === 'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH'
}
