/**
 * Asking a worker for its evidence, within limits. Works in Node and in browsers; the caller passes `fetch` in.
 * What comes back is untrusted bytes.
 */
import { UnavailableError, UsageError } from './errors.js'
import { type Bytes, concat, toBase64Url, toBytes } from './protocol/bytes.js'
import { MAX_BUNDLE_BYTES, MEDIA_TYPE_BUNDLE, PATH_ATTESTATION } from './protocol/constants.js'

export interface FetchLimits {
  readonly fetch: typeof fetch
  /** Bound on the whole exchange, in milliseconds. */
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
}

const DEFAULT_TIMEOUT_MS = 30_000

/** The worker's origin. @throws UsageError unless it is an http or https URL without credentials, query or fragment. */
export function parseWorkerUrl(text: string): URL {
  let url: URL
  try {
    url = new URL(text)
  } catch (cause) {
    throw new UsageError(
      'url.invalid',
      `expected a worker URL such as https://gpu7.example.net, got ${text.slice(0, 100)}`,
      {
        cause,
      },
    )
  }
  if (url.protocol !== 'https:' && url.protocol !== 'http:') {
    throw new UsageError('url.scheme', `expected an http or https URL, got ${url.protocol}`)
  }
  if (url.username !== '' || url.password !== '')
    throw new UsageError('url.credentials', 'a worker URL carries no credentials')
  if (url.search !== '' || url.hash !== '')
    throw new UsageError('url.query', 'a worker URL has no query and no fragment')
  return url
}

/** A public path of the worker, below whatever path its URL has. */
export function workerPath(worker: URL, path: string): URL {
  return new URL(worker.pathname.replace(/\/$/, '') + path, worker)
}

/** @throws UnavailableError when the worker cannot be reached, answers badly, too much, or too slowly. */
export async function fetchBundle(worker: URL, nonce: Bytes, limits: FetchLimits): Promise<Bytes> {
  const url = workerPath(worker, PATH_ATTESTATION)
  url.searchParams.set('nonce', toBase64Url(nonce))
  return fetchBytes(url, MEDIA_TYPE_BUNDLE, MAX_BUNDLE_BYTES, limits)
}

/**
 * GET with a media type, a size bound and a time bound. Redirects are refused: another origin is another worker.
 * @throws UnavailableError on anything but a 200 of that media type within the bounds.
 */
export async function fetchBytes(url: URL, mediaType: string, maxBytes: number, limits: FetchLimits): Promise<Bytes> {
  const timeoutMs = limits.timeoutMs ?? DEFAULT_TIMEOUT_MS
  const signals = [AbortSignal.timeout(timeoutMs), ...(limits.signal === undefined ? [] : [limits.signal])]
  try {
    const response = await limits.fetch(url, {
      headers: { accept: mediaType },
      redirect: 'error',
      credentials: 'omit',
      cache: 'no-store',
      signal: AbortSignal.any(signals),
    })
    if (response.status !== 200) {
      await response.body?.cancel()
      throw new UnavailableError('worker.status', `${url.origin} answered ${response.status} to ${url.pathname}`)
    }
    const type = response.headers.get('content-type')?.split(';')[0]?.trim().toLowerCase()
    if (type !== mediaType) {
      await response.body?.cancel()
      throw new UnavailableError(
        'worker.media-type',
        `${url.origin} is not a worker: expected ${mediaType}, got ${type ?? 'none'}`,
      )
    }
    return await readBounded(response, maxBytes, url)
  } catch (error) {
    if (error instanceof UnavailableError) throw error
    limits.signal?.throwIfAborted()
    throw new UnavailableError('worker.unreachable', `cannot reach ${url.origin}: ${describe(error, timeoutMs)}`, {
      cause: error,
    })
  }
}

async function readBounded(response: Response, maxBytes: number, url: URL): Promise<Bytes> {
  const parts: Uint8Array[] = []
  let size = 0
  const reader = response.body?.getReader()
  while (reader !== undefined) {
    const { done, value } = await reader.read()
    if (done) break
    size += value.length
    if (size > maxBytes) {
      await reader.cancel()
      throw new UnavailableError('worker.too-large', `${url.origin} sent more than ${maxBytes} bytes`)
    }
    parts.push(value)
  }
  return toBytes(concat(...parts))
}

function describe(error: unknown, timeoutMs: number): string {
  if (error instanceof Error && error.name === 'TimeoutError') return `no complete answer within ${timeoutMs / 1000} s`
  const cause = error instanceof Error ? error.cause : undefined
  const code = (cause as { code?: unknown } | undefined)?.code
  if (code === 'ECONNREFUSED') return 'connection refused; is a worker running there?'
  if (code === 'ENOTFOUND') return 'no such host'
  if (cause instanceof Error && cause.message !== '') return cause.message
  return error instanceof Error ? error.message : String(error)
}
