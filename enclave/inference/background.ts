/**
 * Work on the event loop that takes long altogether: a slice of one in each turn, in turn, so that however many there are,
 * whatever else the loop has to do waits for one slice at most.
 */

export interface Background {
  /** Runs `slice` now and then until it returns true, then `done` once. Neither may throw. */
  add(slice: () => boolean, done: () => void): void
}

export function createBackground(): Background {
  const jobs: { readonly slice: () => boolean; readonly done: () => void }[] = []
  let coming = false

  function come(): void {
    if (coming || jobs.length === 0) return
    coming = true
    setImmediate(turn)
  }

  function turn(): void {
    coming = false
    const job = jobs.shift()
    try {
      if (job?.slice() === false) jobs.push(job)
      else job?.done()
    } finally {
      come()
    }
  }

  return {
    add(slice, done) {
      jobs.push({ slice, done })
      come()
    },
  }
}
