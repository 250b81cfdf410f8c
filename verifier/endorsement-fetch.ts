/**
 * Fetching endorsements from hardware makers: one flight per address, back-off when told to wait, size and time limits,
 * and a store in front. Endorsements are signed and dated, so neither the network nor the store can forge one; both can
 * only withhold or replay, which the verifier's windows answer.
 */
import { UnavailableError } from './errors.js'
import { type FetchLimits, fetchBounded } from './fetch-bounded.js'
import type { Bytes } from './protocol/bytes.js'

/** Where fetched endorsements are kept. Failing to keep one is not an error. */
export interface EndorsementStore {
  /** Undefined when there is none, or it is older than `maxAgeMs`. */
  load(key: string, maxAgeMs: number): Promise<Bytes | undefined>
  save(key: string, bytes: Bytes): Promise<void>
}

export interface EndorsementAddress {
  readonly url: URL
  readonly accept: string
  readonly maxBytes: number
  /** How long a stored copy may stand for it, in milliseconds; infinite for what never changes. */
  readonly maxAgeMs: number
  /** Whether the bytes are what the address promises: an error page must never be stored. */
  readonly isValid: (bytes: Bytes) => boolean
  /** A response header whose URL-decoded value belongs to the endorsement; it is appended after one line feed. */
  readonly header?: string
  /** A question that is sent with POST. Its answer is the asker's alone: it is neither stored nor shared. */
  readonly post?: { readonly type: string; readonly bytes: Bytes }
}

export interface EndorsementFetcher {
  /** @throws UnavailableError when it is neither stored nor to be had. */
  get(address: EndorsementAddress): Promise<Bytes>
}

export interface EndorsementFetcherOptions extends FetchLimits {
  readonly store?: EndorsementStore
  /** Waits that many milliseconds. */
  readonly sleep: (ms: number) => Promise<void>
  /** In [0, 1): lengthens waits by up to half, so that many who were told to wait do not come back at once. Default: none. */
  readonly random?: () => number
  /** Told before each request that is really made, for progress. */
  readonly onRequest?: (url: URL) => void
}

const MAX_ATTEMPTS = 3
/** The key service of AMD allows about one certificate in ten seconds. */
const DEFAULT_BACK_OFF_MS = 10_000
const MAX_BACK_OFF_MS = 20_000

export function createEndorsementFetcher(options: EndorsementFetcherOptions): EndorsementFetcher {
  const flights = new Map<string, Promise<Bytes>>()
  return {
    get(address) {
      if (address.post !== undefined) return getOnce(address, options)
      const key = address.url.href
      const known = flights.get(key)
      if (known !== undefined) return known
      const flight = getOnce(address, options).finally(() => flights.delete(key))
      flights.set(key, flight)
      return flight
    },
  }
}

async function getOnce(address: EndorsementAddress, options: EndorsementFetcherOptions): Promise<Bytes> {
  const { url, accept, maxBytes, maxAgeMs, isValid, post } = address
  const store = post === undefined ? options.store : undefined
  const stored = await store?.load(url.href, maxAgeMs)
  if (stored !== undefined && isValid(stored)) return stored
  for (let attempt = 1; ; attempt++) {
    options.onRequest?.(url)
    const { status, headers, bytes } = await fetchBounded(url, accept, maxBytes, options, post)
    if (status === 200) {
      const whole = address.header === undefined ? bytes : withHeader(bytes, headers.get(address.header))
      if (!isValid(whole)) {
        throw new UnavailableError(
          'endorsement.invalid',
          `${url.host} did not answer with what ${url.pathname} should be`,
        )
      }
      await store?.save(url.href, whole)
      return whole
    }
    if ((status !== 429 && status !== 503) || attempt === MAX_ATTEMPTS) {
      throw new UnavailableError('endorsement.status', `${url.host} answered ${status} to ${url.pathname}`)
    }
    await options.sleep(backOff(headers.get('retry-after'), attempt) * (1 + 0.5 * (options.random?.() ?? 0)))
  }
}

function backOff(retryAfter: string | null, attempt: number): number {
  const seconds = retryAfter !== null && /^\d{1,4}$/.test(retryAfter) ? Number(retryAfter) * 1000 : undefined
  return Math.min(seconds ?? DEFAULT_BACK_OFF_MS * attempt, MAX_BACK_OFF_MS)
}

function withHeader(bytes: Bytes, value: string | null): Bytes {
  if (value === null) return bytes
  let decoded: string
  try {
    decoded = decodeURIComponent(value)
  } catch {
    return bytes
  }
  const text = new TextEncoder().encode(`\n${decoded}`)
  const out = new Uint8Array(bytes.length + text.length)
  out.set(bytes)
  out.set(text, bytes.length)
  return out
}
