/**
 * What the GPU test flavour's init starts: a SIMULATED CPU, and the driver, libraries and gate of the GPU flavour as they are. On
 * a machine without a GPU that ends in a refusal, which can be asked for its reason as in the image; with one, the throw-away CPU
 * would make whatever is served worthless, so nothing is. What a probe of the guest found goes to the console.
 */
import { createAdaptorServer } from '@hono/node-server'
import { WorkerError } from '../../enclave/errors.js'
import { createLogger } from '../../enclave/log.js'
import { openMachine } from '../../enclave/machine.js'
import { createReadyKeeper } from '../../enclave/platforms/ready-keeper.js'
import { loadSimulatedPlatform } from '../../enclave/platforms/simulated.js'
import { createRefusalApp } from '../../enclave/refusal-app.js'
import { DEFAULT_PORT } from '../../enclave/serve.js'
import { probeGuest } from './guest-probe.js'

const HOST_DATA_BYTES = 32

const now = (): Date => new Date()
const log = createLogger({ write: (line) => void process.stderr.write(line), now })
const cpu = await loadSimulatedPlatform({ hostData: new Uint8Array(HOST_DATA_BYTES), now, gpus: 0 })
const refusal = await openMachine({ relays: [], now, log, detect: async () => cpu }).then(
  async (machine) => {
    await machine.close()
    return new WorkerError('worker.gpu', 'SIMULATED machine: nothing is served')
  },
  (error: unknown) => {
    if (error instanceof WorkerError) return error
    throw error
  },
)
log.error('worker.refused', { code: refusal.code })
createAdaptorServer({ fetch: createRefusalApp(refusal).fetch, overrideGlobalObjects: false }).listen(
  DEFAULT_PORT,
  '0.0.0.0',
  async () => {
    print('KEEPER', await askKeeper())
    print('PROBE', JSON.stringify(await probeGuest()))
  },
)

/** What comes through the descriptor that init left for the worker: the driver's return code, or why there is none. */
async function askKeeper(): Promise<string> {
  try {
    return String(await createReadyKeeper(Number(process.env['SUBROSA_GPU_READY']))(false))
  } catch (error) {
    return String(error)
  }
}

function print(name: string, text: string): void {
  process.stdout.write(`-----SUBROSA ${name}-----\n${text}\n-----END SUBROSA ${name}-----\n`)
}
