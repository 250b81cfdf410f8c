/**
 * One GET within bounds: size, time, no redirects, no credentials, no cache. What comes back is untrusted bytes.
 */
import { UnavailableError } from './errors.js'
import { type Bytes, concat, toBytes } from './protocol/bytes.js'

export interface FetchLimits {
  readonly fetch: typeof fetch
  /** Bound on the whole exchange, in milliseconds. */
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
}

export interface BoundedResponse {
  readonly status: number
  readonly headers: Headers
  /** The whole body of a 200; empty for any other status, whose body is not read. */
  readonly bytes: Bytes
}

const DEFAULT_TIMEOUT_MS = 30_000

/** @throws UnavailableError when there is no complete answer within the bounds; the caller's abort reason when aborted. */
export async function fetchBounded(
  url: URL,
  accept: string,
  maxBytes: number,
  limits: FetchLimits,
): Promise<BoundedResponse> {
  const timeoutMs = limits.timeoutMs ?? DEFAULT_TIMEOUT_MS
  const signals = [AbortSignal.timeout(timeoutMs), ...(limits.signal === undefined ? [] : [limits.signal])]
  try {
    const response = await limits.fetch(url, {
      headers: { accept },
      redirect: 'error',
      credentials: 'omit',
      cache: 'no-store',
      signal: AbortSignal.any(signals),
    })
    const { status, headers } = response
    if (status === 200) return { status, headers, bytes: await readBounded(response, maxBytes, url) }
    await response.body?.cancel()
    return { status, headers, bytes: new Uint8Array() }
  } catch (error) {
    if (error instanceof UnavailableError) throw error
    limits.signal?.throwIfAborted()
    const reason = describe(error, timeoutMs)
    throw new UnavailableError('worker.unreachable', `cannot reach ${url.origin}: ${reason}`, { cause: error })
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
  if (code === 'ECONNREFUSED') return 'connection refused; is anything running there?'
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') return 'no such host, or no network'
  if (cause instanceof Error && cause.message !== '') return cause.message
  return error instanceof Error ? error.message : String(error)
}
