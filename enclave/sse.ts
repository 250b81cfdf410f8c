/**
 * Server-sent events (WHATWG HTML §9.2) as streamed answers need them: `data` lines only, coalesced onto a grid of ticks
 * so that the time of a record says which tick it fell into and not which token was slow.
 */

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
 * Joins what `source` yields within one tick. The ticks are those of one fixed grid, and the last record waits for its
 * tick too. Leaving the loop early returns the source; a failing source fails the loop after what came before it.
 */
export async function* coalesce(
  source: AsyncIterable<string>,
  tickMs: number,
  clock: TickClock = systemTickClock,
): AsyncGenerator<string> {
  const iterator = source[Symbol.asyncIterator]()
  const start = clock.now()
  let next = watch(iterator.next())
  try {
    for (;;) {
      const first = await next.outcome
      if (first.kind !== 'item') return finish(first)
      let joined = first.text
      const elapsed = clock.now() - start
      const deadline = Math.ceil(elapsed / tickMs) * tickMs
      const tick = clock.sleep(deadline - elapsed).then(() => 'tick' as const)
      let ended: Ending | undefined
      next = watch(iterator.next())
      for (;;) {
        const outcome = ended === undefined ? await Promise.race([next.outcome, tick]) : await tick
        if (outcome === 'tick') break
        if (outcome.kind === 'item') {
          joined += outcome.text
          next = watch(iterator.next())
          // A source that never waits would keep the timer from ever running.
          if (clock.now() - start > deadline) break
        } else {
          ended = outcome
        }
      }
      yield joined
      if (ended !== undefined) return finish(ended)
    }
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
