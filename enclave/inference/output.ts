/**
 * From tokens to events: streaming decode joined with stop strings and calls. Stop strings are looked for in the answer's
 * text only: a call is always whole.
 */
import { createCallReader } from './call-reader.js'
import { createDetokenizer } from './detokenizer.js'
import type { CallPiece, TokenEvent } from './engine.js'
import { logProbabilities } from './sampler.js'
import { createStopFilter } from './stop-strings.js'
import type { TextTokenizer } from './tokenizer.js'

export interface Output {
  /** The events a token releases: none while its text is held back. */
  push(tokenId: number, description: Pick<TokenEvent, 'tokenId' | 'logprobs'>): readonly TokenEvent[]
  /** The events still held back, at the end of the answer. */
  flush(): readonly TokenEvent[]
  stopped(): boolean
  /** Whether a call was begun. */
  called(): boolean
}

/**
 * Joins decoding and stop strings. A token is announced once all of its text can be: until then it waits, with the text
 * of those before it that wait too, and the last of them carries that text. Tokens of a stop string are never announced.
 */
export function createOutput(tokenizer: TextTokenizer, stop: readonly string[], withCalls = false): Output {
  const detokenizer = createDetokenizer(tokenizer.decode)
  const reader = withCalls ? createCallReader() : undefined
  const filter = createStopFilter(stop)
  let waiting: Pick<TokenEvent, 'tokenId' | 'logprobs'>[] = []
  let text = ''
  let calls: CallPiece[] = []
  let stopped = false

  function release(): readonly TokenEvent[] {
    // At a stop string only the text before it is left, which the first of the waiting tokens began.
    if (stopped) waiting = text === '' ? [] : waiting.slice(0, 1)
    const last = waiting.length - 1
    const pieces = calls
    const events = waiting.map(
      (token, i): TokenEvent => ({
        type: 'token',
        text: i === last ? text : '',
        ...token,
        ...(i === last && pieces.length > 0 ? { calls: pieces } : {}),
      }),
    )
    waiting = []
    text = ''
    calls = []
    return events
  }

  function acceptText(piece: string): void {
    const result = filter.push(piece)
    text += result.text
    stopped ||= result.stopped
  }

  function accept(piece: string): void {
    if (reader === undefined) {
      acceptText(piece)
      return
    }
    const found = reader.push(piece)
    acceptText(found.text)
    if (stopped || found.calls.length === 0) return
    // No stop string goes on behind the beginning of a call.
    text += filter.flush()
    calls.push(...found.calls)
  }

  const pending = (): boolean => detokenizer.pending() || filter.pending() || reader?.pending() === true
  return {
    push(tokenId, description): readonly TokenEvent[] {
      waiting.push(description)
      accept(detokenizer.push(tokenId))
      return !stopped && pending() ? [] : release()
    },
    flush(): readonly TokenEvent[] {
      accept(detokenizer.flush())
      acceptText(reader?.flush() ?? '')
      text += filter.flush()
      return release()
    },
    stopped: () => stopped,
    called: () => reader !== undefined && reader.count() > 0,
  }
}

/** What a token event says of its token, log-probabilities included where `count` asks for them. */
export function describeToken(
  tokenizer: TextTokenizer,
  logits: Float32Array,
  tokenId: number,
  count: number | undefined,
): Pick<TokenEvent, 'tokenId' | 'logprobs'> {
  if (count === undefined) return { tokenId }
  const { chosen, top } = logProbabilities(logits, tokenId, count)
  return {
    tokenId,
    logprobs: {
      chosen: { tokenId, token: tokenizer.spell(tokenId), logprob: chosen },
      top: top.map((entry) => ({ ...entry, token: tokenizer.spell(entry.tokenId) })),
    },
  }
}
