/**
 * Why a worker does not start, or does not answer. Messages are one sentence for the person running the worker; they
 * never contain a prompt, an answer, a key or a body.
 */
import { SubrosaError } from '../verifier/protocol/errors.js'

export type WorkerErrorCode =
  | 'worker.no-tee'
  | 'worker.platform'
  | 'worker.gpu'
  | 'worker.relay'
  | 'worker.host-data'
  | 'worker.image'
  | 'worker.simulated-missing'
  | 'worker.model'
  | 'worker.device'
  | 'worker.model-key'
  | 'worker.port'
  | 'worker.option'
  | 'worker.busy'
  | 'worker.closed'

/**
 * The worker cannot do what was asked. What to do: `worker.option`, `worker.port` and `worker.model` mean fix the
 * command; `worker.device` means install what the message names or choose another device; `worker.no-tee` means run in a confidential VM or say `--simulated`; `worker.platform` may pass when tried
 * again; `worker.gpu` means that a GPU is there and must not be used, for the reason given; `worker.relay` means that no
 * relay gave endorsements, and passes when one does; `worker.host-data` means that this VM was launched for another configuration;
 * `worker.image` that its command line names no root file system, so that it is no image of ours; `worker.model-key` means that a
 * release was not the model owner's for this boot; `worker.busy` means try later.
 */
export class WorkerError extends SubrosaError {
  declare readonly code: WorkerErrorCode
  constructor(code: WorkerErrorCode, message: string, options?: { cause?: unknown }) {
    super(code, message, options)
  }
}
