/**
 * Processes that end: with their deadline, and with whoever started them, however that ends; and all that they started with them.
 * timeout (coreutils) keeps the deadline where nobody else is left to, and passes a signal on to its whole process group; setpriv
 * (util-linux) has the kernel send it one when the parent is gone. A process that makes a group of its own is out of reach of both.
 */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process'

/** How long a process may take to end after SIGTERM, which it gets when its parent is gone; then it gets SIGKILL. */
const LEAVE_SECONDS = 5
/** timeout's own deadline is later by this: the parent is to say that it was late. */
const MARGIN_SECONDS = 10

export interface BoundedOptions extends Omit<SpawnOptions, 'detached'> {
  /** Killed with SIGKILL after this, and `late` is told. */
  readonly deadlineMs: number
  readonly late?: () => void
}

export interface Bounded<Child extends ChildProcess> {
  /** Of it, take the streams and events; to end it there is `kill`. */
  readonly child: Child
  /** Ends it and all that it started, at once. */
  kill(): void
}

/** Of a program that is not installed, it ends with `NOT_STARTED` and a line on standard error that `notInstalled` knows. */
export function spawnBounded<Child extends ChildProcess>(
  program: string,
  args: readonly string[],
  { deadlineMs, late, ...options }: BoundedOptions,
): Bounded<Child> {
  const seconds = String(Math.ceil(deadlineMs / 1000) + MARGIN_SECONDS)
  const words = ['--pdeathsig', 'TERM', 'timeout', `--kill-after=${LEAVE_SECONDS}`, seconds, program, ...args]
  // Detached: it leads a group from its first moment on, so that there is one to kill.
  const child = spawn('setpriv', words, { ...options, detached: true }) as Child
  let over = false
  const kill = (): void => {
    if (over || child.pid === undefined) return
    try {
      process.kill(-child.pid, 'SIGKILL')
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error
    }
  }
  const timer = setTimeout(() => {
    late?.()
    kill()
  }, deadlineMs)
  const end = (): void => {
    over = true
    clearTimeout(timer)
  }
  child.on('error', end)
  child.on('close', end)
  return { child, kill }
}

const NOT_STARTED = 127

/** Whether a process ended so because timeout found no such program. @param errors what it wrote to standard error */
export function notInstalled(status: number, errors: string): boolean {
  return status === NOT_STARTED && errors.startsWith('timeout: failed to run command')
}
