/**
 * The worker on a socket. Encapsulated requests of the usual form, which say how long they are, go from Node's own request to the gateway and
 * from the gateway to Node's own response; everything else goes through the application. Between the two lie some web streams, which
 * cost more than opening the request does.
 */
import { createServer, type IncomingMessage, type Server, type ServerOptions, type ServerResponse } from 'node:http'
import { getRequestListener } from '@hono/node-server'
import { type Bytes, toBytes } from '../verifier/protocol/bytes.js'
import { MAX_SEALED_REQUEST_BYTES, PATH_OHTTP } from '../verifier/protocol/constants.js'
import { REQUEST_MEDIA_TYPE } from '../verifier/protocol/ohttp.js'
import type { Outer } from './channel.js'
import type { OuterAnswer } from './channel-response.js'
import { errorCode, type Logger } from './log.js'
import type { Worker } from './worker.js'

export function createWorkerServer(
  { fetch, sealed }: Pick<Worker, 'fetch' | 'sealed'>,
  log: Logger,
  options: ServerOptions = {},
): Server {
  // The server library would print a failure half way and send its message in the clear.
  const others = getRequestListener(
    (request, { outgoing }) => fetch(request, (error) => fail(error, outgoing as ServerResponse)),
    { overrideGlobalObjects: false },
  )
  /** What was written leaves, and nothing after it: an answer must not look whole when it is not. */
  const fail = (error: unknown, outgoing: ServerResponse): void => {
    log.error('request.failed', { code: errorCode(error) })
    setImmediate(() => outgoing.destroy())
  }
  return createServer(options, (incoming, outgoing) => {
    if (!isUsual(incoming)) return void others(incoming, outgoing)
    const gone = new AbortController()
    outgoing.once('close', () => {
      if (!outgoing.writableFinished) gone.abort(new Error('the connection was closed'))
    })
    // What is written to a connection that is gone is an error here, of which `close` has told already.
    outgoing.on('error', () => undefined)
    sealed(outerOf(incoming, gone.signal))
      .then((answer) => send(answer, outgoing, gone.signal))
      .catch((error: unknown) => {
        if (!gone.signal.aborted) fail(error, outgoing)
      })
  })
}

/** Whatever is odd about a request, or refused unread, is the application's. */
function isUsual({ method, url, headers }: IncomingMessage): boolean {
  const length = headers['content-length']
  return (
    method === 'POST' &&
    url === PATH_OHTTP &&
    headers['content-type'] === REQUEST_MEDIA_TYPE.chunked &&
    length !== undefined &&
    // Node has seen to it that these are digits, and keeps the body to that length.
    Number(length) <= MAX_SEALED_REQUEST_BYTES
  )
}

function outerOf(incoming: IncomingMessage, signal: AbortSignal): Outer {
  return {
    method: 'POST',
    header(name) {
      const value = incoming.headers[name]
      return typeof value === 'string' ? value : undefined
    },
    body: (deadline) => wholeBody(incoming, deadline),
    signal,
  }
}

/** In one piece. */
async function* wholeBody(incoming: IncomingMessage, signal: AbortSignal): AsyncGenerator<Bytes> {
  const parts: Buffer[] = []
  const add = (part: Buffer): void => void parts.push(part)
  try {
    await new Promise<void>((resolve, reject) => {
      incoming.on('data', add)
      incoming.once('end', resolve)
      incoming.once('error', reject)
      incoming.once('close', () => reject(new Error('the connection was closed')))
      signal.addEventListener('abort', () => reject(signal.reason), { once: true })
    })
  } finally {
    // What still comes of one that was too slow goes nowhere.
    incoming.off('data', add)
  }
  yield toBytes(parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts))
}

async function send(
  { status, headers, body }: OuterAnswer,
  outgoing: ServerResponse,
  gone: AbortSignal,
): Promise<void> {
  outgoing.writeHead(status, headers)
  if (typeof body === 'string') return void outgoing.end(body)
  const { pieces, end } = body
  const leave = (): void => end.cancelled(gone.reason)
  gone.addEventListener('abort', leave, { once: true })
  if (gone.aborted) leave()
  try {
    for await (const piece of pieces) {
      // Leaving the loop ends the pieces; `leave` has told everyone else.
      if (gone.aborted) return
      if (!outgoing.write(piece)) await writable(outgoing)
    }
    outgoing.end()
    end.ended()
  } catch (error) {
    throw end.failed(error)
  }
}

/** Until there is room again, or nobody to make any. */
function writable(outgoing: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      outgoing.off('drain', done)
      outgoing.off('close', done)
      resolve()
    }
    outgoing.on('drain', done)
    outgoing.on('close', done)
  })
}
