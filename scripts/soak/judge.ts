/** What a soak must have shown to have passed. Nothing here is a time: memory is set against requests. */
import type { Memory } from './worker-process.js'

export interface SoakOptions {
  /** At least as many are sent, and more until the keys have rotated as often as they must. */
  readonly requests: number
  readonly concurrent: number
  /** Share of requests whose client leaves early, 0 to 1. */
  readonly aborts: number
  readonly rotations: number
  /** Longest time for all of that. */
  readonly seconds: number
  /** The worker's keys rotate after half of it. */
  readonly keyLifetimeS: number
}

export interface MemorySample extends Memory {
  /** How many requests had been sent. */
  readonly requests: number
}

export interface SoakReport {
  readonly sent: number
  readonly answered: number
  /** By clients that left on purpose. */
  readonly abandoned: number
  readonly receipts: number
  /** How often requests were sealed to a key that had not been known before. */
  readonly rotations: number
  /** Sealed anew because the key had ended while the request was on its way. */
  readonly resealed: number
  /** Of the worker alone. */
  readonly memory: readonly MemorySample[]
  /** One for each request that failed, each receipt that did not hold, and each gap in a chain. */
  readonly failures: readonly string[]
}

/** The first half of a run is warm-up: tables fill, code is compiled, the allocator finds its size. */
const WARM_UP = 0.5
/** With fewer behind the warm-up, what the allocator does by itself hides what a request leaves behind. */
const FEWEST_JUDGED_REQUESTS = 2000
/** One KiB a request: less than the sealed bytes, the receipt or the answer of any of them. */
const MOST_HEAP_MIB = 1
/** Four KiB a request: the allocator returns pages in bursts; a sealed request and its answer together are more. */
const MOST_RSS_MIB = 4

/** Growth of what is left after full collections, in MiB per 1,000 requests; undefined where there were too few to tell. */
export function growthOf(memory: readonly MemorySample[]): { readonly heap: number; readonly rss: number } | undefined {
  const end = memory.at(-1)?.requests ?? 0
  const late = memory.filter(({ requests }) => requests >= WARM_UP * end)
  const span = end - (late[0]?.requests ?? end)
  if (late.length < 8 || span < FEWEST_JUDGED_REQUESTS) return undefined
  const slope = (of: (sample: MemorySample) => number): number =>
    medianSlope(late.map((sample) => [sample.requests / 1000, of(sample) / 2 ** 20]))
  return { heap: slope(({ heapBytes }) => heapBytes), rss: slope(({ rssBytes }) => rssBytes) }
}

/** Everything that speaks against the run; nothing if it passed. */
export function judge(options: SoakOptions, report: SoakReport): string[] {
  const { sent, answered, abandoned, receipts, rotations, memory, failures } = report
  const out: string[] = []
  for (const failure of new Set(failures)) {
    out.push(`${failures.filter((other) => other === failure).length} × ${failure}`)
  }
  if (sent < options.requests) {
    out.push(`${sent} of ${options.requests} requests were sent in ${options.seconds} s`)
  }
  if (rotations < options.rotations) {
    out.push(`keys rotated ${rotations} times of ${options.rotations} in ${options.seconds} s`)
  }
  const requestFailures = sent - answered - abandoned
  if (requestFailures !== 0) out.push(`${requestFailures} requests were neither answered nor abandoned`)
  if (receipts !== answered) out.push(`${answered} answers came with ${receipts} receipts that hold`)
  if (answered === 0) out.push('nothing was answered')
  const growth = growthOf(memory)
  if (growth !== undefined) {
    const tooMuch = (name: string, grown: number, most: number): void => {
      if (!(grown <= most)) {
        out.push(`the worker's ${name} grew by ${grown.toFixed(2)} MiB per 1,000 requests, more than ${most}`)
      }
    }
    tooMuch('heap', growth.heap, MOST_HEAP_MIB)
    tooMuch('resident memory', growth.rss, MOST_RSS_MIB)
  }
  return out
}

/** Median of the slopes between any two points (Theil and Sen): a burst or two do not move it. */
function medianSlope(points: readonly (readonly [number, number])[]): number {
  const slopes = points
    .flatMap(([x, y], i) => points.slice(i + 1).map(([x2, y2]) => (y2 - y) / (x2 - x)))
    .filter((slope) => Number.isFinite(slope))
    .sort((a, b) => a - b)
  const middle = slopes.length / 2
  return ((slopes[Math.ceil(middle) - 1] ?? Number.NaN) + (slopes[Math.floor(middle)] ?? Number.NaN)) / 2
}
