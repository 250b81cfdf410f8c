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
import { ROUTING_HINT_HEADER } from './channel.js'
import { WorkerError } from './errors.js'
import type { KeyLadder } from './keys.js'
import { errorCode, type LogFields, type Logger } from './log.js'
import type { MetricRoute, Metrics } from './metrics.js'
import { watchedBody } from './watched-body.js'

export interface AppDeps {
  readonly attester: Attester
  readonly keys: KeyLadder
  /** The sealed channel: one encapsulated request in, one encapsulated response out. Never rejects. */
  readonly gateway: (outer: Request) => Promise<Response>
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

export function createApp(deps: AppDeps): Hono {
  const { attester, keys, gateway, ready, metrics } = deps
  const app = new Hono()

  const open = cors({
    origin: '*',
    allowMethods: ['GET', 'POST'],
    allowHeaders: ['content-type', 'accept', 'incremental', ROUTING_HINT_HEADER],
    maxAge: 600,
  })
  app.use('/.well-known/*', open)
  app.use(PATH_OHTTP, open)

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

  app.post(PATH_OHTTP, (c) => {
    const leave = deps.enter === undefined ? () => undefined : deps.enter()
    if (leave !== undefined) return observed(deps, 'ohttp', () => gateway(c.req.raw), leave)
    // Turned away unread: nothing was done, and the connection is not kept for the rest of it.
    const leaving = 'this worker is leaving: ask another, or this address again shortly'
    return observed(deps, 'other', async () => problem(503, leaving, { 'retry-after': '1', connection: 'close' }))
  })

  app.get('/healthz', () => new Response('ok\n'))
  app.get('/readyz', () => (ready() ? new Response('ready\n') : problem(503, 'not ready')))
  app.get(
    '/metrics',
    () => new Response(metrics.text(), { headers: { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' } }),
  )

  for (const path of [PATH_ATTESTATION, PATH_OHTTP_KEYS, PATH_OHTTP, '/healthz', '/readyz', '/metrics']) {
    const allow = path === PATH_OHTTP ? 'POST' : 'GET'
    app.all(path, () =>
      observed(deps, 'other', async () => problem(405, `expected ${allow}`, { allow, connection: 'close' })),
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
  return app
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

/** Counts and logs one exchange when its response has been sent, by route and status only. */
async function observed(
  deps: AppDeps,
  route: MetricRoute & NonNullable<LogFields['route']>,
  respond: () => Promise<Response>,
  onSent: () => void = () => undefined,
): Promise<Response> {
  const startedAt = deps.monotonicMs()
  let response: Response
  try {
    response = await respond()
  } catch (error) {
    response = failed(deps, error)
  }
  const { status } = response
  const onEnd = (): void => {
    onSent()
    const durationMs = deps.monotonicMs() - startedAt
    deps.metrics.request(route, status, durationMs)
    deps.log.info(status < 400 ? 'request.done' : 'request.refused', { route, status, durationMs })
  }
  if (route !== 'ohttp' || response.body === null) {
    onEnd()
    return response
  }
  return new Response(watchedBody(response.body, { onEnd }), { status, headers: response.headers })
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
  return new Response(JSON.stringify({ type: 'about:blank', title: TITLES[status] ?? 'Error', status, detail }), {
    status,
    headers: { 'content-type': 'application/problem+json', 'cache-control': 'no-store', ...headers },
  })
}
