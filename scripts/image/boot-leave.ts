/** A booted worker that is told to leave by its host: what it was answering ends whole, and the machine ends by itself. */
import { runDrain } from '../../client/drain.js'
import type { WorkerSession } from '../../client/index.js'
import { ask } from './guests.js'
import { expect } from './lane.js'
import type { RunningGuest } from './qemu.js'

const POLL_MS = 100
/** Long enough to be running when the worker learns of it, and short of the time a worker gives its answers to end. */
const MAX_TOKENS = 200

/** @param orders file of the boots that are to leave, which the host's relay reads */
export async function leaveInOrder(
  guest: RunningGuest,
  session: WorkerSession,
  model: string,
  orders: string,
): Promise<string> {
  let draining = false
  const streams: Promise<StreamSeen>[] = []
  // Each begins when the one before has begun to speak, so that there is always one in progress when the worker learns of it.
  const begun = (async () => {
    while (!draining) {
      const next = await begin(session, model, () => draining)
      if (next === undefined) return
      streams.push(next.end)
      next.end.catch(() => undefined)
      await next.speaks
    }
  })()
  begun.catch(() => undefined)
  const ordered = performance.now()
  await runDrain(guest.url, { file: orders }, { stdout: process.stdout, stderr: process.stderr })
  while ((await ask(guest, '/readyz')).status === 200) await new Promise((resolve) => setTimeout(resolve, POLL_MS))
  draining = true
  const known = performance.now()
  const { status, text } = await ask(guest, '/ohttp', { method: 'POST', body: 'x' })
  expect(status === 503 && text.includes('leaving'), '503 of a worker that leaves', `${status} ${text}`)
  await begun
  const seen = await Promise.all(streams)
  const across = seen.filter(({ after }) => after > 0).length
  // What was let in was let in before the order was known; some of it must have gone on after.
  expect(across > 0, 'a stream that goes on after the worker is known to leave', `${seen.length} that had ended`)
  const cut = seen.find(({ text: all }) => !/^data: \[DONE\]\r?$/m.test(all))
  expect(cut === undefined, 'the end of every stream', `one that ends in ${JSON.stringify(cut?.text.slice(-200))}`)
  const ended = performance.now()
  const { late } = await guest.end
  expect(!late, 'a guest that ends by itself', 'one that had to be killed')
  const seconds = (from: number, to: number): string => ((to - from) / 1000).toFixed(1)
  return `known after ${seconds(ordered, known)} s, ${across} of ${seen.length} streams across it and whole, the last one's end ${seconds(known, ended)} s later, the guest's ${seconds(ended, performance.now())} s after that`
}

interface StreamSeen {
  /** Pieces that came after the worker was seen to leave. */
  readonly after: number
  readonly text: string
}

interface Begun {
  /** Resolves with the first piece, or the end. */
  readonly speaks: Promise<unknown>
  readonly end: Promise<StreamSeen>
}

/** Undefined when it was turned away. */
async function begin(session: WorkerSession, model: string, draining: () => boolean): Promise<Begun | undefined> {
  const response = await session
    .fetch(`${session.baseURL}/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({
        model,
        stream: true,
        messages: [{ role: 'user', content: 'Tell me a long story.' }],
        max_tokens: MAX_TOKENS,
      }),
    })
    .catch(() => undefined)
  if (response?.status !== 200) return undefined
  let speak = (): void => undefined
  const first = new Promise<void>((resolve) => {
    speak = resolve
  })
  const end = read(response, draining, () => speak())
  return { speaks: Promise.race([first, end]), end }
}

async function read(response: Response, draining: () => boolean, onPiece: () => void): Promise<StreamSeen> {
  let after = 0
  let text = ''
  for await (const piece of response.body ?? []) {
    onPiece()
    if (draining()) after += 1
    text += Buffer.from(piece).toString('latin1')
  }
  return { after, text }
}
