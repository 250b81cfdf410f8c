/**
 * Child processes of the image scripts: each has a deadline, runs under one fixed environment, and is gone when it has passed or when
 * the script is.
 * What a build prints depends on locale, time zone and umask; none of them is taken from the caller's shell.
 */
import type { ChildProcessByStdio } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { SubrosaError } from '../../verifier/errors.js'
import { notInstalled, spawnBounded } from './bounded.js'

/**
 * The image cannot be built, measured or booted as asked. What to do: what the message says; nothing has to be attested again.
 */
export class ImageError extends SubrosaError {
  constructor(message: string, options?: { cause?: unknown }) {
    super('image.failed', message, options)
  }
}

export interface CommandOptions {
  readonly cwd?: string
  readonly env?: Readonly<Record<string, string>>
  /** Killed with SIGKILL after this. Default ten minutes. */
  readonly timeoutMs?: number
  /** Also counts as success. */
  readonly accept?: readonly number[]
  /** Told each line of standard output as it comes. */
  readonly onLine?: (line: string) => void
  /** Show standard error as it comes. */
  readonly echo?: boolean
}

const DEFAULT_TIMEOUT_MS = 600_000
const TAIL_CHARACTERS = 2000

/** Runs a program and returns its standard output. @throws ImageError with the end of what it printed. */
export async function run(program: string, args: readonly string[], options: CommandOptions = {}): Promise<string> {
  const { timeoutMs = DEFAULT_TIMEOUT_MS, accept = [], onLine, echo = false } = options
  let late = false
  const { child } = spawnBounded<ChildProcessByStdio<null, Readable, Readable>>(program, args, {
    deadlineMs: timeoutMs,
    late: () => {
      late = true
    },
    stdio: ['ignore', 'pipe', 'pipe'],
    // mkfs.erofs takes SOURCE_DATE_EPOCH over its own option: a caller's must not reach it.
    env: { ...process.env, LC_ALL: 'C.UTF-8', TZ: 'UTC', SOURCE_DATE_EPOCH: undefined, ...options.env },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  })
  const out: Buffer[] = []
  const err: Buffer[] = []
  child.stdout.on('data', (piece: Buffer) => out.push(piece))
  child.stderr.on('data', (piece: Buffer) => {
    err.push(piece)
    if (echo) process.stderr.write(piece)
  })
  if (onLine !== undefined) createInterface({ input: child.stdout }).on('line', onLine)
  const status = await new Promise<number>((resolve, reject) => {
    child.on('error', (cause) => reject(new ImageError(`${program}: ${cause.message}`, { cause })))
    child.on('close', (code) => resolve(code ?? -1))
  })
  const text = Buffer.concat(out).toString('utf8')
  if (late) throw new ImageError(`${program}: no end after ${timeoutMs / 1000} s, killed`)
  if (notInstalled(status, Buffer.concat(err).toString('utf8'))) {
    throw new ImageError(`${program} is not installed: npx subrosa doctor says what to install`)
  }
  if (status !== 0 && !accept.includes(status)) {
    const said = `${text}${Buffer.concat(err).toString('utf8')}`.trim().slice(-TAIL_CHARACTERS)
    throw new ImageError(`${program} ${args[0] ?? ''}: expected status 0, got ${status}\n${said}`)
  }
  return text
}
