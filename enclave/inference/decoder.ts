/**
 * The interface between the scheduler and a runtime: a fixed number of slots, each holding the keys and values of one
 * sequence, and runs that append tokens to them. One run at a time; the scheduler sees to that.
 */
import type { RuntimeInfo } from './engine.js'

/** Most tokens of a run that verifies. */
export const MAX_VERIFIED = 8

/** One row of a decode run. */
export interface DecodeRow {
  readonly slot: number
  readonly tokenId: number
}

export interface Decoder {
  readonly runtime: RuntimeInfo
  readonly slots: number
  /** Tokens one slot can hold. */
  readonly slotTokens: number
  /** Most rows of a decode run; 1 where rows of one run could influence each other. */
  readonly maxRows: number
  /**
   * Appends a part of a prompt to a slot, and returns the logits for the token after it, which hold until the next run.
   * @throws EngineError `engine.failed`, or `aborted` after `interrupt`.
   */
  prefill(slot: number, tokenIds: readonly number[]): Promise<Float32Array>
  /**
   * The same for the end of a text to be embedded: the state that the logits would be computed from. Absent where the
   * graph gives none.
   */
  embed?(slot: number, tokenIds: readonly number[]): Promise<Float32Array>
  /**
   * Appends two tokens or more, up to `MAX_VERIFIED`, and returns the logits behind each of them, which hold until the next
   * run: those that `prefill` would give for it. Absent where the graph gives none but the last.
   */
  verify?(slot: number, tokenIds: readonly number[]): Promise<readonly Float32Array[]>
  /**
   * Appends one token to each of several slots, in ascending order, each once. Returns the logits of each row, which
   * hold until the next run.
   * @throws EngineError `engine.failed`, or `aborted` after `interrupt`; RangeError where one run would take more than `maxRows`.
   */
  decode(rows: readonly DecodeRow[]): Promise<readonly Float32Array[]>
  /** Ends the run in progress, if any, as soon as the runtime can. What it wrote to its slots is undefined. */
  interrupt(): void
  /** Empties a slot and overwrites what it held with zeros. */
  clear(slot: number): Promise<void>
  /** Leaves a slot its first `tokens` tokens, at most as many as it holds, and overwrites what was behind them with zeros. */
  truncate(slot: number, tokens: number): Promise<void>
  /** Waits for nothing: no run may be in progress. */
  close(): Promise<void>
}
