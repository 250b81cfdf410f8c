/**
 * The application inside the encryption: OpenAI's paths, field names and error shapes (chat completions and models),
 * and receipts by id. It is the gateway's handler and is never mounted on a socket.
 */
import { type Context, Hono } from 'hono'
import { type Bytes, fromUtf8 } from '../verifier/protocol/bytes.js'
import {
  IDEMPOTENCY_HEADER,
  MAX_REQUEST_CONTENT_BYTES,
  REUSE_HEADER,
  SESSION_HEADER,
} from '../verifier/protocol/constants.js'
import { PATH_MODEL_KEY } from '../verifier/protocol/model-key.js'
import type { IsolationMode, PaddingMode } from '../verifier/protocol/statement.js'
import { channelOf } from './channel.js'
import { type CompletionDeps, complete } from './completion.js'
import { embed, readEmbeddings } from './embeddings.js'
import { readChat, readCompletion } from './generation.js'
import { createIdempotencyTable } from './idempotency.js'
import type { Engine } from './inference/engine.js'
import type { KeyLadder } from './keys.js'
import { errorCode, type Logger } from './log.js'
import type { Metrics } from './metrics.js'
import type { ModelLock } from './model-key.js'
import { errorBody, OpenAIError, UNPROCESSED } from './openai-error.js'
import { padBody } from './padding.js'
import type { OpenReceipt, ReceiptBook } from './receipts.js'
import { createReuseTokens, type Reuse } from './reuse-tokens.js'
import { createSessionTable } from './sessions.js'

export interface OpenAIDeps {
  readonly engine: Engine
  readonly keys: KeyLadder
  readonly receipts: ReceiptBook
  readonly padding: PaddingMode
  /** As the statement says. Under `session`, requests that ask for it may go on with what others of theirs computed. */
  readonly isolation: IsolationMode
  readonly metrics: Metrics
  readonly log: Logger
  /** Seconds since the epoch. */
  readonly now: () => number
  /** Milliseconds, monotonic. */
  readonly monotonicMs: () => number
  /** Answers in progress at once, waiting ones included; more get 503. Default 128: the engine's own queue is shorter. */
  readonly maxAnswers?: number
  /** Longest time one answer may take. Default 5 minutes. */
  readonly timeoutMs?: number
  /** Of encrypted weights: takes their key. */
  readonly lock?: ModelLock
}

/** A request on one of the paths that are answered with a receipt. */
interface Asked {
  readonly body: Bytes
  readonly session: string | undefined
  /** Under which key its prompt may be kept, where it asked for one and this worker gives any. @throws OpenAIError 400 */
  readonly reuse: () => Reuse | undefined
  readonly statementDigest: Bytes
  readonly signal: AbortSignal
  /** To be called once the answer has ended either way. */
  readonly release: () => void
  /** To be called when the request is known to be good, before anything is computed. */
  readonly open: () => Promise<OpenReceipt>
}

