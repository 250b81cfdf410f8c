/** What is being written: a folder that is gone again when the work on it fails, or is ended by a signal. */
import { rmSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { constants } from 'node:os'

/** By hand, by a service manager, and by a terminal that goes away. */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/** Runs `work`. While it runs, signals that end the process take `path` along. */
export async function withUnfinished<T>(path: string, work: () => Promise<T>): Promise<T> {
  const ended = (signal: (typeof SIGNALS)[number]): void => {
    rmSync(path, { recursive: true, force: true })
    // As shells tell it.
    process.exit(128 + constants.signals[signal])
  }
  for (const signal of SIGNALS) process.on(signal, ended)
  try {
    return await work()
  } catch (error) {
    await rm(path, { recursive: true, force: true })
    throw error
  } finally {
    for (const signal of SIGNALS) process.off(signal, ended)
  }
}
