/** A short queue between the scheduler, which must not wait, and a reader, which may. */

export interface EventQueue<T> {
  push(item: T): void
  /** Nothing more will come; with an error, the reader gets it after what was pushed before. */
  end(error?: Error): void
  readonly length: number
  /** The next item, or undefined at the end. One call at a time. */
  take(): Promise<T | undefined>
  /** Drops everything, an error too. */
  discard(): void
}

/** `taken` is called after each item that was taken. */
export function createEventQueue<T>(taken: () => void): EventQueue<T> {
  let items: T[] = []
  let ended = false
  let failure: Error | undefined
  let notify: (() => void) | undefined

  const wake = (): void => {
    notify?.()
    notify = undefined
  }
  return {
    get length() {
      return items.length
    },
    push(item) {
      if (ended) return
      items.push(item)
      wake()
    },
    end(error) {
      if (ended) return
      ended = true
      failure = error
      wake()
    },
    async take() {
      while (items.length === 0 && !ended) {
        await new Promise<void>((resolve) => {
          notify = resolve
        })
      }
      const item = items.shift()
      if (item !== undefined) {
        taken()
        return item
      }
      if (failure !== undefined) throw failure
      return undefined
    },
    discard() {
      items = []
      ended = true
      failure = undefined
      wake()
    },
  }
}
