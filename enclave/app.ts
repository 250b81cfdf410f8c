/**
 * The worker's public face (PROTOCOL.md §5 to §7): evidence, keys, the sealed channel, health and metrics. Nothing else
 * exists out here. OpenAI's paths are refused without reading what was sent to them (P-7.1).
 */
import { Hono } from 'hono'
import { cors } from 'hono/cors'
import { type Bytes, fromBase64Url } from '../verifier/protocol/bytes.js'
import {
  CLIENT_NONCE_BYTES,
  MEDIA_TYPE_BUNDLE,
  MEDIA_TYPE_OHTTP_KEYS,
  MEDIA_TYPE_SIGNED_KEYS,
  PATH_ATTESTATION,
  PATH_OHTTP,
  PATH_OHTTP_KEYS,
} from '../verifier/protocol/constants.js'
import type { Attester } from './attester.js'
import { type Gateway, type Outer, ROUTING_HINT_HEADER } from './channel.js'
import type { OuterAnswer } from './channel-response.js'
import { outerOf, responseOf } from './channel-web.js'
import { WorkerError } from './errors.js'
import type { KeyLadder } from './keys.js'
import { errorCode, type LogFields, type Logger } from './log.js'
import type { MetricRoute, Metrics } from './metrics.js'

export interface AppDeps {
  readonly attester: Attester
  readonly keys: KeyLadder
  /** The sealed channel: one encapsulated request in, one encapsulated response out. Never rejects. */
  readonly gateway: Gateway
  /** Counts an answer in and returns what counts it out; undefined when this worker begins none any more. Default: no count. */
  readonly enter?: () => (() => void) | undefined
  /** Whether this worker can answer prompts. */
  readonly ready: () => boolean
  readonly metrics: Metrics
  readonly log: Logger
  /** Milliseconds, monotonic. */
  readonly monotonicMs: () => number
}

/** Paths that would carry a prompt in the clear: OpenAI's, with and without its version prefix. */
const PROMPT_PATHS = ['/v1', '/v1/*', '/chat/*', '/completions', '/embeddings', '/responses', '/models', '/models/*']

export interface App {
  /** Everything that comes from the network; `failed` as `responseOf` has it. */
  readonly fetch: (request: Request, failed?: (error: unknown) => void) => Promise<Response>
  /** A POST to the sealed channel, without the web streams that `fetch` would lead it through. */
  readonly sealed: (outer: Outer) => Promise<OuterAnswer>
}

