/**
 * Runtime registers of a TDX guest (Linux 6.16, TSM_MEASUREMENTS): 48 bytes a file; writing 48 bytes to a runtime register
 * extends it.
 *
 * What a worker extends is optional, because nothing needs it: the statement already names model, configuration and software,
 * and REPORTDATA covers it. Extending says it a second time in a register that not even the worker itself can take back, for
 * verifiers whose policy pins RTMR3. The strict policy pins none.
 */
import { type Bytes, concat, equalBytes } from '../../verifier/protocol/bytes.js'
import { sha384 } from '../../verifier/protocol/hash.js'
import { WorkerError } from '../errors.js'
import { type OwnEvent, ownEvent } from './event-log.js'
import { errnoOf, type KernelFiles, kernelFiles } from './kernel-files.js'

const FOLDER = '/sys/devices/virtual/misc/tdx_guest/measurements'
const RTMR3 = `${FOLDER}/rtmr3:sha384`
const REGISTER_BYTES = 48

/** What a worker may say about itself there, by the names its events carry. */
export interface RuntimeFacts {
  /** Digest of the host configuration: `subrosa.configuration`. */
  readonly configuration: Bytes
  /** Root over graph and weights: `subrosa.model`. */
  readonly model: Bytes
}

/**
 * Extends RTMR3 with each fact, in this order, and returns the events for the log; undefined where the kernel offers no
 * registers. Each extension is read back: a register that is not what it must be now is another's.
 * @throws WorkerError `worker.platform` when the kernel offers the register and does not do it.
 */
export async function extendRuntimeRegister(
  facts: RuntimeFacts,
  files: Pick<KernelFiles, 'read' | 'write'> = kernelFiles,
): Promise<readonly OwnEvent[] | undefined> {
  let before: Bytes
  try {
    before = await files.read(RTMR3, REGISTER_BYTES)
  } catch {
    return undefined
  }
  const events = [ownEvent('subrosa.configuration', facts.configuration), ownEvent('subrosa.model', facts.model)]
  for (const { digest } of events) {
    try {
      await files.write(RTMR3, digest)
    } catch (cause) {
      throw new WorkerError('worker.platform', `RTMR3 cannot be extended (${errnoOf(cause)})`, { cause })
    }
    const after = await files.read(RTMR3, REGISTER_BYTES)
    if (!equalBytes(after, sha384(concat(before, digest)))) {
      throw new WorkerError(
        'worker.platform',
        'RTMR3 is not what its extension makes it: something else extends it too',
      )
    }
    before = after
  }
  return events
}
