/**
 * How fast this machine reads memory: as many threads as processors, each looking for a byte that is not there in a buffer
 * far larger than any cache. The C library's search is the widest loop at hand.
 */
import { once } from 'node:events'
import { availableParallelism } from 'node:os'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'

const BUFFER_BYTES = 192 * 1024 * 1024

export interface BandwidthMeter {
  /** Bytes a second over about `ms` milliseconds, all threads together: what they read from the first's start to the last's end. */
  measure(ms: number): Promise<number>
  close(): Promise<void>
}

export async function createBandwidthMeter(threads: number = availableParallelism()): Promise<BandwidthMeter> {
  const workers = Array.from({ length: threads }, () => new Worker(new URL(import.meta.url), { workerData: 'read' }))
  await Promise.all(workers.map((worker) => once(worker, 'message')))
  return {
    async measure(ms) {
      const answers = workers.map((worker) => once(worker, 'message') as Promise<[Reading]>)
      for (const worker of workers) worker.postMessage(ms)
      // Not a sum of rates: threads that the machine runs one after the other each have the memory to themselves.
      const readings = (await Promise.all(answers)).map(([reading]) => reading)
      const bytes = readings.reduce((sum, reading) => sum + reading.bytes, 0)
      const [from, to] = [Math.min(...readings.map(({ from }) => from)), Math.max(...readings.map(({ to }) => to))]
      return (bytes * 1000) / (to - from)
    },
    async close() {
      await Promise.all(workers.map((worker) => worker.terminate()))
    },
  }
}

/** Times in milliseconds, on the clock that all threads share. */
interface Reading {
  readonly bytes: number
  readonly from: number
  readonly to: number
}

/** Answers each number of milliseconds with what it read in that time. */
function serve(): void {
  const now = (): number => performance.timeOrigin + performance.now()
  const buffer = Buffer.alloc(BUFFER_BYTES, 1)
  parentPort?.on('message', (ms: number) => {
    const from = now()
    let [bytes, to] = [0, from]
    while (to - from < ms) {
      if (buffer.includes(0)) throw new Error('a byte that was never written was found')
      bytes += BUFFER_BYTES
      to = now()
    }
    parentPort?.postMessage({ bytes, from, to } satisfies Reading)
  })
  parentPort?.postMessage('ready')
}

if (!isMainThread && workerData === 'read') serve()
