/** A bound on something that cannot be interrupted: the wait ends, the work goes on. */

/** What `work` gives, or rejects with `late()` after `timeoutMs`. The timer keeps no process alive after the work. */
export async function within<T>(work: Promise<T>, timeoutMs: number, late: () => Error): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const end = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(late()), timeoutMs)
  })
  try {
    return await Promise.race([work, end])
  } finally {
    clearTimeout(timer)
  }
}
