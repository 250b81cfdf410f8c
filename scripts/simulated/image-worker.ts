/**
 * What the test flavour's init starts: the image's worker on a SIMULATED machine. HOST_DATA comes from whoever booted it, as
 * the launch of a real machine would have it, so that the comparison with the configuration can be tested; the throw-away
 * roots and what a probe of the guest found go to the console, between marks, for the test to read.
 */
import { HOST_RELAYS, hostItem, runImageWorker } from '../../enclave/image.js'
import { askRelay, parseRelayAddress } from '../../enclave/relay-stream.js'
import { toHex } from '../../verifier/protocol/bytes.js'
import { encodeQuestion, parseAnswer } from '../../verifier/protocol/endorsement-exchange.js'
import { sha256 } from '../../verifier/protocol/hash.js'
import { probeGuest } from './guest-probe.js'

/** The host is emulating, and slow. */
const RELAY_TIMEOUT_MS = 60_000

const print = (name: string, text: string): void =>
  void process.stdout.write(`-----SUBROSA ${name}-----\n${text.trim()}\n-----END SUBROSA ${name}-----\n`)

const simulatedHostData = await hostItem('simulated-host-data')
const worker = await runImageWorker({
  simulated: true,
  ...(simulatedHostData === undefined ? {} : { simulatedHostData }),
})
print('RELAYS', JSON.stringify(Object.fromEntries(await Promise.all(HOST_RELAYS.map(whatComesFrom)))))
print('PROBE', JSON.stringify(await probeGuest()))
if (worker !== undefined) print('ROOTS', worker.rootsPem ?? '')

/** A SIMULATED machine has its endorsements with it; this asks the host's relays for some all the same, each by itself. */
async function whatComesFrom(relay: string): Promise<readonly [string, readonly string[] | string]> {
  try {
    const answer = await askRelay(
      parseRelayAddress(relay),
      encodeQuestion({ gpus: [], switches: [] }),
      RELAY_TIMEOUT_MS,
    )
    return [relay, parseAnswer(answer).endorsements.map(({ bytes }) => toHex(sha256(bytes)))]
  } catch (error) {
    return [relay, String(error)]
  }
}
