/**
 * Continuous batching: one loop, one run at a time. Each turn is a decode run over every answer that is being read, then
 * at most one part of one prompt, so a long prompt never stops running answers.
 *
 * A request waits for a slot, has its prompt computed part by part, then takes one row of each decode run; or, where it proposes
 * how it goes on, runs of its own over several tokens, which take their turns with the parts of prompts. Slots go to
 * whose tenant holds the fewest, the earliest request first (`slots.ts`).
 */
import { setImmediate as nextLoop } from 'node:timers/promises'
import { createChunkPacer, MAX_CHUNK, nextChunk, type Part } from './chunks.js'
import { type Decoder, MAX_VERIFIED } from './decoder.js'
import { abortedError, closedError, EngineError, OverloadedError } from './errors.js'
import { createSlots } from './slots.js'
import { createWaitingRoom } from './waiting-room.js'

export interface SequenceRequest {
  readonly promptTokens: readonly number[]
  /** Whether `next` is given the state behind the prompt in the place of logits, once, for a decoder that can embed. */
  readonly embed?: boolean
  /** Requests with the same one share a fair part. Absent: its own. */
  readonly tenant: string | undefined
  /** What is computed of this prompt may be gone on with by requests with the same one, and by no other. Absent: by none. */
  readonly reuseKey?: string | undefined
  /** Called once with the tokens of the prompt that need not be computed, where there are any. */
  reused?(tokens: number): void
  readonly signal: AbortSignal | undefined
  /**
   * The logits for the next token, which hold during the call only. Returns the token to go on with, or undefined when
   * the answer is complete. What it throws ends the request.
   */
  next(logits: Float32Array): number | undefined
  /**
   * How the answer may go on, at most `most` tokens; asked before each run. With it several tokens are computed a run, and the
   * logits of each are those a prompt's run gives, whatever is proposed. Absent, or with a decoder that cannot: one a run.
   */
  propose?(most: number): readonly number[]
  /** Whether its reader wants more now; otherwise it keeps its slot and takes no part. */
  wanted(): boolean
  /** Whether `next` may be called again at once, for another token of the same run. Absent: it always may. */
  ready?(): boolean
  /** Called once unless it completed: `aborted`, `closed` or `engine.failed`. */
  failed(error: EngineError): void
}

export interface Ticket {
  /** To be called when `wanted` may have become true. */
  wake(): void
  /** Ends the request without a word. */
  leave(): void
}

export interface Scheduler {
  /** @throws OverloadedError when too many wait, EngineError `closed`. */
  submit(request: SequenceRequest): Ticket
  /** False once a slot could not be emptied: nothing is computed any more, because what it held could meet the next request. */
  healthy(): boolean
  /** Ends everything with `closed`, and resolves when no run is in progress. */
  close(): Promise<void>
}

export interface SchedulerOptions {
  readonly decoder: Decoder
  /** Most requests waiting for a slot. */
  readonly maxWaiting: number
  /** Milliseconds, monotonic. */
  readonly monotonicMs: () => number
  /** How long prompts are kept for requests with the same `reuseKey`, in milliseconds. Absent: none are. */
  readonly keepMs?: number | undefined
  /** Whether proposals are verified. Only where the company in a run never shows in a token's logits. Default: none are. */
  readonly verifies?: boolean
}

interface Sequence {
  readonly request: SequenceRequest
  readonly tenant: string | symbol
  slot: number
  /** Tokens of the prompt that were computed. */
  filled: number
  /** Tokens of its answer in its slot, where proposals are verified. */
  answered: number
  /** The part of its prompt that was computed last. */
  part: Part | undefined
  /** The token to feed next; undefined during the prompt. */
  token: number | undefined
  /** When its prompt last had a turn. */
  servedAt: number
  readonly admittedAt: number
  gone: boolean
  /** Its slot must not be kept. */
  failed: boolean
  readonly onAbort: () => void
}

