/** HTTP to the server: loopback or a unix socket, nothing else, and no proxy on the way. */
import { type IncomingMessage, request } from 'node:http'
import { abortedError, EngineError } from '../errors.js'

export interface ServerReply {
  readonly status: number
  readonly body: AsyncIterable<Uint8Array>
}

const MAX_BODY_BYTES = 64 * 1024 * 1024

/** `listen` is a path, or 127.0.0.1:PORT. @throws EngineError `aborted`, or `engine.failed` when there is no answer. */
export function ask(
  listen: string,
  path: string,
  body: unknown,
  signal: AbortSignal | undefined,
  timeoutMs = 0,
): Promise<ServerReply> {
  const place = listen.startsWith('/')
    ? { socketPath: listen }
    : { host: '127.0.0.1', port: Number(listen.split(':')[1]) }
  const text = body === undefined ? undefined : JSON.stringify(body)
  return new Promise((resolve, reject) => {
    const failed = (cause: unknown): void =>
      reject(
        signal?.aborted === true
          ? abortedError()
          : new EngineError('engine.failed', 'the server does not answer', { cause }),
      )
    const outgoing = request(
      {
        ...place,
        path,
        method: text === undefined ? 'GET' : 'POST',
        // The body is sent at once: a server that goes away half way has no part of it to be sent again.
        headers:
          text === undefined ? {} : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) },
        agent: false,
        ...(signal === undefined ? {} : { signal }),
        ...(timeoutMs === 0 ? {} : { timeout: timeoutMs }),
      },
      (incoming) => resolve({ status: incoming.statusCode ?? 0, body: read(incoming, signal) }),
    )
    outgoing.on('timeout', () => outgoing.destroy(new Error('timeout')))
    outgoing.on('error', failed)
    outgoing.end(text)
  })
}

/** The whole of a JSON body. @throws EngineError `engine.failed`. */
export async function readJson({ body }: ServerReply): Promise<unknown> {
  const pieces: Uint8Array[] = []
  let size = 0
  for await (const piece of body) {
    size += piece.length
    if (size > MAX_BODY_BYTES) throw new EngineError('engine.failed', 'the server says too much')
    pieces.push(piece)
  }
  try {
    return JSON.parse(Buffer.concat(pieces).toString('utf8'))
  } catch {
    // What it quotes may be an answer.
    throw new EngineError('engine.failed', 'the server answers with something else than JSON')
  }
}

/** Leaving the loop early ends the request. */
async function* read(incoming: IncomingMessage, signal: AbortSignal | undefined): AsyncGenerator<Uint8Array> {
  try {
    for await (const piece of incoming) yield piece as Uint8Array
  } catch (cause) {
    if (signal?.aborted === true) throw abortedError()
    throw new EngineError('engine.failed', 'the server broke off', { cause })
  } finally {
    incoming.destroy()
  }
}
