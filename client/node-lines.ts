/**
 * Lines in Node: HTTP/1.1, one connection each, opened once and never again, one exchange at a time. What is sent over a line goes to
 * whoever answered over it before, or nowhere. Node only; the one importer of undici.
 */
import type { LookupFunction } from 'node:net'
import type { Dispatcher, buildConnector as undici } from 'undici'
import buildConnector from 'undici/lib/core/connect.js'
import Client from 'undici/lib/dispatcher/client.js'
import { type Bytes, toBytes } from '../verifier/protocol/bytes.js'
import { toReadable } from '../verifier/protocol/streams.js'
import { type Answer, type Line, LineEndedError, type Lines, type Reach } from './lines.js'

/** `lookup`: how names become addresses, whenever a connection is opened. Default: the system's. */
export function nodeReach(lookup?: LookupFunction): Reach {
  return ({ origin }) => new NodeLines(origin, buildConnector(lookup === undefined ? {} : { lookup }))
}

const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308])
const WITHOUT_BODY: ReadonlySet<number> = new Set([204, 205, 304])
/** How long before the other end said that it closes an idle connection, in milliseconds, it is not used again. */
const EARLIER_MS = 500
/** More of an answer than this is not taken from the connection before somebody reads it, in bytes. */
const MOST_HELD_BYTES = 64 * 1024

class NodeLines implements Lines {
  readonly fetch: typeof globalThis.fetch
  readonly #open: () => NodeLine
  /** Those that are used again once they are released. */
  readonly #kept = new Set<NodeLine>()
  readonly #idle: NodeLine[] = []
  #closed = false

  constructor(origin: string, connector: undici.connector) {
    const released = (line: NodeLine): void => {
      if (this.#kept.has(line)) this.#idle.push(line)
      else line.end()
    }
    const ended = (line: NodeLine): void => {
      this.#kept.delete(line)
      const at = this.#idle.indexOf(line)
      if (at >= 0) this.#idle.splice(at, 1)
    }
    this.#open = () => {
      const line = new NodeLine(origin, connector, released, ended)
      if (!this.#closed) this.#kept.add(line)
      return line
    }
    this.fetch = (input, init) => this.#fetch(input, init)
  }

  take(fresh: boolean): NodeLine {
    const line = (fresh ? undefined : this.#idle.pop()) ?? this.#open()
    line.take()
    return line
  }

  drop(): void {
    this.#kept.clear()
    for (const line of this.#idle.splice(0)) line.end()
  }

  close(): void {
    this.#closed = true
    this.drop()
  }

  async #fetch(input: RequestInfo | URL, init: RequestInit = {}): Promise<Response> {
    if (input instanceof Request) throw new TypeError('expected a URL, got a Request')
    const signal = init.signal ?? undefined
    const outgoing = {
      method: init.method === 'POST' ? 'POST' : 'GET',
      url: new URL(input),
      headers: Object.fromEntries(new Headers(init.headers)),
      body: init.body instanceof Uint8Array ? init.body : null,
    } as const
    const attempt = async (fresh: boolean): Promise<Exchange> => {
      const line = this.take(fresh)
      try {
        return await line.exchange(outgoing, signal)
      } finally {
        line.release()
      }
    }
    const exchange = await attempt(false).catch((error: unknown) => {
      signal?.throwIfAborted()
      if (error instanceof LineEndedError) return attempt(true)
      throw error
    })
    const { status, fields } = exchange
    if (REDIRECTS.has(status)) {
      await exchange.discard()
      throw new TypeError('fetch failed', { cause: new Error('unexpected redirect') })
    }
    const headers = new Headers()
    for (const [name, values] of Object.entries(fields)) {
      for (const value of [values ?? []].flat()) headers.append(name, value)
    }
    const body = toReadable(exchange.pieces((error) => (signal?.aborted === true ? signal.reason : error)))
    return new Response(WITHOUT_BODY.has(status) ? null : body, { status, headers })
  }
}

interface Outgoing {
  readonly method: 'GET' | 'POST'
  readonly url: URL
  readonly headers: Readonly<Record<string, string>>
  readonly body: Uint8Array | null
}

interface Exchange extends Answer {
  readonly fields: Readonly<Record<string, string | string[] | undefined>>
}

class NodeLine implements Line {
  readonly #client: Client
  readonly #released: (line: NodeLine) => void
  readonly #over: () => void
  #taken = false
  #running = false
  /** Whether a whole answer has come over it. */
  #used = false
  #ended = false

  constructor(
    origin: string,
    connector: undici.connector,
    released: (line: NodeLine) => void,
    ended: (line: NodeLine) => void,
  ) {
    this.#released = released
    let opened = false
    this.#client = new Client(origin, {
      keepAliveTimeoutThreshold: EARLIER_MS,
      connect: (options, callback) => {
        // What is left to send when a connection has ended would go over another one, to whoever is there by then.
        if (opened) return callback(new LineEndedError(false), null)
        opened = true
        connector(options, callback)
      },
    })
    this.#over = () => {
      this.#ended = true
      ended(this)
    }
    this.#client.on('disconnect', this.#over).on('connectionError', this.#over)
  }

  take(): void {
    this.#taken = true
  }

  release(): void {
    this.#taken = false
    this.#settle()
  }

  /** Ends the connection, and the exchange that is running. */
  end(): void {
    this.#over()
    this.#client.destroy(new Error('the exchange was given up')).catch(() => undefined)
  }

  post(url: URL, headers: Readonly<Record<string, string>>, body: Bytes, signal: AbortSignal): Promise<Answer> {
    return this.exchange({ method: 'POST', url, headers, body }, signal)
  }

  async exchange({ url, ...request }: Outgoing, signal?: AbortSignal): Promise<Exchange> {
    signal?.throwIfAborted()
    const abort = (): void => this.end()
    signal?.addEventListener('abort', abort, { once: true })
    const body = new Incoming()
    let started = false
    const over = (): void => {
      signal?.removeEventListener('abort', abort)
      this.#running = false
      this.#settle()
    }
    this.#running = true
    return new Promise((resolve, reject) => {
      const handler: Dispatcher.DispatchHandler = {
        onRequestStart: (controller) => {
          started = true
          body.controller = controller
        },
        onResponseStart: (_, status, fields) => {
          if (status >= 200) resolve(this.#exchangeOf(status, fields, body))
        },
        onResponseData: (_, piece) => body.push(piece),
        onResponseEnd: () => {
          this.#used = true
          over()
          body.finish()
        },
        onResponseError: (_, cause) => {
          this.#ended = true
          over()
          body.finish(cause)
          const stale = this.#used && (!started || BROKEN.has(codeOf(cause)))
          // Comes to nothing once there is an answer, whose body then says it.
          reject(stale ? new LineEndedError(started, { cause }) : new TypeError('fetch failed', { cause }))
        },
      }
      this.#client.dispatch({ path: url.pathname + url.search, ...request }, handler)
    })
  }

  #exchangeOf(status: number, fields: Exchange['fields'], body: Incoming): Exchange {
    // Of an exchange that is over it would end the next one.
    const leave = (): void => {
      if (!body.finished) this.end()
    }
    const type = fields['content-type']
    return {
      status,
      fields,
      type: typeof type === 'string' ? type : null,
      pieces: (failed) => piecesOf(body, failed, leave),
      discard: async () => leave(),
    }
  }

  #settle(): void {
    if (!this.#taken && !this.#running && !this.#ended) this.#released(this)
  }
}