export function createScheduler({ decoder, maxWaiting, monotonicMs, keepMs, verifies }: SchedulerOptions): Scheduler {
  const slots = createSlots({ decoder, keepMs, monotonicMs, onExpired: () => kick() })
  const active = new Set<Sequence>()
  const waiting = createWaitingRoom<Sequence>()
  const pacer = createChunkPacer()
  // Graphs whose rows or parts influence each other are always cut the same way.
  const steady = decoder.maxRows === 1
  const verify = verifies === true ? decoder.verify : undefined
  let turn = 0
  let closed = false
  let broken = false
  let looping: Promise<void> | undefined
  /** The one whose prompt is being computed right now. */
  let filling: Sequence | undefined
  let serviceMs = 1000

  function end(sequence: Sequence, error?: EngineError): void {
    if (sequence.gone) return
    sequence.gone = true
    sequence.request.signal?.removeEventListener('abort', sequence.onAbort)
    waiting.remove(sequence)
    // Only its own run: other rows of a decode run would be lost with it.
    if (filling === sequence) decoder.interrupt()
    if (error !== undefined) sequence.request.failed(error)
    kick()
  }

  function kick(): void {
    if (looping !== undefined) return
    looping = loop()
      .catch(breakDown)
      .finally(() => {
        looping = undefined
        // Something may have come in after the loop's last look.
        if (hasWork()) kick()
      })
  }

  /** Only giving slots back fails as a whole: runs fail for their requests alone. */
  function breakDown(error: unknown): void {
    broken = true
    closed = true
    for (const sequence of [...waiting.all(), ...active]) end(sequence, asEngineError(error))
    active.clear()
  }

  function hasWork(): boolean {
    if (broken) return false
    const admissible = waiting.size > 0 && slots.available > 0
    return admissible || slots.expired() || [...active].some((sequence) => sequence.gone || runnable(sequence))
  }

  async function loop(): Promise<void> {
    while (hasWork()) {
      // Fresh requests, aborts and sockets get their turn between any two runs.
      await nextLoop()
      await sweep()
      await admit()
      const answers = [...active].filter((s) => s.token !== undefined && runnable(s))
      const rows = answers.filter((sequence) => !proposes(sequence)).sort((a, b) => a.slot - b.slot)
      for (let at = 0; at < rows.length; at += decoder.maxRows) await decode(rows.slice(at, at + decoder.maxRows))
      if (rows.length > 0) await nextLoop()
      await fill(answers.length > 0 && !steady)
    }
  }

  /** Whether its answer is computed in runs of its own, several tokens each. */
  function proposes({ request }: Sequence): boolean {
    return verify !== undefined && request.propose !== undefined
  }

  /**
   * Parts of prompts and proposals, whoever waited longest first: as much as fits between two steps of the running answers, or, where
   * nobody waits for a step, about as much as one run takes.
   */
  async function fill(beside: boolean): Promise<void> {
    const runs = [...active].filter((sequence) => sequence.token === undefined || proposes(sequence))
    runs.sort((a, b) => a.servedAt - b.servedAt || a.admittedAt - b.admittedAt)
    const mostMs = beside ? (pacer.budgetMs() ?? 0) : Number.POSITIVE_INFINITY
    let [spentMs, tokens] = [0, 0]
    for (const sequence of runs) {
      if (!runnable(sequence)) continue
      const part = await (sequence.token === undefined
        ? prefill(sequence, beside ? pacer.next(sequence.part) : MAX_CHUNK)
        : check(sequence, sequence.token))
      spentMs += part.ms
      tokens += part.tokens
      // The next one is likely to take as long as this one did.
      if (tokens >= MAX_CHUNK || spentMs + part.ms > mostMs) return
    }
  }

  /** Gives back the slots of requests that ended, and those that were kept long enough. */
  async function sweep(): Promise<void> {
    for (const sequence of [...active].filter(({ gone }) => gone)) {
      active.delete(sequence)
      const { request, slot, filled, failed } = sequence
      await slots.leave(slot, request.promptTokens.slice(0, filled), failed || closed ? undefined : request.reuseKey)
      serviceMs = serviceMs * 0.8 + (monotonicMs() - sequence.admittedAt) * 0.2
    }
    await slots.sweep()
  }

  async function admit(): Promise<void> {
    while (waiting.size > 0 && slots.available > 0) {
      const held = new Map<string | symbol, number>()
      for (const { tenant } of active) held.set(tenant, (held.get(tenant) ?? 0) + 1)
      const sequence = waiting.take(({ tenant }) => held.get(tenant) ?? 0)
      if (sequence === undefined) return
      const { promptTokens, reuseKey } = sequence.request
      const used = [...active].map(({ slot }) => slot)
      const choice = slots.choose(promptTokens, reuseKey, used)
      // From here on its slot is given back whatever happens to it.
      sequence.slot = choice.slot
      active.add(sequence)
      await choice.prepare()
      sequence.filled = choice.tokens
      if (choice.tokens > 0) sequence.request.reused?.(choice.tokens)
    }
  }

  async function decode(all: readonly Sequence[]): Promise<void> {
    const rows = all.filter((sequence) => !sequence.gone)
    if (rows.length === 0) return
    const startedAt = monotonicMs()
    try {
      const logits = await decoder.decode(rows.map(({ slot, token }) => ({ slot, tokenId: token ?? 0 })))
      pacer.decoded(monotonicMs() - startedAt)
      for await (const [i, sequence] of paced(rows)) advance(sequence, logits[i])
    } catch (error) {
      // A run that fails moves no row on. Whose fault it was only shows alone, and the others' answers do not show it at all.
      if (rows.length === 1 || asEngineError(error).code === 'aborted')
        for (const sequence of rows) fail(sequence, error)
      else for (const sequence of rows) await decode([sequence])
    }
  }

  async function prefill(sequence: Sequence, most: number): Promise<Part> {
    const { promptTokens } = sequence.request
    const count = nextChunk(promptTokens.length - sequence.filled, most)
    const startedAt = monotonicMs()
    sequence.servedAt = ++turn
    filling = sequence
    try {
      const part = promptTokens.slice(sequence.filled, sequence.filled + count)
      const ends = sequence.filled + count === promptTokens.length
      const run = sequence.request.embed === true && ends ? (decoder.embed ?? decoder.prefill) : decoder.prefill
      const logits = await run(sequence.slot, part)
      sequence.part = { tokens: count, ms: monotonicMs() - startedAt }
      if (sequence.filled === 0) pacer.began(sequence.part)
      sequence.filled += count
      filling = undefined
      if (sequence.filled === promptTokens.length) advance(sequence, logits)
    } catch (error) {
      filling = undefined
      fail(sequence, error)
    }
    return { tokens: count, ms: monotonicMs() - startedAt }
  }

  /** A run over the next token and what is proposed to follow it, and then as many tokens of the answer as agree. */
  async function check(sequence: Sequence, token: number): Promise<Part> {
    const { slot, filled, request } = sequence
    const room = decoder.slotTokens - filled - sequence.answered - 1
    const proposed = request.propose?.(Math.min(room, MAX_VERIFIED - 1)) ?? []
    // A run of one token would go through other kernels (`chunks.ts`): without a proposal, any token stands in for one.
    const guesses = proposed.length === 0 ? [token] : proposed
    const startedAt = monotonicMs()
    sequence.servedAt = ++turn
    filling = sequence
    try {
      const logits = (await verify?.(slot, [token, ...guesses])) ?? []
      filling = undefined
      pacer.decoded(monotonicMs() - startedAt)
      for await (const [i, row] of paced(logits)) {
        advance(sequence, row)
        sequence.answered += 1
        if (sequence.gone || sequence.token !== guesses[i] || request.ready?.() === false) break
      }
      if (!sequence.gone) await decoder.truncate(slot, filled + sequence.answered)
    } catch (error) {
      filling = undefined
      fail(sequence, error)
    }
    return { tokens: 1 + guesses.length, ms: monotonicMs() - startedAt }
  }

  /** Rows to sample from, with their places: after so much sampling sockets get their turn before the next. */
  async function* paced<T>(rows: readonly T[]): AsyncGenerator<[place: number, row: T]> {
    let breathedAt = monotonicMs()
    for (const entry of rows.entries()) {
      if (monotonicMs() - breathedAt >= BREATH_MS) {
        await nextLoop()
        breathedAt = monotonicMs()
      }
      yield entry
    }
  }

  function advance(sequence: Sequence, logits: Float32Array | undefined): void {
    if (sequence.gone || logits === undefined) return
    try {
      sequence.token = sequence.request.next(logits)
      if (sequence.token === undefined) end(sequence)
    } catch (error) {
      fail(sequence, error)
    }
  }

  function fail(sequence: Sequence, error: unknown): void {
    const reason = asEngineError(error)
    // What an interrupted run leaves lies behind all that was computed; of one that failed nobody knows.
    if (reason.code !== 'aborted') sequence.failed = true
    end(sequence, reason)
  }

  return {
    submit(request) {
      if (closed) throw closedError()
      // Those who can have a slot at once do not count as waiting.
      if (waiting.size - slots.available >= maxWaiting) {
        const rounds = Math.ceil((waiting.size + 1) / decoder.slots)
        throw new OverloadedError(Math.min(MAX_RETRY_S, Math.max(1, Math.ceil((rounds * serviceMs) / 1000))))
      }
      const sequence: Sequence = {
        request,
        tenant: request.tenant ?? Symbol('tenant'),
        slot: -1,
        filled: 0,
        answered: 0,
        part: undefined,
        token: undefined,
        servedAt: 0,
        admittedAt: monotonicMs(),
        gone: false,
        failed: false,
        onAbort: () => end(sequence, abortedError()),
      }
      if (request.signal?.aborted) {
        sequence.gone = true
        request.failed(abortedError())
      } else {
        request.signal?.addEventListener('abort', sequence.onAbort, { once: true })
        waiting.add(sequence)
        kick()
      }
      return { wake: kick, leave: () => end(sequence) }
    },
    healthy: () => !broken,
    async close() {
      closed = true
      for (const sequence of [...waiting.all(), ...active]) end(sequence, closedError())
      decoder.interrupt()
      await looping
      slots.close()
    },
  }
}

/** Sampling from a large vocabulary takes a while; sockets get their turn after so many milliseconds of it. */
const BREATH_MS = 1
const MAX_RETRY_S = 30

/** A request may be ended in its place on the way: then only its slot is still to be given back. */
function runnable({ request, gone }: Sequence): boolean {
  return !gone && request.wanted()
}

function asEngineError(error: unknown): EngineError {
  if (error instanceof EngineError) return error
  return new EngineError('engine.failed', 'the engine failed in a step', { cause: error })
}
