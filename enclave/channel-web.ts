/** The gateway for whoever has web-standard Requests and Responses. */
import { fromReadable, toReadable } from '../verifier/protocol/streams.js'
import type { Outer } from './channel.js'
import type { OuterAnswer } from './channel-response.js'

export function outerOf(request: Request): Outer {
  return {
    method: request.method,
    header: (name) => request.headers.get(name) ?? undefined,
    body: (signal) => fromReadable(request.body, signal),
    signal: request.signal,
  }
}

/** With `failed`, a body that fails half way just ends, once that has been called: it sees to it that this looks like no end. */
export function responseOf({ status, headers, body }: OuterAnswer, failed?: (error: unknown) => void): Response {
  if (typeof body === 'string') return new Response(body, { status, headers })
  const { pieces, end } = body
  const content = toReadable(pieces, {
    ...end,
    failed(error) {
      const failure = end.failed(error)
      if (failed === undefined) return failure
      failed(failure)
      return undefined
    },
  })
  return new Response(content, { status, headers })
}
