/**
 * Asks the keeper of the GPUs' ready state, a process of the image that may set it where the worker may not: one byte, '0' or '1',
 * over a socket that init made before it started either. The keeper's answer is the driver's return code, and is trusted as
 * init is: both are part of the measured image. Whether the GPUs are ready is asked of the driver itself afterwards.
 */
import { read, write } from 'node:fs'
import { promisify } from 'node:util'
import { within } from '../deadline.js'
import { WorkerError } from '../errors.js'

/** The keeper opens the driver anew each time. */
const ANSWER_TIMEOUT_MS = 15_000

/**
 * @param descriptor this process's end of the socket
 * @returns what sets the state and gives the driver's return code, 0 to 255
 * @throws WorkerError `worker.gpu` from the returned function when no answer comes; no call succeeds after that one
 */
export function createReadyKeeper(
  descriptor: number,
  timeoutMs: number = ANSWER_TIMEOUT_MS,
): (ready: boolean) => Promise<number> {
  let broken = false
  return async (ready) => {
    if (broken) throw new WorkerError('worker.gpu', 'the keeper of the ready state has stopped answering')
    // Until an answer is there: a late one must not be taken for that of another question.
    broken = true
    const late = (): WorkerError =>
      new WorkerError('worker.gpu', `the keeper of the ready state gave no answer within ${timeoutMs} ms`)
    const code = await within(ask(descriptor, ready), timeoutMs, late)
    broken = false
    return code
  }
}

async function ask(descriptor: number, ready: boolean): Promise<number> {
  const answer = new Uint8Array(1)
  try {
    await promisify(write)(descriptor, Buffer.from(ready ? '1' : '0'))
    const { bytesRead } = await promisify(read)(descriptor, answer, 0, 1, null)
    if (bytesRead === 1) return answer[0] as number
  } catch (cause) {
    throw new WorkerError('worker.gpu', 'the keeper of the ready state cannot be reached', { cause })
  }
  throw new WorkerError('worker.gpu', 'the keeper of the ready state is gone')
}
