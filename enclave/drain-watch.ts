/**
 * Leaving at the host's word (PROTOCOL.md §14), for a worker that no signal reaches: it asks the host's relays every few seconds
 * whether this boot is to leave. An answer needs no proof, because a host can end its guests at any time; all it does is to
 * let answers in progress end first. A host that is absent, slow or wrong is asked again later, and costs nothing else.
 */
import type { Bytes } from '../verifier/protocol/bytes.js'
import { encodeDrainQuestion, MAX_DRAIN_ANSWER_BYTES, parseDrainAnswer } from '../verifier/protocol/drain-exchange.js'
import { askInTurn, type RelayAddress } from './relay-stream.js'

const DEFAULT_TIMEOUT_MS = 5000
const INTERVAL_MS = 5000
const MAX_BACK_OFF_MS = 60_000

export interface DrainWatchOptions {
  /** Asked in this order, until one answers. */
  readonly relays: readonly RelayAddress[]
  /** What is leaving: a worker that is running. */
  readonly worker: {
    /** Of the statement it shows now, 32 bytes. */
    bootId(): Promise<Bytes>
    drain(): Promise<boolean>
    close(): Promise<void>
  }
  /** Called once, after the worker has closed, or has failed to. */
  readonly left: () => void
  /** For one relay's answer. */
  readonly timeoutMs?: number
  /** In [0, 1). */
  readonly random?: () => number
  /** Calls back after that many milliseconds. */
  readonly after?: (ms: number, then: () => void) => void
}

/** Asks from now on, one question at a time, until told to leave. */
export function leaveWhenAsked(options: DrainWatchOptions): void {
  const { relays, worker, left, timeoutMs = DEFAULT_TIMEOUT_MS, random = Math.random, after = afterTimeout } = options
  let failures = 0

  async function asked(): Promise<boolean> {
    const question = encodeDrainQuestion(await worker.bootId())
    return askInTurn(relays, question, parseDrainAnswer, timeoutMs, MAX_DRAIN_ANSWER_BYTES)
  }

  async function round(): Promise<void> {
    try {
      if (await asked()) return await leave()
      failures = 0
    } catch {
      failures = Math.min(failures + 1, 10)
    }
    after(Math.min(INTERVAL_MS * 2 ** failures, MAX_BACK_OFF_MS) * (0.5 + 0.5 * random()), () => void round())
  }

  async function leave(): Promise<void> {
    await worker
      .drain()
      .then(() => worker.close())
      .catch(() => undefined)
    left()
  }

  if (relays.length > 0) void round()
}

function afterTimeout(ms: number, then: () => void): void {
  setTimeout(then, ms).unref()
}
