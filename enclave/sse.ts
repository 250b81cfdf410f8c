/**
 * Server-sent events (WHATWG HTML §9.2) as streamed answers need them: `data` lines only, packed into records of one
 * size on a grid of ticks, so that a record's size says nothing, and its time says which tick it fell into and not which
 * token was slow.
 */
import { type Bytes, utf8 } from '../verifier/protocol/bytes.js'
import { HOLD_TICKS, RECORD_BYTES, TICK_MS, takeRecord } from './padding.js'

/** One event. JSON text has no line breaks, so one `data` line holds it. */
export function encodeEvent(data: unknown): string {
  return `data: ${JSON.stringify(data)}\n\n`
}

/** What ends a stream of OpenAI's kind. */
export const DONE_EVENT = 'data: [DONE]\n\n'

export interface TickClock {
  /** Milliseconds, monotonic. */
  now(): number
  sleep(ms: number): Promise<void>
}

export const systemTickClock: TickClock = {
  now: () => performance.now(),
  sleep: (ms) => new Promise((resolve) => setTimeout(resolve, ms)),
}

/**
 * Packs events into records of RECORD_BYTES. The ticks are those of one fixed grid. A record leaves at the first tick at
 * which it is full, has waited HOLD_TICKS, is the first of the stream, or is among its last. Leaving the loop early
 * returns the source; a failing source fails the loop after what came before it.
 */
export async function* packRecords(
  source: AsyncIterable<string>,
  clock: TickClock = systemTickClock,
): AsyncGenerator<Bytes> {
  const iterator = source[Symbol.asyncIterator]()
  const start = clock.now()
  const waiting: Bytes[] = []
  let size = 0
  let typical = 0
  const add = (text: string): void => {
    const event = utf8(text)
    waiting.push(event)
    size += event.length
    typical = event.length
  }
  const take = (): Bytes => {
    const record = takeRecord(waiting)
    size = waiting.reduce((sum, event) => sum + event.length, 0)
    return record
  }
  let next = watch(iterator.next())
  let ended: Ending | undefined
  // Nobody waits longer than one tick for the beginning of an answer.
  let held = HOLD_TICKS - 1
  try {
    while (ended === undefined) {
      if (waiting.length === 0) {
        const first = await next.outcome
        if (first.kind !== 'item') return finish(first)
        add(first.text)
        next = watch(iterator.next())
      }
      const elapsed = clock.now() - start
      const deadline = (Math.floor(elapsed / TICK_MS) + 1) * TICK_MS
      const tick = clock.sleep(deadline - elapsed).then(() => 'tick' as const)
      for (;;) {
        const outcome: Outcome | 'tick' = ended === undefined ? await Promise.race([next.outcome, tick]) : await tick
        if (outcome === 'tick') break
        if (outcome.kind === 'item') {
          add(outcome.text)
          next = watch(iterator.next())
          // A source that never waits would keep the timer from ever running.
          if (clock.now() - start > deadline) break
        } else {
          ended = outcome
        }
      }
      held += 1
      const due = ended !== undefined || held >= HOLD_TICKS
      // Full: another event like the last one would not fit any more.
      while (size > 0 && (due || size + typical > RECORD_BYTES)) {
        yield take()
        held = 0
      }
    }
    finish(ended)
  } finally {
    // The step in progress may take a while, and nobody waits for it any more.
    void iterator.return?.().catch(() => undefined)
  }
}

type Ending = { readonly kind: 'end' } | { readonly kind: 'error'; readonly error: unknown }
type Outcome = { readonly kind: 'item'; readonly text: string } | Ending

/** Settles without rejecting, so that a failure nobody is waiting for yet is not an unhandled one. */
function watch(result: Promise<IteratorResult<string>>): { readonly outcome: Promise<Outcome> } {
  return {
    outcome: result.then(
      (item): Outcome => (item.done === true ? { kind: 'end' } : { kind: 'item', text: item.value }),
      (error: unknown): Outcome => ({ kind: 'error', error }),
    ),
  }
}

function finish(ending: Ending): void {
  if (ending.kind === 'error') throw ending.error
}
