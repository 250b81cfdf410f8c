/**
 * Asking a worker for its evidence, within limits. Works in Node and in browsers; the caller passes `fetch` in.
 * What comes back is untrusted bytes.
 */
import { UnavailableError, UsageError } from './errors.js'
import { type FetchLimits, fetchBounded } from './fetch-bounded.js'
import { type Bytes, toBase64Url } from './protocol/bytes.js'
import { MAX_BUNDLE_BYTES, MEDIA_TYPE_BUNDLE, PATH_ATTESTATION } from './protocol/constants.js'

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
  const { status, headers, bytes } = await fetchBounded(url, mediaType, maxBytes, limits)
  if (status !== 200) throw new UnavailableError('worker.status', `${url.origin} answered ${status} to ${url.pathname}`)
  const type = headers.get('content-type')?.split(';')[0]?.trim().toLowerCase()
  if (type === mediaType) return bytes
  throw new UnavailableError(
    'worker.media-type',
    `${url.origin} is not a worker: expected ${mediaType}, got ${type ?? 'none'}`,
  )
}
