/** Fetching descriptors and directories, within limits. Works in Node and in browsers; what comes back is unverified. */
import { UnavailableError } from '../errors.js'
import { type FetchLimits, fetchBounded } from '../fetch-bounded.js'
import { parseWorkerUrl } from '../fetch-evidence.js'
import { fromUtf8 } from '../protocol/bytes.js'
import { MEDIA_TYPE_DESCRIPTOR, PATH_DESCRIPTOR } from './descriptor.js'
import { MAX_DIRECTORY_BYTES, MEDIA_TYPE_DIRECTORY, parseDirectory } from './document.js'

/**
 * The compact JWS at an address: of a directory, or one descriptor; a bare origin is asked for its provider's descriptor.
 * @throws UsageError on what is no such URL; UnavailableError when there is no such answer; FormatError when a directory is none.
 */
export async function fetchDescriptors(address: string, limits: FetchLimits): Promise<readonly string[]> {
  const url = parseWorkerUrl(address)
  if (url.pathname === '/') url.pathname = PATH_DESCRIPTOR
  const accept = `${MEDIA_TYPE_DIRECTORY}, ${MEDIA_TYPE_DESCRIPTOR}`
  const { status, headers, bytes } = await fetchBounded(url, accept, MAX_DIRECTORY_BYTES, limits)
  if (status !== 200) {
    throw new UnavailableError('directory.status', `${url.origin} answered ${status} to ${url.pathname}`)
  }
  const type = headers.get('content-type')?.split(';')[0]?.trim().toLowerCase()
  if (type === MEDIA_TYPE_DIRECTORY) return parseDirectory(bytes).descriptors
  if (type === MEDIA_TYPE_DESCRIPTOR) return [fromUtf8(bytes).trim()]
  throw new UnavailableError(
    'directory.media-type',
    `${url.href} is neither directory nor descriptor: expected ${MEDIA_TYPE_DIRECTORY} or ${MEDIA_TYPE_DESCRIPTOR}, got ${type ?? 'none'}`,
  )
}
