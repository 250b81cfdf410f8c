/**
 * From an authentic Binary HTTP request to the web-standard Request a handler sees.
 *
 * Refused: anything but https with an absolute path, a content-length that lies, a `date` that is missing, repeated, in
 * another format, or too far from now (RFC 9458 §6.5.2).
 */
import type { BhttpMessage, RequestHead } from '../verifier/protocol/bhttp.js'
import { FormatError } from '../verifier/protocol/errors.js'
import { StreamReader } from '../verifier/protocol/streams.js'

/** Exactly one `date`, an IMF-fixdate (RFC 9110 §5.6.7), close to now. */
export function isTimely(head: RequestHead, now: Date, windowMs: number): boolean {
  const dates = head.fields.filter(([name]) => name === 'date')
  const text = dates[0]?.[1]
  if (dates.length !== 1 || text === undefined) return false
  const at = new Date(text)
  return (
    at.toString() !== 'Invalid Date' && at.toUTCString() === text && Math.abs(at.getTime() - now.getTime()) <= windowMs
  )
}

/** @throws FormatError on a message that is not a request for this worker, TypeError on what Request itself refuses. */
export async function innerRequest(
  message: BhttpMessage<RequestHead>,
  maxBytes: number,
  signal: AbortSignal,
): Promise<Request> {
  const { head } = message
  if (head.scheme !== 'https' || !head.path.startsWith('/')) {
    throw new FormatError('channel.target', 'expected an https request with an absolute path')
  }
  const content = await new StreamReader(message.content, 'content').rest(maxBytes)
  const headers = new Headers(head.fields.map(([name, value]): [string, string] => [name, value]))
  const declared = headers.get('content-length')
  // Body limits further in may trust this field.
  if (declared !== null && declared !== String(content.length)) {
    throw new FormatError('channel.content-length', 'content-length does not match the content')
  }
  // The authority is a client's word about where it thinks it is; nothing here may depend on it.
  return new Request(`https://worker${head.path}`, {
    method: head.method,
    headers,
    body: content.length === 0 ? null : content,
    signal,
  })
}
