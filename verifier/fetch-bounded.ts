/**
 * One GET or POST within bounds: size, time, no redirects, no credentials, no cache. What comes back is untrusted bytes.
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
  post?: { readonly type: string; readonly bytes: Bytes },
): Promise<BoundedResponse> {
  const timeoutMs = limits.timeoutMs ?? DEFAULT_TIMEOUT_MS
  const stop = new AbortController()
  const tooLate = new DOMException('no complete answer in time', 'TimeoutError')
  const timer = setTimeout(() => stop.abort(tooLate), timeoutMs)
  const onAbort = () => stop.abort(limits.signal?.reason)
  if (limits.signal?.aborted === true) onAbort()
  limits.signal?.addEventListener('abort', onAbort)
  // Node's fetch holds its signal weakly: once collected, a worker that trickles would keep its reader for ever. So the
  // deadline is kept here too, by racing every wait against it.
  const deadline = new Promise<never>((_, reject) => {
    stop.signal.addEventListener('abort', () => reject(stop.signal.reason))
  })
  deadline.catch(() => undefined)
  try {
    const asked = limits.fetch(url, {
      ...(post === undefined
        ? { headers: { accept } }
        : { method: 'POST', headers: { accept, 'content-type': post.type }, body: post.bytes }),
      redirect: 'error',
      credentials: 'omit',
      cache: 'no-store',
      signal: stop.signal,
    })
    const response = await Promise.race([asked, deadline])
    const { status, headers } = response
    if (status === 200) return { status, headers, bytes: await readBounded(response, maxBytes, url, deadline) }
    await response.body?.cancel()
    return { status, headers, bytes: new Uint8Array() }
  } catch (error) {
    if (error instanceof UnavailableError) throw error
    limits.signal?.throwIfAborted()
    const reason = describe(stop.signal.aborted ? tooLate : error, timeoutMs)
    throw new UnavailableError('worker.unreachable', `cannot reach ${url.origin}: ${reason}`, { cause: error })
  } finally {
    clearTimeout(timer)
    limits.signal?.removeEventListener('abort', onAbort)
  }
}

async function readBounded(response: Response, maxBytes: number, url: URL, deadline: Promise<never>): Promise<Bytes> {
  const parts: Uint8Array[] = []
  let size = 0
  const reader = response.body?.getReader()
  try {
    while (reader !== undefined) {
      const { done, value } = await Promise.race([reader.read(), deadline])
      if (done) break
      size += value.length
      if (size > maxBytes) {
        throw new UnavailableError('worker.too-large', `${url.origin} sent more than ${maxBytes} bytes`)
      }
      parts.push(value)
    }
  } catch (error) {
    // Lets go of the connection; how that goes is of no interest any more.
    reader?.cancel().catch(() => undefined)
    throw error
  }
  return toBytes(concat(...parts))
}

function describe(error: unknown, timeoutMs: number): string {
  if (error instanceof Error && error.name === 'TimeoutError') return `no complete answer within ${timeoutMs / 1000} s`
  const cause = error instanceof Error ? error.cause : undefined
  const code = (cause as { code?: unknown } | undefined)?.code
  if (code === 'ECONNREFUSED') return 'connection refused; is anything running there?'
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') return 'no such host, or no network'
  if (cause instanceof Error && cause.message === 'unexpected redirect') {
    return 'it answered with a redirect, and another origin is another worker; name that one if you mean it'
  }
  if (cause instanceof Error && cause.message !== '') return cause.message
  return error instanceof Error ? error.message : String(error)
}
