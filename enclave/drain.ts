/**
 * Leaving without dropping anybody: what is being answered is answered to its end, and what comes now is turned away before it
 * is opened, so that its sender may try another worker without doing anything twice.
 */

export interface Drain {
  /** Counts one answer in; what it returns counts it out, once. Undefined when none is begun any more. */
  enter(): (() => void) | undefined
  readonly draining: () => boolean
  /** Lets nobody in from now on. Whether nothing was left to answer within `timeoutMs`. */
  drain(timeoutMs: number): Promise<boolean>
}

export function createDrain(): Drain {
  let answering = 0
  let draining = false
  let onIdle = (): void => undefined
  return {
    draining: () => draining,
    enter() {
      if (draining) return undefined
      answering += 1
      let left = false
      return () => {
        if (left) return
        left = true
        answering -= 1
        if (answering === 0) onIdle()
      }
    },
    async drain(timeoutMs) {
      draining = true
      if (answering === 0) return true
      let timer: ReturnType<typeof setTimeout> | undefined
      const ended = new Promise<boolean>((resolve) => {
        onIdle = () => resolve(true)
        timer = setTimeout(() => resolve(false), timeoutMs)
      })
      return ended.finally(() => clearTimeout(timer))
    },
  }
}
