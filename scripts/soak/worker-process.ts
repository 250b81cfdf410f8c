/** The other end of `worker.ts`. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

export type ToWorker = 'measure'
export type FromWorker = { readonly origin: string } | { readonly memory: Memory }

/** What is left after a full collection. */
export interface Memory {
  readonly heapBytes: number
  readonly rssBytes: number
}

export interface WorkerProcess {
  readonly origin: URL
  /** One measurement at a time. */
  measure(): Promise<Memory>
  close(): Promise<void>
}

/** @throws Error when it ends instead of answering. */
export async function startWorkerProcess(keyLifetimeS: number): Promise<WorkerProcess> {
  const child = fork(program(), [String(keyLifetimeS)], { execArgv: [], stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
  const started = await messageOf(child)
  if (!('origin' in started)) throw new Error('the worker does not say where it is')
  return {
    origin: new URL(started.origin),
    async measure() {
      const answer = messageOf(child)
      child.send('measure' satisfies ToWorker)
      const message = await answer
      if (!('memory' in message)) throw new Error('the worker does not say how large it is')
      return message.memory
    },
    async close() {
      if (child.exitCode !== null) return
      const ended = once(child, 'exit')
      child.disconnect()
      await ended
    },
  }
}

function messageOf(child: ChildProcess): Promise<FromWorker> {
  return new Promise((resolve, reject) => {
    const gone = (): void => reject(new Error('the worker ended'))
    child.once('exit', gone)
    child.once('message', (message) => {
      child.off('exit', gone)
      resolve(message as FromWorker)
    })
  })
}

/** As JavaScript, whether this file runs from source or from `dist`. */
function program(): string {
  const paths = ['./worker.js', '../../dist/scripts/soak/worker.js']
  const found = paths.map((path) => fileURLToPath(new URL(path, import.meta.url))).find((path) => existsSync(path))
  if (found === undefined) throw new Error('the worker is not built: run npm run build')
  return found
}
