/** `subrosa chat`: a conversation in the terminal that says who can read it, and until when. Node only. */
import { createInterface } from 'node:readline/promises'
import { EventSourceParserStream } from 'eventsource-parser/stream'
import { resolveFlags, type VerificationFlags } from '../verifier/options.js'
import { terminalStyle } from '../verifier/terminal.js'
import { printable } from '../verifier/text.js'
import type { CommandStreams } from './cli-run.js'
import { SubrosaError } from './errors.js'
import { readersOf, refuseUnsafe } from './prompt-safety.js'
import { connect, type WorkerSession } from './session.js'

export interface ChatFlags extends VerificationFlags {
  readonly model?: string
  readonly system?: string
  readonly prompt?: string
  readonly verbose?: boolean
}

interface Message {
  readonly role: 'system' | 'user' | 'assistant'
  readonly content: string
}

/** Connects, then answers one `--prompt` or reads questions line by line until the input ends. */
export async function runChat(url: string, flags: ChatFlags, streams: CommandStreams): Promise<number> {
  refuseUnsafe(flags)
  const { policy, endorsements, sigstore } = await resolveFlags(flags)
  const judge = sigstore === undefined ? {} : { sigstore }
  const worker = await connect(url, { policy: { resolved: policy }, endorsements, ...judge })
  const style = terminalStyle(streams.stdout)
  streams.stderr.write(`${readersOf(worker)}\n`)
  const model = flags.model ?? worker.worker.statement.model.id
  const history: Message[] = flags.system === undefined ? [] : [{ role: 'system', content: flags.system }]
  let unreceipted = 0
  const ask = async (question: string): Promise<void> => {
    history.push({ role: 'user', content: question })
    const answer = await streamAnswer(worker, model, history, (text) => streams.stdout.write(printableLines(text)))
    history.push({ role: 'assistant', content: answer.text })
    streams.stdout.write('\n')
    streams.stderr.write(`${answer.holds ? style.dim(answer.receipt) : style.bad(answer.receipt)}\n`)
    if (!answer.holds) unreceipted++
  }
  if (flags.prompt !== undefined) {
    await ask(flags.prompt)
    return unreceipted === 0 ? 0 : 1
  }
  const terminal = createInterface({ input: process.stdin, output: process.stderr })
  terminal.setPrompt('you> ')
  terminal.prompt()
  for await (const line of terminal) {
    if (line.trim() !== '') await ask(line)
    terminal.prompt()
  }
  return unreceipted === 0 ? 0 : 1
}

async function streamAnswer(
  worker: WorkerSession,
  model: string,
  messages: readonly Message[],
  write: (text: string) => void,
): Promise<{ text: string; receipt: string; holds: boolean }> {
  const response = await worker.fetch(`${worker.baseURL}/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model, messages, stream: true }),
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
  return { text, receipt: printable(line), holds: receipt.verdict === 'accepted' }
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

/** An answer may hold line breaks; any other control character is shown, not obeyed. */
function printableLines(text: string): string {
  return text.split('\n').map(printable).join('\n')
}
