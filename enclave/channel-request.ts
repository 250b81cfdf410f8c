/**
 * From an authentic Binary HTTP request to the web-standard Request a handler sees.
 *
 * Refused: anything but https with an absolute path, a content-length that lies, a `date` that is missing, repeated, in
 * another format, or too far from now (RFC 9458 §6.5.2).
 */
import type { BhttpMessage, RequestHead } from '../verifier/protocol/bhttp.js'
import type { Bytes } from '../verifier/protocol/bytes.js'
import { FormatError } from '../verifier/protocol/errors.js'
import { StreamReader } from '../verifier/protocol/streams.js'

/** Exactly one `date`, an IMF-fixdate (RFC 9110 §5.6.7), close to now. */
export function isTimely(head: RequestHead, now: Date, windowMs: number): boolean {
  const dates = head.fields.filter(([name]) => name === 'date')
  const text = dates[0]?.[1]
  if (dates.length !== 1 || text === undefined) return false
  const at = new Date(text)
  // Of a text that is no date this is NaN, which is no distance.
  return Math.abs(at.getTime() - now.getTime()) <= windowMs && at.toUTCString() === text
}

export interface InnerRequest {
  /** Without the content. */
  readonly request: Request
  readonly content: Bytes
}

/** @throws FormatError on a message that is not a request for this worker, TypeError on what Request itself refuses. */
export async function innerRequest(
  message: BhttpMessage<RequestHead>,
  maxBytes: number,
  signal: AbortSignal,
): Promise<InnerRequest> {
  const { head } = message
  if (head.scheme !== 'https' || !head.path.startsWith('/')) {
    throw new FormatError('channel.target', 'expected an https request with an absolute path')
  }
  const content = await new StreamReader(message.content, 'content').rest(maxBytes)
  if (content.length > 0 && (head.method === 'GET' || head.method === 'HEAD')) {
    throw new FormatError('channel.content', `expected no content with ${head.method}`)
  }
  // Body limits further in may trust this field.
  if (head.fields.some(([name, value]) => name === 'content-length' && value !== String(content.length))) {
    throw new FormatError('channel.content-length', 'content-length does not match the content')
  }
  // The authority is a client's word about where it thinks it is; nothing here may depend on it.
  const request = new Request(`https://worker${head.path}`, {
    method: head.method,
    headers: head.fields.map(([name, value]): [string, string] => [name, value]),
  })
  // The signal itself: Request would make another that follows it, and undici forgets to follow for a Request that was collected.
  return { request: Object.defineProperty(request, 'signal', { value: signal }), content }
}
