/** Talking through the seal: locked until a worker is verified, and locked again when what is known of it runs out. */
import { printable } from '../../verifier/text.js'
import { SubrosaError } from '../errors.js'
import { readersOf } from '../readers.js'
import type { WorkerSession } from '../session.js'
import { type Message, streamAnswer } from '../streamed-answer.js'
import { byId, element } from './dom.js'

export interface Talk {
  /** Ends what is being said and says why nothing can be. */
  lock(reason: string): void
  unlock(session: WorkerSession): void
}

const MINUTE_MS = 60_000

export function createTalk(): Talk {
  const padlock = byId('padlock', HTMLElement)
  const prompt = byId('prompt', HTMLTextAreaElement)
  const [send, stop] = [byId('send', HTMLButtonElement), byId('stop', HTMLButtonElement)]
  const log = byId('log', HTMLElement)
  let held: WorkerSession | undefined
  let history: Message[] = []
  let running: AbortController | undefined
  let timer: ReturnType<typeof setInterval> | undefined

  const enable = (on: boolean): void => {
    prompt.disabled = !on
    send.disabled = !on || running !== undefined
    stop.disabled = running === undefined
  }
  const describe = (): void => {
    if (held === undefined) return
    const { worker } = held
    const minutes = Math.max(0, Math.floor((worker.validUntil.getTime() - Date.now()) / MINUTE_MS))
    padlock.textContent = `Unlocked: ${readersOf(held)}, ${minutes} min left; renewed as you talk.`
  }
  const lock = (reason: string): void => {
    running?.abort()
    clearInterval(timer)
    held?.close()
    held = undefined
    padlock.dataset['locked'] = 'true'
    padlock.textContent = reason
    enable(false)
  }

  const ask = async (session: WorkerSession, question: string): Promise<void> => {
    running = new AbortController()
    enable(true)
    say('You', question)
    const line = say(session.worker.statement.model.id, '')
    const mine: Message[] = [...history, { role: 'user', content: question }]
    try {
      const { signal } = running
      const show = (text: string) => line.append(document.createTextNode(text.split('\n').map(printable).join('\n')))
      const answer = await streamAnswer(session, session.worker.statement.model.id, mine, show, signal)
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
    } finally {
      running = undefined
      if (held === session) {
        enable(true)
        describe()
        prompt.focus()
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
    if (held === undefined || running !== undefined || question === '') return
    prompt.value = ''
    void ask(held, question)
  })
  prompt.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return
    event.preventDefault()
    byId('say', HTMLFormElement).requestSubmit()
  })
  stop.addEventListener('click', () => running?.abort())

  return {
    lock,
    unlock(session) {
      lock('')
      held = session
      history = []
      log.replaceChildren()
      padlock.dataset['locked'] = 'false'
      describe()
      timer = setInterval(describe, MINUTE_MS / 2)
      enable(true)
    },
  }
}
