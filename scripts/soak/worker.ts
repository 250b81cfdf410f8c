/** The worker of a soak, in a process of its own: so its memory is its alone, and a busy client does not hold it up. */
import { createBenchWorker, workerOnLoopback } from '../bench/channel-worker.js'
import { collectGarbage } from '../bench/measure.js'
import { createEchoModel } from './echo-engine.js'
import type { FromWorker, ToWorker } from './worker-process.js'

const keyLifetimeS = Number(process.argv[2])
const { worker } = await createBenchWorker(createEchoModel(2), 'tick', { keyLifetimeS })
// Either end may stand still for as long as the machine likes: no connection ends for that.
const origin = await workerOnLoopback(worker, { keepAliveTimeout: 0, headersTimeout: 0, requestTimeout: 0 })
const tell = (message: FromWorker): void => void process.send?.(message)
setInterval(() => void worker.refresh(), 1000).unref()

process.on('message', (_: ToWorker) => {
  collectGarbage()
  const { heapUsed, rss } = process.memoryUsage()
  tell({ memory: { heapBytes: heapUsed, rssBytes: rss } })
})
// Whoever started it is gone or wants no more.
process.on('disconnect', () => process.exit(0))
tell({ origin: origin.href })
