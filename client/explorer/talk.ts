/** Talking through the seal: locked until a worker is verified, and locked again when what is known of it runs out. */
import type { AttestationResult } from '../../verifier/result.js'
import { printable } from '../../verifier/text.js'
import { NotTrustedError, SubrosaError } from '../errors.js'
import { readersOf } from '../readers.js'
import type { WorkerSession } from '../session.js'
import { type Message, streamAnswer } from '../streamed-answer.js'
import { byId, element } from './dom.js'

export interface Talk {
  /** Ends what is being said and says why nothing can be. */
  lock(reason: string): void
  unlock(session: WorkerSession): void
}

const SECOND_MS = 1000
const MINUTE_MS = 60 * SECOND_MS

/** `lost` is told why a worker that was verified is so no longer, with the result that refused it where that is known. */
export function createTalk(lost: (reason: string, result?: AttestationResult) => void): Talk {
  const padlock = byId('padlock', HTMLElement)
  const prompt = byId('prompt', HTMLTextAreaElement)
  const [send, stop] = [byId('send', HTMLButtonElement), byId('stop', HTMLButtonElement)]
  const log = byId('log', HTMLElement)
  let held: WorkerSession | undefined
  let history: Message[] = []
  let running: AbortController | undefined
  let timer: ReturnType<typeof setTimeout> | undefined

  const enable = (on: boolean): void => {
    prompt.disabled = !on
    send.disabled = !on || running !== undefined
    stop.disabled = running === undefined
  }
  const shut = (text: string): void => {
    clearTimeout(timer)
    held?.close()
    held = undefined
    padlock.dataset['locked'] = 'true'
    padlock.textContent = text
    enable(false)
  }
  /** Does not end an answer that is still coming: it was asked for in time. */
  const lose = (reason: string, result?: AttestationResult): void => {
    shut(`Locked: ${printable(reason)}`)
    lost(reason, result)
  }
  /** Says what is held, and looks again in a second. False: nothing current is held, and all is locked. */
  const look = (): boolean => {
    if (held === undefined) return false
    const worker = workerOf(held)
    const leftMs = (worker?.validUntil.getTime() ?? 0) - Date.now()
    if (worker === undefined) lose('newer evidence of this worker was refused; verify it again to see why')
    else if (leftMs <= 0) lose(`the evidence ran out at ${worker.validUntil.toISOString()}; verify the worker again`)
    else {
      padlock.textContent = `Unlocked: ${readersOf(held)}, ${Math.floor(leftMs / MINUTE_MS)} min left; renewed as you talk.`
      clearTimeout(timer)
      timer = setTimeout(look, Math.min(leftMs, SECOND_MS))
    }
    return held !== undefined
  }
  const lock = (reason: string): void => {
    running?.abort()
    running = undefined
    shut(reason)
  }

  const ask = async (session: WorkerSession, question: string): Promise<void> => {
    const turn = new AbortController()
    running = turn
    enable(true)
    say('You', question)
    const model = session.worker.statement.model.id
    const line = say(model, '')
    const mine: Message[] = [...history, { role: 'user', content: question }]
    try {
      const show = (text: string) => line.append(document.createTextNode(text.split('\n').map(printable).join('\n')))
      const answer = await streamAnswer(session, model, mine, show, turn.signal)
      if (running !== turn) return
      history = [...mine, { role: 'assistant', content: answer.text }]
      log.append(
        element('details', {
          className: 'receipt',
          data: { holds: String(answer.holds) },
          children: [element('summary', { text: answer.receipt }), element('pre', { text: answer.jws })],
        }),
      )
    } catch (error) {
      const stopped = (error as { name?: unknown }).name === 'AbortError'
      const known = error instanceof SubrosaError ? error.message : 'this page failed for a reason of its own making'
      line.append(document.createTextNode(` [${stopped ? 'stopped' : printable(known)}]`))
      if (held === session && error instanceof NotTrustedError) lose(error.message, error.result)
    } finally {
      if (running === turn) {
        running = undefined
        enable(look())
        if (held !== undefined) prompt.focus()
      }
    }
  }
  const say = (who: string, text: string): HTMLElement => {
    const line = element('div', {
      children: [element('span', { className: 'who', text: `${printable(who)}: ` }), document.createTextNode(text)],
    })
    log.append(line)
    return line
  }

  byId('say', HTMLFormElement).addEventListener('submit', (event) => {
    event.preventDefault()
    const question = prompt.value.trim()
    if (running !== undefined || question === '' || !look() || held === undefined) return
    prompt.value = ''
    void ask(held, question)
  })
  prompt.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
    event.preventDefault()
    byId('say', HTMLFormElement).requestSubmit()
  })
  stop.addEventListener('click', () => running?.abort())
  // The timers of a page nobody sees are late.
  document.addEventListener('visibilitychange', look)

  return {
    lock,
    unlock(session) {
      lock('')
      held = session
      history = []
      log.replaceChildren()
      padlock.dataset['locked'] = 'false'
      enable(look())
    },
  }
}

/** Undefined once a refusal has left the session without one. */
function workerOf(session: WorkerSession): WorkerSession['worker'] | undefined {
  try {
    return session.worker
  } catch {
    return undefined
  }
}