/** The handler for requests that came out of the gateway; anything else gets an internal error. */
export function createOpenAIApp(deps: OpenAIDeps): (request: Request) => Promise<Response> {
  const { engine, keys, receipts, padding, isolation, log, maxAnswers = 128 } = deps
  const completion: CompletionDeps = { ...deps, timeoutMs: deps.timeoutMs ?? 300_000 }
  const model = { id: engine.info.manifest.id, object: 'model', created: Math.floor(deps.now()), owned_by: 'subrosa' }
  const idempotency = createIdempotencyTable(deps)
  const sessions = createSessionTable(deps)
  const reuseTokens = createReuseTokens()
  let answers = 0

  const json = (body: unknown, status = 200): Response =>
    new Response(padBody(padding, JSON.stringify(body)), {
      status,
      headers: { 'content-type': 'application/json', 'cache-control': 'no-store' },
    })
  const failure = (error: OpenAIError): Response => {
    const response = json(errorBody(error), error.status)
    // OpenAI's clients would repeat a 409 by themselves.
    if (error.status === 409) response.headers.set('x-should-retry', 'false')
    if (error.retryAfterS !== undefined) response.headers.set('retry-after', String(error.retryAfterS))
    return response
  }

  const app = new Hono()

  /** Answers a request that came out of the channel, once at most for each idempotency key, with a receipt. */
  const answered = async (raw: Request, answer: (asked: Asked) => Promise<Response>): Promise<Response> => {
    const channel = channelOf(raw)
    const boot = channel && keys.bootOf(channel.configuration)
    if (channel === undefined || boot === undefined) throw new OpenAIError(500, 'internal_error', 'internal error')
    if (answers >= maxAnswers) throw new OpenAIError(503, 'overloaded', 'too many answers are in progress; try again')
    answers += 1
    let giveBack: (() => void) | undefined
    let released = false
    const release = (): void => {
      if (!released) answers -= 1
      released = true
    }
    try {
      // The gateway holds the whole body already; this only bounds what is parsed.
      const body = channel.content
      if (body.length > MAX_REQUEST_CONTENT_BYTES) {
        const message = `the request body is larger than ${MAX_REQUEST_CONTENT_BYTES} bytes`
        throw new OpenAIError(400, 'invalid_value', message)
      }
      const token = raw.headers.get(SESSION_HEADER) ?? undefined
      return await answer({
        body,
        session: token,
        reuse() {
          const wish = isolation === 'session' ? raw.headers.get(REUSE_HEADER) : null
          return wish === null ? undefined : reuseTokens.open(wish, token, boot.statementDigest)
        },
        statementDigest: boot.statementDigest,
        signal: raw.signal,
        release,
        async open() {
          const chain = token === undefined ? undefined : sessions.chainOf(token, boot)
          const key = raw.headers.get(IDEMPOTENCY_HEADER)
          if (key !== null) giveBack = idempotency.claim(key)
          return receipts.open(channel, boot, body, chain)
        },
      })
    } catch (error) {
      release()
      // Nothing was computed of it: the same request may come again.
      if (error instanceof OpenAIError && UNPROCESSED.has(error.status)) giveBack?.()
      throw error
    }
  }
  const generated = (read: typeof readChat) => (c: Context) =>
    answered(c.req.raw, async ({ body, open, reuse, ...asked }) => {
      const request = await read(engine, body)
      const reused = reuse()
      return complete(completion, { request, receipt: await open(), ...asked, reuse: reused })
    })

  app.post('/v1/chat/completions', generated(readChat))
  app.post('/v1/completions', generated(readCompletion))
  app.post('/v1/embeddings', (c) =>
    answered(c.req.raw, async ({ body, open, session, signal, release }) => {
      const request = await readEmbeddings(engine, body)
      const response = await embed(completion, { request, receipt: await open(), session, signal })
      release()
      return response
    }),
  )

  const { lock } = deps
  if (lock !== undefined) {
    app.post(PATH_MODEL_KEY, async (c) => {
      const channel = channelOf(c.req.raw)
      const boot = channel && keys.bootOf(channel.configuration)
      if (channel === undefined || boot === undefined) throw new OpenAIError(500, 'internal_error', 'internal error')
      try {
        await lock.unlock(fromUtf8(channel.content), boot)
      } catch (error) {
        log.error('model.refused', { code: errorCode(error) })
        throw new OpenAIError(400, 'model_key_refused', 'that is no key for these weights from the owner of this model')
      }
      log.info('model.opened')
      return json({ object: 'model_key', opened: true })
    })
  }

  app.get('/v1/models', () => json({ object: 'list', data: [model] }))
  app.get('/v1/models/:id', (c) => {
    if (c.req.param('id') === model.id) return json(model)
    return failure(
      new OpenAIError(404, 'model_not_found', `this worker serves ${model.id} and no other model`, 'model'),
    )
  })
  app.get('/v1/receipts/:id', (c) => {
    const id = c.req.param('id')
    const receipt = receipts.find(id)
    if (receipt === undefined)
      return failure(new OpenAIError(404, 'receipt_not_found', 'no receipt with that id is kept'))
    return json({ id, object: 'receipt', receipt })
  })

  const paths = [
    '/v1/chat/completions',
    '/v1/completions',
    '/v1/embeddings',
    '/v1/models',
    '/v1/models/:id',
    '/v1/receipts/:id',
  ]
  for (const path of lock === undefined ? paths : [...paths, PATH_MODEL_KEY]) {
    app.all(path, () => failure(new OpenAIError(405, 'method_not_allowed', 'this path does not take that method')))
  }
  app.notFound(() => failure(new OpenAIError(404, 'unknown_url', 'no such path here')))
  app.onError((error) => {
    if (error instanceof OpenAIError) return failure(error)
    log.error('request.failed', { code: errorCode(error) })
    return failure(new OpenAIError(500, 'internal_error', 'internal error'))
  })
  return async (request) => app.fetch(request)
}
