/** Requests that wait for a slot: whoever's tenant has the fewest goes first, and among those the one that came first. */

export interface WaitingRoom<T> {
  readonly size: number
  add(item: T): void
  /** Does nothing when it is not there. */
  remove(item: T): void
  /** Takes the first of those with the lowest load. */
  take(load: (item: T) => number): T | undefined
  /** In order of arrival. */
  all(): readonly T[]
}

export function createWaitingRoom<T>(): WaitingRoom<T> {
  const items = new Set<T>()
  return {
    get size() {
      return items.size
    },
    add: (item) => void items.add(item),
    remove: (item) => void items.delete(item),
    take(load) {
      let best: T | undefined
      let lowest = Number.POSITIVE_INFINITY
      for (const item of items) {
        const own = load(item)
        if (own >= lowest) continue
        lowest = own
        best = item
      }
      if (best !== undefined) items.delete(best)
      return best
    },
    all: () => [...items],
  }
}
