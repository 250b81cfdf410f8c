/**
 * Turn taking: one step of the model at a time, requests served in the order in which they asked. A request asks again
 * for every step, so requests that run together advance one step each, round and round.
 */
import { setImmediate as nextLoop } from 'node:timers/promises'
import { EngineError } from './errors.js'

export interface Turns {
  /**
   * Runs `step` when it is this request's turn, on a fresh round of the event loop: other work of the process gets in
   * between any two steps. @throws EngineError `aborted` or `closed` without running it, or whatever `step` throws.
   */
  take<T>(step: () => Promise<T>, signal?: AbortSignal): Promise<T>
  /** Refuses further steps, and resolves when none is running. */
  close(): Promise<void>
}

interface Waiting {
  readonly start: () => void
  readonly cancel: (error: EngineError) => void
}

export function createTurns(): Turns {
  const queue: Waiting[] = []
  let busy = false
  let closed = false
  let idle: () => void = () => {}

  function next(): void {
    const waiting = queue.shift()
    busy = waiting !== undefined
    if (waiting === undefined) idle()
    else waiting.start()
  }

  function myTurn(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        queue.splice(queue.indexOf(waiting), 1)
        reject(abortedError())
      }
      const waiting: Waiting = {
        start: () => {
          signal?.removeEventListener('abort', leave)
          resolve()
        },
        cancel: (error) => {
          signal?.removeEventListener('abort', leave)
          reject(error)
        },
      }
      signal?.addEventListener('abort', leave, { once: true })
      queue.push(waiting)
      if (!busy) next()
    })
  }

  return {
    async take<T>(step: () => Promise<T>, signal?: AbortSignal): Promise<T> {
      if (closed) throw closedError()
      if (signal?.aborted) throw abortedError()
      await myTurn(signal)
      try {
        await nextLoop()
        // Either may have happened since the turn was given.
        if (closed) throw closedError()
        if (signal?.aborted) throw abortedError()
        return await step()
      } finally {
        next()
      }
    },
    async close(): Promise<void> {
      closed = true
      for (const waiting of queue.splice(0)) waiting.cancel(closedError())
      if (!busy) return
      await new Promise<void>((resolve) => {
        idle = resolve
      })
    },
  }
}

export function abortedError(): EngineError {
  return new EngineError('aborted', 'the request was ended by its caller')
}

export function closedError(): EngineError {
  return new EngineError('closed', 'the engine was closed')
}
