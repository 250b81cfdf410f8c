/** `subrosa/directory` in Node: as `index.ts`, over connections that the session chooses, and to no name that leads to a private address. */
import { reachHere } from '../reach-here.js'
import { connectThrough, type Directories, type DirectoryOptions, type DirectorySession } from './connect.js'
import { publicReach } from './public-reach.js'

export * from './index.js'

/**
 * Reads the directory, verifies some of the listed workers that fit the intent, and returns a session over the best. Being
 * listed grants no trust: every worker is verified under the caller's policy before anything is sealed to it.
 * @throws UsageError or PolicyError before any network; NoWorkerError when none of those that fit verifies.
 */
export function connect(directories: Directories, options: DirectoryOptions): Promise<DirectorySession> {
  return connectThrough(directories, options, { listed: () => publicReach(), any: reachHere })
}
