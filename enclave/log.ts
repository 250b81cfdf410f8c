/**
 * The worker's log: JSON lines made of a fixed list of fields. There is no free text and no way to pass a body, a
 * prompt, a token or a key: strings are short names from our own code, and anything else is left out.
 */

/** Everything that can happen, by name. */
export type LogEvent =
  | 'worker.started'
  | 'worker.refused'
  | 'worker.stopping'
  | 'worker.stopped'
  | 'keys.rotated'
  | 'keys.dropped'
  | 'keys.epoch'
  | 'attestation.batch'
  | 'attestation.failed'
  | 'endorsements.renewed'
  | 'endorsements.missing'
  | 'endorsements.failed'
  | 'gpus.admitted'
  | 'worker.drained'
  | 'model.opened'
  | 'model.refused'
  | 'request.done'
  | 'request.refused'
  | 'request.failed'
  | 'inference.done'
  | 'inference.failed'
  | 'inference.aborted'

/** Everything that can be said about it. Durations in milliseconds. */
export interface LogFields {
  readonly route?: 'attestation' | 'keys' | 'ohttp' | 'health' | 'ready' | 'metrics' | 'plaintext' | 'other'
  readonly status?: number
  readonly durationMs?: number
  readonly count?: number
  readonly port?: number
  /** Code of one of our own errors, or the class name of a foreign one. Never its message. */
  readonly code?: string
  readonly platform?: string
}

export type LogLevel = 'info' | 'error'

export interface Logger {
  info(event: LogEvent, fields?: LogFields): void
  error(event: LogEvent, fields?: LogFields): void
}

const NAMES = ['route', 'code', 'platform'] as const
const NUMBERS = ['status', 'durationMs', 'count', 'port'] as const
const NAME = /^[A-Za-z0-9_.-]{1,48}$/

export interface LoggerOptions {
  /** Receives whole lines. */
  readonly write: (line: string) => void
  /** `error` leaves out everything else. */
  readonly level?: LogLevel
  readonly now: () => Date
}

/** A logger that writes one JSON object a line; fields outside the list are dropped at run time too. */
export function createLogger({ write, level = 'info', now }: LoggerOptions): Logger {
  const line = (severity: LogLevel, event: LogEvent, fields: LogFields = {}): void => {
    const out: Record<string, string | number> = { time: now().toISOString(), level: severity, event }
    for (const name of NAMES) {
      const value: unknown = fields[name]
      if (typeof value === 'string' && NAME.test(value)) out[name] = value
    }
    for (const name of NUMBERS) {
      const value: unknown = fields[name]
      if (typeof value === 'number' && Number.isFinite(value)) out[name] = Math.round(value)
    }
    write(`${JSON.stringify(out)}\n`)
  }
  return {
    info: (event, fields) => {
      if (level === 'info') line('info', event, fields)
    },
    error: (event, fields) => line('error', event, fields),
  }
}

/** What may be logged of an error: its code where it is ours, its class name otherwise. */
export function errorCode(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown'
  return 'code' in error && typeof error.code === 'string' ? error.code : error.name
}
