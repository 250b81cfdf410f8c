/** `subrosa chat`: a conversation in the terminal that says who can read it, and until when. Node only. */
import { createInterface } from 'node:readline/promises'
import { resolveFlags, type VerificationFlags } from '../verifier/options.js'
import { terminalStyle } from '../verifier/terminal.js'
import { printableLines } from '../verifier/text.js'
import type { CommandStreams } from './cli-run.js'
import { connect } from './node.js'
import { refuseUnsafe } from './prompt-safety.js'
import { readersOf } from './readers.js'
import { type Message, streamAnswer } from './streamed-answer.js'

export interface ChatFlags extends VerificationFlags {
  readonly model?: string
  readonly system?: string
  readonly prompt?: string
  readonly verbose?: boolean
}

/** Connects, then answers one `--prompt` or reads questions line by line until the input ends. */
export async function runChat(url: string, flags: ChatFlags, streams: CommandStreams): Promise<number> {
  refuseUnsafe(flags)
  const { policy, endorsements, sigstore } = await resolveFlags(flags)
  const judge = sigstore === undefined ? {} : { sigstore }
  // Nobody who types notices a round trip.
  const held = { session: true, prove: 'always' } as const
  const worker = await connect(url, { policy: { resolved: policy }, endorsements, ...held, ...judge })
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
