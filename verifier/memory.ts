/**
 * A bounded memory of answers that depend on nothing but what they are filed under, so that remembering one trusts nothing new.
 * What was not asked for the longest leaves first.
 */
export interface Memory<T> {
  recall(id: string): T | undefined
  keep(id: string, value: T): void
  forget(id: string): void
}

export function createMemory<T>(limit: number): Memory<T> {
  const held = new Map<string, T>()
  const keep = (id: string, value: T): void => {
    held.delete(id)
    const [oldest] = held.keys()
    if (held.size >= limit && oldest !== undefined) held.delete(oldest)
    held.set(id, value)
  }
  return {
    recall(id) {
      const value = held.get(id)
      if (value !== undefined) keep(id, value)
      return value
    },
    keep,
    forget: (id) => void held.delete(id),
  }
}
