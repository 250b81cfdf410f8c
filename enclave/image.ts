/**
 * The worker as the image runs it: fixed places, no options, and a refusal that can be asked for its reason instead of a
 * process that is gone. Whatever keeps it from serving ends in a worker that answers no prompt.
 */
import { readFile } from 'node:fs/promises'
import { createAdaptorServer } from '@hono/node-server'
import { type Bytes, fromHex, toBytes } from '../verifier/protocol/bytes.js'
import { leaveWhenAsked } from './drain-watch.js'
import { WorkerError } from './errors.js'
import { createLogger } from './log.js'
import { createRefusalApp } from './refusal-app.js'
import { parseRelayAddress } from './relay-stream.js'
import { DEFAULT_PORT, type RunningWorker, type ServeOptions, serve } from './serve.js'

/** Where init puts what it was handed by the host, unread. */
export const HOST_ITEMS_FOLDER = '/run/subrosa'

/** Measured at launch, as is the init that mounts by it. */
const COMMAND_LINE = '/proc/cmdline'

const MODEL_FOLDER = '/model'
const ANY_ADDRESS = '0.0.0.0'
/** The host, by vsock and by the one subnet there is; neither needs a route to anywhere else. */
export const HOST_RELAYS: readonly string[] = ['vsock:2:8646', 'tcp:10.0.2.100:8646']

/** Serves, or serves the reason why not; undefined in that case. */
export async function runImageWorker(extra: ServeOptions = {}): Promise<RunningWorker | undefined> {
  const log = createLogger({ write: (line) => void process.stderr.write(line), now: () => new Date() })
  try {
    const configuration = await hostItem('configuration')
    const imageDigest = imageDigestOf(await readFile(COMMAND_LINE, 'utf8'))
    const worker = await serve({
      host: ANY_ADDRESS,
      port: DEFAULT_PORT,
      modelDirectory: MODEL_FOLDER,
      endorsementRelays: HOST_RELAYS,
      imageDigest,
      ...(configuration === undefined ? {} : { configuration }),
      ...extra,
    })
    // No signal reaches a guest: the host says it this way, and init ends the machine when the worker has ended.
    leaveWhenAsked({ relays: HOST_RELAYS.map(parseRelayAddress), worker, left: () => process.exit(0) })
    return worker
  } catch (error) {
    if (!(error instanceof WorkerError)) throw error
    log.error('worker.refused', { code: error.code })
    createAdaptorServer({ fetch: createRefusalApp(error).fetch, overrideGlobalObjects: false }).listen(
      DEFAULT_PORT,
      ANY_ADDRESS,
    )
    return undefined
  }
}

/**
 * Root hash of the root file system that init mounted, 32 bytes: the first `subrosa.root=HASH,BLOCKS` of the command line, as for
 * init. @throws WorkerError `worker.image` when there is none, which no guest of ours gets to.
 */
export function imageDigestOf(commandLine: string): Bytes {
  const word = commandLine.split(/[ \n]+/).find((other) => other.startsWith('subrosa.root='))
  const hash = /^subrosa\.root=([0-9a-f]{64}),[0-9]+$/.exec(word ?? '')?.[1]
  if (hash === undefined) throw new WorkerError('worker.image', 'expected subrosa.root=HASH,BLOCKS on the command line')
  return fromHex(hash)
}

/** Bytes the host handed over; undefined when it handed over none. */
export async function hostItem(name: string): Promise<Bytes | undefined> {
  try {
    return toBytes(new Uint8Array(await readFile(`${HOST_ITEMS_FOLDER}/${name}`)))
  } catch {
    return undefined
  }
}
