/**
 * What `fetch` takes, as a Request and its content. Content at hand, as the JSON of a client's is, is taken as it is: a Request would
 * make a web stream of it, only to have it read again, which is felt at the first token of the answer.
 */
import { type Bytes, utf8 } from '../verifier/protocol/bytes.js'
import { FormatError } from '../verifier/protocol/errors.js'
import { fromReadable, StreamReader } from '../verifier/protocol/streams.js'

export interface ReadRequest {
  /** For method, URL, header fields and signal. Its content is not to be read. */
  readonly request: Request
  /** The caller's to keep: nobody changes it any more. */
  readonly content: Bytes
}

/** @throws FormatError `stream.too-long` above `maxBytes` of content, TypeError on what Request refuses, the signal's reason. */
export async function readRequest(
  input: RequestInfo | URL,
  init?: RequestInit,
  maxBytes: number = Number.POSITIVE_INFINITY,
): Promise<ReadRequest> {
  const content = contentAtHand(input, init)
  if (content === undefined) {
    const request = new Request(input, init)
    return {
      request,
      content: await new StreamReader(fromReadable(request.body, request.signal), 'request').rest(maxBytes),
    }
  }
  if (content.length > maxBytes) throw new FormatError('stream.too-long', `request: more than ${maxBytes} bytes`)
  const request = new Request(input, { ...init, body: null })
  // Fetch, "extract a body": text says so, unless its caller says more.
  if (typeof init?.body === 'string' && !request.headers.has('content-type')) {
    request.headers.set('content-type', 'text/plain;charset=UTF-8')
  }
  return { request, content }
}

/** Only where nothing else could be the content: a Request brings its own, and other methods may have none. */
function contentAtHand(input: RequestInfo | URL, init: RequestInit | undefined): Bytes | undefined {
  if (init?.method !== 'POST' || input instanceof Request) return undefined
  const { body } = init
  if (typeof body === 'string') return utf8(body)
  return body instanceof Uint8Array ? new Uint8Array(body) : undefined
}
