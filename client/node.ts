/** `subrosa/client` in Node: as `index.ts`, over connections that the session chooses. */
import { reachOver } from './lines.js'
import { reachHere } from './reach-here.js'
import { type ConnectOptions, connectOver, type WorkerSession } from './session.js'

export * from './index.js'

/** As `connect` of `index.ts`. A `fetch` that is named is used for everything. */
export async function connect(url: string | URL, options: ConnectOptions = {}): Promise<WorkerSession> {
  return connectOver(url, options, options.fetch === undefined ? await reachHere() : reachOver(options.fetch))
}
