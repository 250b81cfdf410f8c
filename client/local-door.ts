/**
 * A local door: an HTTP server for programs of this machine's user and nobody else. Node only.
 *
 * It listens on 127.0.0.1. A web page can reach that address too, so a request must name this very host and port
 * (a page that rebinds its own name to 127.0.0.1 cannot), must not come from another origin, and must carry the random
 * token, which other users of the machine do not know. A POST must say it is JSON, which a form cannot. No CORS header is
 * ever sent. Only liveness and readiness are told without the token.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { UsageError } from '../verifier/errors.js'

export interface LocalDoorOptions {
  /** 0 takes any free port. */
  readonly port: number
  /** Paths answered without the token. They must tell nothing that another local user may not know. */
  readonly open: ReadonlySet<string>
  /** Paths for people with a browser: there the token is also accepted as the password of HTTP Basic. */
  readonly pages: ReadonlySet<string>
  /** Sees only requests that passed every rule. `path` is normalised. */
  readonly handle: (request: IncomingMessage, response: ServerResponse, path: string) => Promise<void>
}

export interface LocalDoor {
  readonly port: number
  /** `http://127.0.0.1:port`. */
  readonly origin: string
  /** 256 random bits; serves as the API key. */
  readonly token: string
  /** Stops listening and ends every connection. */
  close(): Promise<void>
}

/** A refusal to the local caller, in the shape OpenAI's clients read. Messages are texts of ours. */
export interface LocalRefusal {
  readonly status: number
  readonly code: string
  readonly message: string
  readonly headers?: Readonly<Record<string, string>>
  /** Ids of checks that stand in the way. */
  readonly checks?: readonly string[]
}

/** On every answer: it stays out of caches and frames, is what it says it is, and as a page loads and runs nothing. */
const HEADERS = {
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'cross-origin-resource-policy': 'same-origin',
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
}

/** @throws UsageError when the port is taken. */
export async function openLocalDoor(options: LocalDoorOptions): Promise<LocalDoor> {
  const token = randomBytes(32).toString('base64url')
  let port = options.port
  const server = createServer((request, response) => {
    response.on('error', () => undefined) // a caller that leaves must not end the process
    for (const [name, value] of Object.entries(HEADERS)) response.setHeader(name, value)
    const refusal = refusalOf(request, port, token, options)
    if (refusal !== undefined) return refuse(response, refusal)
    options.handle(request, response, pathOf(request) ?? '/').catch(() => {
      refuse(response, {
        status: 500,
        code: 'internal_error',
        message: 'the proxy failed for a reason of its own making',
      })
    })
  })
  port = await listen(server, options.port)
  return {
    port,
    origin: `http://127.0.0.1:${port}`,
    token,
    async close() {
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}

async function listen(server: Server, port: number): Promise<number> {
  server.listen(port, '127.0.0.1')
  try {
    await once(server, 'listening')
  } catch (cause) {
    if ((cause as { code?: unknown }).code !== 'EADDRINUSE' && (cause as { code?: unknown }).code !== 'EACCES')
      throw cause
    throw new UsageError('option.port', `port ${port} cannot be used; choose another with --port`, { cause })
  }
  return (server.address() as AddressInfo).port
}

/** Why a request may not come in; cheapest and least telling first. */
function refusalOf(
  request: IncomingMessage,
  port: number,
  token: string,
  { open, pages }: LocalDoorOptions,
): LocalRefusal | undefined {
  const { method = '', headers } = request
  const hosts = [`127.0.0.1:${port}`, `localhost:${port}`]
  const { host = '', origin } = headers
  const site = headers['sec-fetch-site']
  if (!hosts.includes(host.toLowerCase())) {
    return { status: 421, code: 'wrong_host', message: `this door only answers to ${hosts.join(' and ')}` }
  }
  if (origin !== undefined && origin !== `http://${host.toLowerCase()}`) {
    return { status: 403, code: 'wrong_origin', message: 'this door does not answer web pages of other origins' }
  }
  if (site !== undefined && site !== 'same-origin' && site !== 'none') {
    return { status: 403, code: 'wrong_origin', message: 'this door does not answer requests that other sites started' }
  }
  if (method !== 'GET' && method !== 'HEAD' && method !== 'POST') {
    const allow = { allow: 'GET, HEAD, POST' }
    return { status: 405, code: 'method_not_allowed', message: 'expected GET, HEAD or POST', headers: allow }
  }
  const path = pathOf(request)
  if (path === undefined) return { status: 400, code: 'invalid_url', message: 'expected a path on this server' }
  const page = pages.has(path)
  if (!open.has(path) && !carries(headers.authorization, token, page)) {
    const scheme = page ? 'Basic realm="subrosa: the password is the token it printed"' : 'Bearer realm="subrosa"'
    const message = 'expected the token this program printed, as the API key (authorization: Bearer …)'
    return { status: 401, code: 'invalid_api_key', message, headers: { 'www-authenticate': scheme } }
  }
  if (method === 'POST' && !/^application\/json\s*(;|$)/i.test(headers['content-type'] ?? '')) {
    return { status: 415, code: 'unsupported_media_type', message: 'expected content-type: application/json' }
  }
  return undefined
}

/** The normalised path of an origin-form target, without its query. */
function pathOf({ url = '' }: IncomingMessage): string | undefined {
  if (!url.startsWith('/') || !URL.canParse(`http://local${url}`)) return undefined
  return new URL(`http://local${url}`).pathname
}

function carries(authorization: string | undefined, token: string, basicToo: boolean): boolean {
  const [, scheme = '', credentials = ''] = /^(\S+) +(\S+)$/.exec(authorization ?? '') ?? []
  if (scheme.toLowerCase() === 'bearer') return same(credentials, token)
  if (scheme.toLowerCase() !== 'basic' || !basicToo) return false
  return same(
    Buffer.from(credentials, 'base64')
      .toString('utf8')
      .replace(/^[^:]*:/, ''),
    token,
  )
}

/** Compares digests, so that the time taken tells nothing of the token. */
function same(a: string, b: string): boolean {
  const digest = (text: string) => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(a), digest(b))
}

/** Answers with an error, or cuts the connection when an answer has begun: a broken answer must not look whole. */
export function refuse(response: ServerResponse, { status, code, message, headers, checks }: LocalRefusal): void {
  if (response.headersSent) {
    response.destroy()
    return
  }
  const type = status < 500 ? 'invalid_request_error' : 'server_error'
  const error = { message, type, param: null, code, ...(checks === undefined ? {} : { checks }) }
  // The rest of a refused request is not read, so its connection cannot be used again.
  response.writeHead(status, { 'content-type': 'application/json', connection: 'close', ...headers })
  response.end(JSON.stringify({ error }))
}