export function createApp(deps: AppDeps): App {
  const { attester, keys, gateway, ready, metrics } = deps
  const app = new Hono<{ Bindings: { readonly failed: ((error: unknown) => void) | undefined } }>()

  const sealed = async (outer: Outer): Promise<OuterAnswer> => {
    const leave = deps.enter === undefined ? () => undefined : deps.enter()
    const done = observer(deps, leave === undefined ? 'other' : 'ohttp')
    if (leave === undefined) {
      done(503)
      return leaving()
    }
    const answer = await gateway(outer, (status) => {
      leave()
      done(status)
    })
    return { ...answer, headers: { ...answer.headers, ...ANY_PAGE } }
  }

  const preflight = cors({
    origin: '*',
    allowMethods: ['GET', 'POST'],
    allowHeaders: ['content-type', 'accept', 'incremental', ROUTING_HINT_HEADER],
    maxAge: 600,
  })
  app.use('/.well-known/*', preflight)
  app.options(PATH_OHTTP, preflight)

  app.get(PATH_ATTESTATION, (c) =>
    observed(deps, 'attestation', async () => {
      const nonce = nonceOf(new URL(c.req.url).searchParams)
      if (nonce === 'invalid') return problem(400, 'nonce: expected base64url of 32 bytes without padding, once')
      const bundle = await attester.bundle(nonce)
      return new Response(bundle, { headers: { 'content-type': MEDIA_TYPE_BUNDLE, 'cache-control': 'no-store' } })
    }),
  )

  app.get(PATH_OHTTP_KEYS, (c) =>
    observed(deps, 'keys', async () => {
      const { signed, plain } = await keys.published()
      const wantsSigned = accepts(c.req.header('accept'), MEDIA_TYPE_SIGNED_KEYS)
      return new Response(wantsSigned ? signed : plain, {
        headers: {
          'content-type': wantsSigned ? MEDIA_TYPE_SIGNED_KEYS : MEDIA_TYPE_OHTTP_KEYS,
          'cache-control': 'no-store',
          vary: 'accept',
        },
      })
    }),
  )

  app.post(PATH_OHTTP, async (c) => responseOf(await sealed(outerOf(c.req.raw)), c.env.failed))

  app.get('/healthz', () => new Response('ok\n'))
  app.get('/readyz', () => (ready() ? new Response('ready\n') : problem(503, 'not ready')))
  app.get(
    '/metrics',
    () => new Response(metrics.text(), { headers: { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' } }),
  )

  for (const path of [PATH_ATTESTATION, PATH_OHTTP_KEYS, PATH_OHTTP, '/healthz', '/readyz', '/metrics']) {
    const allow = path === PATH_OHTTP ? 'POST' : 'GET'
    app.all(path, () =>
      observed(deps, 'other', async () =>
        problem(405, `expected ${allow}`, { allow, connection: 'close', ...(path === PATH_OHTTP ? ANY_PAGE : {}) }),
      ),
    )
  }
  for (const path of PROMPT_PATHS) {
    app.all(path, () =>
      observed(deps, 'plaintext', async () =>
        // Unread, and the connection is not kept for the rest of it.
        problem(
          403,
          `prompts are only accepted inside the encryption: verify this worker, then seal requests to ${PATH_OHTTP}`,
          { connection: 'close' },
        ),
      ),
    )
  }
  app.notFound(() => observed(deps, 'other', async () => problem(404, 'no such path here', { connection: 'close' })))
  app.onError((error) => failed(deps, error))
  return { fetch: async (request, failed) => app.fetch(request, { failed }), sealed }
}

/** A page from anywhere may read it, as the answer to its preflight promises. */
const ANY_PAGE = { 'access-control-allow-origin': '*' } as const

/** Unread: nothing was done, and the connection is not kept for the rest of it. */
function leaving(): OuterAnswer {
  const detail = 'this worker is leaving: ask another, or this address again shortly'
  const { headers, body } = problemOf(503, detail, { 'retry-after': '1', connection: 'close', ...ANY_PAGE })
  return { status: 503, headers, body }
}

/** The nonce to attest; undefined when none was asked for. */
function nonceOf(query: URLSearchParams): Bytes | undefined | 'invalid' {
  const [text, ...others] = query.getAll('nonce')
  if (text === undefined) return undefined
  if (others.length > 0 || text.length > 2 * CLIENT_NONCE_BYTES) return 'invalid'
  try {
    const nonce = fromBase64Url(text)
    return nonce.length === CLIENT_NONCE_BYTES ? nonce : 'invalid'
  } catch {
    return 'invalid'
  }
}

/** Whether the type is named in so many words: a wildcard means the standard's own type. */
function accepts(header: string | undefined, type: string): boolean {
  return (header ?? '').split(',').some((item) => item.split(';')[0]?.trim().toLowerCase() === type)
}

type ObservedRoute = MetricRoute & NonNullable<LogFields['route']>

/** Counts and logs one exchange when it has ended, by route and status only. */
function observer({ monotonicMs, metrics, log }: AppDeps, route: ObservedRoute): (status: number) => void {
  const startedAt = monotonicMs()
  return (status) => {
    const durationMs = monotonicMs() - startedAt
    metrics.request(route, status, durationMs)
    log.info(status < 400 ? 'request.done' : 'request.refused', { route, status, durationMs })
  }
}

/** An exchange whose response is whole when it is made. */
async function observed(deps: AppDeps, route: ObservedRoute, respond: () => Promise<Response>): Promise<Response> {
  const done = observer(deps, route)
  let response: Response
  try {
    response = await respond()
  } catch (error) {
    response = failed(deps, error)
  }
  done(response.status)
  return response
}

/** An error nobody answered: a fixed text for the client, a code for the log. */
function failed({ log }: AppDeps, error: unknown): Response {
  const code = errorCode(error)
  log.error('request.failed', { code })
  if (error instanceof WorkerError && (code === 'worker.busy' || code === 'worker.closed')) {
    return problem(503, 'busy, try again shortly', { 'retry-after': '1' })
  }
  if (error instanceof WorkerError && (code === 'worker.platform' || code === 'worker.gpu')) {
    return problem(503, 'this machine gave no attestation report, try again shortly', { 'retry-after': '5' })
  }
  return problem(500, 'internal error')
}

const TITLES: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  500: 'Internal Server Error',
  503: 'Service Unavailable',
}

/** RFC 9457, with texts of ours only. */
function problem(status: number, detail: string, headers: Readonly<Record<string, string>> = {}): Response {
  const parts = problemOf(status, detail, headers)
  return new Response(parts.body, { status, headers: parts.headers })
}

function problemOf(
  status: number,
  detail: string,
  headers: Readonly<Record<string, string>>,
): { readonly body: string; readonly headers: Readonly<Record<string, string>> } {
  return {
    body: JSON.stringify({ type: 'about:blank', title: TITLES[status] ?? 'Error', status, detail }),
    headers: { 'content-type': 'application/problem+json', 'cache-control': 'no-store', ...headers },
  }
}
