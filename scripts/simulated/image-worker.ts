/**
 * What the test flavour's init starts: the image's worker on a SIMULATED machine. HOST_DATA comes from whoever booted it, as
 * the launch of a real machine would have it, so that the comparison with the configuration can be tested; the throw-away
 * roots and what a probe of the guest found go to the console, between marks, for the test to read.
 */
import { hostItem, runImageWorker } from '../../enclave/image.js'
import { probeGuest } from './guest-probe.js'

const print = (name: string, text: string): void =>
  void process.stdout.write(`-----SUBROSA ${name}-----\n${text.trim()}\n-----END SUBROSA ${name}-----\n`)

const simulatedHostData = await hostItem('simulated-host-data')
const worker = await runImageWorker({
  simulated: true,
  ...(simulatedHostData === undefined ? {} : { simulatedHostData }),
})
print('PROBE', JSON.stringify(await probeGuest()))
if (worker !== undefined) print('ROOTS', worker.rootsPem ?? '')