/** How a connection breaks that the other end has closed. */
const BROKEN: ReadonlySet<unknown> = new Set(['UND_ERR_SOCKET', 'ECONNRESET', 'EPIPE'])

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined
}

/** The body of an answer between the connection that it comes from and whoever reads it. */
class Incoming {
  controller: Dispatcher.DispatchController | undefined
  finished = false
  #error: unknown
  #heldBytes = 0
  readonly #pieces: Uint8Array[] = []
  #wake: () => void = () => undefined

  push(piece: Uint8Array): void {
    this.#pieces.push(piece)
    this.#heldBytes += piece.length
    if (this.#heldBytes > MOST_HELD_BYTES) this.controller?.pause()
    this.#wake()
  }

  finish(error?: unknown): void {
    this.finished = true
    this.#error = error
    this.#wake()
  }

  /** The next piece, or nothing at the end. @throws what the connection broke with, once everything before is read. */
  async next(): Promise<Uint8Array | undefined> {
    while (this.#pieces.length === 0 && !this.finished) {
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
    const piece = this.#pieces.shift()
    if (piece === undefined && this.#error !== undefined) throw this.#error
    this.#heldBytes -= piece?.length ?? 0
    if (this.#heldBytes <= MOST_HELD_BYTES) this.controller?.resume()
    return piece
  }
}

/** Somebody may have dropped an answer without a word. Its connection would then wait for a reader for ever. */
const dropped = new FinalizationRegistry<() => void>((leave) => leave())

/** Must not be reachable from the connection. */
function piecesOf(
  body: Incoming,
  failed: (error: unknown) => unknown,
  leave: () => void,
): AsyncIterableIterator<Bytes> {
  const pieces: AsyncIterableIterator<Bytes> = {
    async next() {
      const piece = await body.next().catch((error: unknown) => {
        throw failed(error)
      })
      return piece === undefined ? { done: true, value: undefined } : { done: false, value: toBytes(piece) }
    },
    async return() {
      leave()
      return { done: true, value: undefined }
    },
    [Symbol.asyncIterator]: () => pieces,
  }
  dropped.register(pieces, leave)
  return pieces
}
