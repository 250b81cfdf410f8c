/**
 * How fast this machine reads memory: as many threads as processors, each looking for a byte that is not there in a buffer
 * far larger than any cache. The C library's search is the widest loop at hand.
 */
import { once } from 'node:events'
import { availableParallelism } from 'node:os'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'

const BUFFER_BYTES = 192 * 1024 * 1024

export interface BandwidthMeter {
  /** Bytes a second over `ms` milliseconds, all threads together. */
  measure(ms: number): Promise<number>
  close(): Promise<void>
}

export async function createBandwidthMeter(threads: number = availableParallelism()): Promise<BandwidthMeter> {
  const workers = Array.from({ length: threads }, () => new Worker(new URL(import.meta.url), { workerData: 'read' }))
  await Promise.all(workers.map((worker) => once(worker, 'message')))
  return {
    async measure(ms) {
      const answers = workers.map((worker) => once(worker, 'message') as Promise<[number]>)
      for (const worker of workers) worker.postMessage(ms)
      return (await Promise.all(answers)).reduce((sum, [rate]) => sum + rate, 0)
    },
    async close() {
      await Promise.all(workers.map((worker) => worker.terminate()))
    },
  }
}

/** Answers each number of milliseconds with the bytes a second it read in that time. */
function serve(): void {
  const buffer = Buffer.alloc(BUFFER_BYTES, 1)
  parentPort?.on('message', (ms: number) => {
    const started = performance.now()
    let bytes = 0
    let elapsed = 0
    while (elapsed < ms) {
      if (buffer.includes(0)) throw new Error('a byte that was never written was found')
      bytes += BUFFER_BYTES
      elapsed = performance.now() - started
    }
    parentPort?.postMessage((bytes * 1000) / elapsed)
  })
  parentPort?.postMessage('ready')
}

if (!isMainThread && workerData === 'read') serve()
