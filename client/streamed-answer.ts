/** One streamed answer and what its receipt says, for whoever shows them to a person: the terminal and the explorer page. */
import { EventSourceParserStream } from 'eventsource-parser/stream'
import { printable } from '../verifier/text.js'
import { SubrosaError } from './errors.js'
import type { WorkerSession } from './session.js'

export interface Message {
  readonly role: 'system' | 'user' | 'assistant'
  readonly content: string
}

export interface StreamedAnswer {
  readonly text: string
  /** One printable line. */
  readonly receipt: string
  readonly holds: boolean
  /** The receipt itself, compact. */
  readonly jws: string
}

/**
 * Asks and hands on the answer piece by piece, then its receipt in one line. `text` is what came, `holds` whether the receipt is
 * the attested worker's for this question and this answer.
 * @throws SubrosaError `chat.refused` with the worker's own reason.
 */
export async function streamAnswer(
  worker: WorkerSession,
  model: string,
  messages: readonly Message[],
  write: (text: string) => void,
  signal?: AbortSignal,
): Promise<StreamedAnswer> {
  const response = await worker.fetch(`${worker.baseURL}/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model, messages, stream: true }),
    ...(signal === undefined ? {} : { signal }),
  })
  if (!response.ok || response.body === null) throw new SubrosaError('chat.refused', await refusal(response))
  let text = ''
  const events = response.body
    .pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>)
    .pipeThrough(new EventSourceParserStream())
  for await (const event of events) {
    if (event.data === '[DONE]') continue
    const delta = deltaOf(event.data)
    text += delta
    write(delta)
  }
  const receipt = await worker.receipt(response)
  const line =
    receipt.verdict === 'accepted'
      ? `receipt ${receipt.payload?.jti ?? ''}: signed by the attested enclave, for this question and this answer`
      : `RECEIPT DOES NOT HOLD: ${receipt.checks.find((check) => check.status === 'fail')?.reason ?? receipt.verdict}`
  return { text, receipt: printable(line), holds: receipt.verdict === 'accepted', jws: receipt.jws }
}

function deltaOf(data: string): string {
  const chunk = JSON.parse(data) as { choices?: { delta?: { content?: unknown } }[]; error?: { message?: unknown } }
  if (chunk.error !== undefined)
    throw new SubrosaError('chat.refused', `the worker says: ${String(chunk.error.message)}`)
  const content = chunk.choices?.[0]?.delta?.content
  return typeof content === 'string' ? content : ''
}

async function refusal(response: Response): Promise<string> {
  const body = (await response.json().catch(() => undefined)) as { error?: { message?: unknown } } | undefined
  return `the worker answered ${response.status}: ${String(body?.error?.message ?? 'no reason given')}`
}
