/**
 * Two sides of a ratio, measured side by side: every round times both, in alternating order, and the ratio is that of their
 * medians. What slows the machine down for a while then slows both sides, and one slow round moves neither median.
 */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

export interface Contest {
  ours(): unknown
  theirs(): unknown
  /** Before each timed call, of either side; not timed. */
  before?(): unknown
}

export interface Benchmark {
  /** Fixed: other tools look for it. */
  readonly name: string
  /** What `theirs` is and what each side does, in one sentence. */
  readonly against: string
  /** Largest ratio that is good enough. */
  readonly target: number
  readonly rounds: number
  /** Reads inputs and checks that both sides do what they should. @throws MissingInput when something is not at hand. */
  prepare(): Promise<Contest>
}

/** A benchmark whose figure is not a ratio of two times. */
export interface Figure {
  readonly name: string
  readonly unit: string
  /** What the figure is held against, or that it is held against nothing. */
  readonly against: string
  readonly target: number
  /** Default: `lower`. */
  readonly better?: 'higher'
  readonly rounds: number
  /** `detail` is for people. @throws MissingInput when something is not at hand. */
  figure(rounds: number): Promise<{ readonly value: number; readonly detail: string }>
}

export interface Measured {
  readonly oursMs: number
  readonly theirsMs: number
}

/** A benchmark cannot run here and now; the message says why. It is then skipped by name, never failed. */
export class MissingInput extends Error {
  override readonly name = 'MissingInput'
}

const WARM_UP_SHARE = 0.2

/** Medians in milliseconds over `rounds` rounds, after warm-up rounds that do not count. */
export async function measure(contest: Contest, rounds: number): Promise<Measured> {
  const ours: number[] = []
  const theirs: number[] = []
  const warmUp = Math.ceil(rounds * WARM_UP_SHARE)
  for (let round = -warmUp; round < rounds; round++) {
    const timeOurs = async (): Promise<number> => {
      await contest.before?.()
      return timed(() => contest.ours())
    }
    const timeTheirs = async (): Promise<number> => {
      await contest.before?.()
      return timed(() => contest.theirs())
    }
    const first = await (round % 2 === 0 ? timeOurs() : timeTheirs())
    const second = await (round % 2 === 0 ? timeTheirs() : timeOurs())
    if (round < 0) continue
    ours.push(round % 2 === 0 ? first : second)
    theirs.push(round % 2 === 0 ? second : first)
  }
  return { oursMs: median(ours), theirsMs: median(theirs) }
}

// As `node --expose-gc` would, without asking whoever runs this for a flag.
setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as (options?: { readonly type: 'minor' }) => void

/** Everything that can be collected, is. */
export function collectGarbage(): void {
  collect()
}

async function timed(work: () => unknown): Promise<number> {
  // Rubbish that preparations and the other side left is not this side's to collect.
  collect({ type: 'minor' })
  const started = performance.now()
  await work()
  return performance.now() - started
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  const [low = Number.NaN, high = Number.NaN] = [sorted[Math.ceil(sorted.length / 2) - 1], sorted[middle]]
  return (low + high) / 2
}
