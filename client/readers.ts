/** What is said of who can read a prompt, wherever one is about to be sent. */
import { printable } from '../verifier/text.js'
import type { WorkerSession } from './session.js'

/** Who can read what is sent, and until when that is known, in one line. */
export function readersOf({ attestation, worker }: Pick<WorkerSession, 'attestation' | 'worker'>): string {
  const simulated = attestation.notProven.some((item) => item.id === 'hardware.private-root')
  const { runtime, model } = worker.statement
  const who = simulated
    ? 'SIMULATED OR PRIVATE hardware: whoever runs this worker can read you'
    : 'only the attested enclave can read you'
  const until = worker.validUntil.toISOString().slice(11, 16)
  return printable(`${who} (${runtime.name} ${runtime.version}, model ${model.id}), until ${until} UTC`)
}
